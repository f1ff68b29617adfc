"""`grafos cloud`: cells on a cloud, each with a price, a bound and an end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from grafos_cli import (
    applying,
    bootstrapping,
    budget,
    cloud_life,
    handing,
    image,
    prices,
    provisioning,
    recover,
    regaining,
    rolling,
    sweep,
    tearing,
)
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_stacks.records import CellRecord

NONE = "none"

app = new_group(
    help='Cells on a cloud. Without an account: grafos emulate up, then eval "$(grafos emulate env)".',
    examples=("grafos cloud provision aws", "grafos cloud ls", "grafos cloud teardown aws --cell-id aws-k3f9q2"),
    next="grafos cloud provision aws",
)

app.command("provision", cls=provisioning.TAUGHT)(provisioning.provision)
app.command("apply", cls=applying.TAUGHT)(applying.apply)
app.command("roll", cls=rolling.TAUGHT)(rolling.roll)
app.command("teardown", cls=tearing.TAUGHT)(tearing.teardown)
app.command("sweep", cls=sweep.TAUGHT)(sweep.sweep)
app.command("recover", cls=recover.TAUGHT)(recover.recover)
app.command("claim", cls=regaining.TAUGHT)(regaining.claim)
app.command("handover", cls=handing.TAUGHT)(handing.handover)
app.command("bootstrap-cell", cls=bootstrapping.BOOTSTRAP)(bootstrapping.bootstrap_cell)
app.command(
    "cell-agent",
    cls=bootstrapping.AGENT,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(bootstrapping.cell_agent)


@app.command(
    "ls",
    cls=taught(
        examples=("grafos cloud ls", "grafos cloud ls --stream | jq -r .cell_id"),
        next="grafos cloud teardown aws --cell-id ID",
        streams="cells",
    ),
)
def ls(ctx: typer.Context) -> None:
    """Lists the cells on clouds that this fabric made, with their price and their end."""
    from grafos_cli.clouds import cells_of_fabric
    from grafos_cli.moments import moment_text, when_text
    from grafos_cli.plan_view import cell_document
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    cells, now = cells_of_fabric(terminal), time.time()
    rows = [
        [
            cell.cell_id,
            f"{cell.provider} {cell.region}" + (" (emulated)" if cell.emulated else ""),
            cell.machine_type,
            state,
            _price(cell),
            when_text(cell.gone_at or cell.expires_at, now),
            NONE if cell.gone_at else cell.url or NONE,
            moment_text(cell.gone_at or cell.expires_at),
        ]
        for cell, state in cells
    ]
    head = ("CELL", "WHERE", "TYPE", "STATE", "PER HOUR", "EXPIRES", "ADDRESS", "ENDS AT")
    text = table(head, rows, terminal, spare=("ENDS AT", "ADDRESS", "TYPE"))
    documents = [{**cell_document(cell), "state": state} for cell, state in cells]
    terminal.emit({"cells": documents}, text if rows else "No cell on a cloud.\n")


def _price(cell: CellRecord) -> str:
    """By the hour; nothing of a cell that is gone, and unknown of one that was found again."""
    from grafos_cli.fictional import amount_text

    if cell.gone_at:
        return NONE
    rate = cell.rate_micro_cents_per_hour
    return amount_text(rate, fictional=cell.emulated) if rate else "unknown"


app.add_typer(budget.app, name="budget")
app.add_typer(prices.app, name="prices")
app.add_typer(image.app, name="image")
app.command(
    "cost",
    cls=taught(
        examples=("grafos cloud cost", "grafos cloud cost --since 7d", "grafos cloud cost --cell-id build-1 --json"),
        next="grafos cloud budget show",
        streams="cells",
    ),
)(budget.cost)


for verb, act, examples, following in (
    ("extend", cloud_life.extend, cloud_life.EXTEND_EXAMPLES, "grafos cloud show --cell-id ID"),
    ("allow", cloud_life.allow, cloud_life.ALLOW_EXAMPLES, "grafos deploy run --provider aws"),
    ("show", cloud_life.show, cloud_life.SHOW_EXAMPLES, "grafos cloud logs --cell-id ID"),
    ("logs", cloud_life.logs, cloud_life.LOGS_EXAMPLES, "grafos cloud show --cell-id ID"),
):
    app.command(verb, cls=taught(examples=examples, next=following))(act)
