"""`grafos dev`: a fabric on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli import dev_logs
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.dev_doctor import Found
    from grafos_cli.local_fabric import Down
    from grafos_cli.local_state import LocalFabric
    from grafos_cli.terminal import Terminal

app = new_group(
    help="A fabric on this machine: scheduler and cell on loopback, with the same keys and tokens as anywhere.",
    examples=("grafos dev up", "grafos dev watch", "grafos dev down"),
    next="grafos dev up",
)


@app.command(
    "up",
    cls=taught(
        examples=("grafos dev up", "grafos dev up --mem-capacity 16m"),
        next="grafos deploy run --provider local",
    ),
)
def up(
    ctx: typer.Context,
    mem_capacity: Annotated[
        str, typer.Option(metavar="SIZE", help="fabric memory that the cell leases out; default: 128k")
    ] = "",
    origin: Annotated[
        str, typer.Option(metavar="ORIGIN", help="a further web page that may use the helper: https://HOST[:PORT]")
    ] = "",
) -> None:
    """Starts the local fabric of this project; does nothing when it runs, goes on with its state after a crash.

    A fresh fabric has fresh keys. Its runs cost nothing. Beside it a helper answers on loopback: the Developer tab.
    """
    from grafos_cli.local_fabric import bring_up
    from grafos_cli.project import project_folder
    from grafos_cli.run_locally.guard import check_origins
    from grafos_cli.sizes import read_size
    from grafos_cli.steps import show_steps

    terminal = terminal_of(ctx)
    began = time.monotonic()
    capacity = read_size("--mem-capacity", mem_capacity) if mem_capacity else None
    origins = check_origins([origin] if origin else [])
    project = project_folder()
    with show_steps(terminal, waiting="starting the local fabric") as steps:
        brought = bring_up(project, capacity, origins, steps.note)
    took = time.monotonic() - began
    words = {"started": f"runs, after {took:.2f} s", "resumed": "runs again, with its state", "running": "runs already"}
    terminal.emit(
        {"how": brought.how, "local_fabric": _document(brought.record)},
        _up_text(brought.record, words[brought.how], terminal),
    )


def _up_text(record: LocalFabric, how: str, terminal: Terminal) -> str:
    """Where it answers. The bearer is shown to a person at a terminal, and kept out of logs."""
    from pathlib import Path

    from grafos_cli.local_state import BEARER_NAME
    from grafos_cli.sizes import size_text

    text = (
        f"The local fabric {how}: cell {record.cell_id} with {size_text(record.mem_capacity_bytes)}"
        f" at {record.scheduler_url}.\n"
    )
    bearer = Path(record.folder) / BEARER_NAME
    if terminal.out.isatty():
        return text + f"Developer tab: {record.helper_url}/#bearer={bearer.read_text().strip()}\n"
    return text + f"Developer tab: {record.helper_url}/ with the bearer in {bearer}\n"


@app.command(
    "down",
    cls=taught(
        examples=("grafos dev down", "grafos dev down --within 5s", "grafos dev down --discard"), next="grafos runs ls"
    ),
)
def down(
    ctx: typer.Context,
    within: Annotated[str, typer.Option(metavar="TIME", help="how long runs under way may take to end")] = "30s",
    discard: Annotated[  # noqa: FBT002
        bool, typer.Option("--discard", help="give up state that cannot be used, and the runs that are not at home")
    ] = False,
) -> None:
    """Ends the local fabric. Its runs are brought home first, its logs stay.

    The exit code is 9 when not all runs are at home; their state then waits for the next dev up.
    """
    from grafos_cli.local_fabric import bring_down
    from grafos_cli.project import project_folder
    from grafos_cli.sizes import read_duration
    from grafos_cli.steps import show_steps
    from grafos_core.errors import PARTIAL

    terminal = terminal_of(ctx)
    within_s = read_duration("--within", within)
    with show_steps(terminal, waiting="ending the local fabric") as steps:
        ended = bring_down(project_folder(), within_s, steps.note, discard=discard)
    terminal.emit({**ended._asdict(), "left": list(ended.left)}, _down_text(ended))
    if ended.kept:
        raise typer.Exit(PARTIAL)


def _down_text(ended: Down) -> str:
    if ended.left:
        return (
            f"The local fabric has ended, and these runs had not: {', '.join(ended.left)}. Its state stays.\n"
            "Settle them and bring all home: grafos dev up, then grafos dev down."
        )
    if ended.kept:
        how = "has ended, its runs are not at home" if ended.was_up else "had crashed"
        return f"The local fabric {how}; its state stays. Bring its runs home: grafos dev up, then grafos dev down."
    if ended.discarded:
        return f"The local fabric has ended; the state that was given up is now {ended.discarded}."
    if ended.set_aside:
        return f"What still ran has ended. The unreadable record is now {ended.set_aside}."
    if ended.was_up:
        runs = ended.runs_brought_home
        return f"The local fabric has ended; {runs} run{'' if runs == 1 else 's'} brought home."
    return "No local fabric ran in this project."


@app.command(
    "watch",
    cls=taught(
        examples=("grafos dev watch", "grafos dev watch cookbook/png-metadata --input picture.png"),
        next="grafos deploy run --provider local",
    ),
)
def watch(
    ctx: typer.Context,
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM", help="folder with a grafos.toml; default: this one")
    ] = "",
    tasklet: Annotated[str, typer.Option(metavar="NAME", help="which tasklet; default: all of them")] = "",
    input_file: Annotated[
        str, typer.Option("--input", metavar="FILE", help="the input; default: what grafos.toml names")
    ] = "",
) -> None:
    """Builds and runs the program at every save, and shows what it answers; a failing build is shown and waited out.

    With --json each answer is one line. Ctrl-C ends it.
    """
    from pathlib import Path

    from grafos_cli.dev_watch import INTERRUPTED, Watched
    from grafos_cli.dev_watch import watch as watch_program
    from grafos_cli.fabric import open_default
    from grafos_cli.project import program_folder, project_folder
    from grafos_cli.reach import LOCAL, resolve
    from grafos_core.errors import GrafosError

    terminal = terminal_of(ctx)
    fabric, folder, project = open_default(terminal), program_folder(program), project_folder()
    resolve(LOCAL, fabric, project)  # without a fabric there is nothing to wait for
    try:
        watch_program(
            Watched(folder, tasklet, Path(input_file).resolve() if input_file else None, fabric, project, terminal)
        )
    except KeyboardInterrupt:
        terminal.note("\nstopped watching")
    except GrafosError as error:
        if error.code != INTERRUPTED:
            raise
        terminal.note(f"\n{error.what}; stopped watching")


@app.command(
    "doctor",
    cls=taught(
        examples=("grafos dev doctor", "grafos dev doctor | grep failed", "grafos dev doctor --json"),
        next="grafos dev up",
    ),
)
def doctor(ctx: typer.Context) -> None:
    """Looks whether the local fabric is in order: its record, its processes, the clock, and what it answers.

    In a pipe each line is `name: ok` or `name: failed: why`. The exit code is 1 if anything failed.
    """
    from grafos_cli.dev_doctor import look
    from grafos_cli.project import project_folder

    terminal = terminal_of(ctx)
    found = list(look(project_folder()))
    healthy = all(one.ok for one in found)
    terminal.emit({"healthy": healthy, "findings": [one._asdict() for one in found]}, _doctor_text(found, terminal))
    if not healthy:
        raise typer.Exit(1)


app.command("logs", cls=dev_logs.TAUGHT)(dev_logs.logs)


def _doctor_text(found: list[Found], terminal: Terminal) -> str:
    """For people columns with the next step below; for grep one line each."""
    if not terminal.out.isatty():
        lines = [
            f"{one.name}: ok"
            if one.ok
            else f"{one.name}: failed: {one.why}" + (f"; next: {one.next}" if one.next else "")
            for one in found
        ]
        return "\n".join(lines) + "\n"
    width, text = max(len(one.name) for one in found), ""
    for one in found:
        state = terminal.paint("green", "ok    ") if one.ok else terminal.paint("red", "failed")
        text += f"{state}  {one.name:<{width}}  {one.why}\n"
        if one.next:
            text += f"{'':<6}  {'':<{width}}  next: {one.next}\n"
    return text


def _document(record: LocalFabric) -> object:
    import msgspec

    return msgspec.to_builtins(record)
