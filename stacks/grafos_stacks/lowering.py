"""Lower the fabric's orchestrator: what it holds comes home, then its machine goes, with proof that nothing is left.

Cells that are registered there are a reason not to, unless they are to go first. Then the ledger comes home, by which
nothing is admitted there any more, and after it the runs and the audit log. That all of it is here is noted: the ledger
alone does not say so, since it may have come by itself. Only then is the machine torn down, and the last thing to go is
the record that the fabric has an orchestrator. All of it may be interrupted and repeated.

    <fabric>/orchestrator/came-home.json    what came home, and with which generation of the ledger
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import private_folder
from grafos_scheduler.audit_messages import AUDIT_PAGE_MAX, AuditQuery
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.direct import Hands
from grafos_stacks.homecoming import ASK_EVERY_S, DRAIN_PATIENCE_S, keep_runs
from grafos_stacks.journal import Homecoming, Journal, StackRow, StackState
from grafos_stacks.ledger_moves import bring_ledger_home
from grafos_stacks.lost_ledger import reopen_ledger
from grafos_stacks.orchestrator_machine import STACK
from grafos_stacks.orchestrators import REACH_PATIENCE_S, OrchestratorHome
from grafos_stacks.progress import BEGUN, DONE, Progress, Step, unheard
from grafos_stacks.records import OPERATOR, kept
from grafos_stacks.teardown import TornDownCell, teardown
from grafos_stacks.unmaking import is_anything_of

HandsFor = Callable[[str], Hands]
"""What it takes to work on a cloud."""


class CameHome(msgspec.Struct, frozen=True):
    """What was brought home. ``audit_file`` is empty where there was nothing to ask; ``running`` runs were counted as
    having spent all that they held, and ``notes`` say what a lost orchestrator took with it."""

    runs: int = 0
    audit_records: int = 0
    audit_file: str = ""
    running: int = 0
    notes: tuple[str, ...] = ()


def came_home(fabric: Fabric) -> CameHome | None:
    """What came home before, if that was all there is: nothing was booked at the orchestrator since."""
    place = fabric.ledger_place()
    try:
        generation, came = msgspec.json.decode(_note_file(fabric).read_bytes(), type=tuple[int, CameHome])
    except (OSError, msgspec.DecodeError):
        return None  # then it is asked for again, which harms nothing
    return came if place.is_here and place.generation == generation else None


def check_machine(fabric: Fabric, clock: Clock, *, lost: bool = False) -> None:
    """``cell_unknown`` for an orchestrator whose machine grafos made, and of which the journal knows nothing: the
    journal was lost, or it was made from another home. What this home does not know it cannot take down. One that is
    not ``lost`` is asked; ``scheduler_unreachable``."""
    home = OrchestratorHome(fabric)
    record = home.record()
    row = next((row for row in _rows(fabric, clock) if row.stack == STACK), None)
    if record is None or (row is not None and (record.provider or row.state is not StackState.GONE)):
        return
    if not record.provider and (lost or not _has_made_machine(home)):
        return
    where = f" --provider {record.provider}" if record.provider else ""
    raise GrafosError(
        "cell_unknown",
        "the machine of the orchestrator is not in this home's journal, so it would not go with it",
        where=record.url,
        next=f"take it into the journal: grafos cloud recover{where}   then this again",
    )


def cloud_of_machine(fabric: Fabric, clock: Clock) -> str:
    """The cloud on which something of its machine is; empty where the journal knows of nothing. An address that was
    kept for the next machine is something, too."""
    with _opened(fabric, clock) as journal:
        row = journal.stack(STACK) if journal is not None else None
        if journal is None or row is None:
            return ""
        return row.provider if row.state is not StackState.GONE or is_anything_of(journal, STACK) else ""


def registered_cells(fabric: Fabric) -> tuple[str, ...]:
    """The cells that have an identity at the orchestrator; ``scheduler_unreachable``."""
    home = OrchestratorHome(fabric)
    with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        return _registered(client)


def joining_cells(fabric: Fabric, clock: Clock) -> tuple[str, ...]:
    """The cells of the journal that join an orchestrator, also those that have not enrolled yet."""
    living = (row for row in _rows(fabric, clock) if row.state is not StackState.GONE)
    return tuple(sorted(row.stack for row in living if row.plan is not None and row.plan.spec.joins))


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
    """The ledger, runs and audit log; nothing is admitted there any more. ``scheduler_unreachable``: ask again."""
    before = came_home(fabric)
    if before is not None:
        return before
    home, began = OrchestratorHome(fabric), clock.monotonic()
    progress(Step("bring home", BEGUN, 0.0))
    with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        while client.drain().running and clock.monotonic() - began < DRAIN_PATIENCE_S:
            sleep(ASK_EVERY_S)
        ledger = bring_ledger_home(fabric, clock=clock, sleep=sleep, progress=progress)
        runs = keep_runs(fabric, client)
        file, records = _audit_home(fabric, home, client)
    came = CameHome(runs, records, str(file), ledger.running)
    kept(_note_file(fabric), msgspec.json.encode((fabric.ledger_place().generation, came)))
    took_s = clock.monotonic() - began
    progress(Step("bring home", DONE, took_s, f"{runs} runs, {records} records of the audit log, the ledger"))
    return came


def give_up_lost(fabric: Fabric, clock: Clock) -> CameHome:
    """For an orchestrator that will never answer again: the ledger is opened here, as far as it is known."""
    if OrchestratorHome(fabric).record() is None:
        return CameHome(notes=reopen_ledger(fabric).notes)
    before = came_home(fabric)
    if before is not None:
        return before
    notes: tuple[str, ...] = (
        "Runs and audit log of the orchestrator that were not brought home before are lost with it.",
    )
    if cells := joining_cells(fabric, clock):
        notes += (f"Cells that joined it bill on, and get nothing to do: {', '.join(cells)}; see grafos cloud ls.",)
    return CameHome(notes=(*reopen_ledger(fabric).notes, *notes))


def take_machine_down(hands: Hands, project: Path, came: CameHome | None = None) -> TornDownCell | None:
    """The machine, with a signed receipt that nothing is left and of what ``came`` home; None if there never was one.
    Only once the ledger is here: ``ledger_elsewhere``."""
    row = hands.journal.stack(STACK)
    if row is None:
        return None
    if came is not None and row.state is not StackState.GONE:
        with hands.journal.lock(STACK):
            homecoming = Homecoming(came.runs, settled=True, spent_micro_cents=0)
            hands.journal.write(row.moved(row.state, row.changed_at, homecoming=homecoming))
    return teardown(hands, STACK, project, row.region, row.provider)


def _rows(fabric: Fabric, clock: Clock) -> list[StackRow]:
    """What the journal knows, if there is one."""
    with _opened(fabric, clock) as journal:
        return journal.stacks() if journal is not None else []


@contextlib.contextmanager
def _opened(fabric: Fabric, clock: Clock) -> Iterator[Journal | None]:
    """The journal, if there is one."""
    if not (fabric.home / "journal.db").exists():
        yield None
        return
    with contextlib.closing(Journal(fabric, clock)) as journal:
        yield journal


def _note_file(fabric: Fabric) -> Path:
    return OrchestratorHome(fabric).folder / "came-home.json"


def _has_made_machine(home: OrchestratorHome) -> bool:
    """Whether the orchestrator itself says that grafos made its machine."""
    with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        try:
            client.machine()
        except GrafosError as error:
            if error.code not in ("unsupported", "not_found"):
                raise
            return False
    return True


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
    kept(file, b"".join(lines))
    return file, len(lines)
