"""What cells cost, by the fabric's own ledger: settled ones what they were settled for, others what has accrued.

It knows machine, disk and address by the hour at the prices that were recorded when they were planned. What it leaves
out is what a plan leaves out; the cloud's own bill is the last word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from grafos_core.ledger import OPEN, Account, Hold, accrued

CELL_HOLDS = "cell/"
"""Of the ids of all holds for cells; what follows is the cell's name, its number, and when it was planned."""
HONESTLY = (
    "By the fabric's own ledger: machine, disk and address at recorded prices. Egress traffic and taxes are not in it; "
    "the cloud's bill is the last word."
)


class CellCost(msgspec.Struct, frozen=True):
    """One cell, or one of several that bore the same name after each other. Times are Unix seconds, 0 if unknown.

    ``cost_micro_cents`` is final once ``state`` is not ``open``; the rate is what it was planned at. At ``ends_at`` its
    machine ends by itself at the latest.
    """

    cell_id: str
    provider: str
    state: str
    since: float
    ends_at: float
    ended_at: float
    held_micro_cents: int
    cost_micro_cents: int
    rate_micro_cents_per_hour: int
    fictional: bool


class Budget(msgspec.Struct, frozen=True):
    """An account as a person reads it. ``over_micro_cents`` is what is spent and held above a cap that was lowered."""

    cap_micro_cents: int
    held_micro_cents: int
    spent_micro_cents: int
    free_micro_cents: int
    over_micro_cents: int


def budget_of(account: Account) -> Budget:
    """The account in these words; what is free is never below zero."""
    return Budget(
        account.cap_micro_cents,
        account.held_micro_cents,
        account.spent_micro_cents,
        max(0, account.free_micro_cents),
        max(0, -account.free_micro_cents),
    )


def cell_costs(
    holds: Iterable[Hold],
    now: float,
    *,
    cell_id: str = "",
    since: float = 0.0,
    without_machine: Collection[str] = (),
) -> tuple[CellCost, ...]:
    """Every cell of the ledger, the newest first; only those named ``cell_id``, and that cost anything after ``since``.

    One that ended at a time that nobody noted counts as ended when it was planned. Cells ``without_machine`` have been
    begun, and cost nothing so far.
    """
    named = [held for held in holds if held.hold_id.startswith(f"{CELL_HOLDS}{cell_id}/" if cell_id else CELL_HOLDS)]
    costs = [_cost(held, now) for held in named if held.state == OPEN or (held.ended_at or _planned_at(held)) >= since]
    costs = [
        msgspec.structs.replace(one, cost_micro_cents=0)
        if one.state == OPEN and one.cell_id in without_machine
        else one
        for one in costs
    ]
    return tuple(sorted(costs, key=lambda cost: (-cost.since, cost.cell_id)))


def _cost(held: Hold, now: float) -> CellCost:
    meter = held.meter
    return CellCost(
        cell_id=held.hold_id.split("/")[1],
        provider=meter.provider if meter else "",
        state=held.state,
        since=meter.since if meter else _planned_at(held),
        ends_at=meter.until if meter else 0.0,
        ended_at=held.ended_at,
        held_micro_cents=held.amount_micro_cents,
        cost_micro_cents=accrued(held, now),
        rate_micro_cents_per_hour=meter.rate_micro_cents_per_hour if meter else 0,
        fictional=bool(meter and meter.fictional),
    )


def _planned_at(held: Hold) -> float:
    """The last part of the id."""
    last = held.hold_id.rpartition("/")[2]
    return float(last) if last.isdigit() else 0.0


class Sum(msgspec.Struct, frozen=True):
    """What the cells of one cloud cost together; the fictional ones of an emulator apart from the real ones."""

    provider: str
    fictional: bool
    cells: int
    cost_micro_cents: int


def sums_of(costs: Iterable[CellCost]) -> tuple[Sum, ...]:
    """By provider, real money first."""
    found: dict[tuple[bool, str], Sum] = {}
    for cost in costs:
        group = (cost.fictional, cost.provider)
        before = found.get(group, Sum(cost.provider, cost.fictional, 0, 0))
        found[group] = Sum(
            cost.provider, cost.fictional, before.cells + 1, before.cost_micro_cents + cost.cost_micro_cents
        )
    return tuple(found[group] for group in sorted(found))
