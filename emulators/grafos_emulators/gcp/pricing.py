"""The Cloud Billing Catalog: Google's form, fictional figures, and of Compute Engine what a cell's price is made of.

A machine's price is a row for its cores and one for its memory, by family and place; a GPU, a disk and an address have
rows of their own. Beside each on-demand row stand the Spot row, a commitment and a custom machine's row, as in Google's
list: whoever filters too loosely meets them. Of an address the first 744 hours of a month cost nothing, account-wide.
"""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from grafos_emulators.gcp.errors import GceRefusal, bad_request, not_emulated
from grafos_emulators.notes import PRICE_NOTE

COMPUTE_SERVICE = "6F81-5844-456A"  # Google's id of Compute Engine in the catalog
PUBLISHED = "2026-11-21T00:00:00Z"
MAX_PAGE = 5000
FREE_ADDRESS_HOURS = 744.0
ON_DEMAND, SPOT, COMMITMENT = "OnDemand", "Preemptible", "Commit1Yr"
_PLACES = {"us-central1": "Americas", "europe-west1": "EMEA", "europe-west4": "Netherlands"}
_UNITS = {"h": "hour", "GiBy.h": "gibibyte hour", "GiBy.mo": "gibibyte month"}
_BASE_UNITS = {"h": ("s", "second", 3600.0), "GiBy.h": ("By.s", "byte second", 3865470566400.0)}
_NANOS = 1_000_000_000
_COMMITTED, _CUSTOM = Decimal("0.63"), Decimal("1.05")  # of the on-demand price; near what Google asks


def skus_list(service: str, query_text: str) -> dict[str, Any]:
    """``services.skus.list``: one page of the rows of a service."""
    if service != COMPUTE_SERVICE:
        raise GceRefusal(404, "notFound", f"Service services/{service} was not found in the emulated catalog.")
    query = {name: values[-1] for name, values in parse_qs(query_text).items()}
    if query.get("currencyCode", "USD") != "USD":
        raise not_emulated("prices in other currencies than USD")
    if "startTime" in query or "endTime" in query:
        raise not_emulated("prices of the past")
    size, token = query.get("pageSize", str(MAX_PAGE)), query.get("pageToken") or "0"
    if not size.isdecimal() or not token.isdecimal():
        raise bad_request("Request contains an invalid argument.", "badRequest")
    start, rows = int(token), skus()
    end = start + min(int(size) or MAX_PAGE, MAX_PAGE)
    return {"skus": list(rows[start:end]), "nextPageToken": str(end) if end < len(rows) else ""}


@functools.cache
def skus() -> tuple[dict[str, Any], ...]:
    """The whole catalog."""
    text = (files("grafos_emulators.gcp") / "prices.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(sku for row in rows for sku in _skus_of(row))


def _skus_of(row: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    kind, usd = row["kind"], Decimal(row["usd"])
    if kind in {"core", "ram"}:
        yield from _machine_skus(row, usd, Decimal(row["spot_usd"]))
    elif kind == "gpu":
        place = _PLACES[row["region"]]
        yield _sku(row, f"{row['name']} GPU running in {place}", ("Compute", "GPU", ON_DEMAND), usd)
        spot = f"{row['name']} GPU attached to Spot Preemptible VMs running in {place}"
        yield _sku(row, spot, ("Compute", "GPU", SPOT), Decimal(row["spot_usd"]))
    elif kind == "disk":
        group = "PDStandard" if row["name"] == "Storage PD" else "SSD"
        where = "" if row["region"] == "us-central1" else f" in {_PLACES[row['region']]}"
        yield _sku(row, f"{row['name']} Capacity{where}", ("Storage", group, ON_DEMAND), usd)
    elif kind == "image":
        where = "" if row["region"] == "us-central1" else f" in {_PLACES[row['region']]}"
        yield _sku(row, f"{row['name']}{where}", ("Storage", "StorageImage", ON_DEMAND), usd)
    else:
        category = ("Network", "IpAddress", ON_DEMAND)
        yield _sku(row, "External IP Charge on a Standard VM", category, usd, free=FREE_ADDRESS_HOURS)
        spot_usd = Decimal(row["spot_usd"])
        yield _sku(row, "External IP Charge on a Spot Preemptible VM", category, spot_usd, free=FREE_ADDRESS_HOURS)


def _machine_skus(row: Mapping[str, str], usd: Decimal, spot_usd: Decimal) -> Iterator[dict[str, Any]]:
    part, group = ("Core", "CPU") if row["kind"] == "core" else ("Ram", "RAM")
    place, family = _PLACES[row["region"]], row["name"]
    yield _sku(row, f"{family} Instance {part} running in {place}", ("Compute", group, ON_DEMAND), usd)
    spot = f"Spot Preemptible {family} Instance {part} running in {place}"
    yield _sku(row, spot, ("Compute", group, SPOT), spot_usd)
    committed = f"Commitment v1: {family} {'Cpu' if part == 'Core' else part} in {place} for 1 Year"
    yield _sku(row, committed, ("Compute", group, COMMITMENT), usd * _COMMITTED)
    if family in {"E2", "N2"}:
        custom = f"{family} Custom Instance {part} running in {place}"
        yield _sku(row, custom, ("Compute", group, ON_DEMAND), usd * _CUSTOM)


def _sku(
    row: Mapping[str, str], description: str, category: tuple[str, str, str], usd: Decimal, *, free: float = 0.0
) -> dict[str, Any]:
    digits = hashlib.sha256(description.encode()).hexdigest()[:12].upper()
    sku_id = f"{digits[:4]}-{digits[4:8]}-{digits[8:]}"
    family, group, usage = category
    everywhere = row["region"] == "global"
    geography: dict[str, Any] = {"type": "GLOBAL"} if everywhere else {"type": "REGIONAL", "regions": [row["region"]]}
    return {
        "name": f"services/{COMPUTE_SERVICE}/skus/{sku_id}",
        "skuId": sku_id,
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": family,
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": [row["region"]],
        "pricingInfo": [_pricing(row["unit"], usd, free)],
        "serviceProviderName": "Google",
        "geoTaxonomy": geography,
    }


def _pricing(unit: str, usd: Decimal, free: float) -> dict[str, Any]:
    base, described, factor = _BASE_UNITS.get(unit, ("By.s", "byte second", 2.8222e15))
    rates = [{"startUsageAmount": free, "unitPrice": _money(usd)}]
    if free:
        rates.insert(0, {"startUsageAmount": 0.0, "unitPrice": _money(Decimal(0))})
    expression = {
        "usageUnit": unit,
        "usageUnitDescription": _UNITS[unit],
        "baseUnit": base,
        "baseUnitDescription": described,
        "baseUnitConversionFactor": factor,
        "displayQuantity": 1.0,
        "tieredRates": rates,
    }
    return {
        "summary": PRICE_NOTE,
        "pricingExpression": expression,
        "currencyConversionRate": 1.0,
        "effectiveTime": PUBLISHED,
    }


def _money(usd: Decimal) -> dict[str, Any]:
    nanos = int((usd * _NANOS).to_integral_value())
    return {"currencyCode": "USD", "units": str(nanos // _NANOS), "nanos": nanos % _NANOS}
