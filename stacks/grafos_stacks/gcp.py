"""A registered cell on Compute Engine.

Shared by all cells of a region, made by the first and removed with the last: a network and one subnet of the region.
Compute Engine's networks are global, so each region has one of its own, and a region that is left empty leaves nothing
anywhere. The cell's own is the machine alone: it dials out from an address that comes and goes with it, and since no
firewall rule is made for it, nothing gets in. So the first cell takes three changing calls, a further one takes one.

The machine of an orchestrator has two more of its own: a reserved address, which outlives the machine, so that cells
find the next one under it; and a firewall rule that lets its one port in, to the machine that bears the rule's tag.
Both keep their tags in a description that is written once, so they bear no expiry; they go with the stack.

The machine bears its end in the create call itself (``scheduling.terminationTime`` with the action DELETE), which also
takes its disk. A running machine's end cannot be moved, so it stands at the latest time that the cell may be extended
to. Compute Engine forgets it for a machine that was stopped, so the operating system's timer comes after it.
"""

from __future__ import annotations

from collections.abc import Mapping

from grafos_connectors.contract import Kind, Scalar
from grafos_core.ids import FabricId
from grafos_stacks.plan import CellFacts, Lifetime, Planned, planned, shared_stack_of
from grafos_stacks.spec import BY_WORD, TTL_S_MAX, TTL_S_MIN, CellSpec

SUBNET_CIDR = "10.77.0.0/20"
"""Private (RFC 1918); cells never reach each other through it, so all regions have the same."""
TIMER_AFTER_S = 45
"""Compute Engine deletes up to 30 s late, as its documents say."""


class GcpLayout:
    """See the module."""

    default_types: Mapping[str, str] = {"amd64": "e2-medium", "arm64": "t2a-standard-1"}
    dies_with: Mapping[Kind, Kind] = {Kind.DISK: Kind.MACHINE}
    ahead_s_min = TTL_S_MIN
    ahead_s_max = TTL_S_MAX
    make_ahead_s_min = 0
    moves_deadline = False
    left_behind: tuple[str, ...] = (
        "disk",
    )  # when the cloud's own deadline failed and the operating system stopped the machine

    def timer_at(self, life: Lifetime) -> int:
        """When the operating system switches the machine off, unless it is gone by then. It cannot be told that the
        cell was extended: labels do not show in the machine's metadata."""
        return life.held_until + TIMER_AFTER_S

    def resources(self, fabric: FabricId, spec: CellSpec, facts: CellFacts, life: Lifetime) -> tuple[Planned, ...]:
        """A registered cell's resources in the order of making."""
        shared, within = shared_stack_of(spec.provider, spec.region), {"network": "network"}
        own = _doorway(fabric, spec) if spec.orchestrates else ()
        machine: dict[str, Scalar] = {
            "machine_type": facts.offer.machine_type,
            "image": facts.image.id,
            "disk_gib": spec.disk_gib,
            "ends_at": life.held_until,
            "public_address": True,
            **spec.market,
            # Google vouches for a machine only under the name of a service account.
            **({"identity": True} if spec.joining == BY_WORD else {}),
            **({"network_tag": network_tag_of(spec)} if spec.orchestrates else {}),
            **({"baked": True} if facts.baked else {}),
            **({"secure_boot": True} if facts.secure_boot else {}),
        }
        return (
            planned(fabric, shared, Kind.NETWORK, "network", spec),
            planned(fabric, shared, Kind.SUBNET, "subnet", spec, needs=within, inputs={"cidr": SUBNET_CIDR}),
            *own,
            planned(
                fabric,
                spec.cell_id,
                Kind.MACHINE,
                "machine",
                spec,
                zone=facts.offer.zone,
                needs={"subnet": "subnet", **{what.name: what.name for what in own if what.kind is Kind.ADDRESS}},
                inputs=machine,
                # What was resolved is no part of the key: a newer image or a later end gives no other machine.
                replace_inputs=spec.replace_inputs(),
                expires_at=life.expires_at,
            ),
        )


def network_tag_of(spec: CellSpec) -> str:
    """By which a firewall rule finds the machine that it is for, and no other one of the network."""
    return f"grafos-{spec.cell_id}"


def _doorway(fabric: FabricId, spec: CellSpec) -> tuple[Planned, ...]:
    door: dict[str, Scalar] = {"port": spec.port, "cidr": spec.operator_cidr, "target": network_tag_of(spec)}
    return (
        planned(fabric, spec.cell_id, Kind.ADDRESS, "address", spec),
        planned(
            fabric, spec.cell_id, Kind.FIREWALL_RULE, "firewall-rule", spec, needs={"network": "network"}, inputs=door
        ),
    )
