"""The Retail Prices API, under ``/azure/api/retail/prices``: no login, OData filters, pages.

One size has many rows: Linux and Windows, Spot and Low Priority, by the hour and reserved for a year. A client that
does not filter takes a wrong price, here as there. Which figures are invented stands in ``data/azure_prices.csv``.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.resources
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

from grafos_emulators.azure import catalogue
from grafos_emulators.azure.errors import JSON
from grafos_emulators.http import Request, Response
from grafos_emulators.notes import PRICE_NOTE

PATH = "/azure/api/retail/prices"
PAGE_SIZE = 100
WINDOWS_FACTOR, LOW_PRIORITY_FACTOR, RESERVED_FACTOR = 1.9, 0.2, 0.62  # invented, and plausible
HOURS_OF_A_YEAR = 8760
_DISKS = {
    "P": ("Premium SSD", "Premium_SSD"),
    "E": ("Standard SSD", "Standard_SSD"),
    "S": ("Standard HDD", "Standard_HDD"),
}
_TERM = re.compile(r"\s*(\w+)\s+(eq|ne)\s+'((?:[^']|'')*)'\s*")
_CONTAINS = re.compile(r"\s*contains\(\s*(\w+)\s*,\s*'((?:[^']|'')*)'\s*\)\s*")

Item = dict[str, Any]


def answer(request: Request, endpoint: str) -> Response:
    """One page of the items that fit ``$filter``."""
    if request.method != "GET":
        return _refused(405, "Method not allowed")
    query = {name.lower(): value for name, value in parse_qsl(request.query, keep_blank_values=True)}
    skip = query.get("$skip", "0")
    try:
        fits = filter_of(query.get("$filter", ""))
    except ValueError as problem:
        return _refused(400, str(problem))
    if not skip.isdecimal() or query.get("currencycode", "USD").strip("'") != "USD":
        return _refused(400, "the emulator knows $skip=NUMBER, and USD only")
    found = [item for item in items() if fits(item)]
    page = found[int(skip) : int(skip) + PAGE_SIZE]
    following = int(skip) + PAGE_SIZE
    again = urlencode({**query, "$skip": str(following)}, safe="$")
    document = {
        "BillingCurrency": "USD",
        "CustomerEntityId": "Default",
        "CustomerEntityType": "Retail",
        "Items": page,
        "NextPageLink": f"{endpoint}{PATH}?{again}" if following < len(found) else None,
        "Count": len(page),
    }
    return Response(200, json.dumps(document).encode(), {**JSON, "x-grafos-note": PRICE_NOTE})


def filter_of(text: str) -> Callable[[Item], bool]:
    """The filter as a test of an item; ValueError for words that the emulator does not know. Values keep their case."""
    if not text.strip():
        return lambda _: True
    either = [
        [_term(part) for part in re.split(r"\s+and\s+", alternative)] for alternative in re.split(r"\s+or\s+", text)
    ]
    return lambda item: any(all(term(item) for term in terms) for terms in either)


def _term(text: str) -> Callable[[Item], bool]:
    found, holds = _TERM.fullmatch(text), _CONTAINS.fullmatch(text)
    name = found[1] if found else holds[1] if holds else ""
    if name not in items()[0]:
        raise ValueError(f"Invalid OData parameters supplied: {text}")
    if holds:
        wanted = holds[2].replace("''", "'")
        return lambda item: wanted in str(item[name])
    assert found is not None, "a term is one of the two forms"
    value, same = found[3].replace("''", "'"), found[2] == "eq"
    return lambda item: (str(item[name]) == value) == same


@functools.cache
def items() -> tuple[Item, ...]:
    """All rows, in the order of the file."""
    text = importlib.resources.files("grafos_emulators").joinpath("data/azure_prices.csv").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    makers: dict[str, Callable[[dict[str, str]], Iterator[Item]]] = {
        "vm": _machine_rows,
        "disk": _disk_rows,
        "address": _address_rows,
        "snapshot": _snapshot_rows,
    }
    return tuple(item for row in csv.DictReader(lines) for item in makers[row["kind"]](row))


def _machine_rows(row: dict[str, str]) -> Iterator[Item]:
    size = row["name"].removeprefix("Standard_").replace("_", " ")
    family = catalogue.SIZES[row["name"].lower()].family.removeprefix("standard").removesuffix("Family").strip()
    product, usd = f"Virtual Machines {family} Series", float(row["usd"])
    common: dict[str, Any] = {
        "region": row["region"],
        "service": ("Virtual Machines", "DZH313Z7MMC8", "Compute"),
        "arm_sku": row["name"],
        "unit": "1 Hour",
    }
    yield _item(product=product, sku=size, usd=usd, **common)
    yield _item(product=f"{product} Windows", sku=size, usd=round(usd * WINDOWS_FACTOR, 6), **common)
    if row["spot_usd"]:
        spot = float(row["spot_usd"])
        yield _item(product=product, sku=f"{size} Spot", usd=spot, **common)
        yield _item(product=f"{product} Windows", sku=f"{size} Spot", usd=round(spot * WINDOWS_FACTOR, 6), **common)
        low = round(usd * LOW_PRIORITY_FACTOR, 6)
        yield _item(product=product, sku=f"{size} Low Priority", usd=low, **common)
    year = round(usd * HOURS_OF_A_YEAR * RESERVED_FACTOR, 2)
    yield {**_item(product=product, sku=size, usd=year, **common), "type": "Reservation", "reservationTerm": "1 Year"}


def _disk_rows(row: dict[str, str]) -> Iterator[Item]:
    label, arm = _DISKS[row["name"][0]]
    yield _item(
        product=f"{label} Managed Disks",
        sku=f"{row['name']} LRS",
        meter=f"{row['name']} LRS Disk",
        usd=float(row["usd"]),
        region=row["region"],
        service=("Storage", "DZH317F1HKN0", "Storage"),
        arm_sku=f"{arm}_Managed_Disk_{row['name']}",
        unit="1/Month",
    )


def _snapshot_rows(row: dict[str, str]) -> Iterator[Item]:
    yield _item(
        product="Standard HDD Managed Disks",
        sku="Snapshots LRS",
        meter="LRS Snapshots",
        usd=float(row["usd"]),
        region=row["region"],
        service=("Storage", "DZH317F1HKN0", "Storage"),
        arm_sku="",
        unit="1 GB/Month",
    )


def _address_rows(row: dict[str, str]) -> Iterator[Item]:
    yield _item(
        product="IP Addresses",
        sku="Standard",
        meter="Standard IPv4 Static Public IP",
        usd=float(row["usd"]),
        region=row["region"],
        service=("Virtual Network", "DZH314HC0WV9", "Networking"),
        arm_sku="",
        unit="1 Hour",
    )


def _item(
    *,
    product: str,
    sku: str,
    usd: float,
    region: str,
    service: tuple[str, str, str],
    arm_sku: str,
    unit: str,
    meter: str = "",
) -> Item:
    meter_id = hashlib.sha256(f"{product} {sku} {region} {meter}".encode()).hexdigest()
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": usd,
        "unitPrice": usd,
        "armRegionName": region,
        "location": catalogue.LOCATIONS[region][0],
        "effectiveStartDate": "2026-11-01T00:00:00Z",
        "meterId": f"{meter_id[:8]}-{meter_id[8:12]}-5{meter_id[13:16]}-8{meter_id[17:20]}-{meter_id[20:32]}",
        "meterName": meter or sku,
        "productId": f"DZH318Z{meter_id[:5].upper()}",
        "skuId": f"DZH318Z{meter_id[:5].upper()}/{meter_id[5:9].upper()}",
        "productName": product,
        "skuName": sku,
        "serviceName": service[0],
        "serviceId": service[1],
        "serviceFamily": service[2],
        "unitOfMeasure": unit,
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": arm_sku,
    }


def _refused(status: int, why: str) -> Response:
    return Response(status, json.dumps({"Error": {"Code": "BadRequest", "Message": why}}).encode(), JSON)
