"""`grafos fabric upgrade`: the software that is installed here, on the orchestrator's machine."""

from __future__ import annotations

from typing import Annotated

import typer

from grafos_cli.taught import taught, terminal_of

TAUGHT = taught(
    examples=("grafos fabric upgrade", "grafos fabric upgrade --yes --json"),
    next="grafos fabric cells",
)


def upgrade(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Brings the software that is installed here to the orchestrator's machine, and starts it anew with that.

    State and keys stay, and cells come back by themselves within seconds. If the new version does not answer within a
    minute and a half, state and software are put back as they were, and the old one runs again. Make a backup first.
    """
    from dataclasses import replace

    from grafos_cli.accounts import hands_for, open_account, told_by
    from grafos_cli.fabric import open_default
    from grafos_cli.interrupts import resumable
    from grafos_cli.steps import show_steps
    from grafos_stacks.bundle import Bundles
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.software_change import change_software

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    record = OrchestratorHome(fabric).known()
    if not yes:
        terminal.confirm(f"Start the orchestrator at {record.url} anew, with the software of this machine?", "--yes")
    connectors = [open_account(record.provider)] if record.provider else []
    again = "the orchestrator goes on by itself; the same command again tells how it went"
    with hands_for(connectors, fabric) as all_hands:
        if not all_hands:
            raise _its_own()
        with resumable("Stopped while the software was changed", again), show_steps(terminal) as steps:
            changed = change_software(replace(all_hands[0], progress=told_by(steps)), Bundles())
    same = changed.before == changed.after
    text = f"The orchestrator runs this software already: {changed.version}, {changed.after[:12]}.\n"
    if not same:
        text = f"The orchestrator runs {changed.version}, {changed.after[:12]}; before it was {changed.before[:12]}.\n"
    terminal.emit({**changed._asdict(), "changed": not same}, text)


def _its_own() -> Exception:
    from grafos_core.errors import GrafosError

    return GrafosError(
        "unsupported",
        "the orchestrator runs on a machine that you look after",
        next="there: install the new version, and start it again",
    )
