"""`grafos provider`: which providers have cells that are ready, what the others lack, and a cell that is put out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli import conforming
from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.seen_cells import Provider, SeenCell
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.enrolment_messages import IdentityView

REVOKED_WITHIN_S = 5.0
"""Beyond the grace; the orchestrator looks several times a second."""
LOOK_EVERY_S = 0.2
IMAGE_DIGITS = 12
"""Of an image's SHA-256, as in the name of a disk; documents have all of them."""

app = new_group(
    help="Providers as this fabric sees them: their cells, and what each lacks to be given work.",
    examples=("grafos provider list", "grafos provider status gcp", "grafos provider revoke-cell gcp gcp-1"),
    next="grafos provider list",
)

app.command("conform", cls=conforming.CONFORM)(conforming.conform)
app.command("mark-production", cls=conforming.MARK)(conforming.mark_production)


@app.command(
    "list",
    cls=taught(
        examples=("grafos provider list", "grafos provider list --json | jq '.providers[] | select(.ready)'"),
        next="grafos provider status gcp",
        streams="providers",
    ),
)
def list_all(ctx: typer.Context) -> None:
    """Lists the providers, each with whether a cell of it is ready and what the nearest one lacks."""
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    found = _providers(terminal)
    rows = [
        [
            provider.name,
            "yes" if provider.enabled else "no",
            _ready_text(provider),
            ", ".join(provider.unmet) or "-",
        ]
        for provider in found
    ]
    text = table(("PROVIDER", "ENABLED", "READY", "LACKS"), rows, terminal, spare=("LACKS",))
    terminal.emit({"providers": [_document(provider) for provider in found]}, text)


@app.command(
    "status",
    cls=taught(
        examples=("grafos provider status gcp", "grafos provider status gcp --json | jq .readiness"),
        next="grafos fabric cells",
    ),
)
def status(
    ctx: typer.Context,
    provider: Annotated[
        str, typer.Argument(metavar="PROVIDER", help="aws, azure, gcp, local, as provider list has it")
    ],
) -> None:
    """Shows the six requirements of a provider's readiness, and what each of its cells lacks, with the reasons.

    The provider's own are those of the cell that is nearest to being ready.
    """
    from grafos_cli.tables import facts
    from grafos_core.errors import GrafosError

    terminal = terminal_of(ctx)
    found = _providers(terminal)
    chosen = next((one for one in found if one.name == provider), None)
    if chosen is None:
        known = ", ".join(one.name for one in found)
        raise GrafosError("not_found", f"This fabric knows no provider {provider[:40]!r}", next=f"name one of {known}")
    lacks = chosen.unmet
    told = [("provider", chosen.name), ("ready", _ready_text(chosen))]
    told += [("production", "yes: its registered cells must conform")] if chosen.production else []
    told += [(name, f"no: {lacks[name]}" if name in lacks else "yes") for name in _signals()]
    told += [(f"cell {cell.cell_id}", _cell_text(cell)) for cell in chosen.cells]
    terminal.emit(_document(chosen), facts(told, terminal))


@app.command(
    "revoke-cell",
    cls=taught(
        examples=("grafos provider revoke-cell gcp gcp-1", "grafos provider revoke-cell gcp gcp-1 --grace 0s --yes"),
        next="grafos provider status gcp",
    ),
)
def revoke_cell(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="whose cell it is")],
    cell_id: Annotated[str, typer.Argument(metavar="CELL_ID", help="as fabric cells prints it")],
    drain_timeout: Annotated[
        str, typer.Option(metavar="TIME", help="how long its runs may go on, unwarned, while it takes no new ones")
    ] = "30s",
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="what they get to end once they are warned: 0s, 1m")
    ] = "10s",
    why: Annotated[str, typer.Option(metavar="TEXT", help="kept with the cell, and told to its runs")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="agree without being asked")] = False,  # noqa: FBT002
) -> None:
    """Takes the identity of a registered cell back: it drains, its leases are revoked, then its key is worthless.

    A run that is warned fails with `lease_revoked` unless it ends within the grace, and is charged for what it used;
    what still runs then fails with `cell_revoked` and costs nothing. The machine itself is not touched.
    """
    from grafos_cli.fabric import open_default
    from grafos_cli.sizes import read_duration
    from grafos_stacks.orchestrators import OrchestratorHome
    from grafos_stacks.records import OPERATOR

    terminal = terminal_of(ctx)
    drain_s, grace_s = read_duration("--drain-timeout", drain_timeout), read_duration("--grace", grace)
    home = OrchestratorHome(open_default(terminal))
    home.known()
    _check_registered(_providers(terminal), provider, cell_id)
    if not yes:
        terminal.confirm(f"Revoke cell {cell_id} of {provider}? Its runs get {drain_s + grace_s} s to end.", "--yes")
    with home.client(OPERATOR) as client:
        until = time.monotonic() + drain_s + grace_s + REVOKED_WITHIN_S
        view = client.revoke_cell(cell_id, why=why, grace_s=grace_s, drain_s=drain_s)
        while not view.revoked_at and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
            view = client.revoke_cell(cell_id, why=why, grace_s=grace_s, drain_s=drain_s)
    _tell(view, terminal)


