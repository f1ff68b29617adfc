"""`grafos runs logs`: what a run's tasklet wrote to its log. A cell sends it with the run's end, so following waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from grafos_cli.following import LOOK_EVERY_S, FollowFlag, Looked, follow, until_stopped
from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.everywhere import Everywhere
    from grafos_cli.gathering import Gathered
    from grafos_cli.terminal import Terminal

TAUGHT = taught(
    examples=("grafos runs logs RUN_ID", "grafos runs logs RUN_ID -f", "grafos runs logs RUN_ID -f --json"),
    next="grafos artifacts RUN_ID --verify",
)


class Told(NamedTuple):
    """A state that the run came to, or with it a line of its log."""

    run_id: str
    state: str
    line: str | None = None


def logs(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="as deploy run and runs ls print it")],
    follow: FollowFlag = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Prints what the tasklet of a run wrote to its log; also when the cell is gone.

    A cell sends the log with the end of the run. With --follow the states on the way there are told as they come, then
    the log is printed and the command ends; a scheduler that does not answer meanwhile is waited for.
    """
    from grafos_cli.everywhere import everywhere
    from grafos_cli.gathering import find_run

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    if follow:
        with until_stopped(terminal):
            _follow(around, run_id, terminal)
        return
    found = find_run(around, run_id)
    state, lines = found.view.state, _log_of(found, around)
    if not found.view.ended_at:
        terminal.note(f"{run_id} is {state}; its log comes with its end: grafos runs logs {run_id} -f")
    terminal.emit({"run_id": run_id, "state": state, "lines": lines}, "\n".join(lines) or _nothing(found))


def _nothing(found: Gathered) -> str:
    return f"Run {found.view.run_id} wrote nothing to its log.\n" if found.view.ended_at else ""


def _follow(around: Everywhere, run_id: str, terminal: Terminal) -> None:
    from grafos_cli.everywhere import Everywhere
    from grafos_cli.gathering import find_run
    from grafos_cli.terminal import silent_terminal

    state, quietly = "", Everywhere(around.fabric, around.project, silent_terminal())

    def look() -> Looked[Told]:
        nonlocal state
        try:
            # Who else cannot be asked is no news here.
            found = find_run(quietly if state else around, run_id)
        except GrafosError as error:
            if not state:
                raise
            raise GrafosError("scheduler_unreachable", f"Nobody who answers knows run {run_id}") from error
        fresh = [] if found.view.state == state else [Told(run_id, found.view.state)]
        if found.view.ended_at:
            lines = _log_of(found, quietly)
            fresh += [Told(run_id, found.view.state, line) for line in lines]
        state = found.view.state
        return Looked(fresh, over=bool(found.view.ended_at))

    for told in follow(look, LOOK_EVERY_S, terminal.note):
        _show(told, terminal)


def _show(told: Told, terminal: Terminal) -> None:
    if terminal.json:
        terminal.emit_line(told._asdict())
    elif told.line is None:
        terminal.note(f"{told.run_id} is {told.state}")
    else:
        terminal.emit({}, told.line + "\n")


def _log_of(found: Gathered, around: Everywhere) -> list[str]:
    """Its lines; none for a run that has not ended, or that never began and so left nothing."""
    from grafos_cli.gathering import find_artifacts

    if not found.view.ended_at:
        return []
    try:
        return find_artifacts(around, found.view.run_id)[0].log.splitlines()
    except GrafosError as error:
        if error.code != "artifact_missing":
            raise
        return []
