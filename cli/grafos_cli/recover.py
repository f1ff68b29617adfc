"""`grafos cloud recover`: the journal made whole from the clouds, and whatever was interrupted brought to an end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import PARTIAL, GrafosError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafos_cli.by_pulumi_recover import Interrupted
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

    A cell that lives and that the journal does not know is taken into it again, by its signed tags. What Pulumi made
    here is finished or undone by Pulumi; what belongs to another Pulumi program is left to it.
    """
    from grafos_cli.accounts import ALL, clouds_with_cells
    from grafos_cli.by_pulumi_recover import interrupted_stacks
    from grafos_cli.every_cloud import failures_document, look_around, tell_failures, work_around
    from grafos_cli.fabric import open_default

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    stacks = tuple(one for one in interrupted_stacks(terminal, undo=undo) if provider in (ALL, one.provider))
    around = look_around(provider, _question(fabric, undo=undo), terminal, clouds_with_cells(fabric))
    clouds = _left_to_us(around.clouds, fabric, terminal, stacks)
    failures = around.failures
    found = [*((one.provider, one.case) for one in stacks), *_cases_of(clouds)]
    if dry_run or not found:
        documents = [_document(where, case) for where, case in found]
        left = len(_cases_of(around.clouds)) > len(_cases_of(clouds))
        text = _table(found, terminal) if found else _nothing_text(around.clouds, left=left)
    else:
        terminal.note(_table(found, terminal).rstrip())
        if not yes:
            terminal.confirm(f"Do this for {len(found)} of them?", "--yes")
        by_pulumi = _by_pulumi(stacks, terminal)
        done = work_around([cloud for cloud in clouds if cloud.found], fabric, terminal, _carry_out)
        failures = (*failures, *done.failures)
        came = [*by_pulumi, *((cloud.connector.provider, one) for cloud in done.clouds for one in cloud.found)]
        documents = [_outcome(where, one) for where, one in came]
        text = "".join(_line(one) for _, one in came)
    done_all = bool(found) and not dry_run
    terminal.emit({"cases": documents, "failures": failures_document(failures), "done": done_all}, text)
    tell_failures(failures, terminal)
    if failures or any(document.get("error") for document in documents):
        raise typer.Exit(PARTIAL)


def _left_to_us(
    clouds: Sequence[Cloud[tuple[Case, ...]]], fabric: Fabric, terminal: Terminal, stacks: Sequence[Interrupted]
) -> list[Cloud[tuple[Case, ...]]]:
    """The clouds with the cases that are grafos' own engine's. Those of the stacks at hand are theirs; of a cell that
    anybody else's Pulumi stack owns it is said who has to see to it."""
    import contextlib

    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import DIRECT, Journal, StackState
    from grafos_stacks.owners import check_owner

    with contextlib.closing(Journal(fabric, SystemClock())) as journal:
        rows = {row.stack: row for row in journal.stacks() if row.state is not StackState.GONE and row.engine != DIRECT}
    theirs = frozenset[str]().union(*(one.cells for one in stacks))
    for case in (case for cloud in clouds for case in cloud.found if case.stack in rows and case.stack not in theirs):
        try:
            check_owner(rows[case.stack], DIRECT)
        except GrafosError as error:
            terminal.note(f"{error.what}; {case.why}\n  next: {error.next}")
    others = theirs | rows.keys()
    return [replace(one, found=tuple(case for case in one.found if case.stack not in others)) for one in clouds]


def _cases_of(clouds: Sequence[Cloud[tuple[Case, ...]]]) -> list[tuple[str, Case]]:
    return [(cloud.connector.provider, case) for cloud in clouds for case in cloud.found]


def _by_pulumi(stacks: Sequence[Interrupted], terminal: Terminal) -> list[tuple[str, Recovered]]:
    from grafos_cli.by_pulumi_recover import carry_out_by_pulumi
    from grafos_cli.interrupts import resumable
    from grafos_cli.steps import show_steps

    if not stacks:
        return []
    stopping = resumable("Stopped before it was finished", "the same command again goes on from there")
    with stopping, show_steps(terminal) as steps:
        return carry_out_by_pulumi(stacks, terminal, steps)


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


def _nothing_text(clouds: Sequence[Cloud[tuple[Case, ...]]], *, left: bool) -> str:
    """``left``: something was, and is not for us to bring to an end."""
    looked_at = ", ".join(cloud.connector.provider for cloud in clouds)
    if left:
        return f"Nothing else was interrupted ({looked_at}).\n"
    return f"Nothing was interrupted, and the journal knows every cell ({looked_at}).\n"


def _table(cases: Sequence[tuple[str, Case]], terminal: Terminal) -> str:
    from grafos_cli.tables import table

    rows = [[case.action.value, case.stack, f"{where} {case.region}".rstrip(), case.why] for where, case in cases]
    return table(("TO DO", "CELL", "WHERE", "WHY"), rows, terminal)


def _line(one: Recovered) -> str:
    note = f"; {one.note}" if one.note else ""
    return f"{one.case.stack}: {one.error or one.case.action.value + ': done' + note}\n"


def _document(provider: str, case: Case) -> dict[str, Any]:
    return {
        "cell_id": case.stack,
        "provider": provider,
        "region": case.region,
        "action": case.action.value,
        "why": case.why,
    }


def _outcome(provider: str, one: Recovered) -> dict[str, Any]:
    error = one.error.to_wire() if one.error else None
    return {**_document(provider, one.case), "error": error, "note": one.note}
