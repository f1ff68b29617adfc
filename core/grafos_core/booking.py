"""What was decided on one copy of a ledger, in words that another copy can take, or refuse.

The ledger of a fabric may be kept far from whoever books (see ``ledger_place``). Then a batch is decided here on the
ledger as it was read, and told there as a ``Booking``: each hold as it was and as it is to be. Accounts are not told:
what is held and spent on them follows from the holds, so two who book on one account do not get in each other's way.
``taken`` decides the very same anew, by the ledger's own functions, on the ledger as it is by then. A booking whose
answer was lost may be sent again: what is as it is to be already stays so.

An ``Ending`` says how holds end without having seen the ledger, for whoever cannot reach it just then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial
from typing import Annotated

import msgspec

from grafos_core import ledger as ledgers
from grafos_core.changes import Batch, last_of_each
from grafos_core.errors import GrafosError
from grafos_core.ledger import ACCOUNT, HOLD, OPEN, Account, Hold, Ledger, MicroCents

STEPS_MAX = 10_000
"""Of one booking: thousands of cells that are held for together."""


GENERATIONS_LOST_MAX = 1_000
"""Each is a day on which a person gave an orchestrator up."""

Generation = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Lost = Annotated[tuple[Generation, ...], msgspec.Meta(max_length=GENERATIONS_LOST_MAX)]


class HoldStep(msgspec.Struct, frozen=True):
    """A hold as it is to be, and as it was; None: there was none."""

    after: Hold
    before: Hold | None = None


class CapStep(msgspec.Struct, frozen=True):
    """The cap of an account that is there, as it was and as it is to be."""

    account: str
    before_micro_cents: MicroCents
    after_micro_cents: MicroCents


class Booking(msgspec.Struct, frozen=True):
    """What a batch comes to, in order."""

    holds: Annotated[tuple[HoldStep, ...], msgspec.Meta(max_length=STEPS_MAX)] = ()
    caps: Annotated[tuple[CapStep, ...], msgspec.Meta(max_length=STEPS_MAX)] = ()


class LedgerCopy(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole ledger on its way from one place to another, the ``generation``-th time that it goes. ``lost`` are the
    generations that never came home: what was booked where they were is not in it. None of them: not a word of it."""

    generation: Generation
    accounts: tuple[Account, ...]
    holds: tuple[Hold, ...]
    lost: Lost = ()


class Ending(msgspec.Struct, frozen=True):
    """Open holds that end: the one of that id, all whose ids begin with ``prefix``, or all slices of a scheduler.

    ``actual_micro_cents`` None: of each what was held, since nobody can tell any more. ``released``: nothing was spent.
    ``unknown`` is the hold of that id, over nothing, that is begun in a ledger that never had it.
    """

    hold_id: str = ""
    prefix: str = ""
    slices_for: str = ""
    actual_micro_cents: int | None = None
    released: bool = False
    ended_at: float = 0.0
    unknown: Hold | None = None


def booking_of(ledger: Ledger, batch: Batch) -> Booking:
    """What ``batch`` changes in ``ledger``, on which it was decided."""
    holds: list[HoldStep] = []
    caps: list[CapStep] = []
    for change in last_of_each(batch):
        if change.kind == HOLD:
            assert isinstance(change.row, Hold), "no hold is ever removed"
            holds.append(HoldStep(change.row, ledger.holds.get(change.key)))
        elif change.kind == ACCOUNT:
            assert isinstance(change.row, Account), "no account is ever removed"
            before, after = ledger.account(change.key).cap_micro_cents, change.row.cap_micro_cents
            if before != after:
                caps.append(CapStep(change.key, before, after))
    return Booking(tuple(holds), tuple(caps))


def taken(ledger: Ledger, booking: Booking) -> Batch:
    """The booking as a batch for ``ledger``; empty if it was taken before.

    ``ledger_conflict`` when something that it touches is not as it was any more, or does not fit any more: then it is
    to be decided anew. ``request_invalid`` for a step that a ledger never takes.
    """
    caps = (partial(_cap_taken, step=step) for step in booking.caps)
    holds = (partial(_hold_taken, step=step) for step in booking.holds)
    batch = ledgers.in_turn(ledger, (*caps, *holds))
    for change in batch:
        if isinstance(change.row, Account):
            check_plausible(change.row)
    return batch


def ended(ledger: Ledger, ending: Ending) -> Batch:
    """What an ending comes to in ``ledger``; nothing if the holds have ended by now, or are on no account of it."""
    if ending.unknown is not None and ending.hold_id not in ledger.holds:
        if ending.unknown.account not in ledger.accounts:
            return ()
        return ledgers.in_turn(ledger, (partial(_begun, after=ending.unknown), partial(ended, ending=ending)))
    return ledgers.in_turn(ledger, [partial(_ended, held=held, ending=ending) for held in _meant(ledger, ending)])


def digest_of(copy: LedgerCopy) -> str:
    """The SHA-256 (hex) of the copy, the same for the same contents in whatever order."""
    ordered = msgspec.structs.replace(
        copy,
        accounts=tuple(sorted(copy.accounts, key=lambda account: account.name)),
        holds=tuple(sorted(copy.holds, key=lambda held: held.hold_id)),
    )
    plain = msgspec.convert(msgspec.to_builtins(ordered), LedgerCopy)  # a time may have been a whole number until now
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()


