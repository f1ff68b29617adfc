"""`grafos runs`: what ran, where, and what it cost; also when the cell is long gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli import run_logs
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from grafos_scheduler.messages import RunView

app = new_group(
    help="The runs of the fabric: those of live schedulers and those that were brought home.",
    examples=("grafos runs ls", "grafos runs ls --json | jq '.runs[].cost.cents_per_run'"),
    next="grafos runs ls",
)


@app.command(
    "ls",
    cls=taught(
        examples=("grafos runs ls", "grafos runs ls --json | jq '.runs[].cost.cents_per_run'"),
        next="grafos runs show RUN_ID",
        streams="runs",
    ),
)
def ls(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="how many, the newest first")] = 50,
) -> None:
    """Lists runs, the newest first, with what each cost."""
    import msgspec

    from grafos_cli.everywhere import everywhere
    from grafos_cli.fictional import amount_text, emulated_cells
    from grafos_cli.gathering import gather_runs
    from grafos_cli.moments import age_text, moment_text
    from grafos_cli.tables import table, with_code

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    found, emulated = gather_runs(around, limit), emulated_cells(around.fabric)
    around.check_list(found)
    rows = [
        [
            one.view.run_id,
            one.view.tasklet,
            one.view.provider,
            one.view.cell_id,
            with_code(one.view.state, one.view.code),
            amount_text(one.view.cost.micro_cents, fictional=one.view.cell_id in emulated),
            age_text(time.time() - one.view.created_at),
            moment_text(one.view.created_at),
            one.source,
        ]
        for one in found
    ]
    head = ("RUN", "TASKLET", "PROVIDER", "CELL", "STATE", "COST", "AGE", "ASKED AT", "FROM")
    text = (
        table(head, rows, terminal, "     rr", spare=("ASKED AT", "FROM", "AGE", "TASKLET", "PROVIDER"))
        if rows
        else "No run yet.\n"
    )
    document = [
        {**msgspec.to_builtins(one.view), "source": one.source, "fictional": one.view.cell_id in emulated}
        for one in found
    ]
    terminal.emit({"runs": document, "silent": around.documents()}, text)


@app.command(
    "show",
    cls=taught(
        examples=("grafos runs show RUN_ID", "grafos runs show RUN_ID --json"),
        next="grafos artifacts RUN_ID --verify",
    ),
)
def show(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="as deploy run and runs ls print it")],
) -> None:
    """Shows one run: what ran where, how it ended, what it used and cost."""
    import msgspec

    from grafos_cli.everywhere import everywhere
    from grafos_cli.fictional import emulated_cells
    from grafos_cli.gathering import find_run
    from grafos_cli.tables import facts

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    found = find_run(around, run_id)
    view = found.view
    emulated = emulated_cells(around.fabric)
    more = [
        ("program", f"{view.program} / {view.tasklet}"),
        ("tenant", view.tenant),
        ("input", view.input_sha256 or "the context"),
        ("fuel used", f"{view.fuel_used:,}"),
        ("share", f"{view.cost.share} of the cell for {view.cost.lease_seconds:.3f} s"),
        *([("ordered by", view.signed_by)] if view.signed_by else []),
        ("known from", found.source),
    ]
    document = {"run": {**msgspec.to_builtins(view), "source": found.source, "fictional": view.cell_id in emulated}}
    terminal.emit(document, facts(run_facts(view, emulated) + more, terminal))


@app.command(
    "cancel",
    cls=taught(
        examples=("grafos runs cancel RUN_ID", "grafos runs cancel RUN_ID --json | jq -r .run.state"),
        next="grafos runs show RUN_ID",
    ),
)
def cancel(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="as deploy run and runs ls print it")],
) -> None:
    """Ends a run that is under way. What it used is paid for, its leases are torn down.

    A run that has ended stays as it is, and that is told.
    """
    import msgspec

    from grafos_cli.everywhere import everywhere
    from grafos_cli.fictional import amount_text, emulated_cells
    from grafos_cli.gathering import cancel_run

    terminal = terminal_of(ctx)
    around = everywhere(terminal)
    view, was_under_way = cancel_run(around, run_id)
    cost = amount_text(view.cost.micro_cents, fictional=view.cell_id in emulated_cells(around.fabric))
    if not was_under_way:
        text = f"Run {run_id} had ended before: {view.state}. Nothing was cancelled."
    elif view.state == "cancelled":
        text = f"Run {run_id} is cancelled; it cost {cost}."
    elif view.ended_at:
        text = f"Run {run_id} ended before the word reached its cell: {view.state}; it cost {cost}."
    else:
        text = f"Run {run_id} is being cancelled; its cell has not said yet that it ended."
    terminal.emit({"run": msgspec.to_builtins(view), "was_under_way": was_under_way}, text)


app.command("logs", cls=run_logs.TAUGHT)(run_logs.logs)


def run_facts(view: RunView, emulated: Collection[str]) -> list[tuple[str, str]]:
    """What everybody wants to know of a run, as label and value. ``emulated`` are the cells of emulators."""
    from grafos_cli.fictional import amount_text
    from grafos_cli.tables import with_code

    state = with_code(view.state, view.code) + (f": {view.what}" if view.what else "")
    return [
        ("run_id", view.run_id),
        ("cell_id", view.cell_id or "none"),
        ("provider", " ".join(dict.fromkeys(filter(None, (view.provider, view.region))))),
        ("state", state),
        ("module_sha256", view.module_sha256),
        ("cost", amount_text(view.cost.micro_cents, fictional=view.cell_id in emulated)),
    ]
