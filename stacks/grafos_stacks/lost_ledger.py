"""Opens the copy of the ledger that stayed in the fabric's home, when the orchestrator that kept the ledger is lost.

The copy is from the day of the move. What was booked since is told by the journal, whose plans say what is held for
each cell, and by the teardown receipts, which say what each came to. What nobody here can tell is said: what tenants
spent at the orchestrator, and slices that were cut since.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import NamedTuple

import msgspec

from grafos_core import ledger as ledgers
from grafos_core.booking import Ending, ended
from grafos_core.changes import Batch
from grafos_core.clock import Clock, SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, Fabric
from grafos_core.ledger import Decide, Hold, Ledger
from grafos_core.ledger_place import Place, Standing
from grafos_core.receipts import TeardownReceipt, open_signed
from grafos_stacks.bill import DEAD_MAN_GRACE_S, Bill
from grafos_stacks.cell_holds import reserved
from grafos_stacks.claiming import health_of
from grafos_stacks.journal import Journal, StackRow, StackState
from grafos_stacks.ledger_moves import bring_ledger_home
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.publishing import reserved_image
from grafos_stacks.publishing_end import image_receipt
from grafos_stacks.records import CellHome

LOST = frozenset({"scheduler_unreachable", "ledger_elsewhere", "claim_refused"})
"""Nobody answers; the fabric has another orchestrator; or the one that answers does not have the ledger, or belongs to
nobody, as after a backup of before."""
KEPT_OUT = frozenset(
    {"certificate_refused", "certificate_expired", "token_refused", "token_expired", "credentials_missing"}
)
"""Ours are worth nothing there: another one answers at its address, or it lives and lets us in again by the key."""
SPENT = "{} runs had not ended: what they held counts as spent."

BOOKED = "{}: booked as the journal has it"


class Reopened(NamedTuple):
    """Where the ledger is, and what is to be told of it."""

    place: Place
    notes: tuple[str, ...]


def reopen_ledger(fabric: Fabric, clock: Clock | None = None) -> Reopened:
    """Opens the ledger here though its orchestrator, or the home that has fetched it from there, is lost. A ledger that
    is here stays.

    An orchestrator that answers after all gives it whole, also if another home had it closed. Of one that does not, or
    does not have it any more, the home's copy is opened, as far up to date as journal and receipts tell. If it answers
    later there are two ledgers, until this one moves there again; then what is there is joined to it.

    What is no loss comes as it is: ``operator_replaced`` and the like from one that lives, and whatever may be asked
    again.
    """
    clock = clock or SystemClock()
    try:
        came = bring_ledger_home(fabric, clock=clock, take_over=True)
    except GrafosError as error:
        if error.code not in LOST:
            _check_lost(OrchestratorHome(fabric), error)
        reopened = _copy_opened(fabric, clock)
        why = f"The orchestrator did not give the ledger: {error.what}."
        return reopened._replace(notes=(why, *reopened.notes))
    return Reopened(came.place, (SPENT.format(came.running),) if came.running else ())


def _check_lost(home: OrchestratorHome, error: GrafosError) -> None:
    """Raises ``error`` again, unless it says that we are kept out by one that is not the fabric's orchestrator, whose
    CA was pinned."""
    if error.code not in KEPT_OUT:
        raise error
    url = home.known().url
    try:
        lives = health_of(url, 0.0, home.newest_ca_pem).claimed
    except GrafosError:
        return
    if lives:
        error.next = f"it answers, so it is not lost: grafos fabric claim {url}, then: grafos fabric bring-home"
        raise error


def _copy_opened(fabric: Fabric, clock: Clock) -> Reopened:
    rows = _stacks(fabric, clock)
    with fabric.ledger() as local:
        place = local.place
        if place.is_here:
            return Reopened(place, ())
        lost = tuple(sorted({*place.lost, place.generation}))
        local.come_home(local.copy(place.generation), Place(generation=place.generation, since=clock.now(), lost=lost))
        notes = []
        for row in rows:
            try:
                batch = _as_known(fabric, row, place.since)(local.ledger)
            except GrafosError as error:
                notes.append(_unheld(row, error))
            else:
                local.write(batch)
                notes += [BOOKED.format(row.stack)] if batch else []
        moved_on = time.strftime("%Y-%m-%d %H:%M", time.gmtime(place.since))
        if place.standing is not Standing.MOVING:
            told = f"What tenants spent at {place.keeper} since {moved_on} UTC, slices that were cut since, and"
            notes.append(f"{told} cells whose names were used again since are not in it.")
        return Reopened(local.place, tuple(notes))


def catch_up_ledger(fabric: Fabric, clock: Clock | None = None) -> tuple[str, ...]:
    """Books what journal and receipts know of cells and the ledger does not, wherever it is kept: it may have come from
    a backup. What is to be told of it."""
    ledger, since, notes = fabric.read_ledger(), fabric.ledger_place().since, []
    for row in _stacks(fabric, clock or SystemClock()):
        as_known = _as_known(fabric, row, since)
        try:
            if as_known(ledger):
                fabric.book(as_known)
                notes.append(BOOKED.format(row.stack))
        except GrafosError as error:
            notes.append(_unheld(row, error))
    return tuple(notes)


def _stacks(fabric: Fabric, clock: Clock) -> list[StackRow]:
    if not (fabric.home / "journal.db").exists():
        return []
    with contextlib.closing(Journal(fabric, clock)) as journal:
        return [row for row in journal.stacks() if (row.plan or row.publication) and row.hold_id]


def _as_known(fabric: Fabric, row: StackRow, since: float) -> Decide:
    """Books a cell or an image as the journal and its receipt have it, in a ledger that was last written at
    ``since``."""
    receipt = _receipt(fabric, row)
    return partial(_cell, row=row, cost_micro_cents=receipt.cost_micro_cents if receipt else None, since=since)


def _unheld(row: StackRow, error: GrafosError) -> str:
    """What is told of a cell for which the ledger has no room; any other error is raised again."""
    if error.code not in ("budget_exceeded", "plan_stale"):
        raise error
    return f"{row.stack} bills, and nothing is held for it: {error.what}; {error.next}"


def _cell(ledger: Ledger, row: StackRow, cost_micro_cents: int | None, *, since: float) -> Batch:
    """What a cell's or an image's row of the journal comes to in a ledger that was last written at ``since``. Pure.

    ``cost_micro_cents`` is what its teardown signed for; None for one that lives, or left no receipt.
    """
    held = ledger.holds.get(row.hold_id)
    if row.state is not StackState.GONE:
        return _living(ledger, row, held)
    if held is None:
        return _made_and_gone(ledger, row, cost_micro_cents) if row.changed_at >= since else ()
    if held.state != ledgers.OPEN:
        return ()  # the ledger knows its end, and a later cell of that name, of another home, is none of this row's
    end = Ending(row.hold_id, actual_micro_cents=cost_micro_cents, ended_at=row.changed_at)
    return ledgers.in_turn(ledger, (partial(ended, ending=end), partial(ended, ending=_slices_ended(ledger, row))))


def _slices_ended(ledger: Ledger, row: StackRow) -> Ending:
    """How the cell's slices ended: as its scheduler signed, where that is told of one slice; else as spent in full."""
    slices = [held for held in ledger.holds.values() if held.slice_for == row.stack]
    came = row.homecoming
    if came is not None and came.settled and len(slices) == 1:
        return Ending(slices[0].hold_id, actual_micro_cents=came.spent_micro_cents)
    return Ending(slices_for=row.stack)


