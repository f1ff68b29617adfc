"""`grafos dev logs`: what the programs of the local fabric said, also when they have ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from grafos_cli.following import FILE_EVERY_S, FollowFlag, LogFile, Looked, follow, until_stopped
from grafos_cli.taught import taught, terminal_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

PROGRAMS = ("scheduler", "cell", "helper")
LINES_DEFAULT, LINES_MAX = 200, 100_000

TAUGHT = taught(
    examples=("grafos dev logs", "grafos dev logs -f", "grafos dev logs cell --lines 20 --json"),
    next="grafos dev doctor",
    streams="lines",
)


class Said(NamedTuple):
    """A line, and whose."""

    program: str
    line: str


def logs(
    ctx: typer.Context,
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help="scheduler, cell or helper; default: all")] = "",
    lines: Annotated[
        int, typer.Option(metavar="N", min=1, max=LINES_MAX, help="how many of the last lines of each")
    ] = LINES_DEFAULT,
    follow: FollowFlag = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Prints what the programs of the local fabric said, in the order of time, also when they have ended.

    With --follow each line comes as it is written; a fabric that is started anew goes on in the same logs.
    """
    from grafos_cli.project import project_folder

    terminal = terminal_of(ctx)
    folder = project_folder() / ".grafos" / "dev"
    if program not in ("", *PROGRAMS):
        from grafos_cli.nearness import nearest

        match = nearest(program, list(PROGRAMS))
        why = f"did you mean {match}?" if match else ""
        raise GrafosError("usage", f"There is no program {program[:40]!r} here", why=why, next="grafos dev logs --help")
    if not any(folder.glob("*.log")):
        raise GrafosError(
            "runtime_not_ready", "No local fabric has run in this project", where=str(folder), next="grafos dev up"
        )
    files = {name: LogFile(folder / f"{name}.log") for name in PROGRAMS if program in ("", name)}
    last = _in_order(Said(name, line) for name, file in files.items() for line in file.look()[-lines:])
    if not follow:
        text = "".join(f"{_drawn(said, terminal)}\n" for said in last)
        terminal.emit({"lines": [said._asdict() for said in last]}, text or "They have said nothing so far.\n")
        return
    with until_stopped(terminal):
        _follow(files, last, terminal)


def _follow(files: dict[str, LogFile], last: list[Said], terminal: Terminal) -> None:
    def look() -> Looked[Said]:
        return Looked(_in_order(Said(name, line) for name, file in files.items() for line in file.look()))

    for said in last:
        _show(said, terminal)
    for said in follow(look, FILE_EVERY_S, terminal.note):
        _show(said, terminal)


def _show(said: Said, terminal: Terminal) -> None:
    if terminal.json:
        terminal.emit_line(said._asdict())
    else:
        terminal.emit({}, _drawn(said, terminal))


def _drawn(said: Said, terminal: Terminal) -> str:
    return f"{terminal.paint('dim', said.program.ljust(9))}  {said.line}"


def _in_order(lines: Iterable[Said]) -> list[Said]:
    """By the time that a line begins with; one that begins with none, as of a traceback, stays below the one before."""
    program, moment, keyed = "", "", []
    for said in lines:
        if said.program != program or said.line.startswith("20"):
            program, moment = said.program, said.line[:23] if said.line.startswith("20") else ""
        keyed.append((moment, said))
    return [said for _, said in sorted(keyed, key=lambda pair: pair[0])]
