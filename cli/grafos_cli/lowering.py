"""`grafos fabric down`: the orchestrator goes, and all that it holds comes home."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.fabric import Fabric
    from grafos_stacks.direct import Hands
    from grafos_stacks.lowering import CameHome
    from grafos_stacks.proof import Proof
    from grafos_stacks.teardown import TornDownCell

TAUGHT = taught(
    examples=("grafos fabric down", "grafos fabric down --force --prove --yes", "grafos fabric down --lost --json"),
    next="grafos runs ls",
)


def down(
    ctx: typer.Context,
    force: Annotated[  # noqa: FBT002
        bool, typer.Option("--force", help="first tear down the cells that are registered there, or revoke them")
    ] = False,
    lost: Annotated[  # noqa: FBT002
        bool, typer.Option("--lost", help="it will never answer again: go on with what is known here")
    ] = False,
    prove: Annotated[  # noqa: FBT002
        bool, typer.Option("--prove", help="then list every region, and sign that nothing of it is there")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Brings runs, audit log and ledger home from the orchestrator, then tears its machine down, with a signed receipt.

    Refused while cells are registered there; with --force those that grafos made are torn down first, and the identity
    of the others is taken back. Money that is held for other cells stays held, in the ledger that came home. Of an
    orchestrator on a machine of yours everything comes home, and the machine is yours to end. Stopped or failed at any
    moment, the same command goes on.
    """
    from grafos_cli.fabric import open_default
    from grafos_stacks.orchestrators import OrchestratorHome

    terminal = terminal_of(ctx)
    _refuse_both(force=force, lost=lost)
    fabric = open_default(terminal)
    record = OrchestratorHome(fabric).record()
    provider = _provider(fabric)
    _refuse_nothing(record is not None or bool(provider))
    cells = _cells(fabric, force=force, lost=lost)
    made = record is not None and bool(record.provider)
    if not yes:
        where = f" at {record.url}" if record else ""
        first = f", after the cells {', '.join(cells)}" if cells else ""
        terminal.confirm(f"End the fabric's orchestrator{where}{first}?", "--yes")
    came, torn, proof = _carried_out(fabric, terminal, provider, cells, lost=lost, prove=prove)
    terminal.emit(
        _document(came, cells, torn, proof), _text(came, cells, torn, proof, terminal, own=not (torn or made))
    )


def _provider(fabric: Fabric) -> str:
    """The cloud of its machine; empty where grafos made none of which anything is there."""
    from grafos_core.clock import SystemClock
    from grafos_stacks.lowering import cloud_of_machine

    return cloud_of_machine(fabric, SystemClock())


def _refuse_both(*, force: bool, lost: bool) -> None:
    """``usage``: of a lost one nobody knows all its cells, and whose identity is taken back there is for it to do."""
    from grafos_core.errors import GrafosError

    if force and lost:
        raise GrafosError(
            "usage",
            "An orchestrator that is lost can end no cells of its own",
            where="--force and --lost",
            next="first: grafos cloud teardown  for those that grafos made; then: grafos fabric down --lost",
        )


def _refuse_nothing(there_is_one: bool) -> None:  # noqa: FBT001  a fact, and not a flag
    from grafos_core.errors import GrafosError

    if not there_is_one:
        raise GrafosError("not_found", "this fabric has no orchestrator", next="grafos fabric up --on PROVIDER")


def _cells(fabric: Fabric, *, force: bool, lost: bool) -> tuple[str, ...]:
    """The cells that go first; ``cells_registered`` if there are some and nobody said so. ``cell_unknown`` if its
    machine would not go."""
    from grafos_core.clock import SystemClock
    from grafos_core.errors import GrafosError
    from grafos_stacks.lowering import came_home, check_machine, joining_cells, registered_cells
    from grafos_stacks.orchestrators import OrchestratorHome

    if OrchestratorHome(fabric).record() is None or came_home(fabric) is not None:
        return ()  # it was never finished, or all is home already
    clock = SystemClock()
    try:
        check_machine(fabric, clock, lost=lost)
        if lost:
            return ()
        cells = tuple(sorted({*registered_cells(fabric), *joining_cells(fabric, clock)}))
    except GrafosError as error:
        if error.code == "scheduler_unreachable":
            error.next = "grafos fabric up  tells how it stands; if it is lost: grafos fabric down --lost"
        raise
    if cells and not force:
        shown = ", ".join(cells[:8]) + (f" and {len(cells) - 8} more" if len(cells) > 8 else "")
        raise GrafosError(
            "cells_registered",
            f"{len(cells)} cells are registered at the orchestrator, or are to join it: {shown}",
            why="without it they get nothing to do any more, and their machines bill on",
            next="tear them down first: grafos cloud teardown; or all of it at once: grafos fabric down --force",
            context={"cells": list(cells)},
        )
    return cells


