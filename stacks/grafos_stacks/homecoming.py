"""What comes home before a cell ends: its runs with their receipts, and the settlement of its budget slice.

    <fabric>/runs/<run_id>/run.json        the run, with its cost
                           artifacts.json  response, output, log, the cell's receipt and certificate

The receipts are checked later against the CA that was pinned at the claim, so they hold when the cell is long gone.
All of it may be repeated: what is here already is not fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric, tenant_account
from grafos_core.ids import RUN_ID_PATTERN
from grafos_core.ledger import Hold
from grafos_core.paths import private_folder, write_private
from grafos_core.receipts import Settlement, Signed, open_signed_by_cell
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.messages import Artifacts, RunView
from grafos_stacks.journal import Homecoming
from grafos_stacks.records import CellHome

DRAIN_PATIENCE_S = 30.0
"""What runs under way get to end; a cell that is torn down does not wait for a run of an hour."""
ASK_EVERY_S = 0.1
ENDED = ("finished", "failed", "refused", "expired", "cancelled")

Record = TypeVar("Record", bound=msgspec.Struct)


def bring_home(
    fabric: Fabric, home: CellHome, client: SchedulerClient, clock: Clock, sleep: Callable[[float], object]
) -> Homecoming:
    """Closes admission, waits for what runs, brings runs and settlement home. ``client`` is the operator's.

    Raises what the scheduler answers with; ``scheduler_unreachable`` when it does not.
    """
    until = clock.monotonic() + DRAIN_PATIENCE_S
    while client.drain().running and clock.monotonic() < until:
        sleep(ASK_EVERY_S)
    runs = keep_runs(fabric, client)
    settled, spent, why = settle(fabric, home, client, clock, sleep)
    return Homecoming(runs, settled, spent, why)


def keep_runs(fabric: Fabric, client: SchedulerClient) -> int:
    """Keeps every run that the caller may see; how many, with those that were kept before."""
    count = 0
    for view in client.all_runs():
        _keep_run(fabric, client, view)
        count += 1
    return count


def _keep_run(fabric: Fabric, client: SchedulerClient, view: RunView) -> None:
    """A run that has not ended has nothing to keep but its state."""
    if not RUN_ID_PATTERN.fullmatch(view.run_id):
        raise GrafosError("answer_invalid", f"{view.run_id[:60]!r} is no run id")
    folder = private_folder(fabric.runs_home / view.run_id)
    if not (folder / "artifacts.json").exists() and view.state in ENDED:
        try:
            artifacts = client.artifacts(view.run_id)
        except GrafosError as error:
            if error.code != "artifact_missing":
                raise
        else:
            write_private(folder / "artifacts.json", msgspec.json.encode(artifacts))
    write_private(folder / "run.json", msgspec.json.encode(view))


def settle(
    fabric: Fabric, home: CellHome, client: SchedulerClient, clock: Clock, sleep: Callable[[float], object]
) -> tuple[bool, int, str]:
    """Books what the cell's scheduler signs that it spent; whether all is settled, how much, and why not."""
    until = clock.monotonic() + DRAIN_PATIENCE_S
    while True:
        settlements = [_checked(fabric, home, signed) for signed in client.settle()]
        if all(settlement.final for settlement in settlements) or clock.monotonic() > until:
            break
        sleep(ASK_EVERY_S)
    spent = sum(settlement.spent_micro_cents for settlement in settlements)
    _book(fabric, settlements)
    if not settlements:  # the cell never got its slice, so nobody spent of it
        release_slices(fabric, home.cell_id)
    ledger = fabric.ledger_if_reached()
    is_left = open_slices(ledger, home.cell_id) if ledger is not None else not all(one.final for one in settlements)
    if is_left:
        return False, spent, "a run had not ended"
    nobodys = [one.tenant for one in settlements if ledger is not None and _is_nobodys(ledger, one)]
    return (False, spent, f"the ledger has no account of {', '.join(nobodys)}") if nobodys else (True, spent, "")


def _is_nobodys(ledger: ledgers.Ledger, settlement: Settlement) -> bool:
    """Whether what was spent is on no account of the ledger, so that it could not be booked."""
    return bool(settlement.spent_micro_cents) and tenant_account(settlement.tenant) not in ledger.accounts


def settle_so_far(fabric: Fabric, home: CellHome, client: SchedulerClient) -> list[Settlement]:
    """Closes every slice that the cell has, and books those of which nothing is held any more; the others are booked
    when the cell ends."""
    settlements = [_checked(fabric, home, signed) for signed in client.settle()]
    _book(fabric, settlements)
    return settlements


def _book(fabric: Fabric, settlements: list[Settlement]) -> None:
    for settlement in settlements:
        if settlement.final:
            fabric.end(ending_of(settlement))


def ending_of(settlement: Settlement) -> Ending:
    """How a slice ended. What was spent of one that another ledger held, which is lost, was spent, whatever is left.
    Pure."""
    never_had = Hold(
        settlement.slice_id,
        tenant_account(settlement.tenant),
        0,
        f"runs of {settlement.tenant} on {settlement.scheduler}",
        slice_for=settlement.scheduler,
        expires_at=settlement.settled_at,
    )
    spent = settlement.spent_micro_cents
    return Ending(settlement.slice_id, actual_micro_cents=spent, unknown=never_had if spent else None)


def open_slices(ledger: ledgers.Ledger, scheduler: str) -> list[ledgers.Hold]:
    """The slices that a scheduler may still spend."""
    return [held for held in ledger.holds.values() if held.slice_for == scheduler and held.state == ledgers.OPEN]


def release_slices(fabric: Fabric, scheduler: str) -> None:
    """Gives the budget back what a scheduler can never have spent."""
    fabric.end(Ending(slices_for=scheduler, released=True))


def spend_slices(fabric: Fabric, scheduler: str) -> None:
    """Books slices in full of which nobody can tell any more what was spent: their scheduler is gone unsettled."""
    fabric.end(Ending(slices_for=scheduler))


def kept_runs(fabric: Fabric) -> Iterator[RunView]:
    """The runs that were brought home, in no order."""
    for folder in fabric.runs_home.iterdir():
        if (folder / "run.json").exists():
            yield _read(folder / "run.json", RunView)


def kept_artifacts(fabric: Fabric, run_id: str) -> Artifacts:
    """What a run left that was brought home; ``run_unknown`` or ``artifact_missing``."""
    folder = fabric.runs_home / run_id
    if not RUN_ID_PATTERN.fullmatch(run_id) or not folder.is_dir():
        raise GrafosError("run_unknown", f"There is no run {run_id[:60]!r} in this fabric", next="grafos runs ls")
    if not (folder / "artifacts.json").exists():
        raise GrafosError("artifact_missing", f"run {run_id} left nothing that could be brought home")
    return _read(folder / "artifacts.json", Artifacts)


def _checked(fabric: Fabric, home: CellHome, signed: Signed) -> Settlement:
    """A settlement of this very scheduler for this fabric, or ``receipt_invalid``."""
    settlement = open_signed_by_cell(signed, Settlement, home.ca_pem, "settled_at")
    if settlement.fabric != fabric.id or settlement.scheduler != home.cell_id:
        raise GrafosError("receipt_invalid", "the settlement is for another fabric or cell")
    return settlement


def _read(path: Path, kind: type[Record]) -> Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise GrafosError(
            "fabric_invalid", "a run that was brought home cannot be read", where=str(path), why=str(error)
        ) from error
