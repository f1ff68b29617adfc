"""`grafos cloud recover`: the journal made whole from the clouds, and whatever was interrupted brought to an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import PARTIAL

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_stacks.direct import Hands
    from grafos_stacks.plan import StackPlan
    from grafos_stacks.rebuilding import Case, Recovered

TAUGHT = taught(
    examples=("grafos cloud recover", "grafos cloud recover --undo --yes", "grafos cloud recover --dry-run --json"),
    next="grafos cloud sweep",
)


def recover(
    ctx: typer.Context,
    provider: Annotated[str, typer.Option(metavar="NAME", help="aws, azure, gcp, or all of them")] = "all",
    undo: Annotated[  # noqa: FBT002
        bool, typer.Option("--undo", help="undo provisions that were interrupted, instead of finishing them")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done and change nothing")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """After a crash, or with the journal lost: finds what is there, and finishes or undoes what was interrupted.

    A cell that lives and that the journal does not know is taken into it again, by its signed tags.
    """
    from grafos_cli.accounts import clouds_with_cells, connectors_for, hands_for
    from grafos_cli.fabric import open_default
    from grafos_cli.steps import show_steps
    from grafos_stacks.rebuilding import survey

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    with hands_for(connectors_for(provider, terminal, clouds_with_cells(fabric)), fabric) as accounts:
        found: list[tuple[Hands, tuple[Case, ...]]] = []
        with show_steps(terminal) as steps:
            for hands in accounts:
                name = f"look at {hands.connector.provider}"
                steps.began(name, "every region")
                found.append((hands, survey(hands, undo=undo)))
                steps.ended(name, f"{len(found[-1][1])} to recover")
        cases = [case for _, of_account in found for case in of_account]
        if dry_run or not cases:
            text = _table(cases, terminal) if cases else "Nothing was interrupted, and the journal knows every cell.\n"
            terminal.emit({"cases": [_document(case) for case in cases], "done": False}, text)
            return
        terminal.note(_table(cases, terminal).rstrip())
        if not yes:
            terminal.confirm(f"Do this for {len(cases)} of them?", "--yes")
        done = [one for hands, of_account in found for one in _carried_out(hands, of_account, terminal)]
    documents = [
        {**_document(one.case), "error": one.error.to_wire() if one.error else None, "note": one.note} for one in done
    ]
    terminal.emit({"cases": documents, "done": True}, "".join(_line(one) for one in done))
    if any(one.error for one in done):
        raise typer.Exit(PARTIAL)


def _carried_out(hands: Hands, cases: tuple[Case, ...], terminal: Terminal) -> tuple[Recovered, ...]:
    from dataclasses import replace

    from grafos_cli.accounts import told_by, told_of
    from grafos_cli.project import project_folder
    from grafos_cli.steps import show_steps
    from grafos_stacks.bundle import Bundles
    from grafos_stacks.provision import provision
    from grafos_stacks.rebuilding import carry_out

    with show_steps(terminal) as steps:
        telling = replace(hands, progress=told_by(steps))

        def finish(plan: StackPlan) -> None:
            provision(replace(hands, progress=told_of(steps, plan.stack)), plan, Bundles(), project_folder())

        return carry_out(telling, cases, project_folder(), finish)


def _table(cases: list[Case], terminal: Terminal) -> str:
    from grafos_cli.tables import table

    rows = [[case.action.value, case.stack, case.region or "-", case.why] for case in cases]
    return table(("TO DO", "CELL", "REGION", "WHY"), rows, terminal)


def _line(one: Recovered) -> str:
    note = f"; {one.note}" if one.note else ""
    return f"{one.case.stack}: {one.error or one.case.action.value + ': done' + note}\n"


def _document(case: Case) -> dict[str, Any]:
    return {"cell_id": case.stack, "region": case.region, "action": case.action.value, "why": case.why}
