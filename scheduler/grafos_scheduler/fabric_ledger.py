"""The fabric's ledger while this orchestrator keeps it: how it comes, what an operator books, and how it goes again.

    none ──taken──> open ──close──> closing ──the last run ends──> closed ──taken, of a later generation──> open

A later generation is taken in whatever state, since the home makes one only after the ledger came back to it, or was
given up here as lost. Of one that was given up, what was booked here since is joined to what the home has.

The operator's account and holds lie beside the tenants' accounts, in the one ledger of this scheduler, so the cap over
cells and the budgets of runs are decided upon in one place. An operator books on its own account, and cuts slices from
those of tenants for standalone cells; everything else of a tenant is its own or the admin routes' matter.

From ``closing`` on neither operator nor tenants can hold anything more. What is here then is what goes home.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import booking, ids, ledger
from grafos_core.audit_chain import AuditKind
from grafos_core.booking import Booking, LedgerCopy
from grafos_core.changes import Change
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, tenant_account
from grafos_core.ledger import OPEN, Account, Hold, Ledger
from grafos_core.ledger_merge import beside_holds, merged, open_holds
from grafos_scheduler import rows
from grafos_scheduler.events import LedgerBooked, LedgerClosed, LedgerTaken
from grafos_scheduler.ledger_messages import LedgerRows, LedgerState, LedgerView

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

TENANT_PREFIX = tenant_account("")


def is_operators(held: Hold) -> bool:
    """Whether a hold is one that an operator made: of a cell, or a slice; the others are runs'."""
    return held.account == OPERATOR_ACCOUNT or bool(held.slice_for)


def view(state: State) -> LedgerView:
    """How the ledger stands here."""
    known = state.fabric_ledger
    if known is None:
        return LedgerView(LedgerState.NONE)
    digest = known.digest
    if known.state == LedgerState.CLOSED:
        digest = booking.digest_of(_copy(state.ledger, known.generation))
    running = len(_running(state.ledger)) if known.state == LedgerState.CLOSING else 0
    return _view(known, digest, running)


def decided(draft: Draft, event: LedgerTaken | LedgerBooked | LedgerClosed) -> LedgerView | LedgerRows:
    """What becomes of the ledger."""
    match event:
        case LedgerTaken():
            return taken(draft, event)
        case LedgerBooked():
            return booked(draft, event)
        case LedgerClosed():
            return closed(draft, event)


def taken(draft: Draft, event: LedgerTaken) -> LedgerView:
    """Takes the ledger in, once; asked again with the same one the answer is the same."""
    copy, known = event.copy, draft.state.fabric_ledger
    if booking.digest_of(copy) != event.digest:
        raise GrafosError("request_invalid", "the ledger does not have the digest that came with it")
    if known is not None:
        if (known.state, known.generation, known.digest) == (LedgerState.OPEN, copy.generation, event.digest):
            return view(draft.state)
        if copy.generation <= known.generation:
            raise _another(known)
    _check_copy(copy)
    _join(draft, copy, known)
    revision = known.revision + 1 if known is not None else 1
    now_is = rows.FabricLedger(LedgerState.OPEN, copy.generation, event.digest, revision, copy.lost)
    draft.put(rows.FABRIC_LEDGER, rows.THE_LEDGER, now_is)
    draft.note(AuditKind.LEDGER_TAKEN, event.digest, generation=copy.generation, holds=len(copy.holds))
    return _view(now_is, event.digest)


def booked(draft: Draft, event: LedgerBooked) -> LedgerRows:
    """Books what an operator decided; ``ledger_conflict`` when that no longer fits what is here."""
    known = draft.state.fabric_ledger
    if known is None or known.state != LedgerState.OPEN:
        raise _not_open(known)
    _check_booking(event.booking)
    batch = booking.taken(draft.ledger, event.booking)
    if batch:
        draft.book(batch)
        known = replace(known, revision=known.revision + 1)
        draft.put(rows.FABRIC_LEDGER, rows.THE_LEDGER, known)
        _note(draft, event.booking)
    touched = {step.after.account: None for step in event.booking.holds}
    touched.update({step.account: None for step in event.booking.caps})
    return LedgerRows(
        [draft.ledger.account(name) for name in touched],
        [draft.ledger.holds[step.after.hold_id] for step in event.booking.holds],
        known.revision,
    )


