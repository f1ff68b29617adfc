"""`grafos cloud extend`, `allow`, `show` and `logs`: what is done with one cell while it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.following import CONSOLE_EVERY_S, Console, FollowFlag, Looked, follow, until_stopped
from grafos_cli.taught import terminal_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_stacks.direct import Hands
    from grafos_stacks.extending import Wish
    from grafos_stacks.looking import Look

LINES_DEFAULT, LINES_MAX = 200, 10_000
EXTEND_EXAMPLES = (
    "grafos cloud extend --cell-id aws-k3f9q2 --ttl +2h",
    "grafos cloud extend --cell-id aws-k3f9q2 --until 2026-11-22T08:00Z --yes --json",
)
ALLOW_EXAMPLES = (
    "grafos cloud allow --cell-id aws-k3f9q2 --my-ip",
    "grafos cloud allow --cell-id aws-k3f9q2 --cidr 203.0.113.7/32 --json",
)
SHOW_EXAMPLES = ("grafos cloud show --cell-id aws-k3f9q2", "grafos cloud show --cell-id aws-k3f9q2 --json")
LOGS_EXAMPLES = ("grafos cloud logs --cell-id aws-k3f9q2 --lines 20", "grafos cloud logs --cell-id aws-k3f9q2 -f")

CellFlag = Annotated[str, typer.Option(metavar="ID", help="which cell; grafos cloud ls lists them")]


def extend(
    ctx: typer.Context,
    cell_id: CellFlag,
    ttl: Annotated[str, typer.Option(metavar="+TIME", help="so much later than it ends now: +90m, +2h")] = "",
    until: Annotated[str, typer.Option(metavar="MOMENT", help="an end in UTC: 2026-11-22T08:00Z")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Gives a cell a later end: holds the money first, then moves the cloud's deadline, the machine's timer, the tags.

    Stopped at any moment, the same command finishes that very extension. On gcp the end of a machine that runs cannot
    be moved; a cell that may live longer is made with --max-ttl.
    """
    from grafos_cli.clouds import hands_of
    from grafos_cli.fictional import amount_text
    from grafos_cli.interrupts import resumable
    from grafos_cli.moments import moment_text
    from grafos_cli.project import project_folder
    from grafos_stacks.extending import extend as extend_cell

    terminal = terminal_of(ctx)
    wish = _wish(ttl, until)
    if not yes:
        terminal.confirm(f"Extend cell {cell_id}, and hold what it may cost by then?", "--yes")
    again = "run the same extend again: it finishes that very extension"
    with hands_of(cell_id, terminal) as hands, resumable(f"Stopped while {cell_id} was extended", again):
        _check_life(hands, cell_id, wish)
        done = extend_cell(hands, cell_id, wish, project_folder())
    note = "An earlier extension was not finished: it is now, and nothing was added to it.\n" if done.finished else ""
    text = (
        f"{note}Cell {cell_id} ends {moment_text(done.record.expires_at)}, not {moment_text(done.before)}.\n"
        f"Held for it: {amount_text(done.held_micro_cents, fictional=done.record.emulated)}\n"
    )
    document = {
        "cell": _document(done.record),
        "ended_before": done.before,
        "finished_earlier": done.finished,
        "held_micro_cents": done.held_micro_cents,
    }
    terminal.emit(document, text)


def _check_life(hands: Hands, cell_id: str, wish: Wish) -> None:
    """A guard rail for how long a cell may live counts for the longer life too."""
    from grafos_cli.guard_rails import rails_here

    row = hands.journal.stack(cell_id)
    if row is not None and row.plan is not None and not row.extending_to:
        ends_at = wish.until or row.plan.expires_at + wish.more_s
        rails_here().check_life(ends_at - int(row.plan.made_at))


def allow(
    ctx: typer.Context,
    cell_id: CellFlag,
    my_ip: Annotated[bool, typer.Option("--my-ip", help="this machine's public address, asked for on the net")] = False,  # noqa: FBT002
    cidr: Annotated[str, typer.Option(metavar="CIDR", help="an address or a small network: 203.0.113.7/32")] = "",
) -> None:
    """Opens the cell's port to one address and closes it to the one before, when yours has changed.

    Teardown and the cell's end never need to reach the cell, so nothing depends on it but running something there.
    """
    from grafos_cli.clouds import hands_of, public_address
    from grafos_stacks.allowing import allow as allow_address

    terminal = terminal_of(ctx)
    if my_ip == bool(cidr):
        raise GrafosError("usage", "Say who may reach the cell", next="give either --my-ip or --cidr 203.0.113.7/32")
    with hands_of(cell_id, terminal) as hands:
        address = cidr or public_address(emulated=hands.identity().emulated)
        plan = allow_address(hands, cell_id, address if "/" in address else f"{address}/32")
    told = {"cell_id": cell_id, "port": plan.spec.port, "allowed": plan.spec.operator_cidr}
    terminal.emit(
        told, f"Port {plan.spec.port} of {cell_id} is open to {plan.spec.operator_cidr} and to nobody else.\n"
    )


