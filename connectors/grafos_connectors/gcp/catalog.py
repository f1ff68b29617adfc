"""What Google offers everybody and hardly ever changes: regions, machine types, price rows. Each is read once."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from grafos_connectors.contract import CloudError
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.describe import Item, last_part
from grafos_connectors.gcp.endpoints import REGION_STEP, check_region, region_of
from grafos_connectors.gcp.families import TYPE_PATTERN
from grafos_connectors.likeness import did_you_mean
from grafos_core.money import CURRENCY

COMPUTE_SERVICE = "6F81-5844-456A"  # Google's id of Compute Engine in the Cloud Billing Catalog
SKU_PAGE_SIZE = 5000  # the most that the catalog gives at once; it has several pages
# The rows that a price of ours can be made of, with the unit that they are then taken for; the others are not kept.
HOUR, GIB_HOUR, GIB_MONTH = "h", "GiBy.h", "GiBy.mo"
KEPT = (
    (re.compile(r" Ram running in "), GIB_HOUR),
    (re.compile(r"PD Capacity|Hyperdisk Balanced Capacity|Storage Image"), GIB_MONTH),
    (re.compile(r"(Core|GPU|Instance with)\b.* running in |External IP Charge"), HOUR),
)
NO_LONGER_MADE = {"OBSOLETE", "DELETED"}
NANOS = 10**9


class PriceRow(NamedTuple):
    """One row of the price list: USD for a unit, and the day from which it holds."""

    description: str
    usage: str  # "OnDemand" | "Preemptible" | "Commit1Yr" | ...
    usd: Decimal
    as_of: str


class Catalog:
    """Thread-safe; what was read stays for the connector's life."""

    def __init__(self, calls: GcpCalls) -> None:
        self._calls = calls
        self._lock = threading.RLock()
        self._reading_rows = threading.Lock()  # of its own: the price list takes long, and nobody else waits for it
        self._types: dict[str, tuple[Item, ...]] = {}
        self._regions: dict[str, Item] = {}
        self._rows: list[tuple[tuple[str, ...], PriceRow]] | None = None

    def regions(self) -> Mapping[str, Item]:
        """Every region by its name."""
        with self._lock:
            if not self._regions:
                pages = list(self._calls.pages("regions", "list"))
                self._regions = {item["name"]: item for page in pages for item in page.get("items", ())}
            return self._regions

    def check_region(self, region: str) -> None:
        """Raises ``cloud_invalid`` that names the nearest region when Google has none of that name."""
        check_region(region)
        known = self.regions()
        if region not in known:
            step = did_you_mean(region, known, REGION_STEP)
            raise CloudError("cloud_invalid", f"Google Cloud has no region {region!r}.", where="gcp", next=step)

    def machine_types(self, region: str, name: str = "") -> list[Item]:
        """The machine types of a region's zones, as many documents as zones; ``cloud_invalid`` without the region."""
        check_region(region)
        if name:
            found = [item for item in self._named(name) if region_of(last_part(item["zone"])) == region]
            if not found:
                self.check_region(region)
            return found
        self.check_region(region)
        zones = [last_part(zone) for zone in self.regions()[region].get("zones", ())]
        pages = (page for zone in zones for page in self._calls.pages("machine_types", "list", zone=zone))
        return [item for page in pages for item in page.get("items", ()) if _is_made(item)]

    def regions_of(self, name: str) -> set[str]:
        """The regions that have a machine type."""
        return {region_of(last_part(item["zone"])) for item in self._named(name)}

    def _named(self, name: str) -> tuple[Item, ...]:
        """One machine type in all zones of the world: one question, whichever region it is about."""
        if not TYPE_PATTERN.fullmatch(name):
            return ()
        with self._lock:
            if name not in self._types:
                items: list[Item] = []
                for page in self._calls.pages("machine_types", "aggregated_list", filter=f'name = "{name}"'):
                    items += [
                        item for scope in page.get("items", {}).values() for item in scope.get("machineTypes", ())
                    ]
                self._types[name] = tuple(item for item in items if _is_made(item))
            return self._types[name]

    def price_rows(self, region: str) -> Iterator[PriceRow]:
        """The rows that hold in a region, and those that hold everywhere."""
        with self._reading_rows:
            if self._rows is None:
                self._rows = [row for page in self._sku_pages() for sku in page for row in rows_of(sku)]
            rows = self._rows
        return (row for regions, row in rows if region in regions or "global" in regions)

    def _sku_pages(self) -> Iterator[list[Item]]:
        query: dict[str, Any] = {"pageSize": SKU_PAGE_SIZE, "currencyCode": CURRENCY}
        while True:
            answer = self._calls.ask("cloudbilling", f"v1/services/{COMPUTE_SERVICE}/skus", query)
            yield answer.get("skus", [])
            if not answer.get("nextPageToken"):
                return
            query["pageToken"] = answer["nextPageToken"]


def _is_made(item: Item) -> bool:
    return item.get("deprecated", {}).get("state", "") not in NO_LONGER_MADE


def rows_of(sku: Item) -> Iterator[tuple[tuple[str, ...], PriceRow]]:
    """The row of one SKU with its regions, at its highest tier: a lower price for the first units is no bound.

    Nothing of one that is of no use to us, or is priced by another unit or in another currency than it is taken for.
    """
    description = sku.get("description", "")
    unit = next((unit for words, unit in KEPT if words.search(description)), "")
    for info in sku.get("pricingInfo", ())[-1:]:  # the newest; the others are of the past
        expression = info.get("pricingExpression", {})
        prices = [rate.get("unitPrice", {}) for rate in expression.get("tieredRates", ())]
        if expression.get("usageUnit") != unit or any(price.get("currencyCode") != CURRENCY for price in prices):
            continue
        usd = max(map(money, prices), default=Decimal(0))
        if usd > 0:
            row = PriceRow(
                description, sku.get("category", {}).get("usageType", ""), usd, info.get("effectiveTime", "")[:10]
            )
            yield tuple(sku.get("serviceRegions", ())), row


def money(price: Item) -> Decimal:
    """Google's money: whole units as text and billionths as a number."""
    return Decimal(str(price.get("units") or 0)) + Decimal(price.get("nanos", 0)) / NANOS
