"""The price list service: AWS' nesting and traps, fictional figures.

For each machine type there are three products, as in AWS' list: the one that is ``Used`` and the two of capacity
reservations, of which one costs nothing. Whoever filters too loosely meets them here first.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.http import Response
from grafos_emulators.notes import PRICE_NOTE

VERSION = "fictional-20261121"
PUBLISHED = "2026-11-21T00:00:00Z"
ENDPOINT_REGIONS = frozenset({"us-east-1", "eu-central-1", "ap-south-1"})  # the price list has no others
MAX_RESULTS = 100
ON_DEMAND, HOURLY = "JRTCKXETXF", "6YS6EN2CT7"  # AWS' codes of the offer term and of the rate, the same everywhere
SPOT_SHARE = 0.4  # of the on-demand price; about what spot instances cost in 2026
_LOCATIONS = {
    "us-east-1": ("US East (N. Virginia)", ""),
    "eu-west-1": ("EU (Ireland)", "EU-"),
    "eu-central-1": ("EU (Frankfurt)", "EUC1-"),
}  # region: AWS' name for it, and the prefix of its usage types
_UNUSED, _ALLOCATED = "UnusedCapacityReservation", "AllocatedCapacityReservation"


def answer(call: AwsCall) -> Response:
    if call.region not in ENDPOINT_REGIONS:
        raise not_emulated(
            f"a price list endpoint in {call.region}: AWS has them in {', '.join(sorted(ENDPOINT_REGIONS))}"
        )
    if call.action != "GetProducts":
        raise not_emulated(f"pricing:{call.action}")
    wanted = [_wanted(each) for each in call.parameters.get("Filters", [])]
    service = call.parameters.get("ServiceCode")
    found = [
        product
        for product in products()
        if product["serviceCode"] == service and all(_value(product, name) == value for name, value in wanted)
    ]
    start = int(call.parameters.get("NextToken") or 0)
    end = start + min(int(call.parameters.get("MaxResults") or MAX_RESULTS), MAX_RESULTS)
    page: dict[str, Any] = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(each) for each in found[start:end]]}
    if end < len(found):
        page["NextToken"] = str(end)
    headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-requestid": call.request_id}
    return Response(200, json.dumps(page).encode(), headers)


def _wanted(asked: Mapping[str, str]) -> tuple[str, str]:
    if asked.get("Type") != "TERM_MATCH":
        raise not_emulated(f"price filters of the type {asked.get('Type')}")
    if not asked.get("Field") or asked.get("Value") is None:
        raise AwsRefusalError("InvalidParameterException", "a filter needs Field and Value")
    return asked["Field"], asked["Value"]


def _value(product: Mapping[str, Any], field: str) -> str | None:
    value = product["product"].get(field) or product["product"]["attributes"].get(field)
    return value if isinstance(value, str) else None


def spot_price(instance_type: str, region: str) -> str:
    """USD for an hour of a spot instance, the same in all zones and at all times; empty where none is told."""
    rows = (row for row in _rows() if row["kind"] == "vm" and (row["name"], row["region"]) == (instance_type, region))
    return next((f"{float(row['usd']) * SPOT_SHARE:.6f}" for row in rows), "")


@functools.cache
def _rows() -> tuple[dict[str, str], ...]:
    text = (files("grafos_emulators") / "data" / "aws_prices.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@functools.cache
def products() -> tuple[dict[str, Any], ...]:
    """The whole list."""
    return tuple(product for row in _rows() for product in _products_of(row))


def _products_of(row: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    if row["kind"] == "vm":
        for status, prefix, usd in (
            ("Used", "BoxUsage", row["usd"]),
            (_UNUSED, "UnusedBox", row["usd"]),
            (_ALLOCATED, "Reservation", "0"),
        ):
            yield _machine(row, status, prefix, usd)
        return
    for region in _LOCATIONS:  # the rows of all else are told alike in all three regions
        yield {"disk": _volume, "address": _address, "snapshot": _snapshot}[row["kind"]](row, region)


def _machine(row: Mapping[str, str], status: str, usage: str, usd: str) -> dict[str, Any]:
    attributes = {
        "instanceType": row["name"],
        "vcpu": row["vcpus"],
        "memory": f"{row['memory_gib']} GiB",
        "processorArchitecture": "64-bit",
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "licenseModel": "No License required",
        "tenancy": "Shared",
        "capacitystatus": status,
        "marketoption": "OnDemand",
        "currentGeneration": "Yes",
        "operation": "RunInstances",
    }
    text = f"${usd} per On Demand Linux {row['name']} Instance Hour"
    return _product(
        "AmazonEC2", "Compute Instance", row["region"], f"{usage}:{row['name']}", attributes, usd, "Hrs", text
    )


def _volume(row: Mapping[str, str], region: str) -> dict[str, Any]:
    name = row["name"]
    attributes = {"volumeApiName": name, "volumeType": "General Purpose", "storageMedia": "SSD-backed", "operation": ""}
    text = f"${row['usd']} per GB-month of General Purpose ({name}) provisioned storage"
    return _product("AmazonEC2", "Storage", region, f"EBS:VolumeUsage.{name}", attributes, row["usd"], "GB-Mo", text)


def _snapshot(row: Mapping[str, str], region: str) -> dict[str, Any]:
    attributes = {"storageMedia": "Amazon S3", "operation": ""}
    text = f"${row['usd']} per GB-Month of snapshot data stored"
    return _product("AmazonEC2", "Storage Snapshot", region, "EBS:SnapshotUsage", attributes, row["usd"], "GB-Mo", text)


def _address(row: Mapping[str, str], region: str) -> dict[str, Any]:
    attributes = {"group": "VPCPublicIPv4Address", "groupDescription": "Hourly charge for In-use Public IPv4 Addresses"}
    text = f"${row['usd']} per In-use public IPv4 address per hour"
    return _product("AmazonVPC", "", region, "PublicIPv4:InUseAddress", attributes, row["usd"], "Hrs", text)


def _product(
    service: str, family: str, region: str, usage: str, attributes: dict[str, str], usd: str, unit: str, text: str
) -> dict[str, Any]:
    location, prefix = _LOCATIONS[region]
    sku = hashlib.sha256(f"{service} {region} {usage}".encode()).hexdigest()[:16].upper()
    term, rate = f"{sku}.{ON_DEMAND}", f"{sku}.{ON_DEMAND}.{HOURLY}"
    dimension = {
        "rateCode": rate,
        "unit": unit,
        "beginRange": "0",
        "endRange": "Inf",
        "description": text,
        "appliesTo": [],
        "pricePerUnit": {"USD": f"{float(usd):.10f}"},
    }
    offer = {
        "offerTermCode": ON_DEMAND,
        "sku": sku,
        "effectiveDate": PUBLISHED,
        "termAttributes": {},
        "priceDimensions": {rate: dimension},
    }
    own = {
        "servicecode": service,
        "regionCode": region,
        "location": location,
        "locationType": "AWS Region",
        "usagetype": prefix + usage,
        "emulatorNote": PRICE_NOTE,
    }
    product: dict[str, Any] = {"sku": sku, "attributes": {**own, **attributes}}
    if family:
        product["productFamily"] = family
    return {
        "product": product,
        "serviceCode": service,
        "terms": {"OnDemand": {term: offer}},
        "version": VERSION,
        "publicationDate": PUBLISHED,
    }
