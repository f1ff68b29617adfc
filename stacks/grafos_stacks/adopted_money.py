"""Money for a cell that was adopted and for which this fabric's ledger holds nothing.

Without journal and ledger nobody knows what was held for it. What it may cost until its end is known all the same: from
its signed tags, what the cloud tells of its machine and disk, and the price. It bills whether that fits under the cap
or not, so it is adopted in either case, and what could not be held is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafos_connectors.contract import Found, Kind, Price
from grafos_core import ledger as ledgers
from grafos_core.changes import Batch
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.money import format_cents
from grafos_stacks.bill import DEAD_MAN_GRACE_S, Rates, rates_held, worst_case
from grafos_stacks.cell_holds import new_hold_id, open_hold
from grafos_stacks.direct import Hands
from grafos_stacks.layouts import left_behind
from grafos_stacks.names import expiry_in
from grafos_stacks.prices import PriceBook
from grafos_stacks.recovery import made_at
from grafos_stacks.spec import DISK_GIB_DEFAULTS, ORCHESTRATOR_ID


class Adopted(NamedTuple):
    """A cell as tags and cloud show it. Times are Unix seconds; it ends by itself at ``ends_at`` at the latest."""

    stack: str
    machine: Found
    disk_gib: int
    made_at: float
    ends_at: float


class Held(NamedTuple):
    """The hold's id, empty if there is none, and what is to be told."""

    hold_id: str
    note: str


def hold_adopted(hands: Hands, stack: str, parts: Sequence[Found]) -> Held:
    """The cell's open hold, or one for its worst case from when it was made until its end. Never raises a refusal of
    ledger or prices: it is in the note. The caller holds the stack's lock."""
    cell = _seen(hands, stack, parts)
    try:
        there = open_hold(hands.fabric, stack)
        if there is not None:
            return Held(there.hold_id, "")
        if cell is None:
            return Held("", "nothing is held for it: its machine does not tell when it was made and when it ends")
        price = _price(hands, cell)
        hold_id, amount = _hold(hands, cell, price)
    except GrafosError as error:
        step = f"; {error.next}" if error.next else ""
        return Held("", f"it bills, and nothing is held for it: {error.what}{step}")
    label = " (fictional)" if price.fictional else ""
    return Held(hold_id, f"{format_cents(amount)}{label} is held for it now, its worst case until it ends")


def _seen(hands: Hands, stack: str, parts: Sequence[Found]) -> Adopted | None:
    machines = [found for found in parts if found.ref.kind is Kind.MACHINE and found.attributes.get("machine_type")]
    if not machines:
        return None
    ends = [max(expiry_in(found.tags), _number(found, "ends_at")) for found in parts]
    if not max(ends):
        return None
    sizes = [_number(found, "size_gib") for found in parts if found.ref.kind is Kind.DISK]
    disk_gib = sum(sizes) or DISK_GIB_DEFAULTS.get(hands.connector.provider, 0)
    made = min(made_at(found, hands.clock.now()) for found in machines)
    return Adopted(stack, machines[0], disk_gib, made, float(max(ends)))


def _number(found: Found, name: str) -> int:
    text = found.attributes.get(name, "")
    return int(text) if text.isdecimal() else 0


def _price(hands: Hands, cell: Adopted) -> Price:
    """By the person's table, or as the emulator says; ``price_missing`` for a type that nobody offers any more."""
    region, machine_type = cell.machine.ref.region, cell.machine.attributes["machine_type"]
    offers = hands.connector.offers(region, machine_type)
    if not offers:
        raise GrafosError("price_missing", f"{region} does not offer {machine_type} any more")
    return PriceBook(hands.clock).price(hands.connector, hands.identity(), offers[0])


def _hold(hands: Hands, cell: Adopted, price: Price) -> tuple[str, int]:
    provider = hands.connector.provider
    behind = left_behind(provider, orchestrates=cell.stack == ORCHESTRATOR_ID)
    rates: Rates = rates_held(price, cell.disk_gib)
    amount = worst_case(price, cell.disk_gib, cell.ends_at - cell.made_at, behind, provider).total_micro_cents
    meter = ledgers.Meter(
        provider=provider,
        rate_micro_cents_per_hour=sum(rates),
        since=cell.made_at,
        until=cell.ends_at + DEAD_MAN_GRACE_S,
        left_micro_cents_per_hour=sum(rate for name, rate in rates._asdict().items() if name in behind),
        fictional=price.fictional,
    )

    def reserve(ledger: ledgers.Ledger) -> Batch:
        hold_id = new_hold_id(ledger.holds.values(), cell.stack, cell.made_at)
        return ledgers.hold(ledger, hold_id, OPERATOR_ACCOUNT, amount, f"cell {cell.stack}", meter=meter)

    booked = hands.fabric.book(reserve)
    return new_hold_id(booked.holds.values(), cell.stack, cell.made_at), amount
