"""Lower the fabric's orchestrator: what it holds comes home, then its machine goes, with proof that nothing is left.

Cells that are registered there are a reason not to, unless they are to go first. Then its runs, its audit log and the
ledger come home, the ledger last, since one that is here says that all is here. Only then is the machine torn down, and
the last thing to go is the record that the fabric has an orchestrator. All of it may be interrupted and repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import private_folder, write_private
from grafos_scheduler.audit_messages import AUDIT_PAGE_MAX, AuditQuery
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.direct import Hands
from grafos_stacks.homecoming import ASK_EVERY_S, DRAIN_PATIENCE_S, keep_runs
from grafos_stacks.journal import Journal, StackState
from grafos_stacks.ledger_moves import bring_ledger_home
from grafos_stacks.lost_ledger import reopen_ledger
from grafos_stacks.orchestrator_machine import STACK
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.progress import BEGUN, DONE, Progress, Step, unheard
from grafos_stacks.records import OPERATOR
from grafos_stacks.teardown import TornDownCell, teardown

REACH_PATIENCE_S = 10.0
"""An orchestrator that is just starting again gets this."""

HandsFor = Callable[[str], Hands]
"""What it takes to work on a cloud."""


class CameHome(NamedTuple):
    """What was brought home. ``audit_file`` is None where there was nothing to ask; ``running`` runs were counted as
    having spent all that they held, and ``notes`` say what a lost orchestrator took with it."""

    runs: int = 0
    audit_records: int = 0
    audit_file: Path | None = None
    running: int = 0
    notes: tuple[str, ...] = ()


def registered_cells(fabric: Fabric) -> tuple[str, ...]:
    """The cells that have an identity at the orchestrator; ``scheduler_unreachable``."""
    home = OrchestratorHome(fabric)
    with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        return _registered(client)


def take_cells_down(
    fabric: Fabric, journal: Journal, cells: tuple[str, ...], hands_for: HandsFor, project: Path
) -> None:
    """Tears down those that grafos made; of the others the identity is taken back, and their machines stay."""
    rows = {row.stack: row for row in journal.stacks() if row.state is not StackState.GONE}
    for cell_id in cells:
        row = rows.get(cell_id)
        if row is not None:
            teardown(hands_for(row.provider), cell_id, project, row.region, row.provider)
    with OrchestratorHome(fabric).client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        for cell_id in _registered(client):
            client.revoke_cell(cell_id, why="its orchestrator ends", grace_s=0.0)


def bring_all_home(
    fabric: Fabric, clock: Clock, sleep: Callable[[float], object], progress: Progress = unheard
) -> CameHome:
    """Runs, audit log and ledger; nothing is admitted there any more. ``scheduler_unreachable``: ask again."""
    if fabric.ledger_place().is_here:
        return CameHome()
    home, began = OrchestratorHome(fabric), clock.monotonic()
    progress(Step("bring home", BEGUN, 0.0))
    with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        while client.drain().running and clock.monotonic() - began < DRAIN_PATIENCE_S:
            sleep(ASK_EVERY_S)
        _keep_all(fabric, home, client)
        came = bring_ledger_home(fabric, clock=clock, sleep=sleep, progress=progress)
        runs, file, records = _keep_all(fabric, home, client)  # with what ended while the ledger was closed
    took_s = clock.monotonic() - began
    progress(Step("bring home", DONE, took_s, f"{runs} runs, {records} records of the audit log, the ledger"))
    return CameHome(runs, records, file, came.running)


def _keep_all(fabric: Fabric, home: OrchestratorHome, client: OrchestratorClient) -> tuple[int, Path, int]:
    return (keep_runs(fabric, client), *_audit_home(fabric, home, client))


def give_up_lost(fabric: Fabric) -> CameHome:
    """For an orchestrator that will never answer again: the ledger is opened here, as far as it is known."""
    return CameHome(notes=reopen_ledger(fabric).notes)


def take_machine_down(hands: Hands, project: Path) -> TornDownCell | None:
    """The machine, with a signed receipt that nothing is left; None if there never was one. Only once the ledger is
    here: ``ledger_elsewhere``."""
    row = hands.journal.stack(STACK)
    if row is None:
        return None
    return teardown(hands, STACK, project, row.region, row.provider)


def _registered(client: OrchestratorClient) -> tuple[str, ...]:
    """Those that are ready, and those that enrolled and are not; what was revoked is neither."""
    ready = {view.cell_id for view in client.cells() if view.ready}
    unmet = {cell_id for provider in client.providers() for cell_id in provider.unmet}
    return tuple(sorted(ready | unmet))


def _audit_home(fabric: Fabric, home: OrchestratorHome, client: OrchestratorClient) -> tuple[Path, int]:
    """The whole log, one record to a line as it was hashed; the same file however often it is asked for."""
    record = home.known()
    file = private_folder(fabric.home / "audit") / f"{record.name}-{record.claimed_at:.0f}.jsonl"
    lines: list[bytes] = []
    page = client.audit(AuditQuery(limit=AUDIT_PAGE_MAX))
    while True:
        lines += [msgspec.json.encode(one) + b"\n" for one in page.records]
        if not page.more:
            break
        page = client.audit(AuditQuery(after=page.after, limit=AUDIT_PAGE_MAX))
    try:
        write_private(file, b"".join(lines))
    except OSError as error:
        raise GrafosError(
            "store_failed", "the audit log could not be written", where=str(file), why=str(error)
        ) from error
    return file, len(lines)
