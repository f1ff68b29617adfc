"""`grafos cloud handover`: gives a cell to the other engine, which from then on is the only one to change it."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from grafos_cli.taught import taught, terminal_of

TAUGHT = taught(
    examples=("grafos cloud handover build-1 --to pulumi", "grafos cloud handover build-1 --to direct"),
    next="grafos cloud show --cell-id build-1",
)


def handover(
    ctx: typer.Context,
    cell_id: Annotated[str, typer.Argument(metavar="CELL", help="the cell's name")],
    to: Annotated[str, typer.Option("--to", metavar="ENGINE", help="direct, which these commands use, or pulumi")],
) -> None:
    """Gives a cell to the other engine. Nothing of the cell changes, and it goes on running.

    After --to pulumi the first Pulumi stack that declares the cell adopts all of it; until then these commands leave it
    alone. After --to direct they change it again. A stack that was made with --engine pulumi is forgotten with the last
    of its cells; out of a program of yours take the cell first, with its state (pulumi state delete), or the next
    pulumi up is refused.
    """
    from grafos_cli.by_pulumi_ends import forget_empty_stack
    from grafos_cli.fabric import open_default
    from grafos_core.clock import SystemClock
    from grafos_stacks.journal import Journal
    from grafos_stacks.owners import check_engine, hand_over_stack

    terminal = terminal_of(ctx)
    check_engine(to, "--to")
    clock = SystemClock()
    with contextlib.closing(Journal(open_default(terminal), clock)) as journal:
        before = journal.stack(cell_id)
        given = hand_over_stack(journal, cell_id, to, clock.now())
    came_from = before.engine if before is not None else ""
    forget_empty_stack(came_from, terminal)
    terminal.emit(
        {"cell_id": cell_id, "before": came_from, "engine": given.engine},
        f"{cell_id} belongs to {given.engine} now (before: {came_from}).\n",
    )
