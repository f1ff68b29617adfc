"""Prices from the Cloud Billing Catalog: a machine is its cores, its memory and its GPUs, each a row of the list.

Source: https://cloud.google.com/billing/docs/reference/rest/v1/services.skus; rows are told apart by their description,
since no field names the family.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from grafos_connectors.contract import CloudError, Price
from grafos_connectors.gcp.catalog import Catalog, PriceRow
from grafos_connectors.gcp.describe import Item
from grafos_connectors.gcp.families import HYPERDISK, SHARED_CORES, disk_type, family_of
from grafos_connectors.uploads import KeepingPrice
from grafos_core.money import from_usd

MIB_PER_GIB = 1024
ON_DEMAND, SPOT = "OnDemand", "Preemptible"

# What a family is called in the list, where that does not follow from its name.
FAMILY_WORDS = {"c2": "Compute optimized", "n1": "N1 Predefined Instance"}
# Machines without rows for core and memory: one row is all.
WHOLE_MACHINES = {"f1-micro": "Micro Instance with burstable CPU", "g1-small": "Small Instance with 1 VCPU"}
GPU_WORDS = {
    "nvidia-a100-80gb": "Nvidia Tesla A100 80GB",
    "nvidia-h100-80gb": "Nvidia H100 80GB",
    "nvidia-l4": "Nvidia L4",
    "nvidia-tesla-a100": "Nvidia Tesla A100",
    "nvidia-tesla-p100": "Nvidia Tesla P100",
    "nvidia-tesla-p4": "Nvidia Tesla P4",
    "nvidia-tesla-t4": "Nvidia Tesla T4",
    "nvidia-tesla-v100": "Nvidia Tesla V100",
}
DISK_ROW = re.compile(r"Balanced PD Capacity(?: in .+)?")
HYPERDISK_ROW = re.compile(r"Hyperdisk Balanced Capacity(?: in .+)?")
IMAGE_ROW = re.compile(r"Storage Image(?: in .+)?")
ADDRESS_ROW = re.compile(r"External IP Charge on a Standard VM.*")


def price(catalog: Catalog, region: str, machine_type: str, *, emulated: bool) -> Price:
    """What a machine, a GiB of its disk and its public address cost in the region, rounded up."""
    item = next(iter(catalog.machine_types(region, machine_type)), None)
    if item is None:
        raise _missing(region, machine_type, "no zone of the region offers it")
    rows = list(catalog.price_rows(region))
    machine, used = machine_usd(item, rows, ON_DEMAND, region)
    disk = _dearest(rows, HYPERDISK_ROW if disk_type(machine_type) == HYPERDISK else DISK_ROW, ON_DEMAND)
    address = _dearest(rows, ADDRESS_ROW, ON_DEMAND)
    if disk is None or address is None:
        raise _missing(region, machine_type, "the list has no row for its disk or its address")
    return Price(
        region=region,
        machine_type=machine_type,
        machine_per_hour=from_usd(machine),
        disk_per_gib_month=from_usd(disk.usd),
        address_per_hour=from_usd(address.usd),
        source=_source(emulated=emulated),
        as_of=min(row.as_of for row in (*used, disk, address)),
        fictional=emulated,
        spot_per_hour=_spot(item, rows, region),
    )


def keeping_price(catalog: Catalog, region: str, *, emulated: bool) -> KeepingPrice:
    """What a GiB of an image costs by the month, rounded up."""
    row = _dearest(list(catalog.price_rows(region)), IMAGE_ROW, ON_DEMAND)
    if row is None:
        raise _missing(region, "an image", "the list has no row for it")
    return KeepingPrice(region, from_usd(row.usd), _source(emulated=emulated), row.as_of, emulated)


def _source(*, emulated: bool) -> str:
    return "Cloud Billing Catalog" + (" (emulated)" if emulated else "")


def _spot(item: Item, rows: Sequence[PriceRow], region: str) -> int:
    """0 when the list has no Spot rows for the machine: a plan can do without."""
    try:
        usd, _ = machine_usd(item, rows, SPOT, region)
    except CloudError:
        return 0
    return from_usd(usd)


def machine_usd(item: Item, rows: Sequence[PriceRow], usage: str, region: str) -> tuple[Decimal, list[PriceRow]]:
    """USD per hour of one machine type, and the rows that it is made of. Raises ``price_missing``."""
    parts: list[tuple[Decimal, PriceRow]] = []
    for amount, pattern in parts_of(item, region):
        row = _dearest(rows, pattern, usage)
        if row is None:
            raise _missing(region, item["name"], f"the list has no {usage} row like {pattern.pattern!r}")
        parts.append((amount, row))
    return sum((amount * row.usd for amount, row in parts), Decimal(0)), [row for _, row in parts]


def parts_of(item: Item, region: str) -> list[tuple[Decimal, re.Pattern[str]]]:
    """How much of which rows a machine type is. Raises ``price_missing`` where parts cannot be priced."""
    name = item["name"]
    if item.get("bundledLocalSsds", {}).get("partitionCount"):
        raise _missing(region, name, "it has local SSDs, which grafos does not price")
    if name in WHOLE_MACHINES:
        return [(Decimal(1), re.compile(rf"(?:Spot Preemptible )?{WHOLE_MACHINES[name]} running in .+"))]
    cores = Decimal(str(SHARED_CORES.get(name, item["guestCpus"])))
    memory_gib = Decimal(item["memoryMb"]) / MIB_PER_GIB
    family = family_of(name)
    words = FAMILY_WORDS.get(family, rf"{family.upper()} (?:AMD |Arm )?Instance")
    parts = [
        (cores, re.compile(rf"(?:Spot Preemptible )?{words} Core running in .+")),
        (memory_gib, re.compile(rf"(?:Spot Preemptible )?{words} Ram running in .+")),
    ]
    for gpu in item.get("accelerators", ()):
        kind = gpu.get("guestAcceleratorType", "")
        if kind not in GPU_WORDS:
            raise _missing(region, name, f"grafos does not know what the list calls its GPU, {kind}")
        where = "(?:running in|attached to Spot Preemptible VMs running in)"
        parts.append((Decimal(gpu["guestAcceleratorCount"]), re.compile(rf"{GPU_WORDS[kind]} GPU {where} .+")))
    return parts


def _dearest(rows: Sequence[PriceRow], pattern: re.Pattern[str], usage: str) -> PriceRow | None:
    """The highest price among the rows that match: if two do, the bound holds for both."""
    matching = (row for row in rows if row.usage == usage and pattern.fullmatch(row.description))
    return max(matching, key=lambda row: row.usd, default=None)


def _missing(region: str, machine_type: str, why: str) -> CloudError:
    return CloudError(
        "price_missing",
        f"Google lists no price for {machine_type}.",
        where=f"gcp {region}",
        why=why,
        next="Check the machine type and the region.",
    )
