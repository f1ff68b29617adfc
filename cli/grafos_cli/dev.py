"""`grafos dev`: a fabric on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.local_state import LocalFabric

app = new_group(
    help="A fabric on this machine: scheduler and cell on loopback, with the same keys and tokens as anywhere.",
    examples=("grafos dev up", "grafos dev up --mem-capacity 16m", "grafos dev down"),
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
) -> None:
    """Starts the local fabric of this project; does nothing when it runs, goes on with its state after a crash.

    A fresh fabric has fresh keys. Its runs cost nothing.
    """
    from grafos_cli.local_fabric import bring_up
    from grafos_cli.project import project_folder
    from grafos_cli.sizes import read_size, size_text

    terminal = terminal_of(ctx)
    began = time.monotonic()
    capacity = read_size("--mem-capacity", mem_capacity) if mem_capacity else None
    brought = bring_up(project_folder(), capacity, terminal.note)
    record, took = brought.record, time.monotonic() - began
    words = {"started": f"runs, after {took:.2f} s", "resumed": "runs again, with its state", "running": "runs already"}
    text = (
        f"The local fabric {words[brought.how]}: cell {record.cell_id} with {size_text(record.mem_capacity_bytes)}"
        f" at {record.scheduler_url}.\n"
    )
    terminal.emit({"how": brought.how, "local_fabric": _document(record)}, text)


@app.command("down", cls=taught(examples=("grafos dev down", "grafos dev down --json"), next="grafos runs ls"))
def down(ctx: typer.Context) -> None:
    """Ends the local fabric. Its runs are brought home first, its logs stay."""
    from grafos_cli.local_fabric import bring_down
    from grafos_cli.project import project_folder

    terminal = terminal_of(ctx)
    ended = bring_down(project_folder(), terminal.note)
    if ended.kept:
        how = "has ended, its runs are not at home" if ended.was_up else "had crashed"
        text = f"The local fabric {how}; its state stays. Bring its runs home: grafos dev up, then grafos dev down."
    elif ended.set_aside:
        text = f"What still ran has ended. The unreadable record is now {ended.set_aside}."
    elif ended.was_up:
        runs = ended.runs_brought_home
        text = f"The local fabric has ended; {runs} run{'' if runs == 1 else 's'} brought home."
    else:
        text = "No local fabric ran in this project."
    terminal.emit(ended._asdict(), text)


def _document(record: LocalFabric) -> object:
    import msgspec

    return msgspec.to_builtins(record)
