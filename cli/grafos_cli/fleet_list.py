"""`grafos fabric cells`: the cells of all providers in one list."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.seen_cells import SeenCell
    from grafos_scheduler.messages import CellView

TAUGHT = taught(
    examples=("grafos fabric cells", "grafos fabric cells --json | jq '.cells[] | select(.ready) | .cell_id'"),
    next="grafos provider status gcp",
    streams="cells",
)


def cells(ctx: typer.Context) -> None:
    """Lists the cells of all providers as their schedulers see them now: registered, standalone and local ones."""
    from grafos_cli.fabric import open_default
    from grafos_cli.fictional import emulated_cells
    from grafos_cli.project import project_folder
    from grafos_cli.seen_cells import cell_document, providers_of
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    fabric = open_default(terminal)
    found = [cell for provider in providers_of(fabric, project_folder(), terminal) for cell in provider.cells]
    emulated = emulated_cells(fabric)
    head = ("CELL", "WHERE", "PATTERN", "STATE", "CORES", "MEMORY", "PER HOUR", "EXPIRES", "IMAGE", "SCHEDULER")
    rows = [_row(cell, time.time(), emulated=cell.cell_id in emulated) for cell in found]
    text = table(head, rows, terminal, "    rrr", spare=("SCHEDULER", "IMAGE", "EXPIRES", "MEMORY", "CORES", "PATTERN"))
    terminal.emit({"cells": [cell_document(cell) for cell in found]}, text if rows else "No cell.\n")


def _image_text(view: CellView) -> str:
    """What the cell tells of its image; where that is not let in, runs go elsewhere."""
    from grafos_cli.moments import NEVER
    from grafos_cli.provider import IMAGE_DIGITS

    return f"{view.image_sha256[:IMAGE_DIGITS] or NEVER}{' (vetoed)' if view.image_veto else ''}"


def _row(cell: SeenCell, now: float, *, emulated: bool) -> list[str]:
    """What is leased stands before what there is."""
    from grafos_cli.fictional import amount_text
    from grafos_cli.moments import NEVER, when_text
    from grafos_cli.sizes import size_text

    view = cell.view
    state = "ready" if cell.ready else f"lacks {', '.join(cell.unmet)}"
    if view is None:
        return [cell.cell_id, cell.provider, cell.pattern, state, *[NEVER] * 5, cell.scheduler]
    return [
        cell.cell_id,
        " ".join(filter(None, (cell.provider, view.region))) + (" (emulated)" if emulated else ""),
        cell.pattern,
        f"{state}, draining" if view.draining else state,
        f"{view.leased.cpu_cores}/{view.total.cpu_cores}",
        f"{size_text(view.leased.mem_bytes)}/{size_text(view.total.mem_bytes)}",
        amount_text(view.rate_micro_cents_per_hour, fictional=emulated),
        when_text(view.expires_at, now),
        _image_text(view),
        cell.scheduler,
    ]