def check_adds_up(copy: LedgerCopy) -> None:
    """``request_invalid`` for a copy that is no ledger: a name twice, a hold without account, sums that are wrong."""
    held: dict[str, int] = {account.name: 0 for account in copy.accounts}
    ids = {hold.hold_id for hold in copy.holds}
    if len(held) != len(copy.accounts) or len(ids) != len(copy.holds):
        raise _invalid("an account or a hold is in it twice")
    for hold in copy.holds:
        if hold.account not in held:
            raise _invalid(f"hold {hold.hold_id!r} is on an account that is not in it")
        held[hold.account] += hold.amount_micro_cents if hold.state == OPEN else 0
    for account in copy.accounts:
        if account.held_micro_cents != held[account.name]:
            raise _invalid(f"the open holds on {account.name!r} are not what it says is held")


def check_plausible(account: Account) -> None:
    """``request_invalid`` for sums beyond all reason, which could not be stored."""
    if account.spent_micro_cents + account.held_micro_cents > ledgers.MICRO_CENTS_MAX:
        raise _invalid(f"more would be spent and held on {account.name!r} than there is money")


def _cap_taken(ledger: Ledger, step: CapStep) -> Batch:
    cap = ledger.account(step.account).cap_micro_cents
    if cap == step.after_micro_cents:
        return ()
    if cap != step.before_micro_cents:
        raise _conflict(f"the cap of {step.account!r}")
    return ledgers.set_cap(ledger, step.account, step.after_micro_cents)


def _hold_taken(ledger: Ledger, step: HoldStep) -> Batch:
    known, after = ledger.holds.get(step.after.hold_id), step.after
    if known == after:
        return ()
    if known != step.before:
        raise _conflict(f"hold {after.hold_id!r}")
    try:
        batch = _begun_and_moved(ledger, after) if known is None else _moved(ledger, known, after)
    except GrafosError as error:
        if error.code not in ("budget_exceeded", "tenant_unknown"):
            raise
        raise _conflict(f"what is left of {after.account!r}") from error
    made = [change.row for change in batch if change.kind == HOLD]
    if made[-1:] != [after]:
        raise _invalid(f"hold {after.hold_id!r} cannot become that")
    return batch


def _begun_and_moved(ledger: Ledger, after: Hold) -> Batch:
    """A hold that is new; it may have ended by the time that it is told of."""
    if after.state == OPEN:
        return _begun(ledger, after)
    opened = msgspec.structs.replace(after, state=OPEN, actual_micro_cents=0, ended_at=0.0)
    return ledgers.in_turn(ledger, (partial(_begun, after=opened), partial(_moved, known=opened, after=after)))


def _begun(ledger: Ledger, after: Hold) -> Batch:
    if bool(after.slice_for) != bool(after.expires_at):
        raise _invalid("a slice, and only a slice, runs out")
    return ledgers.hold(
        ledger,
        after.hold_id,
        after.account,
        after.amount_micro_cents,
        after.purpose,
        slice_for=after.slice_for,
        expires_at=after.expires_at,
        meter=after.meter,
    )


def _moved(ledger: Ledger, known: Hold, after: Hold) -> Batch:
    match after.state:
        case ledgers.OPEN if known.state == OPEN and not known.slice_for:
            until = after.meter.until if after.meter else 0.0
            return ledgers.enlarge(ledger, known.hold_id, after.amount_micro_cents, until=until)
        case ledgers.SETTLED:
            return ledgers.settle(ledger, known.hold_id, after.actual_micro_cents, ended_at=after.ended_at)
        case ledgers.RELEASED:
            return ledgers.release(ledger, known.hold_id, ended_at=after.ended_at)
        case ledgers.EXPIRED:
            return ledgers.run_out(ledger, known)
    return ()


def _meant(ledger: Ledger, ending: Ending) -> Iterable[Hold]:
    assert sum(map(bool, (ending.hold_id, ending.prefix, ending.slices_for))) == 1, "one way to name what ends"
    if ending.hold_id:
        known = ledger.holds.get(ending.hold_id)
        return [known] if known is not None and known.state == OPEN else []
    still = [held for held in ledger.holds.values() if held.state == OPEN]
    if ending.prefix:
        return [held for held in still if held.hold_id.startswith(ending.prefix)]
    return [held for held in still if held.slice_for == ending.slices_for]


def _ended(ledger: Ledger, held: Hold, ending: Ending) -> Batch:
    if ending.released:
        return ledgers.release(ledger, held.hold_id, ended_at=ending.ended_at)
    actual = held.amount_micro_cents if ending.actual_micro_cents is None else ending.actual_micro_cents
    return ledgers.settle(ledger, held.hold_id, actual, ended_at=ending.ended_at)


def _conflict(what: str) -> GrafosError:
    return GrafosError(
        "ledger_conflict",
        f"{what} has changed since the ledger was read",
        next="run the command again: it decides on the ledger as it is now",
    )


def _invalid(what: str) -> GrafosError:
    return GrafosError("request_invalid", "that is nothing that a ledger takes", why=what)
