"""The cells of all providers as their schedulers see them now: registered, standalone, and the local one.

A scheduler that does not answer is a remark. Its own cell is still there in the record, and nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from grafos_cli.reach import CLOUDS, LOCAL, Reach, known_reaches
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_scheduler.cells import SIGNALS

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_scheduler.client import SchedulerClient
    from grafos_scheduler.enrolment_messages import ProviderView
    from grafos_scheduler.messages import CellView

REGISTERED, STANDALONE = "registered", "standalone"


class SeenCell(NamedTuple):
    """A cell, and which of the six signals it lacks, with the reasons. ``view`` is None for one that has not registered
    or whose scheduler does not answer."""

    cell_id: str
    provider: str
    pattern: str
    scheduler: str
    unmet: Mapping[str, str]
    view: CellView | None = None

    @property
    def ready(self) -> bool:
        return not self.unmet

    @property
    def readiness(self) -> dict[str, bool]:
        """The six signals by name."""
        return {name: name not in self.unmet for name in SIGNALS}


class Provider(NamedTuple):
    """A provider with its cells. ``enabled`` is whether a scheduler takes its cells; ``production`` whether those that
    join must have passed the conformance suite."""

    name: str
    enabled: bool
    cells: tuple[SeenCell, ...]
    production: bool = False

    @property
    def ready(self) -> bool:
        return any(cell.ready for cell in self.cells)

    @property
    def unmet(self) -> dict[str, str]:
        """What the cell that is nearest to being ready lacks, with the reasons."""
        if not self.cells:
            why = f"no cell of {self.name} has joined"
            enabled = (
                {} if self.enabled else {"code_enabled": f"no scheduler of this fabric takes cells of {self.name}"}
            )
            return dict.fromkeys(SIGNALS[1:], why) | enabled
        return dict(min(self.cells, key=lambda cell: len(cell.unmet)).unmet)


def providers_of(fabric: Fabric, project: Path, terminal: Terminal) -> list[Provider]:
    """The clouds, and whatever else there are cells of."""
    cells: list[SeenCell] = []
    told: list[ProviderView] = []
    for reach in known_reaches(fabric, project, terminal):
        try:
            with reach.reader() as client:
                found = list(_of_orchestrator(reach, client, told) if reach.is_orchestrator else _own(reach, client))
        except GrafosError as error:
            terminal.note(f"note: {reach.cell_id} at {reach.url} could not be asked: {error.what}")
            found = [] if reach.is_orchestrator else [_silent(reach, error)]
        cells += found
    enabled = {view.provider for view in told if view.enabled}
    enabled |= {cell.provider for cell in cells if "code_enabled" not in cell.unmet}
    production = {view.provider for view in told if view.production}
    names = sorted({*CLOUDS, *enabled, *(cell.provider for cell in cells)})
    return [Provider(name, name in enabled, _cells_of(name, cells), name in production) for name in names]


def _cells_of(provider: str, cells: Sequence[SeenCell]) -> tuple[SeenCell, ...]:
    return tuple(sorted((cell for cell in cells if cell.provider == provider), key=lambda cell: cell.cell_id))


def _of_orchestrator(reach: Reach, client: SchedulerClient, told: list[ProviderView]) -> Iterator[SeenCell]:
    """Its cells, also those that enrolled and have not registered, and none that was revoked; ``told`` gets what it
    says of the providers."""
    from grafos_scheduler.orchestrator_client import OrchestratorClient

    assert isinstance(client, OrchestratorClient)
    views = {view.cell_id: view for view in client.cells()}
    for provider in client.providers():
        told.append(provider)
        ready = [view.cell_id for view in views.values() if view.provider == provider.provider and view.ready]
        for cell_id in sorted({*ready, *provider.unmet}):
            unmet = provider.unmet.get(cell_id, {})
            yield SeenCell(cell_id, provider.provider, REGISTERED, reach.url, unmet, views.get(cell_id))


def _own(reach: Reach, client: SchedulerClient) -> Iterator[SeenCell]:
    """The one cell of a scheduler beside it."""
    for view in client.cells():
        unmet = {name: signal.why for name, signal in view.readiness.items() if not signal.met}
        yield SeenCell(view.cell_id, view.provider, _pattern(view.provider), reach.url, unmet, view)


def _silent(reach: Reach, error: GrafosError) -> SeenCell:
    why = f"its scheduler does not answer: {error.what}"
    return SeenCell(reach.cell_id, reach.provider, _pattern(reach.provider), reach.url, dict.fromkeys(SIGNALS, why))


def _pattern(provider: str) -> str:
    return LOCAL if provider == LOCAL else STANDALONE


def cell_document(cell: SeenCell) -> dict[str, Any]:
    """The cell for programs; what nobody knows is null."""
    view = cell.view
    return {
        "cell_id": cell.cell_id,
        "provider": cell.provider,
        "region": view.region if view else "",
        "pattern": cell.pattern,
        "scheduler": cell.scheduler,
        "ready": cell.ready,
        "readiness": cell.readiness,
        "reasons": dict(cell.unmet),
        "inventory": msgspec.to_builtins(view.total) if view else None,
        "leased": msgspec.to_builtins(view.leased) if view else None,
        "rate_micro_cents_per_hour": view.rate_micro_cents_per_hour if view else 0,
        "expires_at": view.expires_at if view else 0.0,
        "draining": view.draining if view else False,
        "last_heartbeat_at": view.last_heartbeat_at if view else 0.0,
        "conformance": msgspec.to_builtins(view.conformance) if view and view.conformance else None,
        "image_sha256": view.image_sha256 if view else "",
        "image_veto": view.image_veto if view else "",
    }
