"""Everything in the subscription that bears the fabric's tag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from grafos_connectors.azure import describe, tags
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.ids import KINDS, parse
from grafos_connectors.azure.kind_calls import read_resource
from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, Found, Kind, Ref, Scope

# What costs most is listed first. Subnets are not listed: they go with the network that they are part of.
LISTED = (Kind.MACHINE, Kind.DISK, Kind.ADDRESS, Kind.NIC, Kind.DEADLINE, Kind.FIREWALL, Kind.NETWORK)
FILTER_QUOTE = "''"  # OData's


def list_scope(calls: AzureCalls, scope: Scope) -> Iterator[tuple[Found, ...]]:
    """One page for each kind. ARM lists all regions in one call; machines are then read one by one, since that list
    lags and does not tell which of them runs."""
    by_kind: dict[Kind, list[Mapping[str, Any]]] = {kind: [] for kind in (*LISTED, Kind.GROUP)}
    for item in _tagged(calls, "resources.list", scope.fabric, expand="provisioningState"):
        kind = KINDS.get(str(item.get("type", "")).lower())
        if kind in by_kind:
            by_kind[kind].append(item)
    by_kind[Kind.GROUP] = _tagged(calls, "resource_groups.list", scope.fabric)
    machines = [found for item in _within(by_kind[Kind.MACHINE], scope) if (found := _machine(calls, item))]
    owners = {found.attributes["disk"]: found for found in machines if found.attributes.get("disk")}
    yield from _page(machines)
    for kind in (*LISTED[1:], Kind.GROUP):
        yield from _page([_carried(told, owners) for told in map(_found, _within(by_kind[kind], scope))])


def group_is_empty(calls: AzureCalls, group: str, region: str) -> bool:
    """Whether ARM lists nothing in a resource group; deleting it would delete all that is there, ours or not."""
    pages = calls.pages("resources", "resources.list_by_resource_group", region, group)
    return not any(items for items in pages)


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


def _machine(calls: AzureCalls, item: Mapping[str, Any]) -> Found | None:
    arm_id = parse(str(item["id"]))
    document = read_resource(calls, arm_id, describe.normal_region(str(item.get("location", ""))))
    return None if document is None else describe.found(document, arm_id)


def _found(item: Mapping[str, Any]) -> Found:
    return describe.found(item, parse(str(item["id"])))


def _carried(told: Found, owners: Mapping[str, Found]) -> Found:
    """A machine's disk is told with the machine's tags."""
    owner = owners.get(told.ref.id)
    if owner is None:
        return told
    ref = Ref(key=owner.tags.get(TAG_KEY, ""), kind=told.ref.kind, id=told.ref.id, region=told.ref.region)
    attributes = {**told.attributes, "machine": owner.ref.id}
    return Found(ref=ref, state=told.state, tags=owner.tags, attributes=attributes, billable=told.billable)


def _page(found: list[Found]) -> Iterator[tuple[Found, ...]]:
    if found:
        yield tuple(found)
