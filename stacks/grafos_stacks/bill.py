"""The worst that a cell can cost, known before anything is made, and what it did cost afterwards.

A machine that nothing else ends is ended at its expiry by the layer of its cloud that ends the bill, so rate x (time +
grace) is an upper bound of what the machine costs. What that layer leaves behind, a disk or an address, costs on until
somebody sweeps: so many hours of it are in the bound as well (``docs/decisions/dead-man.md``). Amounts are micro-cents.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import Price
from grafos_core.money import cost_micro_cents

DEAD_MAN_GRACE_S = 120
"""How long after its expiry a machine may still bill: timers count in minutes, and shutting down takes a while."""
LEFT_BEHIND_S = 72 * 3600
"""How long what outlives a dead machine may wait for a sweep inside the bound: a weekend, and the day after it."""
MONTH_HOURS_LEAST = 28 * 24
"""Disks are priced by the month; the shortest month gives the highest price for an hour."""
AFTERWARDS = " afterwards"
"""How the name of a part ends that costs on when the machine has ended itself."""
BILLED_LEAST_S = 60
"""A machine is billed for at least a minute."""

EXCLUDED = ("egress traffic", "taxes")
"""What the bound leaves out, by name: nothing that grafos sets bounds how much a program sends out of the cloud. CPU
credits are not among it (``BURST_CREDITS``)."""
EXCLUDED_ALSO = {"azure": ("reads and writes of the disk, which Azure bills up to an hourly cap",)}
"""What it leaves out on one cloud besides."""
BURST_CREDITS = {
    "aws": "set to standard: a machine that is busy for long gets slower, not dearer",
    "azure": "the B series has no surplus to pay for: a machine without credits gets slower, not dearer",
    "gcp": "none: a shared core bursts at no extra price",
}
"""Why a machine that is busy for long costs no more than the bound, by provider."""


class BillPart(msgspec.Struct, frozen=True):
    """One line of the bill; ``how`` says by what it was multiplied."""

    name: str
    micro_cents: int
    how: str


class Bill(msgspec.Struct, frozen=True):
    """What is in the bound, and what is not."""

    parts: tuple[BillPart, ...]
    excluded: tuple[str, ...] = EXCLUDED

    @property
    def total_micro_cents(self) -> int:
        """The sum of the parts: what is held."""
        return sum(part.micro_cents for part in self.parts)


class Rates(NamedTuple):
    """What a cell's parts cost by the hour, in micro-cents."""

    machine: int
    disk: int
    address: int


def rates_held(price: Price, disk_gib: int) -> Rates:
    """By which money is held: the on-demand price, also for a spot machine, whose price may rise up to it."""
    disk_per_hour = -(-price.disk_per_gib_month * disk_gib // MONTH_HOURS_LEAST)
    return Rates(price.machine_per_hour, disk_per_hour, price.address_per_hour)


def rates_billed(price: Price, disk_gib: int, *, spot: bool) -> Rates:
    """By which a cell is settled: a spot machine at the spot price that was recorded, if any was."""
    held = rates_held(price, disk_gib)
    return held._replace(machine=price.spot_per_hour) if spot and price.spot_per_hour else held


def worst_case(
    price: Price, disk_gib: int, longest_s: float, left_behind: Collection[str] = (), provider: str = ""
) -> Bill:
    """The bound for one machine with its disk and public address that lives for ``longest_s`` and is then forgotten.

    ``left_behind`` names the parts ("disk", "address") that its cloud's last layer does not end. What a cloud bills
    besides is excluded by name if ``provider`` is given.
    """
    rates = rates_held(price, disk_gib)
    bill = _bill(rates, price.machine_type, disk_gib, longest_s + DEAD_MAN_GRACE_S)
    after = _bill(rates, price.machine_type, disk_gib, LEFT_BEHIND_S).parts
    parts = bill.parts + tuple(_left(part) for part in after if part.name in left_behind)
    return Bill(parts, EXCLUDED + EXCLUDED_ALSO.get(provider, ()))


def actual_cost(price: Price, disk_gib: int, seconds: float, *, spot: bool = False) -> int:
    """What the machine cost at its recorded price if it was there for ``seconds``; 0 if it never was."""
    if seconds <= 0:
        return 0
    rates = rates_billed(price, disk_gib, spot=spot)
    return _bill(rates, price.machine_type, disk_gib, max(seconds, BILLED_LEAST_S)).total_micro_cents


def cost_left_behind(price: Price, disk_gib: int, seconds: float, left_behind: Collection[str]) -> int:
    """What the parts of those names cost while their machine was stopped."""
    rates = rates_held(price, disk_gib)
    return sum(_for(getattr(rates, part), max(0.0, seconds)) for part in left_behind)


def rate_per_hour(price: Price, disk_gib: int) -> int:
    """What the cell costs by the hour at most, disk and address included: the rate by which its runs are priced."""
    return sum(rates_held(price, disk_gib))


def _bill(rates: Rates, machine_type: str, disk_gib: int, seconds: float) -> Bill:
    time = f"{seconds / 3600:.2f} h"
    return Bill(
        (
            BillPart("machine", _for(rates.machine, seconds), f"{machine_type} for {time}"),
            BillPart("disk", _for(rates.disk, seconds), f"{disk_gib} GiB for {time}"),
            BillPart("address", _for(rates.address, seconds), f"one public IPv4 for {time}"),
        )
    )


def _left(part: BillPart) -> BillPart:
    how = f"left behind for up to {LEFT_BEHIND_S // 3600} h, until a sweep"
    return BillPart(f"{part.name}{AFTERWARDS}", part.micro_cents, how)


def _for(per_hour: int, seconds: float) -> int:
    return cost_micro_cents(Fraction(1), per_hour, seconds)
