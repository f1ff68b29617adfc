"""Everything in the project that bears the fabric's tag."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from grafos_connectors.contract import TAG_FABRIC, CloudError, Found, Kind, Scope, State
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.describe import GLOBAL, described, found
from grafos_connectors.gcp.endpoints import check_region
from grafos_connectors.gcp.labels import label_filter
from grafos_connectors.gcp.storage import list_buckets

# What costs most is listed first.
LISTED = (Kind.MACHINE, Kind.DISK, Kind.ADDRESS, Kind.IMAGE, Kind.FIREWALL_RULE, Kind.SUBNET, Kind.NETWORK)


def list_scope(calls: GcpCalls, scope: Scope) -> Iterator[tuple[Found, ...]]:
    """Pages of what the scope's regions hold, or all regions: one list of each kind covers the whole project."""
    for region in scope.regions:
        check_region(region)
    pages = (page for kind in LISTED for page in _pages(calls, kind, scope.fabric))
    for page in itertools.chain(pages, list_buckets(calls, scope.fabric)):
        living = tuple(each for each in page if _wanted(each, scope))
        if living:
            yield living


def _wanted(each: Found, scope: Scope) -> bool:
    in_scope = not scope.regions or each.ref.region in scope.regions
    return each.tags.get(TAG_FABRIC) == scope.fabric and in_scope and each.state is not State.GONE


def _pages(calls: GcpCalls, kind: Kind, fabric: str) -> Iterator[list[Found]]:
    """Labels are asked for in the cloud. Descriptions are read here: no filter knows what is in them."""
    of_kind = described(kind)
    wanted: dict[str, Any] = {"filter": label_filter(TAG_FABRIC, fabric)} if of_kind.labelled else {}
    if of_kind.scope == GLOBAL:
        for page in calls.pages(of_kind.client, "list", **wanted):
            check_whole(page)
            yield [found(kind, item) for item in page.get("items", ()) if of_kind.labelled or _may_be_ours(item)]
        return
    for page in calls.pages(of_kind.client, "aggregated_list", **wanted):
        check_whole(page)
        items = (item for scope in page.get("items", {}).values() for item in scope.get(of_kind.collection, ()))
        yield [found(kind, item) for item in items if of_kind.labelled or _may_be_ours(item)]


def _may_be_ours(item: Mapping[str, Any]) -> bool:
    return TAG_FABRIC in item.get("description", "")


def check_whole(page: Mapping[str, Any]) -> None:
    """Raises ``cloud_unreachable`` for a list that leaves out places which Google could not reach.

    It comes with status 200, and whoever believes it whole leaves machines behind.
    """
    scopes = page.get("items", {})
    warnings = [page.get("warning", {})]
    warnings += [scope.get("warning", {}) for scope in scopes.values()] if isinstance(scopes, Mapping) else []
    missed = [warning for warning in warnings if warning.get("code") == "UNREACHABLE"]
    unreached = [*page.get("unreachables", ()), *(str(warning.get("message", "")) for warning in missed)]
    if unreached:
        raise CloudError(
            "cloud_unreachable",
            "Google Cloud could not list every zone.",
            where="gcp",
            why="; ".join(unreached),
            next="Wait a little and try again.",
            cloud_code="UNREACHABLE",
        )
