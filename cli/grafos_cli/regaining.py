"""`grafos cloud claim`: this home becomes the one that a standalone cell obeys, in place of one that is lost."""

from __future__ import annotations

from typing import Annotated

import typer

from grafos_cli.taught import taught, terminal_of

TAUGHT = taught(
    examples=("grafos cloud claim build-1", "grafos cloud claim build-1 --yes --json"),
    next="grafos deploy run --provider aws",
)


def claim(
    ctx: typer.Context,
    cell_id: Annotated[str, typer.Argument(metavar="CELL", help="the cell's name; grafos cloud ls lists it")],
    port: Annotated[int, typer.Option(metavar="N", help="where it answers, if not where cells do by default")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Gets into a standalone cell that another home of this fabric made, by the fabric's key, and puts that home out.

    For a laptop that is lost: import the key, take the machines into the journal (cloud recover), then this. What was
    spent there is settled, and runs go on. Of a cell that obeys this home already only the record is written anew.
    """
    from grafos_cli.clouds import hands_to_look
    from grafos_cli.interrupts import resumable
    from grafos_cli.moments import moment_text
    from grafos_cli.plan_view import cell_document
    from grafos_cli.project import project_folder
    from grafos_stacks.regaining import regain_cell

    terminal = terminal_of(ctx)
    if not yes:
        terminal.confirm(f"Have {cell_id} obey this home, and no longer the one that made it?", "--yes")
    with (
        hands_to_look(cell_id, terminal) as (hands, _),
        resumable(f"Stopped while {cell_id} was claimed", f"grafos cloud claim {cell_id}   goes on"),
    ):
        record = regain_cell(hands, cell_id, project_folder(), port)
    terminal.emit(
        {"cell": cell_document(record)},
        f"{cell_id} obeys this home now, and no other: {record.url}. It ends {moment_text(record.expires_at)}.\n",
    )