def show(ctx: typer.Context, cell_id: CellFlag) -> None:
    """Shows one cell: what it is and costs, when each layer ends it, and every resource as the cloud has it now.

    A cell of which there is no record here is looked for in every cloud, and shown as its signed tags tell it.
    """
    from grafos_cli.clouds import hands_to_look
    from grafos_stacks.looking import look

    terminal = terminal_of(ctx)
    with hands_to_look(cell_id, terminal) as (hands, region):
        seen = look(hands, cell_id, region)
    terminal.emit({"cell": seen.document()}, _look_text(seen, terminal))


def logs(
    ctx: typer.Context,
    cell_id: CellFlag,
    lines: Annotated[int, typer.Option(metavar="N", help="how many of the last lines")] = LINES_DEFAULT,
    follow: FollowFlag = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Prints what the cell's machine last wrote to its console, as the cloud has it; that may be a minute old.

    With --follow the cloud is asked every five seconds, and each line is printed once.
    """
    from grafos_cli.clouds import hands_to_look
    from grafos_cli.terminal import silent_terminal
    from grafos_stacks.looking import console_of

    terminal = terminal_of(ctx)
    if not 1 <= lines <= LINES_MAX:
        raise GrafosError("usage", f"{lines} is no number of lines", where="--lines", next=f"choose 1 to {LINES_MAX}")
    if follow:
        terminal.note(f"following the console of {cell_id}; Ctrl-C ends it")
    # What is followed scrolls by, and nothing is drawn below it.
    with hands_to_look(cell_id, silent_terminal() if follow else terminal) as (hands, region):
        if follow:
            with until_stopped(terminal):
                _follow_console(Console(lambda: console_of(hands, cell_id, region)), cell_id, lines, terminal)
        last = console_of(hands, cell_id, region).splitlines()[-lines:]
    text = "\n".join(last) + "\n" if last else f"The console of {cell_id} is empty so far.\n"
    terminal.emit({"cell_id": cell_id, "lines": last}, text)


def _follow_console(console: Console, cell_id: str, lines: int, terminal: Terminal) -> None:
    first = True

    def look() -> Looked[str]:
        nonlocal first
        fresh = console.look().fresh
        first, shown = False, fresh[-lines:] if first else fresh
        return Looked(shown)

    for line in follow(look, CONSOLE_EVERY_S, terminal.note):
        if terminal.json:
            terminal.emit_line({"cell_id": cell_id, "line": line})
        else:
            terminal.emit({}, f"{line}\n")


def _wish(ttl: str, until: str) -> Wish:
    """What ``--ttl +2h`` or ``--until`` asks for, or ``usage``."""
    from grafos_cli.sizes import read_duration
    from grafos_stacks.extending import Wish

    if bool(ttl) == bool(until):
        raise GrafosError("usage", "Say until when", next="give either --ttl +2h or --until 2026-11-22T08:00Z")
    if ttl:
        if not ttl.strip().startswith("+"):
            raise GrafosError(
                "usage", f"{ttl[:40]!r} does not say how much later", where="--ttl", next="write it like +90m or +2h"
            )
        return Wish(more_s=read_duration("--ttl", ttl.strip()[1:]))
    return Wish(until=_moment(until))


def _moment(text: str) -> int:
    import datetime as dt

    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise GrafosError(
            "usage", f"{text[:40]!r} is no moment", where="--until", next="write it like 2026-11-22T08:00Z"
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())


def _document(record: object) -> dict[str, object]:
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(record)
    return found


def _look_text(seen: Look, terminal: Terminal) -> str:
    from grafos_cli.fictional import LABEL
    from grafos_cli.moments import moment_text
    from grafos_cli.tables import facts, short_id, table
    from grafos_core.money import format_cents
    from grafos_stacks.failover import zone_of

    record = seen.record
    fictional = LABEL if record.emulated else ""
    price = f"{format_cents(record.rate_micro_cents_per_hour)} an hour{fictional}"
    lines = [("cell", f"{record.cell_id} on {record.provider} in {zone_of(record)}, {seen.state}")]
    if not seen.recorded:
        lines.append(("known", "there is no record of it here; this is what journal and tags tell"))
    lines += [
        ("pattern", record.pattern),
        ("machine", f"{record.machine_type}, {seen.machine_state} in the cloud"),
        ("address", record.url or ("none: it dials out, and nobody can dial it" if seen.recorded else "unknown")),
        ("price", price if seen.recorded or record.rate_micro_cents_per_hour else "unknown"),
        ("held", format_cents(seen.held_micro_cents) + fictional),
        ("ended", moment_text(record.gone_at))
        if record.gone_at
        else ("ends", moment_text(record.expires_at) if record.expires_at else "unknown"),
    ]
    lines += [("  by", f"{layer.by}: {layer.what}, {moment_text(layer.at)}") for layer in seen.layers]
    if seen.extending_to:
        lines.append(("extending", f"to {moment_text(seen.extending_to)}, not finished: run the same extend again"))
    if seen.next:
        lines.append(("next", seen.next))
    rows = [[one.kind, one.name, one.state, short_id(one.id)] for one in seen.resources]
    if not rows:
        return facts(lines, terminal) + "\nNothing of it is in the cloud.\n"
    return facts(lines, terminal) + "\n" + table(("RESOURCE", "NAME", "STATE", "ID"), rows, terminal, spare=("ID",))
