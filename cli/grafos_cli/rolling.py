"""`grafos cloud roll`: cells go over to another image, one after the other."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafos_cli.terminal import Terminal
    from grafos_stacks.plan import StackPlan
    from grafos_stacks.rolling import Rolled, Turn

TAUGHT = taught(
    examples=(
        "grafos cloud roll gcp --dry-run",
        "grafos cloud roll gcp --image img-gcp-us-central1-0f3a52c81b77 --yes",
        "grafos cloud roll azure --cell-id azure-k3f9q2 --image stock --yes --json",
    ),
    next="grafos cloud ls",
)


def roll(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="azure or gcp")],
    cell_id: Annotated[str, typer.Option(metavar="ID", help="this cell alone; default: all that joined")] = "",
    image: Annotated[
        str, typer.Option(metavar="NAME", help="a published image, or stock; default: the newest published")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be replaced, change nothing")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Replaces cells by successors that start from another image, one after the other.

    A successor has its cell's inputs and its end, and a name of its own (web-1, then web-1-r2). It is held and made
    while the old cell works; when it is ready, the old one is drained and torn down. One that does not get ready, or
    that the cloud refuses, is torn down, and the old one stays. Stopped or failed at any moment, the same command goes
    on.
    """
    from grafos_cli.accounts import hands_for, open_account, provider_named, told_by
    from grafos_cli.fabric import open_default
    from grafos_cli.interrupts import resumable
    from grafos_cli.project import project_folder
    from grafos_cli.steps import show_steps
    from grafos_stacks.bundle import Bundles
    from grafos_stacks.rolling import cells_to_roll, plan_roll
    from grafos_stacks.rolling import roll as roll_cells

    terminal, bundles = terminal_of(ctx), Bundles()
    fabric, began = open_default(terminal), time.monotonic()
    again = f"the same command goes on; see what there is: grafos cloud ls --provider {provider}"
    _check_rolls(provider_named(provider))
    with hands_for([open_account(provider)], fabric) as (hands,):
        with show_steps(terminal, waiting=f"asking {provider}"):
            turns = plan_roll(hands, cells_to_roll(hands, cell_id), image, bundles)
        todo = [turn for turn in turns if turn.plan is not None]
        if dry_run or not todo:
            terminal.emit(_document(turns, ()), _plan_text(turns, terminal))
            if not dry_run and any(turn.error is not None for turn in turns):
                raise typer.Exit(PARTIAL)
            return
        terminal.note(_plan_text(turns, terminal).rstrip())
        if not yes:
            what = "this cell" if len(todo) == 1 else f"{len(todo)} cells, one after the other"
            terminal.confirm(f"Replace {what}?", "--yes")
        with resumable("Stopped while cells were replaced", again), show_steps(terminal) as steps:
            done = roll_cells(replace(hands, progress=told_by(steps)), turns, bundles, project_folder())
    terminal.emit(_document(turns, done), _outcome_text(done, time.monotonic() - began, terminal))
    if any(one.error is not None for one in done):
        raise typer.Exit(PARTIAL)


def _check_rolls(provider: str) -> None:
    """``unsupported`` for a cloud whose cells stand alone: no orchestrator hands their runs over to a successor."""
    from grafos_core.errors import GrafosError

    if provider not in ("azure", "gcp"):
        raise GrafosError(
            "unsupported",
            f"The cells of {provider} stand alone, and are not replaced one after the other",
            next=f"end one and make another: grafos cloud teardown {provider}, then grafos cloud provision {provider}",
        )


def _plan_text(turns: Sequence[Turn], terminal: Terminal) -> str:
    from grafos_cli.fictional import amount_text
    from grafos_cli.tables import table

    if not turns:
        return "No cell that joined an orchestrator is there.\n"
    rows = []
    for old, plan, begun, error in turns:
        assert old.plan is not None, "cells have plans"
        then, held = _image_of(plan) if plan else f"{error.code}: {error.what}" if error else "as it is", ""
        if plan is not None:
            held = amount_text(plan.bill.total_micro_cents, fictional=plan.facts.price.fictional)
            then += ", begun" if begun else ""
        rows.append([old.stack, _image_of(old.plan), plan.stack if plan else "", then, held])
    return table(("CELL", "STARTED FROM", "SUCCESSOR", "STARTS FROM", "HELD BESIDE IT"), rows, terminal)


def _image_of(plan: StackPlan) -> str:
    return plan.facts.image.name


def _document(turns: Sequence[Turn], done: Sequence[Rolled]) -> dict[str, Any]:
    outcomes = {one.cell_id: one for one in done}
    return {"cells": [_cell_document(turn, outcomes.get(turn.old.stack)) for turn in turns], "done": bool(done)}


def _cell_document(turn: Turn, one: Rolled | None) -> dict[str, Any]:
    old, plan, begun, obstacle = turn
    error = one.error if one is not None else obstacle
    assert old.plan is not None, "cells have plans"
    return {
        "cell_id": old.stack,
        "started_from": _image_of(old.plan),
        "successor": plan.stack if plan else "",
        "starts_from": _image_of(plan) if plan else _image_of(old.plan),
        "held_micro_cents": plan.bill.total_micro_cents if plan else 0,
        "begun": begun,
        "state": "stays" if obstacle is not None else _state(plan, one),
        "error": error.to_wire() if error is not None else None,
    }


def _state(plan: StackPlan | None, one: Rolled | None) -> str:
    if plan is None:
        return "as wanted"
    if one is None or one.untried:
        return "to do"
    return "replaced" if one.torn is not None else "both there" if one.record is not None else "stays"


def _outcome_text(done: Sequence[Rolled], took_s: float, terminal: Terminal) -> str:
    from grafos_cli.tables import table

    rows = [
        [one.cell_id, one.record.cell_id if one.record else "", _why(one)]
        for one in done
        if one.record is not None or one.error is not None or one.untried
    ]
    replaced = sum(one.torn is not None for one in done)
    cells = "cell was" if len(rows) == 1 else "cells were"
    summary = f"{replaced} of {len(rows)} {cells} replaced after {took_s:.1f} s.\n"
    if replaced < len(rows):
        summary += "The others stay as they are; the same command goes on.\n"
    return table(("CELL", "SUCCESSOR", "WHY"), rows, terminal) + summary


def _why(one: Rolled) -> str:
    if one.error is not None:
        return f"{one.error.code}: {one.error.what}"
    return "not tried any more" if one.untried else "ready, and the old one is gone"
