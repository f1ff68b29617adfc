"""Everything in a region that bears the fabric's tag."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from grafos_connectors.aws import describe, tags
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.network import attachment_of
from grafos_connectors.contract import TAG_FABRIC, Found, Kind, Scope, State

# What costs most is listed first. Rules and routes are not listed: they go with what they are part of.
LISTED = (
    Kind.MACHINE,
    Kind.DISK,
    Kind.ADDRESS,
    Kind.SNAPSHOT,
    Kind.IMAGE,
    Kind.NIC,
    Kind.FIREWALL,
    Kind.SUBNET,
    Kind.GATEWAY,
    Kind.NETWORK,
)
REGIONS_AT_ONCE = 8  # each has request limits of its own


def list_scope(calls: AwsCalls, scope: Scope) -> Iterator[tuple[Found, ...]]:
    """Pages of what the scope's regions hold; without regions, of all that the account may use."""
    for region in scope.regions:
        calls.check_region(region)
    regions = scope.regions or usable_regions(calls)
    if len(regions) == 1:
        yield from _of_region(calls, scope.fabric, regions[0])
        return
    # Seventeen regions with eight questions each, one after the other, take half a minute from where AWS is far.
    with ThreadPoolExecutor(max_workers=REGIONS_AT_ONCE, thread_name_prefix="list") as pool:
        for pages in pool.map(lambda region: list(_of_region(calls, scope.fabric, region)), regions):
            yield from pages


def _of_region(calls: AwsCalls, fabric: str, region: str) -> Iterator[tuple[Found, ...]]:
    for kind in LISTED:
        for page in describe.pages(calls, kind, region, tags.tag_filter(TAG_FABRIC, fabric)):
            living = tuple(_with_parts(page))
            if living:
                yield living


def usable_regions(calls: AwsCalls) -> list[str]:
    """The regions that are switched on for the account; one newer than the SDK is not among them."""
    regions = calls.read("ec2", "describe_regions", AllRegions=False)["Regions"]
    return sorted(region["RegionName"] for region in regions if region["RegionName"] in calls.known_regions)


def _with_parts(page: tuple[tuple[describe.Item, Found], ...]) -> Iterator[Found]:
    for _, found in page:
        if found.state is State.GONE:
            continue
        if found.ref.kind is Kind.GATEWAY:
            attachment = attachment_of(found)
            if attachment is not None:
                yield attachment
        yield found
