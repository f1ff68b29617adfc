"""One price table for all clouds: what each row says, and how it comes from a connector's ``Price`` and back.

The table is the seed that ships with grafos, and over it the rows that were read from the clouds themselves. The seed
is of public tables of unknown age: it tells a reader what to expect, and the rules what is usual; nothing is planned by
it. Prices of an emulator are in neither.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import Offer, Price

VM, DISK, ADDRESS, EGRESS = "vm", "disk", "address", "egress"
KINDS = (VM, DISK, ADDRESS, EGRESS)
UNITS = {VM: "hour", DISK: "gib-month", ADDRESS: "hour", EGRESS: "gib"}
"""What a price is for, by kind."""
UNKNOWN = "unknown"
"""Stands for a date that nobody knows."""
PUBLIC_ADDRESS = "public-ipv4"
"""The address that a connector gives a machine, whatever the cloud calls it."""


def boot_disk(machine_type: str) -> str:
    """The name of the disk that a connector gives a machine; not all machines of a cloud take the same sort."""
    return f"boot-disk:{machine_type}"


class PriceRow(msgspec.Struct, frozen=True):
    """One price, in micro-cents for each ``unit``. ``spot_micro_cents`` is 0 where there is none, or none was told.

    ``cpu_millicores`` is what is billed: of a shared core its share. ``as_of`` is the day on which the source said so
    ("2026-11-21", UTC), or ``unknown``; ``source`` says who. ``region`` "all" or "us" is for what has one price there.
    """

    provider: str
    kind: str
    name: str
    region: str
    unit: str
    price_micro_cents: int
    source: str
    as_of: str
    spot_micro_cents: int = 0
    arch: str = ""
    cpu_millicores: int = 0
    mem_mib: int = 0
    fictional: bool = False

    @property
    def key(self) -> PriceKey:
        """What the table has one row for."""
        return PriceKey(self.provider, self.kind, self.name, self.region)


class PriceKey(NamedTuple):
    """A thing that has a price, in one place."""

    provider: str
    kind: str
    name: str
    region: str


class PriceTable:
    """Rows by key, those of ``own`` before those of ``seed``. It does not change; ``with_rows`` gives another."""

    def __init__(self, seed: Iterable[PriceRow] = (), own: Iterable[PriceRow] = ()) -> None:
        self.seed = {row.key: row for row in seed}
        self.own = {row.key: row for row in own}

    def __iter__(self) -> Iterator[PriceRow]:
        """All rows that count, by provider, kind, name and region."""
        return iter(sorted({**self.seed, **self.own}.values(), key=lambda row: row.key))

    def find(self, provider: str, kind: str, name: str, region: str) -> PriceRow | None:
        """The row that counts, if there is one."""
        key = PriceKey(provider, kind, name, region)
        return self.own.get(key) or self.seed.get(key)

    def with_rows(self, rows: Iterable[PriceRow]) -> PriceTable:
        """The table with these of one's own, each instead of what it had for the key."""
        return PriceTable(self.seed.values(), (*self.own.values(), *rows))


@functools.cache
def seed_rows() -> tuple[PriceRow, ...]:
    """The rows that ship with grafos."""
    text = (files("grafos_connectors") / "pricing" / "seed.csv").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return tuple(msgspec.convert(row, PriceRow, strict=False) for row in csv.DictReader(lines))


def rows_of(price: Price, provider: str, offer: Offer, read_on: str) -> tuple[PriceRow, ...]:
    """What a connector said of a machine type on the day ``read_on``, as rows: the machine, its disk, its address.

    The day is the one on which the cloud said that this is its price. When it last changed a price list is another
    matter, which stays in the source: a price of last year that holds today is not stale.
    """
    listed = "" if price.as_of in ("", read_on) else f", listed {price.as_of}"
    machine = PriceRow(
        provider=provider,
        kind=VM,
        name=price.machine_type,
        region=price.region,
        unit=UNITS[VM],
        price_micro_cents=price.machine_per_hour,
        source=price.source + listed,
        as_of=read_on,
        spot_micro_cents=price.spot_per_hour,
        arch=offer.arch,
        cpu_millicores=_billed_millicores(provider, offer),
        mem_mib=offer.mem_bytes >> 20,
        fictional=price.fictional,
    )
    disk = _beside(machine, DISK, boot_disk(machine.name), price.disk_per_gib_month)
    return machine, disk, _beside(machine, ADDRESS, PUBLIC_ADDRESS, price.address_per_hour)


def _beside(machine: PriceRow, kind: str, name: str, price_micro_cents: int) -> PriceRow:
    """A row that came in the same answer as a machine's."""
    return PriceRow(
        machine.provider,
        kind,
        name,
        machine.region,
        UNITS[kind],
        price_micro_cents,
        machine.source,
        machine.as_of,
        fictional=machine.fictional,
    )


def price_of(machine: PriceRow, disk: PriceRow, address: PriceRow) -> Price:
    """The three rows as a plan keeps them; as old as the oldest."""
    return Price(
        region=machine.region,
        machine_type=machine.name,
        machine_per_hour=machine.price_micro_cents,
        disk_per_gib_month=disk.price_micro_cents,
        address_per_hour=address.price_micro_cents,
        source=machine.source,
        as_of=min(row.as_of for row in (machine, disk, address)),
        fictional=any(row.fictional for row in (machine, disk, address)),
        spot_per_hour=machine.spot_micro_cents,
    )


def _billed_millicores(provider: str, offer: Offer) -> int:
    """A shared core is offered as a whole one; the seed knows the share that is billed."""
    known = (row for row in seed_rows() if row.key[:3] == (provider, VM, offer.machine_type))
    return next((row.cpu_millicores for row in known), 1000 * offer.cpu_cores)
