"""`grafos emulate fault`: what goes wrong in the emulated clouds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from grafos_cli.emulator_here import check_provider, running_emulator, usage
from grafos_cli.taught import new_group, taught, terminal_of

app = new_group(
    help="What goes wrong in the emulated clouds: rules that befall calls.",
    examples=(
        "grafos emulate fault add --provider gcp --operation instances.insert --error capacity",
        "grafos emulate fault ls",
    ),
    next="grafos emulate fault ls",
)


@app.command(
    "add",
    cls=taught(
        examples=(
            "grafos emulate fault add --provider gcp --operation instances.insert --error capacity",
            "grafos emulate fault add --operation RunInstances --match name=web-* --effect lost_answer",
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
    match: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATTERN", help="of these calls alone, by machine_type, name, …; may be repeated"),
    ] = None,
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
    from grafos_emulators.faults import Effect, ErrorClass

    for flag, word, known in (("--effect", effect, list(Effect)), ("--error", error, list(ErrorClass))):
        if word not in known:
            raise usage(f"{flag} cannot be {word[:40]!r}", f"one of: {', '.join(known)}")
    if times < 0 or not 0.0 <= probability <= 1.0:
        raise usage("--times must be 0 or more, --probability 0 to 1", "grafos emulate fault add --help")
    info = running_emulator()
    check_provider(provider, info)
    happens: dict[str, Any] = {"effect": effect, "error": error, "after_s": float(read_duration("--after", after))}
    if retry_after >= 0:
        happens["retry_after_s"] = retry_after
    rule = {
        "fault": happens,
        "provider": provider or "*",
        "operation": operation,
        "fields": _fields(match or []),
        "times": times,
        "probability": probability,
    }
    terminal_of(ctx).emit({"rules": daemon.add_fault(info, rule)}, "The rule holds from the next call on.\n")


@app.command(
    "ls",
    cls=taught(
        examples=("grafos emulate fault ls", "grafos emulate fault ls --json"),
        next="grafos emulate fault clear",
        streams="rules",
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
            " ".join([rule["operation"], *(f"{name}={pattern}" for name, pattern in rule["fields"].items())]),
            rule["fault"]["effect"],
            rule["fault"]["error"],
            str(rule["times"] or "endless"),
            f"{rule['probability']:g}",
        ]
        for rule in rules
    ]
    text = table(("CLOUD", "OPERATION", "EFFECT", "ERROR", "TIMES", "CHANCE"), rows, terminal)
    terminal.emit({"rules": rules}, text if rows else "Nothing is set to go wrong.\n")


@app.command(
    "clear",
    cls=taught(
        examples=("grafos emulate fault clear", "grafos emulate fault clear --json"), next="grafos emulate status"
    ),
)
def fault_clear(ctx: typer.Context) -> None:
    """Takes all rules back."""
    from grafos_emulators import daemon

    cleared = daemon.clear_faults(running_emulator())
    terminal_of(ctx).emit({"cleared": cleared}, f"{cleared} {'rule' if cleared == 1 else 'rules'} taken back.\n")


def _fields(texts: list[str]) -> dict[str, str]:
    """What ``--match`` was given, by name."""
    pairs = [text.partition("=") for text in texts]
    wrong = [name for name, sign, pattern in pairs if not (name and sign and pattern)]
    if wrong:
        raise usage(
            "--match must be NAME=PATTERN", "grafos emulate fault add --match machine_type=t3.* --error capacity"
        )
    return {name: pattern for name, _, pattern in pairs}