def _tell(view: IdentityView, terminal: Terminal) -> None:
    import msgspec

    if view.revoked_at:
        text = (
            f"Cell {view.cell_id} of {view.provider} is revoked; its key is worth nothing. With a new one it may join "
            f"again:  grafos cloud bootstrap-cell --provider {view.provider} --cell-id {view.cell_id} --new-key\n"
        )
    else:
        text = f"Cell {view.cell_id} of {view.provider} is being revoked; {view.running} of its runs have not ended.\n"
    terminal.emit({"identity": msgspec.to_builtins(view)}, text)


def _check_registered(found: list[Provider], provider: str, cell_id: str) -> None:
    """``cell_unknown`` for a cell that is not there, ``unsupported`` for one that no orchestrator has."""
    from grafos_cli.seen_cells import REGISTERED
    from grafos_core.errors import GrafosError

    cells = [cell for one in found for cell in one.cells if cell.cell_id == cell_id]
    of_it = [cell for cell in cells if cell.provider == provider]
    if not of_it:
        elsewhere = f"it is one of {cells[0].provider}" if cells else ""
        raise GrafosError(
            "cell_unknown",
            f"There is no cell {cell_id[:60]!r} of {provider[:40]}, or it was revoked before",
            why=elsewhere,
            next="grafos fabric cells",
        )
    if all(cell.pattern != REGISTERED for cell in of_it):
        raise GrafosError(
            "unsupported",
            f"Cell {cell_id} has a scheduler of its own, and enrolled nowhere",
            next=f"grafos cloud teardown {provider} --cell-id {cell_id}" if provider != "local" else "grafos dev down",
        )


def _providers(terminal: Terminal) -> list[Provider]:
    from grafos_cli.fabric import open_default
    from grafos_cli.project import project_folder
    from grafos_cli.seen_cells import providers_of

    return providers_of(open_default(terminal), project_folder(), terminal)


def _signals() -> tuple[str, ...]:
    from grafos_scheduler.cells import SIGNALS

    return SIGNALS


def _ready_text(provider: Provider) -> str:
    if not provider.cells:
        return "no cell"
    return f"{sum(cell.ready for cell in provider.cells)} of {len(provider.cells)} cells"


def _cell_text(cell: SeenCell) -> str:
    from grafos_cli.moments import moment_text

    said, image = (cell.view.conformance, cell.view.image_sha256) if cell.view else (None, "")
    text = "ready" if cell.ready else "; ".join(f"{name}: {why}" for name, why in cell.unmet.items())
    text += f"; image {image[:IMAGE_DIGITS]}" if image else ""
    text += f"; {cell.view.image_veto}" if cell.view and cell.view.image_veto else ""
    if said is None:
        return text
    verdict = f"{len(said.wrong)} of {said.cases} cases went wrong" if said.wrong else "conforms"
    return f"{text}; {verdict} ({said.suite}, {moment_text(said.judged_at)})"


def _document(provider: Provider) -> dict[str, Any]:
    from grafos_cli.seen_cells import cell_document

    lacks = provider.unmet
    return {
        "provider": provider.name,
        "enabled": provider.enabled,
        "ready": provider.ready,
        "production": provider.production,
        "readiness": {name: name not in lacks for name in _signals()},
        "reasons": lacks,
        "cells": [cell_document(cell) for cell in provider.cells],
    }