def _carried_out(
    fabric: Fabric, terminal: Terminal, provider: str, cells: tuple[str, ...], *, lost: bool, prove: bool
) -> tuple[CameHome, TornDownCell | None, Proof | None]:
    from dataclasses import replace

    from grafos_cli.accounts import hands_for, open_account, told_by
    from grafos_cli.interrupts import resumable
    from grafos_cli.project import project_folder
    from grafos_cli.steps import show_steps
    from grafos_core.clock import SystemClock
    from grafos_stacks import lowering
    from grafos_stacks.journal import Journal
    from grafos_stacks.orchestrator_machine import STACK
    from grafos_stacks.orchestrators import OrchestratorHome

    again, project = "grafos fabric down   finishes it", project_folder()
    with (
        contextlib.ExitStack() as closing,
        resumable("Stopped while the orchestrator was ended", again),
        show_steps(terminal) as steps,
    ):
        opened: dict[str, Hands] = {}

        def hands_at(cloud: str) -> Hands:
            if cloud not in opened:
                [quiet] = closing.enter_context(hands_for([open_account(cloud)], fabric))
                opened[cloud] = replace(quiet, progress=told_by(steps))
            return opened[cloud]

        clock = SystemClock()
        if cells:
            with contextlib.closing(Journal(fabric, clock)) as journal:
                lowering.take_cells_down(fabric, journal, cells, hands_at, project)
        came = _home(fabric, clock, told_by(steps), lost=lost)
        torn = lowering.take_machine_down(hands_at(provider), project, None if lost else came) if provider else None
        OrchestratorHome(fabric).forget()
        proof = None
        if prove and provider:
            from grafos_cli.tearing import proved

            proof = proved(hands_at(provider), STACK, steps)
    return came, torn, proof


def _home(fabric: Fabric, clock: Any, progress: Any, *, lost: bool) -> CameHome:
    import time

    from grafos_stacks import lowering
    from grafos_stacks.orchestrators import OrchestratorHome

    if lost:
        return lowering.give_up_lost(fabric, clock)
    if OrchestratorHome(fabric).record() is None:
        return lowering.CameHome()
    return lowering.bring_all_home(fabric, clock, time.sleep, progress)


def _document(came: CameHome, cells: tuple[str, ...], torn: TornDownCell | None, proof: Proof | None) -> dict[str, Any]:
    from grafos_cli.receipt_view import receipt_document
    from grafos_cli.tearing import proof_document

    return {
        "receipt": receipt_document(torn) if torn else None,
        "inventory": proof_document(proof) if proof else None,
        "cells": list(cells),
        "runs_brought_home": came.runs,
        "audit_records": came.audit_records,
        "audit_file": came.audit_file,
        "runs_counted_as_spent": came.running,
        "notes": list(came.notes),
    }


def _text(
    came: CameHome,
    cells: tuple[str, ...],
    torn: TornDownCell | None,
    proof: Proof | None,
    terminal: Terminal,
    *,
    own: bool,
) -> str:
    from grafos_cli.receipt_view import receipt_text
    from grafos_cli.tearing import proof_text

    text = f"{receipt_text(torn, terminal)}\n" if torn else ""
    text += f"{len(cells)} cells went before it: {', '.join(cells)}.\n" if cells else ""
    if came.audit_file:
        text += f"Came home: {came.runs} runs, the ledger, and {came.audit_records} records of the audit log, in "
        text += f"{came.audit_file}.\n"
    text += f"{came.running} runs had not ended: what they held counts as spent.\n" if came.running else ""
    text += "".join(f"{note}\n" for note in came.notes)
    text += "The program itself is yours to end, on its machine.\n" if own else ""
    return text + (proof_text(proof) if proof else "")