def closed(draft: Draft, event: LedgerClosed) -> LedgerView:
    """Lets nothing more be held here, by nobody; closed for good once no run holds anything. It goes to one home: that
    which first said what it drew (of an older version: nothing), until another one says that the first is lost."""
    known = draft.state.fabric_ledger
    if known is None or known.generation != event.generation:
        raise _not_open(known)
    is_promised = known.state != LedgerState.OPEN
    if is_promised and event.fetch != known.fetch and not event.take_over:
        raise _fetched_by_another(known)
    running = _settle_or_wait(draft, event) if known.state != LedgerState.CLOSED else []
    now_is = replace(known, state=LedgerState.CLOSING if running else LedgerState.CLOSED, fetch=event.fetch)
    if now_is != known:
        draft.put(rows.FABRIC_LEDGER, rows.THE_LEDGER, now_is)
        generation, fetch = known.generation, event.fetch
        draft.note(AuditKind.LEDGER_CLOSED, now_is.state, generation=generation, running=len(running), fetch=fetch)
    digest = booking.digest_of(_copy(draft.ledger, known.generation)) if not running else known.digest
    return _view(now_is, digest, len(running))


def _settle_or_wait(draft: Draft, event: LedgerClosed) -> list[Hold]:
    """Settles what runs hold where that is to count as spent; gives those that are waited for."""
    running = _running(draft.ledger)
    if not event.spend_running:
        return running
    for held in running:
        draft.book(ledger.settle(draft.ledger, held.hold_id, held.amount_micro_cents, ended_at=draft.now))
    return []


def operators_holds(state: State) -> list[Hold]:
    """By their ids."""
    found = [held for held in state.ledger.holds.values() if is_operators(held)]
    return sorted(found, key=lambda held: held.hold_id)


def spent_here(state: State) -> dict[str, int]:
    """What runs spent since the ledger came, by account: what the home's copy does not tell."""
    if state.ledger_basis is None:
        return {}
    beside = beside_holds(fabrics_accounts(state.ledger), operators_holds(state))
    since = {name: amount - state.ledger_basis.spent_micro_cents.get(name, 0) for name, amount in beside.items()}
    return {name: amount for name, amount in since.items() if amount}


def fabrics_accounts(books: Ledger) -> list[Account]:
    """The operator's account and those of tenants."""
    return [account for account in books.accounts.values() if _is_fabrics(account.name)]


def _view(known: rows.FabricLedger, digest: str, running: int = 0) -> LedgerView:
    return LedgerView(known.state, known.generation, digest, known.revision, running, known.lost)


def _running(books: Ledger) -> list[Hold]:
    return [held for held in books.holds.values() if held.state == OPEN and not is_operators(held)]


def _copy(books: Ledger, generation: int) -> LedgerCopy:
    """What goes home."""
    own = tuple(held for held in books.holds.values() if is_operators(held))
    return LedgerCopy(generation, tuple(fabrics_accounts(books)), own)


def _is_fabrics(account: str) -> bool:
    return account == OPERATOR_ACCOUNT or account.startswith(TENANT_PREFIX)


def _check_copy(copy: LedgerCopy) -> None:
    booking.check_adds_up(copy)
    for account in copy.accounts:
        if not _is_fabrics(account.name):
            raise GrafosError("request_invalid", f"a fabric has no account {account.name[:80]!r}")
        if account.name != OPERATOR_ACCOUNT:
            ids.check_name("tenant", account.name.removeprefix(TENANT_PREFIX))
    if not all(is_operators(held) for held in copy.holds):
        raise GrafosError("request_invalid", "what is held on a tenant's account is a slice")


