"""`grafos cloud budget` and `grafos cloud cost`: the operator's cap, what is held under it, and what cells cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import new_group, taught, terminal_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_stacks.costs import Budget, CellCost, Sum

CAP_CENTS_MAX = 100_000_000
"""A million dollars: whoever means more than that has mistaken cents for something smaller."""

app = new_group(
    help="The cap over all cells of this fabric: spent and held together never pass it.",
    examples=("grafos cloud budget show", "grafos cloud budget set 5000"),
    next="grafos cloud budget show",
)


@app.command(
    "set",
    cls=taught(
        examples=("grafos cloud budget set 5000", "grafos cloud budget set 0 --json"), next="grafos cloud budget show"
    ),
)
def set_budget(
    ctx: typer.Context,
    amount: Annotated[str, typer.Argument(metavar="CENTS", help="the cap in whole US cents: 5000 is $50.00")],
) -> None:
    """Sets the cap under which every cell holds its worst case before it is made; a new fabric starts with 2,000 cents.

    A cap below what is held ends nothing that runs: it refuses new cells until enough was torn down.
    """
    from grafos_cli.fabric import open_default
    from grafos_core.fabric import OPERATOR_ACCOUNT
    from grafos_core.ledger import set_cap
    from grafos_core.money import from_cents

    terminal = terminal_of(ctx)
    cap = from_cents(_cents(amount))
    fabric = open_default(terminal)
    fabric.book(lambda ledger: set_cap(ledger, OPERATOR_ACCOUNT, cap))
    _show(fabric, terminal)


@app.command(
    "show",
    cls=taught(
        examples=("grafos cloud budget show", "grafos cloud budget show --json"), next="grafos cloud budget set 5000"
    ),
)
def show_budget(ctx: typer.Context) -> None:
    """Shows the cap, what is held and spent under it, what is free, and which cells hold it."""
    from grafos_cli.fabric import open_default

    terminal = terminal_of(ctx)
    _show(open_default(terminal), terminal)


def cost(
    ctx: typer.Context,
    cell_id: Annotated[str, typer.Option(metavar="ID", help="only the cells of that name")] = "",
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="only cells that cost anything since: 24h, 7d, or a day as 2026-11-21")
    ] = "",
) -> None:
    """Shows what each cell cost, or has cost so far, by the fabric's own ledger; asks no cloud.

    A cell that ended shows what it was settled for. The cloud's own bill is the last word.
    """
    from grafos_cli.fabric import open_default
    from grafos_stacks.costs import HONESTLY, cell_costs, sums_of

    terminal = terminal_of(ctx)
    now = time.time()
    after = _moment(since, now)
    fabric = open_default(terminal)
    holds = tuple(fabric.read_ledger().holds.values())
    costs = cell_costs(holds, now, cell_id=cell_id, since=after, without_machine=_without_machine(fabric))
    if cell_id and not costs and not since:
        raise GrafosError(
            "cell_unknown",
            f"the ledger has no cell {cell_id!r}",
            next=f"grafos cloud cost  lists all; grafos cloud show --cell-id {cell_id}  looks for it in the clouds",
        )
    sums = sums_of(costs)
    document = {
        "cells": _documents(costs),
        "sums": _documents(sums),
        "total_micro_cents": sum(one.cost_micro_cents for one in sums if not one.fictional),
        "fictional_micro_cents": sum(one.cost_micro_cents for one in sums if one.fictional),
        "note": HONESTLY,
    }
    text = _cost_table(costs, terminal) + "\n" + _sums_text(sums, terminal) if costs else "No cell has cost anything.\n"
    terminal.emit(document, f"{text}\n{HONESTLY}\n")


def _show(fabric: Fabric, terminal: Terminal) -> None:
    from grafos_cli.fictional import emulated_cells, fictional_of, fictional_text
    from grafos_cli.ledger_home import ledger_document, ledger_text
    from grafos_core.fabric import OPERATOR_ACCOUNT
    from grafos_core.ledger import OPEN
    from grafos_stacks.costs import budget_of, cell_costs

    ledger, place = fabric.read_ledger(), fabric.ledger_place()
    holds = tuple(ledger.holds.values())
    budget = budget_of(ledger.account(OPERATOR_ACCOUNT))
    still = [held for held in holds if held.state == OPEN]
    costs = cell_costs(still, time.time(), without_machine=_without_machine(fabric))
    held, spent = fictional_of(holds, OPERATOR_ACCOUNT, emulated_cells(fabric))
    document = {
        "budget": {
            **_documents([budget])[0],
            "fictional_held_micro_cents": held,
            "fictional_spent_micro_cents": spent,
        },
        "ledger": ledger_document(place),
        "cells": _documents(costs),
    }
    text = _budget_text(budget, fictional_text(held, spent), "" if place.is_here else ledger_text(place), terminal)
    if costs:
        text += "\n" + _cost_table(costs, terminal)
    terminal.emit(document, text)


def _without_machine(fabric: Fabric) -> frozenset[str]:
    """Begun cells that no machine was asked for, by the journal; none where it cannot be read, which `doctor` tells."""
    import contextlib

    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import Journal
    from grafos_stacks.looking import without_machine

    if not (fabric.home / "journal.db").exists():
        return frozenset()
    try:
        with contextlib.closing(Journal(fabric, SystemClock())) as journal:
            return without_machine(journal)
    except GrafosError:
        return frozenset()


def _budget_text(budget: Budget, fictional: str, ledger: str, terminal: Terminal) -> str:
    from grafos_cli.tables import facts
    from grafos_core.money import format_cents

    lines = [
        ("cap", format_cents(budget.cap_micro_cents)),
        ("held", format_cents(budget.held_micro_cents)),
        ("spent", format_cents(budget.spent_micro_cents)),
        ("free", format_cents(budget.free_micro_cents)),
    ]
    if fictional:
        lines.append(("fictional", fictional))
    if ledger:
        lines.append(("ledger", ledger))
    if budget.over_micro_cents:
        over = format_cents(budget.over_micro_cents)
        lines.append(
            ("over", f"{over}: what runs goes on, and no new cell is made until this is torn down or spent less")
        )
    return facts(lines, terminal)


def _cost_table(costs: tuple[CellCost, ...], terminal: Terminal) -> str:
    from grafos_cli.moments import moment_text
    from grafos_cli.tables import table
    from grafos_core.money import format_cents

    rows = [
        [
            one.cell_id,
            _provider(one.provider, fictional=one.fictional),
            "ran out" if one.state == "open" and 0 < one.ends_at < time.time() else one.state,
            moment_text(one.since),
            format_cents(one.rate_micro_cents_per_hour) if one.rate_micro_cents_per_hour else "-",
            format_cents(one.held_micro_cents),
            format_cents(one.cost_micro_cents) + (" so far" if one.state == "open" else ""),
        ]
        for one in costs
    ]
    head = ("CELL", "WHERE", "STATE", "SINCE", "PER HOUR", "HELD", "COST")
    return table(head, rows, terminal, "    rrr", ("SINCE", "PER HOUR"))


def _sums_text(sums: tuple[Sum, ...], terminal: Terminal) -> str:
    from grafos_cli.tables import facts
    from grafos_core.money import format_cents

    lines = [
        (
            _provider(one.provider, fictional=one.fictional),
            f"{format_cents(one.cost_micro_cents)} for {one.cells} cell{'s' if one.cells != 1 else ''}",
        )
        for one in sums
    ]
    real = sum(one.cost_micro_cents for one in sums if not one.fictional)
    return facts([*lines, ("total", f"{format_cents(real)} of real money")], terminal)


def _provider(name: str, *, fictional: bool) -> str:
    return (name or "unknown") + (" (fictional)" if fictional else "")


def _documents(records: Any) -> list[dict[str, object]]:
    import msgspec

    found: list[dict[str, object]] = msgspec.to_builtins(list(records))
    return found


def _cents(text: str) -> int:
    """A whole number of cents, else ``usage``."""
    plain = text.replace("_", "").replace(",", "")
    many = len(plain) > len(str(CAP_CENTS_MAX))  # Python refuses to read a number of thousands of digits
    if many or not (plain.isascii() and plain.isdigit()) or int(plain) > CAP_CENTS_MAX:
        raise GrafosError(
            "usage",
            f"{text[:40]!r} is no cap",
            where="CENTS",
            why=f"it is a whole number of US cents from 0 to {CAP_CENTS_MAX:,}",
            next="write $50.00 as: grafos cloud budget set 5000",
        )
    return int(plain)


def _moment(since: str, now: float) -> float:
    """Unix seconds of ``24h`` ago, or of the begin of a day in UTC; 0 if nothing was asked."""
    from datetime import UTC, datetime

    from grafos_cli.sizes import read_duration

    if not since:
        return 0.0
    if "-" not in since:
        return now - read_duration("--since", since)
    try:
        return datetime.strptime(since, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise GrafosError(
            "usage", f"{since[:40]!r} is no day", where="--since", next="write it like 2026-11-21, 24h or 7d"
        ) from error
