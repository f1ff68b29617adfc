"""`grafos cloud recover`: the journal made whole from the clouds, and whatever was interrupted brought to an end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafos_cli.every_cloud import Cloud, Question
    from grafos_cli.steps import Steps
    from grafos_cli.terminal import Terminal
    from grafos_connectors.contract import Connector
    from grafos_core.fabric import Fabric
    from grafos_stacks.direct import Hands
    from grafos_stacks.plan import StackPlan
    from grafos_stacks.progress import Progress
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
    from grafos_cli.accounts import clouds_with_cells
    from grafos_cli.every_cloud import failures_document, look_around, tell_failures, work_around
    from grafos_cli.fabric import open_default

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    around = look_around(provider, _question(fabric, undo=undo), terminal, clouds_with_cells(fabric))
    failures = around.failures
    count = sum(len(cases) for cases in around.found)
    if dry_run or not count:
        documents = [_document(cloud.connector, case) for cloud in around.clouds for case in cloud.found]
        text = _table(around.clouds, terminal) if count else _nothing_text(around.clouds)
    else:
        terminal.note(_table(around.clouds, terminal).rstrip())
        if not yes:
            terminal.confirm(f"Do this for {count} of them?", "--yes")
        with_cases = [cloud for cloud in around.clouds if cloud.found]
        done = work_around(with_cases, fabric, terminal, _carry_out)
        failures = (*failures, *done.failures)
        documents = [_outcome(cloud.connector, one) for cloud in done.clouds for one in cloud.found]
        text = "".join(_line(one) for of_cloud in done.found for one in of_cloud)
    done_all = bool(count) and not dry_run
    terminal.emit({"cases": documents, "failures": failures_document(failures), "done": done_all}, text)
    tell_failures(failures, terminal)
    if failures or any(document.get("error") for document in documents):
        raise typer.Exit(PARTIAL)


def _question(fabric: Fabric, *, undo: bool) -> Question[tuple[Case, ...]]:
    from grafos_cli.accounts import hands_for
    from grafos_cli.every_cloud import Question
    from grafos_stacks.rebuilding import survey

    def ask(connector: Connector, progress: Progress) -> tuple[Case, ...]:
        with hands_for([connector], fabric) as (hands,):
            return survey(replace(hands, progress=progress), undo=undo)

    return Question(ask, lambda cases: f"{len(cases)} to recover")


def _carry_out(hands: Hands, cases: tuple[Case, ...], steps: Steps) -> tuple[Recovered, ...]:
    from grafos_cli.accounts import told_of
    from grafos_cli.project import project_folder
    from grafos_stacks.bundle import Bundles
    from grafos_stacks.provision import provision
    from grafos_stacks.raising import raise_orchestrator
    from grafos_stacks.rebuilding import carry_out

    def told(cell_id: str) -> Progress:
        return told_of(steps, cell_id)

    def finish(plan: StackPlan) -> None:
        told_hands = replace(hands, progress=told(plan.stack))
        if plan.spec.orchestrates:
            raise_orchestrator(told_hands, plan, Bundles())
        else:
            provision(told_hands, plan, Bundles(), project_folder())

    return carry_out(hands, cases, project_folder(), finish, told=told)


def _nothing_text(clouds: Sequence[Cloud[tuple[Case, ...]]]) -> str:
    looked_at = ", ".join(cloud.connector.provider for cloud in clouds)
    return f"Nothing was interrupted, and the journal knows every cell ({looked_at}).\n"


def _table(clouds: Sequence[Cloud[tuple[Case, ...]]], terminal: Terminal) -> str:
    from grafos_cli.tables import table

    rows = [
        [case.action.value, case.stack, f"{cloud.connector.provider} {case.region}".rstrip(), case.why]
        for cloud in clouds
        for case in cloud.found
    ]
    return table(("TO DO", "CELL", "WHERE", "WHY"), rows, terminal)


def _line(one: Recovered) -> str:
    note = f"; {one.note}" if one.note else ""
    return f"{one.case.stack}: {one.error or one.case.action.value + ': done' + note}\n"


def _document(connector: Connector, case: Case) -> dict[str, Any]:
    return {
        "cell_id": case.stack,
        "provider": connector.provider,
        "region": case.region,
        "action": case.action.value,
        "why": case.why,
    }


def _outcome(connector: Connector, one: Recovered) -> dict[str, Any]:
    error = one.error.to_wire() if one.error else None
    return {**_document(connector, one.case), "error": error, "note": one.note}
