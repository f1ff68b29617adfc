"""`grafos lease`: shared regions, memory of one cell that all runs of a tenant may attach to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import new_group, taught, terminal_of
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.reach import Reach
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.region_messages import RegionView

app = new_group(
    help="Memory of one cell, leased for a while, that all your runs may attach to, on whatever cell they are.",
    examples=("grafos lease create 64k", "grafos lease ls", "grafos lease rm LEASE_ID"),
    next="grafos lease create 64k",
)

LeaseId = Annotated[str, typer.Argument(metavar="LEASE_ID", help="as lease ls prints it")]
Ttl = Annotated[str, typer.Option(metavar="TIME", help="how long it lasts from now on: 90s, 10m; at most 1h")]


@app.command(
    "create",
    cls=taught(
        examples=(
            "grafos lease create 64k",
            "grafos lease create 64k --provider gcp --ttl 30m --json | jq -r .lease.ref",
        ),
        next="grafos lease show LEASE_ID",
    ),
)
def create(
    ctx: typer.Context,
    size: Annotated[str, typer.Argument(metavar="BYTES", help="how much memory: 4096, 64k, 1m")],
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="whose cell holds it: local, aws, gcp, azure")
    ] = "local",
    ttl: Ttl = "10m",
) -> None:
    """Leases memory of one cell, and prints the reference by which tasklets attach to it.

    Its worst case is held for the whole time, and settled when it ends. The reference is no secret: it opens the memory
    only for runs of the same tenant. When the cell restarts, the memory is gone, and costs nothing. A command that was
    stopped before it printed anything finds its lease when it is given again.
    """
    from grafos_cli.fabric import open_default
    from grafos_cli.interrupts import resumable
    from grafos_cli.lease_calls import AGAIN, lease_memory
    from grafos_cli.project import project_folder
    from grafos_cli.reach import resolve
    from grafos_cli.running import PATIENCE_S
    from grafos_cli.sizes import read_size

    terminal = terminal_of(ctx)
    size_bytes, ttl_s = _bytes(read_size("BYTES", size)), _seconds(ttl)
    project = project_folder()
    reach = resolve(provider, open_default(terminal), project)
    stopped = resumable("Stopped before its cell answered; the memory may be leased", AGAIN)
    with stopped, reach.client(PATIENCE_S) as client:
        view = lease_memory(client, reach, project, size_bytes, ttl_s)
    _show(view, terminal)


@app.command(
    "ls",
    cls=taught(
        examples=("grafos lease ls", "grafos lease ls --json | jq '.leases[].ref'"),
        next="grafos lease show LEASE_ID",
        streams="leases",
    ),
)
def ls(ctx: typer.Context) -> None:
    """Lists the shared regions that there are, and those that ended within a day."""
    import msgspec

    from grafos_cli.everywhere import everywhere
    from grafos_cli.moments import moment_text
    from grafos_cli.sizes import size_text
    from grafos_cli.tables import table, with_code

    def regions_of(reach: Reach) -> list[RegionView]:
        with reach.client() as client:
            return client.regions()

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    views = [view for _, found in around.ask(regions_of, "not_found") for view in found]
    around.check_list(views)
    views.sort(key=lambda view: view.created_at, reverse=True)
    rows = [
        [
            view.lease_id,
            view.provider,
            view.cell_id,
            size_text(view.size_bytes),
            with_code(view.state, view.code),
            _cost(view, terminal),
            moment_text(view.ended_at or view.expires_at),
        ]
        for view in views
    ]
    head = ("LEASE", "PROVIDER", "CELL", "SIZE", "STATE", "COST", "ENDS")
    text = table(head, rows, terminal, "   r r", spare=("ENDS", "PROVIDER")) if rows else "No region yet.\n"
    leases = [msgspec.to_builtins(view) for view in views]
    terminal.emit({"leases": leases, "silent": around.documents()}, text)


@app.command(
    "show",
    cls=taught(
        examples=("grafos lease show LEASE_ID", "grafos lease show LEASE_ID --json | jq -r .lease.ref"),
        next="grafos lease renew LEASE_ID --ttl 30m",
    ),
)
def show(ctx: typer.Context, lease_id: LeaseId) -> None:
    """Shows one shared region: where it is, how long, what it costs, and its reference."""
    terminal = terminal_of(ctx)
    _, view = _find(lease_id, terminal)
    _show(view, terminal)


@app.command(
    "renew",
    cls=taught(
        examples=("grafos lease renew LEASE_ID --ttl 30m", "grafos lease renew LEASE_ID --ttl 1h --json"),
        next="grafos lease show LEASE_ID",
    ),
)
def renew(ctx: typer.Context, lease_id: LeaseId, ttl: Ttl = "10m") -> None:
    """Lets a shared region last longer; its bytes stay, and older references open it too.

    What it may cost until then is held first. One that lasts longer already stays as it is.
    """
    terminal = terminal_of(ctx)
    seconds = _seconds(ttl)
    reach, _ = _find(lease_id, terminal)
    with reach.client() as client:
        view = client.renew_region(lease_id, seconds)
    _show(view, terminal)


@app.command(
    "rm",
    cls=taught(examples=("grafos lease rm LEASE_ID", "grafos lease rm LEASE_ID --json"), next="grafos lease ls"),
)
def rm(ctx: typer.Context, lease_id: LeaseId) -> None:
    """Ends a shared region: its bytes are gone, runs that are attached are told so, and it is settled.

    Asking again is harmless.
    """
    terminal = terminal_of(ctx)
    reach, _ = _find(lease_id, terminal)
    with reach.client() as client:
        view = client.end_region(lease_id)
    _show(view, terminal)


def _find(lease_id: str, terminal: Terminal) -> tuple[Reach, RegionView]:
    """The region, and the scheduler that knows it; ``lease_unknown``."""
    from grafos_cli.everywhere import everywhere

    def region_of(reach: Reach) -> RegionView:
        with reach.client() as client:
            return client.region(lease_id)

    if re.fullmatch(r"[0-9a-f]{32}", lease_id) is None:
        what = f"{lease_id[:80]!r} is no id of a lease, which has 32 characters of 0-9 and a-f"
        raise GrafosError("usage", what, where="LEASE_ID", next="grafos lease ls")
    around = everywhere(terminal)
    for found in around.ask(region_of, "lease_unknown", "not_found"):
        return found
    unknown = GrafosError("lease_unknown", f"There is no shared region {lease_id[:80]!r}", next="grafos lease ls")
    raise around.unless_silent(unknown)


def _bytes(size: int) -> int:
    from grafos_scheduler.region_messages import REGION_BYTES_MAX, REGION_BYTES_MIN

    if not REGION_BYTES_MIN <= size <= REGION_BYTES_MAX:
        what = f"{size} bytes are not between {REGION_BYTES_MIN} and {REGION_BYTES_MAX}"
        raise GrafosError("usage", what, where="BYTES", next="write it like 4096, 64k or 1m")
    return size


def _seconds(ttl: str) -> float:
    from grafos_core.durations import read_duration
    from grafos_scheduler.region_messages import REGION_TTL_S_MAX, REGION_TTL_S_MIN

    seconds = read_duration("--ttl", ttl)
    if not REGION_TTL_S_MIN <= seconds <= REGION_TTL_S_MAX:
        what = f"{ttl} is not between {REGION_TTL_S_MIN:g} s and {REGION_TTL_S_MAX / 3600:g} h"
        raise GrafosError(
            "usage", what, where="--ttl", next="name a time in between; grafos lease renew makes it longer"
        )
    return float(seconds)


def _cost(view: RegionView, terminal: Terminal) -> str:
    """What it was settled for, or what is held for it while it lasts."""
    from grafos_cli.fabric import open_default
    from grafos_cli.fictional import amount_text, emulated_cells

    is_fictional = view.cell_id in emulated_cells(open_default(terminal))
    if view.state == "ended":
        return amount_text(view.cost_micro_cents, fictional=is_fictional)
    return f"up to {amount_text(view.held_micro_cents, fictional=is_fictional)}"


def _show(view: RegionView, terminal: Terminal) -> None:
    import msgspec

    from grafos_cli.moments import moment_text
    from grafos_cli.sizes import size_text
    from grafos_cli.tables import facts, with_code

    entries = [
        ("lease", view.lease_id),
        ("state", with_code(view.state, view.code)),
        *([("why", view.what)] if view.what else []),
        ("where", f"{view.provider}, cell {view.cell_id}"),
        ("size", size_text(view.size_bytes)),
        ("ended" if view.ended_at else "ends", moment_text(view.ended_at or view.expires_at, seconds=True)),
        ("cost", _cost(view, terminal)),
        ("reference", view.ref),
    ]
    terminal.emit({"lease": msgspec.to_builtins(view)}, facts(entries, terminal))
