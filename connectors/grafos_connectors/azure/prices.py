"""Prices from Azure's retail price list, which asks for no login.

Source: https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices. One machine type has
several rows: for Windows, for spot, for "low priority", for reservations. A managed disk is billed by the size of its
tier and not by the GiB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from grafos_connectors.azure.account import IMAGE_DISK_GIB
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.contract import CloudError, Price
from grafos_connectors.uploads import KeepingPrice
from grafos_core.money import CURRENCY, from_usd

PAGES_MAX = 50  # of 100 rows or more; one machine type in one location has about ten rows

MACHINES = "Virtual Machines"
DISKS = "Standard SSD Managed Disks"
DISK_ROW = re.compile(r"E(\d+) LRS")
DISK_METER = re.compile(r"E\d+ (LRS )?Disks?")  # not "… Disk Mount", "… Operations", "… Burst"
# The sizes of the tiers of Standard SSD, https://learn.microsoft.com/azure/virtual-machines/disks-types
TIER_GIB = {1: 4, 2: 8, 3: 16, 4: 32, 6: 64, 10: 128, 15: 256, 20: 512, 30: 1024, 40: 2048, 50: 4096, 60: 8192}
SNAPSHOTS = "Standard HDD Managed Disks"
SNAPSHOT_METERS = frozenset({"LRS Snapshots", "Snapshots LRS", "ZRS Snapshots", "Snapshots ZRS"})
ADDRESS_METER = "Standard IPv4 Static Public IP"
EXCLUDED_PRODUCTS = ("Windows", "Cloud Services", "Dedicated")
SPOT, LOW_PRIORITY = "Spot", "Low Priority"

Row = Mapping[str, Any]


def price(calls: AzureCalls, region: str, machine_type: str, now: float) -> Price:
    """What a machine, a GiB of its disk and its public address cost in the region, rounded up."""
    calls.check_region(region)
    rows = _rows(calls, region, serviceName=MACHINES, armRegionName=region, armSkuName=machine_type)
    on_demand, spot = machine_rows(rows)
    disks = _rows(calls, region, productName=DISKS, armRegionName=region)
    addresses = _rows(calls, region, meterName=ADDRESS_METER, armRegionName=region) or _rows(
        calls, region, meterName=ADDRESS_METER
    )
    return Price(
        region=region,
        machine_type=machine_type,
        machine_per_hour=_dearest(on_demand, machine_type, region),
        disk_per_gib_month=disk_per_gib_month(disks, region),
        address_per_hour=_dearest([row for row in addresses if _is_hourly(row)], ADDRESS_METER, region),
        source=_source(calls),
        as_of=datetime.fromtimestamp(now, UTC)
        .date()
        .isoformat(),  # the list is live, and does not say when it was made
        fictional=calls.emulated,
        spot_per_hour=_dearest(spot, machine_type, region) if spot else 0,
    )


def keeping_price(calls: AzureCalls, region: str, now: float) -> KeepingPrice:
    """What a GiB of a gallery's image costs by the month: it is billed as the snapshot that it is."""
    calls.check_region(region)
    rows = _rows(calls, region, productName=SNAPSHOTS, armRegionName=region)
    fitting = [row for row in rows if row.get("meterName") in SNAPSHOT_METERS and usd_of(row) > 0]
    return KeepingPrice(
        region=region,
        per_gib_month=_dearest(fitting, "snapshots", region),
        source=_source(calls),
        as_of=datetime.fromtimestamp(now, UTC).date().isoformat(),
        fictional=calls.emulated,
    )


def _source(calls: AzureCalls) -> str:
    return "Azure retail prices" + (" (emulated)" if calls.emulated else "")


def machine_rows(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of Linux machines by the hour: those paid for on demand, and those of spot machines."""
    linux = [
        row
        for row in rows
        if _is_hourly(row) and not any(word in str(row.get("productName", "")) for word in EXCLUDED_PRODUCTS)
    ]
    usual = [row for row in linux if not any(_names(row, word) for word in (SPOT, LOW_PRIORITY))]
    return usual, [row for row in linux if _names(row, SPOT)]


def disk_per_gib_month(rows: Iterable[Row], region: str) -> int:
    """The most that a GiB of a Standard SSD may cost, of any disk that the image fits on, in micro-cents.

    A disk of 33 GiB costs as much as one of 64: its tier. So this bound of a disk's bill may be up to twice the bill.
    It holds what is billed by size alone: reads and writes of a Standard SSD are billed besides, up to an hourly cap.
    """
    by_tier = {tier: usd for row in rows for tier, usd in _tier(row)}
    least = IMAGE_DISK_GIB
    worst = Decimal(0)
    for tier, size_gib in sorted(TIER_GIB.items(), key=lambda item: item[1]):
        if size_gib < IMAGE_DISK_GIB:
            continue
        if tier in by_tier:
            worst = max(worst, by_tier[tier] / least)
            least = size_gib + 1
    if not worst:
        raise missing(f"{DISKS} of {IMAGE_DISK_GIB} GiB or more", region)
    return from_usd(worst)


def _tier(row: Row) -> Iterable[tuple[int, Decimal]]:
    named = DISK_ROW.fullmatch(str(row.get("skuName", "")))
    if named and DISK_METER.fullmatch(str(row.get("meterName", ""))) and usd_of(row) > 0:
        yield int(named[1]), usd_of(row)


def _is_hourly(row: Row) -> bool:
    return row.get("unitOfMeasure") == "1 Hour" and row.get("type", "Consumption") == "Consumption" and usd_of(row) > 0


def _names(row: Row, word: str) -> bool:
    return any(word in str(row.get(field, "")) for field in ("skuName", "meterName"))


def usd_of(row: Row) -> Decimal:
    """A row's price; 0 for one in another currency, or without any."""
    if row.get("currencyCode", CURRENCY) != CURRENCY:
        return Decimal(0)
    return Decimal(str(row.get("retailPrice") or 0))


def _dearest(rows: Sequence[Row], what: str, region: str) -> int:
    """The highest of the prices that match: if two do, the bound holds for both."""
    if not rows:
        raise missing(what, region)
    return from_usd(max(usd_of(row) for row in rows))


def missing(what: str, region: str) -> CloudError:
    return CloudError(
        "price_missing",
        f"Azure lists no price for {what}.",
        where=f"azure {region}",
        next="Check the machine type and the region.",
    )


def _rows(calls: AzureCalls, region: str, **wanted: str) -> list[Row]:
    """The rows in which every field is as wanted. Values know case; a quote is doubled, as OData has it."""
    terms = [f"{field} eq '{_quoted(value)}'" for field, value in wanted.items()]
    query = urlencode({"$filter": " and ".join(terms)})
    link = f"{calls.retail_prices}?{query}"
    rows: list[Row] = []
    for _ in range(PAGES_MAX):
        answer = _document(calls.fetch(link, "asking for prices", region).content)
        rows += answer.get("Items") or []
        link = answer.get("NextPageLink") or ""
        if not link:
            break
    return rows


def _document(content: bytes) -> Mapping[str, Any]:
    """Read with exact decimals; ``price_missing`` for what is no price list."""
    try:
        document = json.loads(content, parse_float=Decimal)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CloudError("price_missing", "Azure's price list could not be read.", where="azure")
    return document


def _quoted(value: str) -> str:
    return value.replace("'", "''")
