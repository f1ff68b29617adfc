"""The worst that a cell can cost, known before anything is made, and what it did cost afterwards.

A machine that nothing else ends is ended by its own timer at expiry, so rate x (TTL + grace) is an upper bound of
everything that costs by the hour. Amounts are micro-cents.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from grafos_connectors.contract import Price
from grafos_core.money import cost_micro_cents

DEAD_MAN_GRACE_S = 120
"""How long after its expiry a machine may still bill: timers count in minutes, and shutting down takes a while."""
MONTH_HOURS_LEAST = 28 * 24
"""Disks are priced by the month; the shortest month gives the highest price for an hour."""
BILLED_LEAST_S = 60
"""A machine is billed for at least a minute."""

EXCLUDED = ("egress traffic", "taxes")
"""What the bound leaves out, by name. CPU credits are not among it: they are set to standard, which never bills."""


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


def worst_case(price: Price, disk_gib: int, ttl_s: int) -> Bill:
    """The bound for one machine with its disk and public address."""
    return _bill(price, disk_gib, ttl_s + DEAD_MAN_GRACE_S)


def actual_cost(price: Price, disk_gib: int, seconds: float) -> int:
    """What the machine cost at its recorded price if it was there for ``seconds``; 0 if it never was."""
    return _bill(price, disk_gib, max(seconds, BILLED_LEAST_S)).total_micro_cents if seconds > 0 else 0


def rate_per_hour(price: Price, disk_gib: int) -> int:
    """What the cell costs by the hour, disk and address included: the rate by which its runs are priced."""
    return _bill(price, disk_gib, 3600).total_micro_cents


def _bill(price: Price, disk_gib: int, seconds: float) -> Bill:
    disk_per_hour = -(-price.disk_per_gib_month * disk_gib // MONTH_HOURS_LEAST)
    time = f"{seconds / 3600:.2f} h"
    return Bill(
        (
            BillPart("machine", _for(price.machine_per_hour, seconds), f"{price.machine_type} for {time}"),
            BillPart("disk", _for(disk_per_hour, seconds), f"{disk_gib} GiB for {time}"),
            BillPart("address", _for(price.address_per_hour, seconds), f"one public IPv4 for {time}"),
        )
    )


def _for(per_hour: int, seconds: float) -> int:
    return cost_micro_cents(Fraction(1), per_hour, seconds)
