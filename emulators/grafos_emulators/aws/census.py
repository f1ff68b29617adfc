"""What exists in the emulated account: counted from the emulator's own world, never from a listing that may lag.

What AWS itself puts into every account (default VPCs and what belongs to them) is left out, and so are machines that
are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from grafos_emulators.census import Thing

if TYPE_CHECKING:
    from grafos_emulators.aws.ec2_backend import RegionBackend


def things(regions: dict[str, RegionBackend]) -> tuple[Thing, ...]:
    """Everything in all regions, in a stable order; the caller holds the world's lock."""
    return tuple(thing for name in sorted(regions) for thing in _of_region(regions[name]))


def _of_region(backend: Any) -> Iterator[Thing]:
    for instance in (each for reservation in backend.reservations.values() for each in reservation.instances):
        state = instance.instance_state.name
        if state != "terminated":
            yield _thing(backend, "instance", instance, state, billable=state != "stopped")
    for kind, resources, billable in _collections(backend):
        for resource in resources:
            if resource.id not in backend.born_with:
                state = str(getattr(resource, "status", getattr(resource, "state", "available")))
                yield _thing(backend, kind, resource, state, billable=billable)
    for address in backend.addresses:
        thing_id = str(address.allocation_id or address.public_ip)
        yield Thing(
            "aws", "address", thing_id, backend.region_name, "allocated", True, dict(backend.tags.get(thing_id, {}))
        )
    for name, pair in backend.key_pairs.items():
        tags = dict(backend.tags.get(pair.id, {}))
        yield Thing("aws", "key_pair", name, backend.region_name, "available", False, tags)


def _collections(backend: Any) -> Iterator[tuple[str, Iterable[Any], bool]]:
    """Kind, resources, and whether they cost by existing."""
    yield "volume", backend.volumes.values(), True
    yield "snapshot", (each for each in backend.snapshots.values() if each.owner_id == backend.account_id), True
    yield "image", (each for each in backend.amis.values() if each.owner_id == backend.account_id), False
    yield "nic", backend.enis.values(), False
    groups = (group for of_vpc in backend.groups.values() for group in of_vpc.values())
    yield "security_group", (group for group in groups if group.name != "default"), False
    yield "subnet", (each for of_zone in backend.subnets.values() for each in of_zone.values()), False
    yield "vpc", backend.vpcs.values(), False
    yield "gateway", backend.internet_gateways.values(), False
    yield "nat_gateway", (each for each in backend.nat_gateways.values() if each.state != "deleted"), True
    yield "vpc_endpoint", (each for each in backend.vpc_end_points.values() if each.state != "deleted"), True
    yield "route_table", (each for each in backend.route_tables.values() if not each.main_association_id), False
    yield "launch_template", backend.launch_templates.values(), False


def _thing(backend: Any, kind: str, resource: Any, state: str, *, billable: bool) -> Thing:
    return Thing(
        "aws", kind, resource.id, backend.region_name, state, billable, dict(backend.tags.get(resource.id, {}))
    )
