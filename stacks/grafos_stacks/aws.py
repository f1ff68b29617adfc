"""A cell on EC2.

Shared by all cells of a region, made by the first and removed with the last: a network, a gateway to the internet,
its attachment, the route to it, and one subnet for each zone that is used. The cell's own: a firewall that is open at
one port to the operator alone, and the machine. The machine's disk, network card and public address come and go
with it. So the first cell takes eight changing calls, a further one three, and its teardown two.

The machine of an orchestrator has an elastic address instead, which outlives it, so that cells find the next one under
it. It can be put only at a machine that runs, so that is a resource of its own, which goes with the machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from grafos_connectors.contract import Kind, Scalar
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_stacks.plan import CellFacts, Lifetime, Planned, planned, shared_stack_of
from grafos_stacks.spec import TTL_S_MAX, TTL_S_MIN, CellSpec

NETWORK_CIDR = "10.77.0.0/16"
"""Private (RFC 1918); cells never reach each other through it, so all regions may have the same."""
ANYWHERE = "0.0.0.0/0"
ZONE_LETTERS = "abcdefghijklmnop"
"""A /16 holds sixteen /20, one for each letter that a zone's name may end in."""


class AwsLayout:
    """See the module."""

    default_types: Mapping[str, str] = {"arm64": "t4g.medium", "amd64": "t3.medium"}
    dies_with: Mapping[Kind, Kind] = {
        Kind.FIREWALL_RULE: Kind.FIREWALL,
        Kind.ROUTE: Kind.NETWORK,
        Kind.DISK: Kind.MACHINE,
        Kind.NIC: Kind.MACHINE,
        Kind.ADDRESS_ATTACHMENT: Kind.MACHINE,
    }

    ahead_s_min = TTL_S_MIN
    ahead_s_max = TTL_S_MAX
    make_ahead_s_min = 0
    moves_deadline = True
    left_behind: tuple[str, ...] = ()  # whoever switches the machine off ends it, and all that bills of a cell with it

    def timer_at(self, life: Lifetime) -> int:
        """When the operating system switches the machine off, which terminates it."""
        return life.expires_at

    def resources(self, fabric: FabricId, spec: CellSpec, facts: CellFacts, life: Lifetime) -> tuple[Planned, ...]:
        """A standalone cell's resources in the order of making."""
        subnet = f"subnet-{facts.offer.zone}"
        cell = _cell(fabric, spec, facts, life.expires_at, subnet)
        return (*_network(fabric, spec, facts.offer.zone, subnet), *cell)


def _network(fabric: FabricId, spec: CellSpec, zone: str, subnet: str) -> tuple[Planned, ...]:
    shared = shared_stack_of(spec.provider, spec.region)
    both = {"network": "network", "gateway": "gateway"}
    in_zone: dict[str, Scalar] = {"cidr": _subnet_cidr(zone)}
    return (
        planned(fabric, shared, Kind.NETWORK, "network", spec, inputs={"cidr": NETWORK_CIDR}),
        planned(fabric, shared, Kind.GATEWAY, "gateway", spec),
        planned(fabric, shared, Kind.GATEWAY_ATTACHMENT, "gateway-attachment", spec, needs=both),
        planned(fabric, shared, Kind.ROUTE, "route", spec, needs=both, inputs={"cidr": ANYWHERE}),
        planned(fabric, shared, Kind.SUBNET, subnet, spec, zone=zone, needs={"network": "network"}, inputs=in_zone),
    )


def _cell(fabric: FabricId, spec: CellSpec, facts: CellFacts, expires_at: int, subnet: str) -> tuple[Planned, ...]:
    stack, zone = spec.cell_id, facts.offer.zone
    machine: dict[str, Scalar] = {
        "machine_type": facts.offer.machine_type,
        "image": facts.image.id,
        "root_device": facts.image.root_device,
        "disk_gib": spec.disk_gib,
        "public_address": not spec.orchestrates,
        **spec.market,
    }
    address, attachment = _lasting_address(fabric, spec, expires_at) if spec.orchestrates else ((), ())
    firewall = planned(
        fabric,
        stack,
        Kind.FIREWALL,
        "firewall",
        spec,
        needs={"network": "network"},
        inputs={"description": f"grafos cell {spec.cell_id}"},
        expires_at=expires_at,
    )
    rule = planned(
        fabric,
        stack,
        Kind.FIREWALL_RULE,
        "firewall-rule",
        spec,
        needs={"firewall": "firewall"},
        inputs={"port": spec.port, "cidr": spec.operator_cidr},
        expires_at=expires_at,
    )
    # The type and image that were resolved are no part of the key: a newer image gives no other machine.
    host = planned(
        fabric,
        stack,
        Kind.MACHINE,
        "machine",
        spec,
        zone=zone,
        needs={"subnet": subnet, "firewall": "firewall"},
        inputs=machine,
        replace_inputs=spec.replace_inputs(),
        expires_at=expires_at,
    )
    return firewall, rule, *address, host, *attachment


def _lasting_address(
    fabric: FabricId, spec: CellSpec, expires_at: int
) -> tuple[tuple[Planned, ...], tuple[Planned, ...]]:
    """The address, whose number is in the machine's user data; and what puts it at the machine."""
    needs = {"address": "address", "machine": "machine"}
    return (
        (planned(fabric, spec.cell_id, Kind.ADDRESS, "address", spec, expires_at=expires_at),),
        (planned(fabric, spec.cell_id, Kind.ADDRESS_ATTACHMENT, "address-attachment", spec, needs=needs),),
    )


def _subnet_cidr(zone: str) -> str:
    """The part of the network that belongs to a zone, the same for every cell."""
    letter = zone[-1:]
    if letter not in ZONE_LETTERS:
        raise GrafosError("unsupported", f"zone {zone!r} has no place in the network", next="choose another zone")
    return f"10.77.{16 * ZONE_LETTERS.index(letter)}.0/20"
