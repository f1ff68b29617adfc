"""One hold for many runs: a tenant has the worst case of a whole program held at once, and its runs are paid from that.

A reservation is a hold on one account of the tenant's, and an account of its own with just that to spend. A run that
names it is held there and nowhere else. It ends when its tenant says so, at its time, or with the account that it is
held on: a slice that is closed, a ledger that goes home. When no run holds anything of it any more, its hold is settled
for what its runs came to.

    open --closed, ran out--> closing --no run holds any of it--> (settled, forgotten a while later)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ledger
from grafos_core.errors import GrafosError
from grafos_core.fabric import tenant_account
from grafos_scheduler import reservation_messages, rows, tenants
from grafos_scheduler.reservation_events import OfReservations, ReservationAsked, ReservationEnded
from grafos_scheduler.retention import KEY_KEPT_S

if TYPE_CHECKING:
    from grafos_core.ledger import Account, Ledger
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

OPEN, CLOSING, SETTLED = "open", "closing", "settled"

NEXT: dict[str, frozenset[str]] = {
    OPEN: frozenset({CLOSING, SETTLED}),
    CLOSING: frozenset({SETTLED}),
    SETTLED: frozenset(),
}
"""Which state may follow which; see ``state_of``."""

PER_TENANT_MAX = 1000
"""Bounds what one tenant adds to memory; each is one program under way, or one that ended within the hour."""


def decided(draft: Draft, event: OfReservations) -> reservation_messages.ReservationView:
    """What such an event comes to."""
    return asked(draft, event) if isinstance(event, ReservationAsked) else ended(draft, event)


def asked(draft: Draft, event: ReservationAsked) -> reservation_messages.ReservationView:
    """Holds the amount, or ``budget_exceeded``. The same key again is the same reservation, as it stands by now;
    ``run_key_reused`` for another amount."""
    state = draft.state
    tenant = tenants.living(state, event.tenant)
    name = account_of(event.tenant, event.key)
    known = state.reservations.get(name)
    if known is not None:
        if known.amount_micro_cents != event.micro_cents:
            raise GrafosError(
                "run_key_reused",
                f"reservation {event.key} is one of another amount",
                next="make a new key for each reservation",
            )
        return view(draft.ledger, known)
    indexes = state.standing_reservations, state.settled_reservations
    if sum(len(index.get(event.tenant, ())) for index in indexes) >= PER_TENANT_MAX:
        raise GrafosError(
            "limit_exceeded",
            f"tenant {event.tenant} has {PER_TENANT_MAX} reservations, which is the most it may",
            next="close some",
        )
    purse = tenants.purses(state, tenant, event.expires_at)
    tenants.check_affordable(tenant, purse, event.micro_cents)
    made = rows.Reservation(name, event.tenant, event.key, event.micro_cents, event.expires_at, program=event.program)
    draft.put(rows.RESERVATION, name, made)
    tenants.hold(draft, purse, name, event.micro_cents, f"program {event.key[:8]}")
    draft.book(ledger.open_account(draft.ledger, name, event.micro_cents))
    return view(draft.ledger, made)


def ended(draft: Draft, event: ReservationEnded) -> reservation_messages.ReservationView:
    """Lets no more runs be held on it. ``not_found`` for one that the tenant does not have."""
    known = draft.state.reservations.get(account_of(event.tenant, event.key))
    if known is None:
        raise GrafosError("not_found", f"tenant {event.tenant} has no reservation {event.key} here")
    return view(draft.ledger, _closed(draft, known))


def time_passed(draft: Draft) -> None:
    """Closes what ran out, settles what no run holds any more, and forgets it when nobody asks again."""
    state = draft.state
    for account in (account for standing in state.standing_reservations.values() for account in standing):
        known = state.reservations[account]
        if known.expires_at <= draft.now or not _is_open(state, known):
            _closed(draft, known)
    for settled in state.settled_reservations.values():
        for account in settled:
            if state.reservations[account].settled_at + KEY_KEPT_S > draft.now:
                break
            draft.remove(rows.RESERVATION, account)


def purse(state: State, tenant: str, key: str, until: float) -> list[Account]:
    """The reservation's account, for a run lasting ``until``; ``not_found`` for one that is not open so long."""
    known = state.reservations.get(account_of(tenant, key))
    if known is None or known.expires_at < until or not _is_open(state, known):
        raise GrafosError(
            "not_found",
            f"tenant {tenant} has no reservation {key} here that outlasts the run",
            next="reserve anew",
        )
    return [state.ledger.account(known.account)]


def state_of(row: rows.Reservation) -> str:
    """How far the reservation has come."""
    if row.settled_at:
        return SETTLED
    return CLOSING if row.closed else OPEN


def account_of(tenant: str, key: str) -> str:
    """The name of the reservation's account, and of its hold on the tenant's."""
    return f"reservation/{tenant}/{key}"


def view(of: Ledger, row: rows.Reservation, run_ids: Iterable[str] = ()) -> reservation_messages.ReservationView:
    """How it stands, by the ledger ``of`` that moment."""
    account = None if row.settled_at else of.account(row.account)
    return reservation_messages.ReservationView(
        reservation_key=row.key,
        amount_micro_cents=row.amount_micro_cents,
        held_micro_cents=account.held_micro_cents if account else 0,
        spent_micro_cents=account.spent_micro_cents if account else row.spent_micro_cents,
        expires_at=row.expires_at,
        closed=row.closed,
        tenant=row.tenant,
        program=row.program,
        state=state_of(row),
        run_ids=tuple(run_ids),
    )


def listed(state: State, tenant: str) -> list[reservation_messages.ReservationView]:
    """The tenant's, or all for an operator (empty): those that stand, and those that were settled within the hour; the
    one that is held longest first."""
    known = [row for row in state.reservations.values() if tenant in ("", row.tenant)]
    known.sort(key=lambda row: (-row.expires_at, row.account))
    runs_of: defaultdict[str, list[str]] = defaultdict(list)
    if known:
        for run in state.runs_under_way():
            if run.request.reservation:
                runs_of[account_of(run.tenant, run.request.reservation)].append(run.run_id)
    return [view(state.ledger, row, runs_of.get(row.account, ())) for row in known]


def _is_open(state: State, known: rows.Reservation) -> bool:
    """Whether more may be held on it: neither it is closed, nor the money that it was taken from."""
    if known.closed:
        return False
    account = state.ledger.holds[known.account].account
    is_own = account == tenant_account(known.tenant)
    return not (state.lets_nothing_be_held if is_own else state.slices[account].closed)


def _is_held_on(of: Ledger, account: Account) -> bool:
    """Whether a run still holds something of the account, be it nothing, as on a cell that is free."""
    if account.held_micro_cents:
        return True
    return any(held.account == account.name and held.state == ledger.OPEN for held in of.holds.values())


def _closed(draft: Draft, known: rows.Reservation) -> rows.Reservation:
    """The reservation closed, and settled if nothing of it is held."""
    if known.settled_at:
        return known
    account = draft.ledger.account(known.account)
    now = replace(known, closed=True)
    if not _is_held_on(draft.ledger, account):
        now = replace(now, settled_at=draft.now, spent_micro_cents=account.spent_micro_cents)
        draft.book(ledger.settle(draft.ledger, known.account, account.spent_micro_cents))
        draft.remove(ledger.HOLD, known.account)
        draft.remove(ledger.ACCOUNT, known.account)
    if now != known:
        draft.put(rows.RESERVATION, known.account, now)
    return now
