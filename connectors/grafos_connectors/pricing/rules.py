"""Which prices are believed. A plan whose price cannot be believed has no bound, so it is refused.

``docs/decisions/prices.md`` says what a family is and why. Every function here is pure; ``today`` is a day in UTC.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from datetime import date, timedelta
from fractions import Fraction

from grafos_connectors.pricing.table import DISK, UNKNOWN, VM, PriceRow, PriceTable
from grafos_core.errors import GrafosError
from grafos_core.money import format_cents

STALE_AFTER_DAYS = 30
"""A price list changes a few times a year; who asks once a month is never far off."""
AHEAD_DAYS_MAX = 1
"""A row may be dated this far ahead of a clock that is a little slow; farther, one of the two is wrong."""
IMPLAUSIBLE_FACTOR = 10
"""Inside a family prices for each core differ up to threefold; a slip of the decimal point is ten or a hundred, up or
down."""
FREE_PROVIDERS = ("local",)
"""Where a price of 0 is the truth: one's own machine."""

_SERIES = {
    "aws": re.compile(r"([a-z0-9-]+)\."),  # t4g.medium
    "gcp": re.compile(r"([a-z0-9]+)-"),  # e2-standard-2
    "azure": re.compile(r"[A-Za-z]+_([A-Z]+)"),  # Standard_B2ats_v2
}


def age_days(row: PriceRow, today: date) -> int | None:
    """How old a row is; None if nobody knows."""
    if row.as_of == UNKNOWN:
        return None
    try:
        return (today - date.fromisoformat(row.as_of)).days
    except ValueError:
        return None


def is_stale(row: PriceRow, today: date) -> bool:
    """Whether a row is too old to plan by. What an emulator says is never stale: it is never true either."""
    if row.fictional or row.provider in FREE_PROVIDERS:
        return False
    age = age_days(row, today)
    return age is None or not -AHEAD_DAYS_MAX <= age <= STALE_AFTER_DAYS


def refuse_stale(row: PriceRow, today: date, machine_type: str = "") -> None:
    """``price_stale`` for a row that is too old to plan by, with the refresh of ``machine_type`` as the next step."""
    if not is_stale(row, today):
        return
    age = age_days(row, today)
    if age is None:
        dated = "of an unknown date"
    elif age < 0:
        dated = f"dated {row.as_of}, which is ahead of this machine's clock"
    else:
        dated = f"{age} days old"
    raise GrafosError(
        "price_stale",
        f"the price of {told(row)} is {dated}; a plan needs one of the last {STALE_AFTER_DAYS} days",
        where=f"{row.provider} {row.region}",
        why=f"it comes from: {row.source}",
        next=refresh_command(row.provider, row.region, machine_type or (row.name if row.kind == VM else "")),
    )


def refresh_command(provider: str, region: str, machine_type: str) -> str:
    """The command that reads one machine's prices anew."""
    narrowed = f" --type {machine_type}" if machine_type else ""
    return f"grafos cloud prices refresh --provider {provider} --region {region}{narrowed}"


def refuse_implausible(row: PriceRow, table: PriceTable) -> None:
    """``price_implausible`` for a price of 0 or less, a spot price above on-demand, or one far off its family's."""
    if row.price_micro_cents <= 0 and row.provider not in FREE_PROVIDERS:
        raise _implausible(row, "costs nothing")
    if row.spot_micro_cents > row.price_micro_cents:
        spot = format_cents(row.spot_micro_cents)
        raise _implausible(row, f"costs {_amount(row)} on demand and {spot} as a spot machine, which is more")
    usual = family_median(row, table)
    if usual and unit_price(row) > IMPLAUSIBLE_FACTOR * usual:
        times = float(unit_price(row) / usual)
        raise _implausible(row, f"costs {_amount(row)}, {times:.0f} times what is usual for {family_told(row)}")
    if usual and 0 < IMPLAUSIBLE_FACTOR * unit_price(row) < usual:
        raise _implausible(row, f"costs {_amount(row)}, less than a tenth of what is usual for {family_told(row)}")


def family_of(row: PriceRow) -> tuple[str, ...]:
    """Rows of one family may be compared: a series of one cloud's machines, or a kind of anything else on all."""
    if row.kind != VM:
        return (row.kind,)
    series = _SERIES[row.provider].match(row.name) if row.provider in _SERIES else None
    return (row.kind, row.provider, series[1] if series else row.name)


def family_told(row: PriceRow) -> str:
    """The family in words."""
    if row.kind != VM:
        return {"disk": "disks", "address": "public addresses"}.get(row.kind, row.kind)
    return f"{row.provider}'s {family_of(row)[2]} machines, by the core"


def unit_price(row: PriceRow) -> Fraction:
    """What is compared: a machine's price for each billed core, any other as it is."""
    cores = Fraction(row.cpu_millicores, 1000) if row.kind == VM and row.cpu_millicores else Fraction(1)
    return row.price_micro_cents / cores


def family_median(row: PriceRow, table: PriceTable) -> Fraction | None:
    """The median over what is known of the family but for this very row, of whatever age; None if that is nothing.

    The shipped row of the same type and region is among it: it is the best that there is to compare with.
    """
    others = [*table.seed.values(), *(own for own in table.own.values() if own.key != row.key)]
    known = [unit_price(other) for other in _kin(row, others)]
    return statistics.median(known) if known else None


def _kin(row: PriceRow, others: Iterable[PriceRow]) -> list[PriceRow]:
    family = family_of(row)
    return [other for other in others if family_of(other) == family and other.price_micro_cents > 0]


def told(row: PriceRow) -> str:
    """What the row is the price of, for a sentence."""
    if row.kind == VM:
        return f"{row.name} in {row.region}"
    return f"a {row.kind} in {row.region}" if row.kind == DISK else f"an {row.kind} in {row.region}"


def day_of(now: float) -> date:
    """The day in UTC of a Unix time."""
    return date(1970, 1, 1) + timedelta(seconds=now)


def _amount(row: PriceRow) -> str:
    return f"{format_cents(row.price_micro_cents)} for each {row.unit}"


def _implausible(row: PriceRow, what: str) -> GrafosError:
    label = " (fictional)" if row.fictional else ""
    return GrafosError(
        "price_implausible",
        f"{told(row)} {what}{label}",
        where=f"{row.provider} {row.region}",
        why=f"said by: {row.source}",
        next="compare it with the cloud's own price page; nothing is planned by a price that may be wrong",
    )
