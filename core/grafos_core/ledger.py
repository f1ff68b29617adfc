"""The ledger: money is held before it is spent.

An account has a cap. A *hold* reserves the worst case of something under that cap before the thing is made or run;
what it really cost is *settled* against the hold afterwards, or the hold is *released* unspent. At every moment

    spent + open holds <= cap

so nothing that happens in parallel, and no crash, can spend what was not reserved. A person may set the cap lower than
that (``set_cap``): what is held stays held, and nothing more is until it fits again. A *slice* is a hold that is handed
to a standalone cell's scheduler to spend on its own: its whole amount stays held here until that scheduler's signed
settlement comes home, and if it runs out without one, all of it counts as spent.

    open --settle--> settled      open --release--> released      open slice --expire--> expired (spent in full)
    open --enlarge--> open, for more

Every function here is pure: it reads a ``Ledger`` and gives the ``Batch`` of changes, which the caller makes durable
before it acts. Each may be repeated: the same hold again is the same hold while it is open, and an ended hold stays as
it ended; to spend under it once more is refused, and so is to take an open hold for one of more.
The fabric's own ledger file and a scheduler's tenant accounts both run on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from typing import Annotated

import msgspec

from grafos_core.changes import Batch, Change
from grafos_core.errors import GrafosError
from grafos_core.money import cost_micro_cents, format_cents

ACCOUNT = "account"
HOLD = "hold"

OPEN, SETTLED, RELEASED, EXPIRED = "open", "settled", "released", "expired"


MICRO_CENTS_MAX = 2**53
"""Ninety million dollars; beyond it JSON numbers are not exact everywhere."""
MicroCents = Annotated[int, msgspec.Meta(ge=0, le=MICRO_CENTS_MAX)]
Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
Label = Annotated[str, msgspec.Meta(max_length=512)]
"""Bounds of what is read from elsewhere; nothing of ours comes near them."""


class Account(msgspec.Struct, frozen=True):
    """Amounts in micro-cents. ``held`` is the sum of the open holds, kept so that no decision sums them anew."""

    name: Label
    cap_micro_cents: MicroCents
    spent_micro_cents: MicroCents = 0
    held_micro_cents: MicroCents = 0

    @property
    def free_micro_cents(self) -> int:
        """What can still be held."""
        return self.cap_micro_cents - self.spent_micro_cents - self.held_micro_cents


class Meter(msgspec.Struct, frozen=True):
    """By what a held thing is billed while it is there, so that the ledger alone tells what it has cost so far.

    ``since`` and ``until`` are Unix seconds. After ``until`` it bills at the lower rate of what is left behind until
    somebody sweeps, if anything is. ``fictional``: an emulator bills.
    """

    provider: Label
    rate_micro_cents_per_hour: MicroCents
    since: Moment
    until: Moment
    left_micro_cents_per_hour: MicroCents = 0
    fictional: bool = False


class Hold(msgspec.Struct, frozen=True):
    """``actual_micro_cents`` is what it came to once it ended. ``slice_for`` names the scheduler that may spend it;
    only a slice has an ``expires_at`` (Unix seconds). ``ended_at`` is 0 where nobody said when it ended."""

    hold_id: Label
    account: Label
    amount_micro_cents: MicroCents
    purpose: Label
    state: Label = OPEN
    actual_micro_cents: MicroCents = 0
    slice_for: Label = ""
    expires_at: Moment = 0.0
    meter: Meter | None = None
    ended_at: Moment = 0.0


KINDS: dict[str, type[msgspec.Struct]] = {ACCOUNT: Account, HOLD: Hold}


class Ledger:
    """Accounts and holds in memory; the fold of the batches that were applied to it."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.holds: dict[str, Hold] = {}

    def apply(self, batch: Iterable[Change]) -> None:
        """Takes over the ledger's own rows of a batch and passes over all others."""
        for change in batch:
            if change.kind == ACCOUNT:
                _put(self.accounts, change)
            elif change.kind == HOLD:
                _put(self.holds, change)

    def account(self, name: str) -> Account:
        """The account, or ``tenant_unknown``."""
        if name not in self.accounts:
            raise GrafosError("tenant_unknown", f"the ledger has no account {name!r}")
        return self.accounts[name]


Decide = Callable[[Ledger], Batch]
"""What is to be booked, given the ledger as it is. It may be run again on a newer one, so it does nothing else."""


