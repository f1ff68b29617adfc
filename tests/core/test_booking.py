"""What is decided on one copy of a ledger and taken by another."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_core import ledger as ledgers
from grafos_core.booking import (
    Booking,
    Ending,
    HoldStep,
    LedgerCopy,
    booking_of,
    check_adds_up,
    digest_of,
    ended,
    taken,
)
from grafos_core.errors import GrafosError
from grafos_core.ledger import Account, Decide, Hold, Ledger, Meter

CAP = 1_000
METER = Meter("gcp", 3_600, since=1_000.0, until=5_000.0, fictional=True)


def begun(*accounts: str) -> Ledger:
    ledger = Ledger()
    for name in accounts or ("operator", "tenant/default"):
        ledger.apply(ledgers.open_account(ledger, name, CAP))
    return ledger


def copied(ledger: Ledger) -> Ledger:
    twin = Ledger()
    twin.accounts, twin.holds = dict(ledger.accounts), dict(ledger.holds)
    return twin


def wired(booking: Booking) -> Booking:
    return msgspec.json.decode(msgspec.json.encode(booking), type=Booking)


def book(here: Ledger, there: Ledger, decide: Decide) -> Booking:
    """Decides on the copy here, and has it taken there."""
    booking = wired(booking_of(here, decide(here)))
    there.apply(taken(there, booking))
    return booking


def contents(ledger: Ledger) -> tuple[dict[str, Account], dict[str, Hold]]:
    return ledger.accounts, ledger.holds


def refused(ledger: Ledger, booking: Booking) -> str:
    with pytest.raises(GrafosError) as error:
        taken(ledger, booking)
    return error.value.code


@given(st.integers(0, 2**32))
def test_a_booking_does_there_what_its_batch_does_here(seed: int) -> None:
    chance, here = random.Random(seed), begun()
    there = copied(here)
    for _ in range(30):
        decide = some_decision(chance)
        try:
            batch = decide(here)
        except GrafosError:
            continue
        there.apply(taken(there, wired(booking_of(here, batch))))
        here.apply(batch)
        assert contents(here) == contents(there)
    check_adds_up(LedgerCopy(1, tuple(there.accounts.values()), tuple(there.holds.values())))


def some_decision(chance: random.Random) -> Decide:
    name, amount, at = f"h{chance.randrange(4)}", chance.randrange(CAP), float(chance.randrange(9_000))
    account = chance.choice(("operator", "tenant/default"))
    choices: tuple[Decide, ...] = (
        lambda ledger: ledgers.hold(ledger, name, account, amount, "a cell", meter=METER),
        lambda ledger: ledgers.hold(ledger, f"s{name}", account, amount, "runs", slice_for="c", expires_at=at + 1),
        lambda ledger: ledgers.enlarge(ledger, name, amount, until=at),
        lambda ledger: ledgers.settle(ledger, name, amount, ended_at=at),
        lambda ledger: ledgers.release(ledger, f"s{name}", ended_at=at),
        lambda ledger: ledgers.expire(ledger, at),
        lambda ledger: ledgers.set_cap(ledger, account, amount),
        lambda ledger: ended(ledger, Ending(slices_for="c", released=chance.random() < 0.5)),
        lambda ledger: ended(ledger, Ending(prefix="h", ended_at=at)),
    )
    return chance.choice(choices)


def test_a_booking_that_is_sent_twice_counts_once() -> None:
    here = begun()
    there = copied(here)
    for decide in (
        lambda ledger: ledgers.hold(ledger, "h", "operator", 300, "a cell"),
        lambda ledger: ledgers.enlarge(ledger, "h", 500),
        lambda ledger: ledgers.settle(ledger, "h", 120),
        lambda ledger: ledgers.set_cap(ledger, "operator", 700),
    ):
        booking = book(here, there, decide)
        assert taken(there, booking) == ()
        here = copied(there)
    assert there.accounts["operator"] == Account("operator", 700, spent_micro_cents=120)


def test_what_was_held_and_ended_in_one_batch_is_booked_as_both() -> None:
    here, there = begun(), begun()
    steps = (
        lambda ledger: ledgers.hold(ledger, "n", "operator", 50, "a cell"),
        lambda ledger: ledgers.settle(ledger, "n", 40, ended_at=9.0),
    )
    batch = ledgers.in_turn(here, steps)
    asked = booking_of(here, batch)
    here.apply(batch)
    for _ in range(2):
        there.apply(taken(there, asked))
        assert (there.accounts, there.holds) == (here.accounts, here.holds)


def test_two_who_hold_on_one_account_do_not_get_in_each_others_way_until_it_is_full() -> None:
    there = begun()
    first, second = copied(there), copied(there)
    book(first, there, lambda ledger: ledgers.hold(ledger, "a", "operator", 600, "a cell"))
    book(second, there, lambda ledger: ledgers.hold(ledger, "b", "operator", 400, "a cell"))
    late = booking_of(second, ledgers.hold(second, "c", "operator", 1, "a cell"))
    assert refused(there, late) == "ledger_conflict", "it is decided anew, and then it is plain that nothing is left"
    assert there.accounts["operator"].free_micro_cents == 0


def test_a_hold_that_somebody_else_moved_is_decided_anew() -> None:
    there = begun()
    there.apply(ledgers.hold(there, "h", "operator", 100, "a cell"))
    slow = copied(there)
    there.apply(ledgers.settle(there, "h", 40))
    assert refused(there, booking_of(slow, ledgers.enlarge(slow, "h", 200))) == "ledger_conflict"
    assert refused(there, booking_of(slow, ledgers.settle(slow, "h", 50))) == "ledger_conflict"


@pytest.mark.parametrize(
    "after",
    [
        Hold("h", "operator", 50, "a cell"),  # smaller
        Hold("h", "tenant/default", 100, "a cell"),  # on another account
        Hold("h", "operator", 100, "another cell"),
        Hold("h", "operator", 100, "a cell", state="free"),
        Hold("h", "operator", 100, "a cell", state="released", actual_micro_cents=5),
        Hold("h", "operator", 90, "a cell", state="settled"),
        Hold("h", "operator", 100, "a cell", slice_for="c", expires_at=5.0),
        Hold("h", "operator", 100, "a cell", meter=METER),
    ],
)
def test_a_hold_becomes_nothing_that_no_decision_makes_of_it(after: Hold) -> None:
    there = begun()
    there.apply(ledgers.hold(there, "h", "operator", 100, "a cell"))
    assert refused(there, Booking((HoldStep(after, there.holds["h"]),))) == "request_invalid"


@pytest.mark.parametrize(
    "after",
    [
        Hold("n", "operator", 50, "a cell", state="released", actual_micro_cents=5),
        Hold("n", "operator", 50, "a cell", state="gone"),
        Hold("n", "operator", 50, "a cell", actual_micro_cents=5),
        Hold("n", "operator", 50, "a cell", slice_for="c"),
        Hold("n", "operator", 50, "a cell", expires_at=5.0),
    ],
)
def test_a_new_hold_is_one_that_could_be_held(after: Hold) -> None:
    assert refused(begun(), Booking((HoldStep(after),))) == "request_invalid"


@pytest.mark.parametrize("amount", [-1, 2**53 + 1])
def test_amounts_beyond_all_reason_do_not_come_in(amount: int) -> None:
    text = msgspec.json.encode(Booking((HoldStep(Hold("n", "operator", amount, "a cell")),)))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Booking)


def test_the_digest_knows_contents_and_not_their_order() -> None:
    ledger = begun()
    ledger.apply(ledgers.hold(ledger, "a", "operator", 1, "x", meter=METER))
    ledger.apply(ledgers.hold(ledger, "b", "operator", 2, "y", slice_for="c", expires_at=5))
    accounts, holds = tuple(ledger.accounts.values()), tuple(ledger.holds.values())
    copy = LedgerCopy(1, accounts, holds)
    wire = msgspec.json.decode(msgspec.json.encode(copy), type=LedgerCopy)
    assert digest_of(copy) == digest_of(LedgerCopy(1, accounts[::-1], holds[::-1])) == digest_of(wire)
    assert digest_of(copy) != digest_of(LedgerCopy(2, accounts, holds))
    assert digest_of(copy) != digest_of(LedgerCopy(1, accounts, holds[:1]))


@pytest.mark.parametrize(
    "copy",
    [
        LedgerCopy(1, (Account("operator", 9, held_micro_cents=1),), ()),
        LedgerCopy(1, (Account("operator", 9),), (Hold("h", "operator", 1, "x"),)),
        LedgerCopy(1, (Account("operator", 9),), (Hold("h", "nobody", 0, "x"),)),
        LedgerCopy(1, (Account("operator", 9), Account("operator", 9)), ()),
        LedgerCopy(1, (Account("operator", 9),), (Hold("h", "operator", 0, "x"), Hold("h", "operator", 0, "x"))),
    ],
)
def test_a_copy_that_does_not_add_up_is_no_ledger(copy: LedgerCopy) -> None:
    with pytest.raises(GrafosError) as error:
        check_adds_up(copy)
    assert error.value.code == "request_invalid"


def test_an_ending_books_what_is_open_and_leaves_what_has_ended() -> None:
    ledger = begun()
    for name in ("cell/web/1/5", "cell/web/2/6", "cell/webb/1/7"):
        ledger.apply(ledgers.hold(ledger, name, "operator", 100, "x"))
    ledger.apply(ledgers.settle(ledger, "cell/web/1/5", 7))
    ledger.apply(ended(ledger, Ending(prefix="cell/web/", ended_at=9.0)))
    states = {name: (held.state, held.actual_micro_cents) for name, held in ledger.holds.items()}
    assert states == {
        "cell/web/1/5": ("settled", 7),
        "cell/web/2/6": ("settled", 100),
        "cell/webb/1/7": ("open", 0),
    }
    assert ended(ledger, Ending("cell/web/2/6", actual_micro_cents=3)) == ()
