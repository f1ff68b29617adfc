"""Prices from AWS's own price list.

Source: https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html; a product comes as a JSON
string, its price as a decimal string in USD.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.contract import CloudError, Price
from grafos_connectors.uploads import KeepingPrice
from grafos_core.money import from_usd

PRICE_REGION = "us-east-1"  # the list of all regions is served from there

# Without all of these filters several products match: other systems, licences, dedicated hosts, reserved capacity.
MACHINE_FILTERS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}
DISK_FILTERS = {"productFamily": "Storage", "volumeApiName": "gp3"}
SNAPSHOT_FILTERS = {"productFamily": "Storage Snapshot"}
SNAPSHOT_USAGE = "EBS:SnapshotUsage"
ADDRESS_FILTERS = {"group": "VPCPublicIPv4Address"}
ADDRESS_USAGE = "PublicIPv4:InUseAddress"  # the group also holds idle addresses and blocks of them


class ListedPrice(NamedTuple):
    """One product's on-demand price and the day the list was published ("2026-11-21"; empty if not said)."""

    usd: Decimal
    usage: str
    published: str


def price(calls: AwsCalls, region: str, machine_type: str, now: float) -> Price:
    """What a machine, a GiB of its disk and its public address cost in the region, rounded up."""
    calls.check_region(region)
    machine = _dearest(calls, "AmazonEC2", {"instanceType": machine_type, "regionCode": region, **MACHINE_FILTERS})
    disk = _dearest(calls, "AmazonEC2", {"regionCode": region, **DISK_FILTERS})
    address = _dearest(calls, "AmazonVPC", {"regionCode": region, **ADDRESS_FILTERS}, usage=ADDRESS_USAGE)
    return Price(
        region=region,
        machine_type=machine_type,
        machine_per_hour=from_usd(machine.usd),
        disk_per_gib_month=from_usd(disk.usd),
        address_per_hour=from_usd(address.usd),
        source=_source(calls),
        as_of=min(listed.published for listed in (machine, disk, address)),
        fictional=calls.emulated,
        spot_per_hour=_spot(calls, region, machine_type, now),
    )


def keeping_price(calls: AwsCalls, region: str) -> KeepingPrice:
    """What a GiB of a snapshot's data costs by the month, rounded up."""
    calls.check_region(region)
    listed = _dearest(calls, "AmazonEC2", {"regionCode": region, **SNAPSHOT_FILTERS}, usage=SNAPSHOT_USAGE)
    return KeepingPrice(region, from_usd(listed.usd), _source(calls), listed.published, calls.emulated)


def _source(calls: AwsCalls) -> str:
    return "AWS price list" + (" (emulated)" if calls.emulated else "")


def _spot(calls: AwsCalls, region: str, machine_type: str, now: float) -> int:
    """What the dearest zone asks for a spot machine now; 0 when it is not told, since a plan can do without."""
    try:
        answer = calls.read(
            "ec2",
            "describe_spot_price_history",
            region,
            InstanceTypes=[machine_type],
            ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.fromtimestamp(now, UTC),
        )
    except CloudError:
        return 0
    asked = [Decimal(item["SpotPrice"]) for item in answer["SpotPriceHistory"]]
    return from_usd(max(asked)) if asked else 0


def _dearest(calls: AwsCalls, service: str, wanted: Mapping[str, str], usage: str = "") -> ListedPrice:
    """The highest price among the products that match: if two do, the bound holds for both."""
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    answers = calls.pages("pricing", "get_products", PRICE_REGION, ServiceCode=service, Filters=filters)
    prices = [
        listed
        for answer in answers
        for product in answer["PriceList"]
        for listed in listed_prices(product)
        if usage in listed.usage
    ]
    if not prices:
        said = ", ".join(f"{field}={value}" for field, value in wanted.items())
        raise CloudError(
            "price_missing",
            f"AWS lists no price for {wanted.get('instanceType') or next(iter(wanted.values()))}.",
            where=f"aws {wanted['regionCode']}",
            why=f"no product of {service} with {said}",
            next="Check the machine type and the region.",
        )
    return max(prices)


def listed_prices(product: str | Mapping[str, Any]) -> Iterator[ListedPrice]:
    """The on-demand prices above zero in one product; the first tier of a tiered price is among them."""
    data = json.loads(product) if isinstance(product, str) else product
    usage = data.get("product", {}).get("attributes", {}).get("usagetype", "")
    for term in data.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            try:
                usd = Decimal(dimension["pricePerUnit"]["USD"])
            except (KeyError, InvalidOperation):
                continue
            if usd > 0:
                yield ListedPrice(usd, usage, data.get("publicationDate", "")[:10])