def open_account(ledger: Ledger, name: str, cap_micro_cents: int) -> Batch:
    """Opens an account, or sets the cap of one that exists. A cap below what is spent and held is refused."""
    assert cap_micro_cents >= 0
    account = ledger.accounts.get(name, Account(name, 0))
    used = account.spent_micro_cents + account.held_micro_cents
    if cap_micro_cents < used:
        raise GrafosError(
            "budget_exceeded",
            f"a cap of {format_cents(cap_micro_cents)} for {name!r} is below the {format_cents(used)} spent and held",
            next="tear down what is held, or set a higher cap",
        )
    return (_account(msgspec.structs.replace(account, cap_micro_cents=cap_micro_cents)),)


def set_cap(ledger: Ledger, name: str, cap_micro_cents: int) -> Batch:
    """Sets the cap of an account, also below what is spent and held: then nothing more is held until it fits again.

    ``tenant_unknown`` for an account that was never opened.
    """
    assert cap_micro_cents >= 0
    return (_account(msgspec.structs.replace(ledger.account(name), cap_micro_cents=cap_micro_cents)),)


def hold(
    ledger: Ledger,
    hold_id: str,
    account_name: str,
    amount_micro_cents: int,
    purpose: str,
    *,
    slice_for: str = "",
    expires_at: float = 0.0,
    meter: Meter | None = None,
) -> Batch:
    """Reserves ``amount_micro_cents``, or ``budget_exceeded``. A hold that is open is left as it is (empty batch).

    ``plan_stale`` for a hold that has ended, since nothing is reserved under it any more, and for one that is open for
    less: ``enlarge`` it, if that is meant.
    """
    assert amount_micro_cents >= 0
    assert bool(slice_for) == bool(expires_at), "a slice, and only a slice, runs out"
    known = ledger.holds.get(hold_id)
    if known is not None:
        _refuse_unless_it_covers(known, amount_micro_cents, purpose)
        return ()
    account = ledger.account(account_name)
    asked = f"{purpose} may cost {format_cents(amount_micro_cents)}{_label(meter)}"
    if amount_micro_cents or not slice_for:  # a slice of nothing lets nobody spend, and fits wherever it is noted
        _refuse_unless_it_fits(account, amount_micro_cents, asked)
    made = Hold(
        hold_id, account_name, amount_micro_cents, purpose, slice_for=slice_for, expires_at=expires_at, meter=meter
    )
    held = account.held_micro_cents + amount_micro_cents
    return (_hold(made), _account(msgspec.structs.replace(account, held_micro_cents=held)))


def enlarge(ledger: Ledger, hold_id: str, amount_micro_cents: int, *, until: float = 0.0) -> Batch:
    """Makes an open hold one of ``amount_micro_cents`` in all, or ``budget_exceeded``; it never gets smaller.

    ``until`` moves the end of its meter, later only. An empty batch when it is that large and that long already.
    ``plan_stale`` for a hold that has ended or never was: there is nothing to extend.
    """
    known = ledger.holds.get(hold_id)
    if known is None or known.state != OPEN:
        raise GrafosError(
            "plan_stale",
            f"there is no open hold {hold_id!r} to enlarge" + (f": it has ended ({known.state})" if known else ""),
            next="plan it anew",
        )
    assert not known.slice_for, "a slice is signed for its amount"
    amount = max(amount_micro_cents, known.amount_micro_cents)
    meter = known.meter and msgspec.structs.replace(known.meter, until=max(until, known.meter.until))
    grown = msgspec.structs.replace(known, amount_micro_cents=amount, meter=meter)
    if grown == known:
        return ()
    account, more = ledger.account(known.account), amount - known.amount_micro_cents
    asked = f"{known.purpose} may cost {format_cents(amount)}{_label(meter)}, {format_cents(more)} more than is held"
    if more:
        _refuse_unless_it_fits(account, more, asked)
    return (_hold(grown), _account(msgspec.structs.replace(account, held_micro_cents=account.held_micro_cents + more)))


