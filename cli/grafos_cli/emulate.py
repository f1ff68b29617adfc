"""`grafos emulate`: three emulated clouds on loopback, whose machines really boot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_emulators.daemon import EmulatorInfo

CALLS_SHOWN = 20
"""Of a journal, unless more are asked for."""

app = new_group(
    help="Emulated AWS, Azure and Google Cloud on this machine: no account, no cost, nothing leaves loopback.",
    examples=("grafos emulate up", 'eval "$(grafos emulate env)"', "grafos emulate status"),
    next="grafos emulate up",
)
fault = new_group(
    help="What goes wrong in the emulated clouds: rules that befall calls.",
    examples=(
        "grafos emulate fault add --provider gcp --operation instances.insert --error capacity",
        "grafos emulate fault ls",
    ),
    next="grafos emulate fault ls",
)
app.add_typer(fault, name="fault")


def emulator_folder() -> Path:
    """Where the emulated clouds of this person keep their state and their machines."""
    from grafos_core.paths import state_home

    return state_home() / "emulate"


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
        examples=("grafos emulate up", "grafos emulate up --clock stepped"),
        next='eval "$(grafos emulate env)"',
    ),
)
def up(
    ctx: typer.Context,
    clock: Annotated[
        str, typer.Option(metavar="CLOCK", help="real, scaled:FACTOR (scaled:60) or stepped (emulate advance moves it)")
    ] = "real",
) -> None:
    """Starts the emulated clouds; when they run already, says so.

    The clock is the clouds' alone: what runs on a machine is real, and so is its time.
    """
    from grafos_emulators import clocks, daemon

    terminal = terminal_of(ctx)
    try:
        clocks.clock_of(clock)
    except ValueError as problem:
        raise _usage(str(problem), "grafos emulate up --clock scaled:60") from None
    running = daemon.read(emulator_folder())
    if running is None:
        terminal.note("starting the emulated clouds …")
    info = running or daemon.start(emulator_folder(), clock)
    word = "run already" if running else "run"
    text = (
        f"Emulated AWS, Azure and Google Cloud {word} at {info.endpoint}.\n"
        'Point your shell at them:  eval "$(grafos emulate env)"\n'
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
    counts = [(cloud, sum(thing["provider"] == cloud for thing in left)) for cloud in info.clouds]
    text = facts(
        [
            ("endpoint", info.endpoint),
            ("account", info.account_id),
            ("running for", f"{time.time() - info.started_at:.0f} s"),
            ("its clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(info.now))),
            ("prices", info.price_note),
            ("resources left", f"{len(left)} ({', '.join(f'{cloud} {count}' for cloud, count in counts)})"),
            ("fault rules", str(len(daemon.faults(info)))),
        ],
        terminal,
    )
    if machines:
        rows = [[machine, *(str(value) for value in about.values())] for machine, about in sorted(machines.items())]
        names = [name.upper() for name in next(iter(machines.values()))]
        text += "\n" + table(("MACHINE", *names), rows, terminal)
    terminal.emit({"emulator": _document(info), "machines": machines, "resources": left}, text)


@app.command(
    "journal",
    cls=taught(
        examples=("grafos emulate journal", "grafos emulate journal --provider gcp --limit 5"),
        next="grafos emulate status",
    ),
)
def journal(
    ctx: typer.Context,
    provider: Annotated[str, typer.Option(metavar="NAME", help="of this cloud alone: aws, azure, gcp")] = "",
    limit: Annotated[int, typer.Option(metavar="N", help="so many of the newest")] = CALLS_SHOWN,
) -> None:
    """Lists what was asked of the emulated clouds, the oldest first."""
    from grafos_cli.tables import table
    from grafos_emulators import daemon

    terminal = terminal_of(ctx)
    if limit < 1:
        raise _usage("--limit must be 1 or more", "grafos emulate journal --limit 20")
    info = running_emulator()
    _check_provider(provider, info)
    calls = [call for call in daemon.journal(info) if provider in ("", call["provider"])][-limit:]
    rows = [
        [
            time.strftime("%H:%M:%S", time.gmtime(call["at"])),
            call["provider"],
            call["action"],
            call["region"],
            "change" if call["mutating"] else "",
            call["result"],
        ]
        for call in calls
    ]
    text = table(("TIME", "CLOUD", "OPERATION", "REGION", "", "RESULT"), rows, terminal, spare=("REGION", "TIME"))
    terminal.emit({"calls": calls}, text if rows else "Nothing was asked yet.\n")


@app.command(
    "advance",
    cls=taught(
        examples=("grafos emulate advance 8h", "grafos emulate advance 30s --json"),
        next="grafos emulate status",
    ),
)
def advance(
    ctx: typer.Context,
    duration: Annotated[str, typer.Argument(metavar="TIME", help="how long: 30s, 10m, 8h")],
) -> None:
    """Lets time pass in emulated clouds that were started with --clock stepped."""
    from grafos_cli.sizes import read_duration
    from grafos_emulators import daemon

    now = daemon.advance(running_emulator(), read_duration("TIME", duration))
    text = time.strftime("It is now %Y-%m-%d %H:%M:%S UTC in the emulated clouds.\n", time.gmtime(now))
    terminal_of(ctx).emit({"now": now}, text)


@app.command(
    "down",
    cls=taught(examples=("grafos emulate down", "grafos emulate down --json"), next="grafos emulate up"),
)
def down(ctx: typer.Context) -> None:
    """Ends the emulator and all its machines; nothing of them keeps running."""
    from grafos_emulators import daemon

    terminal = terminal_of(ctx)
    ended = daemon.stop(emulator_folder())
    terminal.emit({"ended": ended}, "The emulated clouds have ended." if ended else "No emulated cloud ran.")


@fault.command(
    "add",
    cls=taught(
        examples=(
            "grafos emulate fault add --provider gcp --operation instances.insert --error capacity",
            "grafos emulate fault add --operation RunInstances --effect lost_answer --times 2",
            "grafos emulate fault add --effect refuse --error throttled --retry-after 3 --times 0 --probability 0.2",
        ),
        next="grafos emulate fault ls",
    ),
)
def fault_add(
    ctx: typer.Context,
    provider: Annotated[str, typer.Option(metavar="NAME", help="of this cloud alone: aws, azure, gcp")] = "",
    operation: Annotated[
        str, typer.Option(metavar="PATTERN", help="which calls, as emulate journal names them; default: all that match")
    ] = "*",
    effect: Annotated[
        str,
        typer.Option(
            metavar="EFFECT",
            help="refuse, delay, lost_request, lost_answer, operation_error, says_done_and_is_not, launch_then_die, "
            "spot_notice",
        ),
    ] = "refuse",
    error: Annotated[
        str,
        typer.Option(metavar="CLASS", help="capacity, quota, throttled, denied, auth, unavailable, internal"),
    ] = "internal",
    times: Annotated[int, typer.Option(metavar="N", help="so many calls; 0 is without end")] = 1,
    probability: Annotated[float, typer.Option(metavar="P", help="of each call that matches, 0 to 1")] = 1.0,
    after: Annotated[str, typer.Option(metavar="TIME", help="for delay, launch_then_die, spot_notice")] = "0s",
    retry_after: Annotated[
        float, typer.Option("--retry-after", metavar="SECONDS", help="what a throttled caller is told; -1: nothing")
    ] = -1.0,
) -> None:
    """Adds a rule; the first one that matches a call befalls it."""
    from grafos_cli.sizes import read_duration
    from grafos_emulators import daemon

    if times < 0 or not 0.0 <= probability <= 1.0:
        raise _usage("--times must be 0 or more, --probability 0 to 1", "grafos emulate fault add --help")
    info = running_emulator()
    _check_provider(provider, info)
    happens: dict[str, Any] = {"effect": effect, "error": error, "after_s": float(read_duration("--after", after))}
    if retry_after >= 0:
        happens["retry_after_s"] = retry_after
    rule = {
        "fault": happens,
        "provider": provider or "*",
        "operation": operation,
        "times": times,
        "probability": probability,
    }
    terminal_of(ctx).emit({"rules": daemon.add_fault(info, rule)}, "The rule holds from the next call on.\n")


@fault.command(
    "ls",
    cls=taught(
        examples=("grafos emulate fault ls", "grafos emulate fault ls --json"), next="grafos emulate fault clear"
    ),
)
def fault_ls(ctx: typer.Context) -> None:
    """Lists the rules that can still befall a call."""
    from grafos_cli.tables import table
    from grafos_emulators import daemon

    terminal = terminal_of(ctx)
    rules = daemon.faults(running_emulator())
    rows = [
        [
            rule["provider"],
            rule["operation"],
            rule["fault"]["effect"],
            rule["fault"]["error"],
            str(rule["times"] or "endless"),
            f"{rule['probability']:g}",
        ]
        for rule in rules
    ]
    text = table(("CLOUD", "OPERATION", "EFFECT", "ERROR", "TIMES", "CHANCE"), rows, terminal)
    terminal.emit({"rules": rules}, text if rows else "Nothing is set to go wrong.\n")


@fault.command(
    "clear",
    cls=taught(
        examples=("grafos emulate fault clear", "grafos emulate fault clear --json"), next="grafos emulate status"
    ),
)
def fault_clear(ctx: typer.Context) -> None:
    """Takes all rules back."""
    from grafos_emulators import daemon

    cleared = daemon.clear_faults(running_emulator())
    terminal_of(ctx).emit({"cleared": cleared}, f"{cleared} rules taken back.\n")


def _check_provider(provider: str, info: EmulatorInfo) -> None:
    if provider and provider not in info.clouds:
        raise _usage(f"There is no emulated {provider!r}", f"use one of: {', '.join(info.clouds)}")


def _usage(what: str, next: str) -> Exception:
    from grafos_core.errors import GrafosError

    return GrafosError("usage", what, next=next)


def _document(info: EmulatorInfo) -> dict[str, object]:
    return {
        "endpoint": info.endpoint,
        "pid": info.pid,
        "account_id": info.account_id,
        "clouds": list(info.clouds),
        "region": info.region,
        "started_at": info.started_at,
        "now": info.now,
        "price_note": info.price_note,
        "environment": info.environment,
    }
