"""Everything in the subscription that bears the fabric's tag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from grafos_connectors.azure import describe, tags
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.ids import KINDS, parse
from grafos_connectors.azure.kind_calls import any_in_group, read_resource
from grafos_connectors.contract import TAG_FABRIC, Found, Kind, Scope

# What costs most is listed first. Subnets are not listed: they go with the network that they are part of.
LISTED = (
    Kind.MACHINE,
    Kind.DISK,
    Kind.ADDRESS,
    Kind.IMAGE,
    Kind.NIC,
    Kind.DEADLINE,
    Kind.FIREWALL,
    Kind.NETWORK,
    Kind.IMAGE_FAMILY,
    Kind.GALLERY,
)
FILTER_QUOTE = "''"  # OData's
READ_ALONE_MAX = 4  # so many machines are read one by one; of more, the lists of all machines are fewer requests
# What stands in a resource group; subnets and schedules stand there with a network or a machine.
IN_GROUPS = (Kind.MACHINE, Kind.DISK, Kind.ADDRESS, Kind.NIC, Kind.FIREWALL, Kind.NETWORK, Kind.GALLERY)


def list_scope(calls: AzureCalls, scope: Scope) -> Iterator[tuple[Found, ...]]:
    """One page for each kind. ARM lists all regions in one call; machines are then read, since that list lags and does
    not tell which of them runs."""
    by_kind: dict[Kind, list[Mapping[str, Any]]] = {kind: [] for kind in (*LISTED, Kind.GROUP)}
    for item in _tagged(calls, "resources.list", scope.fabric, expand="provisioningState"):
        kind = KINDS.get(str(item.get("type", "")).lower())
        if kind in by_kind:
            by_kind[kind].append(item)
    by_kind[Kind.GROUP] = _tagged(calls, "resource_groups.list", scope.fabric)
    machines = [_found(told) for told in _machines(calls, list(_within(by_kind[Kind.MACHINE], scope)))]
    owners = {found.attributes["disk"]: found for found in machines if found.attributes.get("disk")}
    yield from _page(machines)
    for kind in (*LISTED[1:], Kind.GROUP):
        listed = map(_found, _within(by_kind[kind], scope))
        yield from _page(
            [describe.carried_by(owners[one.ref.id], one) if one.ref.id in owners else one for one in listed]
        )


def group_is_empty(calls: AzureCalls, group: str, region: str) -> bool:
    """Whether a resource group holds nothing; deleting it would delete all that is there, ours or not.

    ARM lists resources of every type, but late. So the services are asked too, for what other cells put there.
    """
    pages = calls.pages("resources", "resources.list_by_resource_group", region, group)
    late = any(items for items in pages)
    return not late and not any(any_in_group(calls, kind, group, region) for kind in IN_GROUPS)


def _tagged(calls: AzureCalls, operation: str, fabric: str, **options: Any) -> list[Mapping[str, Any]]:
    value = fabric.replace("'", FILTER_QUOTE)
    asked = f"tagName eq '{TAG_FABRIC}' and tagValue eq '{value}'"
    items = calls.items("resources", operation, "", filter=asked, **options)
    return [item for item in items if tags.ours(item.get("tags")).get(TAG_FABRIC) == fabric]


def _within(items: list[Mapping[str, Any]], scope: Scope) -> Iterator[Mapping[str, Any]]:
    regions = {describe.normal_region(region) for region in scope.regions}
    for item in items:
        if not regions or describe.normal_region(str(item.get("location", ""))) in regions:
            yield item


def _machines(calls: AzureCalls, items: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The documents of those of the listed machines that are there, with their instance views.

    No list has both: one tells what the machines are, another how they stand. Whichever misses one leaves it to a GET.
    """
    wanted = {str(item["id"]).lower(): item for item in items}
    told, states = {}, {}
    if len(items) > READ_ALONE_MAX:
        told = _by_id(calls.items("compute", "virtual_machines.list_all", ""))
        states = _by_id(calls.items("compute", "virtual_machines.list_all", "", status_only="true"))
    for machine, item in wanted.items():
        model, view = told.get(machine), (states.get(machine, {}).get("properties") or {}).get("instanceView")
        if model is not None and view:
            yield {**model, "properties": {**(model.get("properties") or {}), "instanceView": view}}
        elif document := read_resource(calls, parse(machine), describe.normal_region(str(item.get("location", "")))):
            yield document


def _by_id(items: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(item.get("id", "")).lower(): item for item in items}


def _found(item: Mapping[str, Any]) -> Found:
    return describe.found(item, parse(str(item["id"])))


def _page(found: list[Found]) -> Iterator[tuple[Found, ...]]:
    if found:
        yield tuple(found)
