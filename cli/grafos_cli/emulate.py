"""`grafos emulate`: an emulated cloud on loopback, whose machines really boot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_emulators.daemon import EmulatorInfo

app = new_group(
    help="An emulated AWS on this machine: no account, no cost, nothing leaves loopback.",
    examples=("grafos emulate up", 'eval "$(grafos emulate env)"', "grafos emulate status"),
    next="grafos emulate up",
)


def emulator_folder() -> Path:
    """Where the one emulated AWS of this person keeps its state and its machines."""
    from grafos_core.paths import state_home

    return state_home() / "emulate" / "aws"


def running_emulator() -> EmulatorInfo:
    """The emulator that runs, else ``emulator_not_running`` with the command that starts it."""
    from grafos_core.errors import GrafosError
    from grafos_emulators import daemon

    info = daemon.read(emulator_folder())
    if info is None:
        raise GrafosError(
            "emulator_not_running", "No emulated cloud runs", where=str(emulator_folder()), next="grafos emulate up"
        )
    return info


@app.command(
    "up",
    cls=taught(
        examples=("grafos emulate up", "grafos emulate up --json"),
        next='eval "$(grafos emulate env)"',
    ),
)
def up(ctx: typer.Context) -> None:
    """Starts the emulated AWS; when it runs already, says so."""
    from grafos_emulators import daemon

    terminal = terminal_of(ctx)
    running = daemon.read(emulator_folder())
    if running is None:
        terminal.note("starting the emulated AWS …")
    info = running or daemon.start(emulator_folder())
    word = "runs already" if running else "runs"
    text = (
        f"The emulated AWS {word} at {info.endpoint} (account {info.account_id}).\n"
        'Point your shell at it:  eval "$(grafos emulate env)"\n'
    )
    terminal.emit({"started": running is None, "emulator": _document(info)}, text)


@app.command(
    "env",
    cls=taught(
        examples=('eval "$(grafos emulate env)"', "grafos emulate env --json"),
        next="grafos cloud provision aws",
    ),
)
def env(ctx: typer.Context) -> None:
    """Prints the variables that send grafos, and any AWS SDK, to the emulator; for eval in a shell."""
    import shlex

    info = running_emulator()
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(info.environment.items())]
    terminal_of(ctx).emit({"environment": dict(sorted(info.environment.items()))}, "\n".join(lines))


@app.command(
    "status",
    cls=taught(examples=("grafos emulate status", "grafos emulate status --json"), next="grafos emulate down"),
)
def status(ctx: typer.Context) -> None:
    """Shows where the emulator answers, and what somebody made in it and nobody removed."""
    from grafos_cli.tables import facts, table
    from grafos_emulators import daemon

    terminal = terminal_of(ctx)
    info = running_emulator()
    machines, left = daemon.machines(info), daemon.world(info)
    text = facts(
        [
            ("endpoint", info.endpoint),
            ("account", info.account_id),
            ("running for", f"{time.time() - info.started_at:.0f} s"),
            ("prices", info.price_note),
            ("resources left", str(len(left))),
        ],
        terminal,
    )
    if machines:
        rows = [[machine, *(str(value) for value in about.values())] for machine, about in sorted(machines.items())]
        names = [name.upper() for name in next(iter(machines.values()))]
        text += "\n" + table(("MACHINE", *names), rows, terminal)
    terminal.emit({"emulator": _document(info), "machines": machines, "resources": left}, text)


@app.command(
    "down",
    cls=taught(examples=("grafos emulate down", "grafos emulate down --json"), next="grafos emulate up"),
)
def down(ctx: typer.Context) -> None:
    """Ends the emulator and all its machines; nothing of them keeps running."""
    from grafos_emulators import daemon

    terminal = terminal_of(ctx)
    ended = daemon.stop(emulator_folder())
    terminal.emit({"ended": ended}, "The emulated AWS has ended." if ended else "No emulated cloud ran.")


def _document(info: EmulatorInfo) -> dict[str, object]:
    return {
        "endpoint": info.endpoint,
        "pid": info.pid,
        "account_id": info.account_id,
        "region": info.region,
        "started_at": info.started_at,
        "price_note": info.price_note,
        "environment": info.environment,
    }
