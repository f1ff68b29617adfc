"""Money is a whole number of micro-cents (US): 1 cent = 1,000,000 micro-cents. No float ever holds an amount."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction

CURRENCY = "USD"
"""What every amount is in (ISO 4217); catalogs of other currencies are refused where they are read."""
MICRO_CENTS_PER_CENT = 1_000_000
SECONDS_PER_HOUR = 3600


def from_cents(cents: int) -> int:
    """Micro-cents of ``cents``."""
    return cents * MICRO_CENTS_PER_CENT


def from_usd(usd: Decimal) -> int:
    """Micro-cents of a price in US dollars, rounded up: a bound of the bill may be too high, never too low."""
    return int((usd * 100 * MICRO_CENTS_PER_CENT).to_integral_value(rounding=ROUND_CEILING))


def cost_micro_cents(share: Fraction, rate_micro_cents_per_hour: int, seconds: float | Fraction) -> int:
    """What ``share`` of a machine costs for ``seconds``, rounded up to whole micro-cents; time below zero is zero."""
    return math.ceil(share * rate_micro_cents_per_hour * max(Fraction(0), Fraction(seconds)) / SECONDS_PER_HOUR)


def cents(micro_cents: int) -> float:
    """For a JSON number beside the exact micro-cents; never computed with."""
    return micro_cents / MICRO_CENTS_PER_CENT


def format_cents(micro_cents: int) -> str:
    """For people: ``0.0012¢`` below a cent, ``12.50¢`` below a dollar, else ``$20.00``."""
    if micro_cents == 0:
        return "0¢"
    if abs(micro_cents) < MICRO_CENTS_PER_CENT:
        return f"{micro_cents / MICRO_CENTS_PER_CENT:.6f}".rstrip("0") + "¢"
    if abs(micro_cents) < 100 * MICRO_CENTS_PER_CENT:
        return f"{micro_cents / MICRO_CENTS_PER_CENT:.2f}¢"
    return f"${micro_cents / MICRO_CENTS_PER_CENT / 100:.2f}"
