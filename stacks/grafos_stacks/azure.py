"""A registered cell on Azure.

Shared by all cells of a region, made by the first and removed with the last: a resource group, a network with one
subnet, and a network security group without a rule, so that nothing gets in. The cell's own: a public address to dial
out from, a network card, the machine, and a schedule that deallocates it. Disk, card and address bear the delete option
and go with the machine; they are proved gone all the same, since the card and the address are named resources, and a
machine that failed to start leaves them. The schedule does not go with the machine, and is deleted after it.

The machine of an orchestrator has a network security group of its own, whose one rule lets its one port in, and its
address does not go with the machine, so that cells find the next one under it.

A machine that switched itself off is still billed here: only deallocating or deleting it ends that. So the schedule
is part of the plan, and a cell without it does not count as provisioned. It fires at a time of day, every day, so it
cannot stand for a moment that is more than a day away.
"""

from __future__ import annotations

from collections.abc import Mapping

from grafos_connectors.azure.shapes import DEADLINE_MIN_S
from grafos_connectors.contract import Kind, Scalar
from grafos_core.ids import FabricId
from grafos_stacks.plan import CellFacts, Lifetime, Planned, planned, shared_stack_of
from grafos_stacks.spec import CellSpec

NETWORK_CIDR = "10.77.0.0/16"
SUBNET_CIDR = "10.77.0.0/20"
"""Private (RFC 1918); cells never reach each other through it, so all regions have the same."""
SCHEDULE_AHEAD_S_MAX = 23 * 3600
"""The schedule knows hours and minutes and no date, so it must stand for the next time that the clock shows them; an
hour is left for the making of the machine and for clocks that differ."""
SCHEDULE_AHEAD_S_MIN = 900
"""A schedule for a minute that has passed when it is made fires a day late; making a machine may take minutes."""
MAKE_AHEAD_S_MIN = DEADLINE_MIN_S + 120
"""A machine that is made nearer to its end than this gets a schedule that fires late: one is set no nearer than the
first, and between both calls ARM may be slow or its answer lost."""
TIMER_AFTER_S = 300
"""Whether the schedule deallocates a machine that is stopped already is not known, so its own timer comes later."""
DOOR = "door"
"""What the plan of an orchestrator calls its own firewall; that of all cells lets nothing in."""


class AzureLayout:
    """See the module."""

    default_types: Mapping[str, str] = {"amd64": "Standard_B2s", "arm64": "Standard_B2pls_v2"}
    dies_with: Mapping[Kind, Kind] = {
        Kind.SUBNET: Kind.NETWORK,
        Kind.DISK: Kind.MACHINE,
        Kind.NIC: Kind.MACHINE,
        Kind.ADDRESS: Kind.MACHINE,
    }
    ahead_s_min = SCHEDULE_AHEAD_S_MIN
    ahead_s_max = SCHEDULE_AHEAD_S_MAX
    make_ahead_s_min = MAKE_AHEAD_S_MIN
    moves_deadline = True
    left_behind: tuple[str, ...] = ("disk", "address")  # a machine that was deallocated keeps both until it is deleted

    def timer_at(self, life: Lifetime) -> int:
        """When the operating system stops the work, if the schedule did not. It does not end the bill."""
        return life.expires_at + TIMER_AFTER_S

    def resources(self, fabric: FabricId, spec: CellSpec, facts: CellFacts, life: Lifetime) -> tuple[Planned, ...]:
        """A registered cell's resources in the order of making."""
        shared = shared_stack_of(spec.provider, spec.region)
        grouped = {"group": "group"}
        network = planned(fabric, shared, Kind.NETWORK, "network", spec, needs=grouped, inputs={"cidr": NETWORK_CIDR})
        closed: dict[str, Scalar] = {"description": "grafos: nothing gets in"}
        firewall = planned(fabric, shared, Kind.FIREWALL, "firewall", spec, needs=grouped, inputs=closed)
        within = {"network": "network"}
        return (
            planned(fabric, shared, Kind.GROUP, "group", spec),
            network,
            firewall,
            planned(fabric, shared, Kind.SUBNET, "subnet", spec, needs=within, inputs={"cidr": SUBNET_CIDR}),
            *_cell(fabric, spec, facts, life),
        )


def deadline_at(expires_at: int) -> int:
    """The schedule's moment: the whole minute at or after the expiry, in Unix seconds."""
    return -(-expires_at // 60) * 60


def _cell(fabric: FabricId, spec: CellSpec, facts: CellFacts, life: Lifetime) -> tuple[Planned, ...]:
    stack, ends = spec.cell_id, life.expires_at
    door = _door(fabric, spec, ends) if spec.orchestrates else ()
    keeps: dict[str, Scalar] = {"keeps_address": True} if spec.orchestrates else {}
    machine: dict[str, Scalar] = {
        "machine_type": facts.offer.machine_type,
        "image": facts.image.id,
        "disk_gib": spec.disk_gib,
        **spec.market,
        **({"baked": True} if facts.baked else {}),
        **({"secure_boot": True} if facts.secure_boot else {}),
    }
    card_needs = {"group": "group", "subnet": "subnet", "firewall": DOOR if door else "firewall", "address": "address"}
    return (
        *door,
        planned(fabric, stack, Kind.ADDRESS, "address", spec, needs={"group": "group"}, expires_at=ends),
        planned(fabric, stack, Kind.NIC, "nic", spec, needs=card_needs, inputs=keeps, expires_at=ends),
        planned(
            fabric,
            stack,
            Kind.MACHINE,
            "machine",
            spec,
            zone=facts.offer.zone,
            needs={"group": "group", "nic": "nic"},
            inputs=machine,
            # What was resolved is no part of the key: a newer image or a later end gives no other machine.
            replace_inputs=spec.replace_inputs(),
            expires_at=ends,
        ),
        planned(
            fabric,
            stack,
            Kind.DEADLINE,
            "deadline",
            spec,
            needs={"group": "group", "machine": "machine"},
            inputs={"ends_at": deadline_at(life.expires_at)},
            replace_inputs={},
            expires_at=ends,
            early=True,  # until it stands, nothing but a sweep ends the machine
        ),
    )


def _door(fabric: FabricId, spec: CellSpec, ends: int) -> tuple[Planned, ...]:
    """What the port is open to is no part of the key: the rule is written with the group, and stays."""
    opens: dict[str, Scalar] = {
        "description": "grafos: one port gets in",
        "port": spec.port,
        "cidr": spec.operator_cidr,
    }
    needs = {"group": "group"}
    group = planned(
        fabric,
        spec.cell_id,
        Kind.FIREWALL,
        DOOR,
        spec,
        needs=needs,
        inputs=opens,
        replace_inputs={"port": spec.port},
        expires_at=ends,
    )
    return (group,)
