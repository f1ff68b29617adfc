"""`grafos cloud`: cells on a cloud, each with a price, a bound and an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli import budget, cloud_life, prices, recover, sweep, tearing
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_stacks.records import CellRecord

app = new_group(
    help='Cells on a cloud. Without an account: grafos emulate up, then eval "$(grafos emulate env)".',
    examples=("grafos cloud provision aws", "grafos cloud ls", "grafos cloud teardown aws --cell-id aws-k3f9q2"),
    next="grafos cloud provision aws",
)

ProviderWord = Annotated[str, typer.Argument(metavar="PROVIDER", help="aws, azure or gcp")]
RegionFlag = Annotated[
    str, typer.Option(metavar="NAME", help="region; default: what the cloud's own tools read, like AWS_REGION")
]


@app.command(
    "provision",
    cls=taught(
        examples=(
            "grafos cloud provision aws",
            "grafos cloud provision aws --region eu-central-1 --ttl 2h --dry-run",
            "grafos cloud provision gcp --cell-id build-1 --ttl 2h --max-ttl 6h --yes --json",
        ),
        next="grafos deploy run --provider aws",
    ),
)
def provision(
    ctx: typer.Context,
    provider: ProviderWord,
    region: RegionFlag = "",
    machine_type: Annotated[
        str, typer.Option("--type", metavar="NAME", help="machine type; default: a small one that fits the image")
    ] = "",
    ttl: Annotated[str, typer.Option(metavar="TIME", help="after this the machine ends itself: 90m, 8h, 2d")] = "8h",
    max_ttl: Annotated[
        str, typer.Option(metavar="TIME", help="how long it may be extended to live at most; held for from the start")
    ] = "",
    cell_id: Annotated[
        str, typer.Option(metavar="ID", help="the cell's name; naming one that is unfinished goes on with it")
    ] = "",
    port: Annotated[int, typer.Option(metavar="N", help="where the cell's scheduler answers")] = 8443,
    allow: Annotated[
        str, typer.Option(metavar="CIDR", help="who may reach the cell, your address as 203.0.113.7/32")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and change nothing")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="agree to the plan without being asked")] = False,  # noqa: FBT002
) -> None:
    """Makes a cell: plan with price and worst-case bill, then machine, software, claim, readiness.

    On aws a cell is a small fabric of its own, and ready at the end. On azure and gcp its machine lets nobody in and
    waits for an orchestrator, which this version does not have: it has booted at the end, and runs nothing.
    The worst case is held in the fabric's ledger before anything is made. Stopped or failed at any moment, the same
    command with the same --cell-id goes on, and teardown undoes.
    """
    from grafos_cli.clouds import Wanted, carry_out, plan_it
    from grafos_cli.plan_view import plan_document, plan_text
    from grafos_cli.sizes import read_duration

    terminal = terminal_of(ctx)
    ttl_s = read_duration("--ttl", ttl)
    max_ttl_s = read_duration("--max-ttl", max_ttl) if max_ttl else 0
    wanted = Wanted(provider, region, machine_type, ttl_s, cell_id, port, allow, max_ttl_s)
    with plan_it(wanted, terminal) as work:
        plan = work.prepared.plan
        document = {"plan": plan_document(plan), "resumed": work.prepared.resumed}
        if dry_run:
            terminal.emit({**document, "dry_run": True}, plan_text(work.prepared, terminal))
            return
        if not terminal.json:
            terminal.err.write(plan_text(work.prepared, terminal))
        if not yes:
            terminal.confirm(f"Make cell {plan.stack}?", "--yes")
        record, took_s = carry_out(work, terminal)
    terminal.emit({**document, "cell": cell_document(record)}, _ready_text(record, took_s))


app.command("teardown", cls=tearing.TAUGHT)(tearing.teardown)
app.command("sweep", cls=sweep.TAUGHT)(sweep.sweep)
app.command("recover", cls=recover.TAUGHT)(recover.recover)


@app.command(
    "ls",
    cls=taught(examples=("grafos cloud ls", "grafos cloud ls --json"), next="grafos cloud teardown aws --cell-id ID"),
)
def ls(ctx: typer.Context) -> None:
    """Lists the cells on clouds that this fabric made, with their price and their end."""
    from grafos_cli.clouds import cells_of_fabric
    from grafos_cli.plan_view import moment_text
    from grafos_cli.tables import table
    from grafos_core.money import format_cents

    terminal = terminal_of(ctx)
    cells = cells_of_fabric(terminal)
    rows = [
        [
            cell.cell_id,
            f"{cell.provider} {cell.region}" + (" (emulated)" if cell.emulated else ""),
            cell.machine_type,
            state,
            format_cents(cell.rate_micro_cents_per_hour) + (" (fictional)" if cell.emulated else ""),
            moment_text(cell.expires_at),
            cell.url or "none",
        ]
        for cell, state in cells
    ]
    text = table(("CELL", "WHERE", "TYPE", "STATE", "PER HOUR", "EXPIRES", "ADDRESS"), rows, terminal)
    documents = [{**cell_document(cell), "state": state} for cell, state in cells]
    terminal.emit({"cells": documents}, text if rows else "No cell on a cloud.\n")


app.add_typer(budget.app, name="budget")
app.add_typer(prices.app, name="prices")
app.command(
    "cost",
    cls=taught(
        examples=("grafos cloud cost", "grafos cloud cost --since 7d", "grafos cloud cost --cell-id build-1 --json"),
        next="grafos cloud budget show",
    ),
)(budget.cost)


for verb, act, examples, following in (
    ("extend", cloud_life.extend, cloud_life.EXTEND_EXAMPLES, "grafos cloud show --cell-id ID"),
    ("allow", cloud_life.allow, cloud_life.ALLOW_EXAMPLES, "grafos deploy run --provider aws"),
    ("show", cloud_life.show, cloud_life.SHOW_EXAMPLES, "grafos cloud logs --cell-id ID"),
    ("logs", cloud_life.logs, cloud_life.LOGS_EXAMPLES, "grafos cloud show --cell-id ID"),
):
    app.command(verb, cls=taught(examples=examples, next=following))(act)


def cell_document(cell: CellRecord) -> dict[str, object]:
    """The cell's record for programs."""
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(cell)
    return found


def _ready_text(record: CellRecord, took_s: float) -> str:
    where = f"{record.machine_type} in {record.zone or record.region}"
    teardown = f"End it:               grafos cloud teardown {record.provider} --cell-id {record.cell_id}\n"
    if record.state == "booted":
        return (
            f"Cell {record.cell_id} has booted after {took_s:.1f} s: {where}. Its deadline stands; nobody gets in.\n"
            "It is not ready to run anything: an orchestrator brings its software, which this version does not have.\n"
            f"See it:               grafos cloud show --cell-id {record.cell_id}\n{teardown}"
        )
    return (
        f"Cell {record.cell_id} is ready after {took_s:.1f} s: {where}, {record.url}.\n"
        f"Run something on it:  grafos deploy run --provider {record.provider}\n{teardown}"
    )