def accrued(held: Hold, now: float) -> int:
    """What a hold has come to, in micro-cents: what it was settled for, or what its meter says at ``now``.

    Never more than an open hold's amount. An open hold without a meter counts whole, since nothing tells of it.
    """
    if held.state != OPEN:
        return held.actual_micro_cents
    if held.meter is None:
        return held.amount_micro_cents
    meter, one = held.meter, Fraction(1)
    lived = cost_micro_cents(one, meter.rate_micro_cents_per_hour, min(now, meter.until) - meter.since)
    left = cost_micro_cents(one, meter.left_micro_cents_per_hour, now - meter.until)
    return min(held.amount_micro_cents, lived + left)


def _refuse_unless_it_covers(known: Hold, amount_micro_cents: int, purpose: str) -> None:
    if known.state != OPEN:
        raise GrafosError("plan_stale", f"the hold for {purpose} has ended ({known.state})", next="plan it anew")
    if known.amount_micro_cents < amount_micro_cents:
        raise GrafosError(
            "plan_stale",
            f"{purpose} may cost {format_cents(amount_micro_cents)}, and an earlier one of that name, which has not "
            f"ended, is held for {format_cents(known.amount_micro_cents)}",
            next="tear the earlier one down first",
        )


def _label(meter: Meter | None) -> str:
    """What an emulator bills is no money, and says so."""
    return " (fictional)" if meter is not None and meter.fictional else ""


def _refuse_unless_it_fits(account: Account, more_micro_cents: int, asked: str) -> None:
    if more_micro_cents <= account.free_micro_cents:
        return
    raise GrafosError(
        "budget_exceeded",
        f"{asked}, and the budget {account.name!r} has {format_cents(max(0, account.free_micro_cents))} left of "
        f"{format_cents(account.cap_micro_cents)}",
        next="tear down what is held, choose something smaller or shorter, or raise the cap",
        context={
            "account": account.name,
            "asked_micro_cents": more_micro_cents,
            "free_micro_cents": account.free_micro_cents,
            "cap_micro_cents": account.cap_micro_cents,
        },
    )


def settle(ledger: Ledger, hold_id: str, actual_micro_cents: int, *, ended_at: float = 0.0) -> Batch:
    """Ends an open hold at what it really cost. The truth is booked even above the held amount: then a dead-man layer
    failed, and the account has less left, not a wrong balance. A hold that has ended stays as it ended."""
    assert actual_micro_cents >= 0
    return _end(ledger, hold_id, SETTLED, actual_micro_cents, ended_at)


def release(ledger: Ledger, hold_id: str, *, ended_at: float = 0.0) -> Batch:
    """Ends an open hold of which nothing was spent."""
    return _end(ledger, hold_id, RELEASED, 0, ended_at)


def expire(ledger: Ledger, now: float) -> Batch:
    """Counts every slice that ran out unsettled as spent in full."""
    due = [held for held in ledger.holds.values() if held.state == OPEN and held.expires_at]
    return in_turn(ledger, (partial(run_out, held=held) for held in due if held.expires_at <= now))


def in_turn(ledger: Ledger, decisions: Iterable[Decide]) -> Batch:
    """What several decisions come to, one after the other, each on what those before it did."""
    working = Ledger()
    working.accounts, working.holds = dict(ledger.accounts), dict(ledger.holds)
    batch: Batch = ()
    for decide in decisions:
        part = decide(working)
        working.apply(part)
        batch += part
    return batch


def run_out(ledger: Ledger, held: Hold) -> Batch:
    """Ends an open slice as spent in full, at the moment that was set for it."""
    return _end(ledger, held.hold_id, EXPIRED, held.amount_micro_cents, held.expires_at)


def _end(ledger: Ledger, hold_id: str, state: str, actual: int, ended_at: float) -> Batch:
    held = ledger.holds.get(hold_id)
    if held is None or held.state != OPEN:
        return ()
    account = ledger.account(held.account)
    return (
        _hold(msgspec.structs.replace(held, state=state, actual_micro_cents=actual, ended_at=ended_at)),
        _account(
            msgspec.structs.replace(
                account,
                held_micro_cents=account.held_micro_cents - held.amount_micro_cents,
                spent_micro_cents=account.spent_micro_cents + actual,
            )
        ),
    )


def _account(row: Account) -> Change:
    return Change(ACCOUNT, row.name, row)


def _hold(row: Hold) -> Change:
    return Change(HOLD, row.hold_id, row)


def _put(rows: dict, change: Change) -> None:  # type: ignore[type-arg]  # one helper for both kinds of row
    if change.row is None:
        rows.pop(change.key, None)
    else:
        rows[change.key] = change.row