def _living(ledger: Ledger, row: StackRow, held: Hold | None) -> Batch:
    """A hold for it, as large as its bill; none for one whose hold has ended, which its teardown was about to do."""
    if held is None:
        return _held(ledger, row)
    if held.state != ledgers.OPEN:
        return ()
    bill, until = _bound(row)
    return ledgers.enlarge(ledger, row.hold_id, bill.total_micro_cents, until=until)


def _held(ledger: Ledger, row: StackRow, most: int | None = None) -> Batch:
    """What its publishing or its provision held; at ``most`` so many micro-cents."""
    if row.publication is not None:
        return reserved_image(ledger, row, row.publication, most)
    assert row.plan is not None, "a cell that was planned"
    return reserved(ledger, hold_id=row.hold_id, plan=row.plan, now=row.created_at, most=most)


def _bound(row: StackRow) -> tuple[Bill, float]:
    """What it may cost, and until when that is held."""
    if row.publication is not None:
        until = max(row.publication.keep_until, row.extending_to)  # what is being moved was paid for first
        return msgspec.structs.replace(row.publication, keep_until=until).bill, float(until)
    assert row.plan is not None, "a cell that was planned"
    return row.plan.bill, float(row.plan.life.held_until + DEAD_MAN_GRACE_S)


def _made_and_gone(ledger: Ledger, row: StackRow, cost_micro_cents: int | None) -> Batch:
    """A cell that came and went while the ledger was away; a begun one that was never paid for left no receipt. What it
    cost is booked also where the cap has no room for all that was held for it."""
    if cost_micro_cents is None:
        return ()
    free = max(0, ledger.account(OPERATOR_ACCOUNT).free_micro_cents)
    hold = partial(_held, row=row, most=free)
    end = Ending(row.hold_id, actual_micro_cents=cost_micro_cents, ended_at=row.changed_at)
    return ledgers.in_turn(ledger, (hold, partial(ended, ending=end)))


def _receipt(fabric: Fabric, row: StackRow) -> TeardownReceipt | None:
    """What its end was signed for; an earlier one of the name, which ended before it began, has its own."""
    if row.state is not StackState.GONE:
        return None
    home = CellHome(fabric, row.stack)
    signed = image_receipt(fabric, row.stack) if row.publication is not None else home.receipt()
    receipt = open_signed(signed, TeardownReceipt, fabric.key.public_key()) if signed is not None else None
    return receipt if receipt is not None and receipt.ended_at >= row.created_at else None
