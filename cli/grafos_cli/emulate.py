"""`grafos emulate`: three emulated clouds on loopback, whose machines really boot."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli import emulate_fault
from grafos_cli.emulator_here import OLD_NAME, check_provider, emulator_folder, running_emulator, usage
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_emulators.daemon import EmulatorInfo

NAMES = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}
CALLS_SHOWN = 20
"""Of a journal, unless more are asked for."""

app = new_group(
    help="Emulated AWS, Azure and Google Cloud on this machine: no account, no cost, nothing leaves loopback.",
    examples=("grafos emulate up", 'eval "$(grafos emulate env)"', "grafos emulate status"),
    next="grafos emulate up",
)
app.add_typer(emulate_fault.app, name="fault")


@app.command(
    "up",
    cls=taught(
        examples=(
            "grafos emulate up",
            "grafos emulate up --clouds aws,gcp --clock stepped",
            "grafos emulate up --clouds gcp --boot qemu",
        ),
        next='eval "$(grafos emulate env)"',
    ),
)
def up(
    ctx: typer.Context,
    clouds: Annotated[
        str, typer.Option(metavar="NAMES", help="which, as in aws,gcp  [default: aws,azure,gcp]", show_default=False)
    ] = "",
    clock: Annotated[
        str,
        typer.Option(
            metavar="CLOCK",
            help="real, scaled:FACTOR (scaled:60) or stepped (emulate advance moves it)  [default: real]",
            show_default=False,
        ),
    ] = "",
    boot: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="what a machine from a published image is: processes, or qemu, which boots it  [default: processes]",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Starts the emulated clouds; when they run already, says so.

    The clock is the clouds' alone: what runs on a machine is real, and so is its time. With --boot qemu, a machine that
    is made from a published image boots the very disk that was published, under an emulator of its own. It reaches its
    metadata service and the orchestrator on this machine, and nothing else.
    """
    from grafos_emulators import clocks, daemon
    from grafos_emulators.clouds import CLOUDS, PROCESSES, clouds_of

    terminal = terminal_of(ctx)
    _check_boot(boot)
    try:
        clocks.clock_of(clock or clocks.REAL)
        wanted = clouds_of(clouds) if clouds else ()
    except ValueError as problem:
        raise usage(str(problem), "grafos emulate up --clouds aws,gcp --clock scaled:60") from None
    running = daemon.read(emulator_folder())
    if running is None:
        terminal.note("starting the emulated clouds …")
    info = running or daemon.start(emulator_folder(), clock or clocks.REAL, wanted or CLOUDS, boot or PROCESSES)
    _check_as_asked(info, clock, wanted, boot)
    word = ("run" if len(info.clouds) > 1 else "runs") + (" already" if running else "")
    text = (
        f"Emulated {_named(info.clouds)} {word} at {info.endpoint}.\n"
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
            ("clouds", _named(info.clouds)),
            *([("account", info.account_id)] if info.account_id else []),
            ("running for", f"{time.time() - info.started_at:.0f} s"),
            ("clock", f"{info.clock}, {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(info.now))}"),
            ("published images", "boot under QEMU" if info.boot == "qemu" else "run as local processes"),
            ("prices", info.price_note),
            ("resources left", f"{len(left)} ({', '.join(f'{cloud} {count}' for cloud, count in counts)})"),
            ("fault rules", str(len(daemon.faults(info)))),
        ],
        terminal,
    )
    if left:
        text += "\n" + table(("CLOUD", "KIND", "COUNT", "BILLED"), _counted(left), terminal, right="--rr")
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
        streams="calls",
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
        raise usage("--limit must be 1 or more", "grafos emulate journal --limit 20")
    info = running_emulator()
    check_provider(provider, info)
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
    from grafos_emulators import clocks, daemon

    info = running_emulator()
    if info.clock != clocks.STEPPED:
        raise usage(
            f"the clock of these clouds is {info.clock} and moves by itself",
            "grafos emulate down, then grafos emulate up --clock stepped",
        )
    now = daemon.advance(info, read_duration("TIME", duration))
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
    folder = emulator_folder()
    each = [daemon.stop(place) for place in (folder, folder / OLD_NAME)]
    terminal.emit({"ended": any(each)}, "The emulated clouds have ended." if any(each) else "No emulated cloud ran.")


def _check_boot(boot: str) -> None:
    """``usage`` for a way to boot that is none."""
    from grafos_emulators.clouds import BOOTS

    if boot not in ("", *BOOTS):
        raise usage(f"machines do not boot by {boot[:20]!r}: {', '.join(BOOTS)}", "grafos emulate up --boot qemu")


def _check_as_asked(info: EmulatorInfo, clock: str, clouds: tuple[str, ...], boot: str) -> None:
    """An emulator that runs keeps its clock, its clouds and its way to boot: it is not said to have others."""
    from grafos_core.errors import GrafosError

    if clock in ("", info.clock) and boot in ("", info.boot) and set(clouds) <= set(info.clouds):
        return
    raise GrafosError(
        "emulator_running",
        f"Emulated clouds run already: {', '.join(info.clouds)}, clock {info.clock}, boot {info.boot}",
        where=info.endpoint,
        next="grafos emulate down, then start them as you want them",
    )


def _named(clouds: Iterable[str]) -> str:
    names = [NAMES[cloud] for cloud in clouds]
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def _counted(left: list[dict[str, Any]]) -> list[list[str]]:
    """How many of each kind somebody made, and how many of them cost by existing."""
    all_of = Counter((thing["provider"], thing["kind"]) for thing in left)
    billed = Counter((thing["provider"], thing["kind"]) for thing in left if thing["billable"])
    return [[*kind, str(count), str(billed[kind])] for kind, count in sorted(all_of.items())]


def _document(info: EmulatorInfo) -> dict[str, object]:
    return {
        "endpoint": info.endpoint,
        "pid": info.pid,
        "account_id": info.account_id,
        "clouds": list(info.clouds),
        "clock": info.clock,
        "boot": info.boot,
        "region": info.region,
        "started_at": info.started_at,
        "now": info.now,
        "price_note": info.price_note,
        "environment": info.environment,
    }