def _join(draft: Draft, copy: LedgerCopy, known: rows.FabricLedger | None) -> None:
    """The copy's rows, and beside them whatever is here and never came home. Tenants' caps are set here, and stay."""
    own = [held for held in draft.ledger.holds.values() if is_operators(held)]
    basis, running = _basis(draft.state, copy, known), open_holds(_running(draft.ledger))
    made = merged(fabrics_accounts(draft.ledger), own, copy, basis, running)
    caps = {account.name: account.cap_micro_cents for account in copy.accounts if account.name == OPERATOR_ACCOUNT}
    accounts = [replace(one, cap_micro_cents=caps.get(one.name, one.cap_micro_cents)) for one in made.accounts]
    for account in accounts:
        booking.check_plausible(account)
    draft.book(
        (
            *(Change(ledger.ACCOUNT, account.name, account) for account in accounts),
            *(Change(ledger.HOLD, held.hold_id, held) for held in made.holds),
        )
    )
    beside = beside_holds(copy.accounts, copy.holds)
    draft.put(rows.LEDGER_BASIS, rows.THE_LEDGER, rows.LedgerBasis(beside))


def _basis(state: State, copy: LedgerCopy, known: rows.FabricLedger | None) -> dict[str, int] | None:
    """What the copy says anew of what is here: None where all that is here went home, nothing where no ledger was ever
    here, and what the last copy said where that was given up as lost."""
    if known is None:
        return {}
    basis = state.ledger_basis
    return basis.spent_micro_cents if basis is not None and known.generation in copy.lost else None


def _check_booking(asked: Booking) -> None:
    """Whether an operator may book that by this way."""
    for step in asked.holds:
        if not is_operators(step.after):
            raise _not_the_operators(step.after.account)
    for cap in asked.caps:
        if cap.account != OPERATOR_ACCOUNT:
            raise _not_the_operators(cap.account)


def _note(draft: Draft, asked: Booking) -> None:
    for step in asked.holds:
        after = step.after
        draft.note(
            AuditKind.MONEY_BOOKED,
            after.hold_id,
            account=after.account,
            state=after.state,
            amount_micro_cents=after.amount_micro_cents,
            actual_micro_cents=after.actual_micro_cents,
        )
    for cap in asked.caps:
        draft.note(AuditKind.BUDGET_SET, cap.account, amount_micro_cents=cap.after_micro_cents)


def _not_the_operators(account: str) -> GrafosError:
    return GrafosError(
        "request_invalid",
        f"an operator books on its own account and cuts slices, and {account[:80]!r} is somebody else's",
        next="a tenant's budget: grafos admin set-tenant-budget",
    )


def _another(known: rows.FabricLedger) -> GrafosError:
    has = "keeps" if known.state == LedgerState.OPEN else "had"
    return GrafosError(
        "ledger_elsewhere",
        f"this orchestrator {has} generation {known.generation} of the fabric's ledger, and what came is not that one",
        next="restore the fabric's home from its newest backup",
        context={"state": known.state, "generation": known.generation},
    )


def _fetched_by_another(known: rows.FabricLedger) -> GrafosError:
    return GrafosError(
        "ledger_elsewhere",
        f"generation {known.generation} of the fabric's ledger goes to another home of the fabric, or is there already",
        next="work there; if that home is lost: grafos fabric bring-home --lost",
        context={"state": known.state, "generation": known.generation},
    )


def _not_open(known: rows.FabricLedger | None) -> GrafosError:
    has = f"is {known.state} here, in generation {known.generation}" if known is not None else "was never brought here"
    return GrafosError(
        "ledger_elsewhere",
        f"the fabric's ledger {has}",
        next="move it here: grafos fabric claim URL",
        context={"state": known.state if known is not None else LedgerState.NONE},
    )
