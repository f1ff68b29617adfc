"""The ledger's one promise: spent and held together never pass the cap, whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grafos_core import ledger as ledgers
from grafos_core.changes import Batch
from grafos_core.errors import GrafosError
from grafos_core.ledger import EXPIRED, OPEN, RELEASED, SETTLED, Ledger

CAP = 1000


def ledger_with(cap: int = CAP) -> Ledger:
    ledger = Ledger()
    ledger.apply(ledgers.open_account(ledger, "operator", cap))
    return ledger


def test_a_hold_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    ledger = ledger_with()
    ledger.apply(ledgers.hold(ledger, "a", "operator", 900, "cell a"))
    with pytest.raises(GrafosError) as refusal:
        ledgers.hold(ledger, "b", "operator", 101, "cell b")
    assert refusal.value.code == "budget_exceeded"
    assert refusal.value.context["free_micro_cents"] == 100
    assert set(ledger.holds) == {"a"}


def test_the_same_hold_again_is_the_same_hold() -> None:
    ledger = ledger_with()
    ledger.apply(ledgers.hold(ledger, "a", "operator", 900, "cell a"))
    assert ledgers.hold(ledger, "a", "operator", 900, "cell a") == ()
    assert ledger.account("operator").held_micro_cents == 900


def test_a_hold_that_ended_reserves_nothing_and_cannot_be_taken_for_one_that_does() -> None:
    ledger = ledger_with()
    for number, end in enumerate((ledgers.release, lambda ledger, hold_id: ledgers.settle(ledger, hold_id, 1))):
        ledger.apply(ledgers.hold(ledger, str(number), "operator", 100, "cell a"))
        ledger.apply(end(ledger, str(number)))
        with pytest.raises(GrafosError) as refusal:
            ledgers.hold(ledger, str(number), "operator", 100, "cell a")
        assert refusal.value.code == "plan_stale"


def test_settling_books_the_cost_and_frees_the_rest() -> None:
    ledger = ledger_with()
    ledger.apply(ledgers.hold(ledger, "a", "operator", 900, "cell a"))
    ledger.apply(ledgers.settle(ledger, "a", 250))
    account = ledger.account("operator")
    assert (account.spent_micro_cents, account.held_micro_cents, account.free_micro_cents) == (250, 0, 750)
    assert ledgers.settle(ledger, "a", 900) == (), "settled once is settled"
    assert ledgers.release(ledger, "a") == ()


def test_settling_tells_the_truth_even_above_the_hold() -> None:
    ledger = ledger_with()
    ledger.apply(ledgers.hold(ledger, "a", "operator", 900, "cell a"))
    ledger.apply(ledgers.settle(ledger, "a", 1100))
    assert ledger.account("operator").free_micro_cents == -100
    with pytest.raises(GrafosError):
        ledgers.hold(ledger, "b", "operator", 1, "cell b")


def test_a_slice_that_runs_out_unsettled_counts_as_spent_in_full() -> None:
    ledger = ledger_with()
    ledger.apply(ledgers.hold(ledger, "s", "operator", 400, "slice", slice_for="aws-1", expires_at=50.0))
    ledger.apply(ledgers.hold(ledger, "plain", "operator", 400, "cell"))
    assert ledgers.expire(ledger, 49.9) == ()
    ledger.apply(ledgers.expire(ledger, 50.0))
    assert (ledger.holds["s"].state, ledger.holds["plain"].state) == (EXPIRED, OPEN)
    assert ledger.account("operator").spent_micro_cents == 400


def test_two_slices_that_run_out_at_once_are_both_counted() -> None:
    ledger = ledger_with()
    for name in ("s", "t"):
        ledger.apply(ledgers.hold(ledger, name, "operator", 300, "slice", slice_for="aws-1", expires_at=50.0))
    ledger.apply(ledgers.expire(ledger, 60.0))
    assert ledger.account("operator").spent_micro_cents == 600
    assert ledger.account("operator").held_micro_cents == 0


def test_a_cap_below_what_is_spent_and_held_is_refused() -> None:
    ledger = ledger_with()
    ledger.apply(ledgers.hold(ledger, "a", "operator", 900, "cell a"))
    with pytest.raises(GrafosError) as refusal:
        ledgers.open_account(ledger, "operator", 899)
    assert refusal.value.code == "budget_exceeded"
    ledger.apply(ledgers.open_account(ledger, "operator", 2000))
    assert ledger.account("operator").free_micro_cents == 1100


def test_an_account_that_nobody_opened_is_unknown() -> None:
    with pytest.raises(GrafosError) as refusal:
        ledgers.hold(Ledger(), "a", "nobody", 1, "x")
    assert refusal.value.code == "tenant_unknown"


class LedgerMachine(RuleBasedStateMachine):
    """Any order of holds, settlements, releases and expiries, beside a model of three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = ledger_with()
        self.open: dict[str, tuple[int, float]] = {}
        self.spent = 0
        self.now = 0.0

    @rule(name=st.sampled_from("abcdef"), amount=st.integers(0, 700), life=st.sampled_from([0.0, 5.0, 20.0]))
    def hold(self, name: str, amount: int, life: float) -> None:
        known = name in self.ledger.holds
        fits = self.spent + sum(held for held, _ in self.open.values()) + amount <= CAP
        expires = self.now + life if life else 0.0
        if name in self.open or (fits and not known):
            self.ledger.apply(self.asked(name, amount, expires))
        else:
            with pytest.raises(GrafosError) as refusal:
                self.asked(name, amount, expires)
            assert refusal.value.code == ("plan_stale" if known else "budget_exceeded")
            return
        if not known:
            self.open[name] = (amount, expires)

    def asked(self, name: str, amount: int, expires: float) -> Batch:
        scheduler = "s" if expires else ""
        return ledgers.hold(self.ledger, name, "operator", amount, "x", slice_for=scheduler, expires_at=expires)

    @rule(name=st.sampled_from("abcdef"), share=st.floats(0, 1))
    def settle(self, name: str, share: float) -> None:
        amount, _ = self.open.pop(name, (0, 0.0))
        self.ledger.apply(ledgers.settle(self.ledger, name, int(amount * share)))
        self.spent += int(amount * share)

    @rule(name=st.sampled_from("abcdef"))
    def release(self, name: str) -> None:
        self.open.pop(name, None)
        self.ledger.apply(ledgers.release(self.ledger, name))

    @rule(seconds=st.floats(0, 10))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        self.ledger.apply(ledgers.expire(self.ledger, self.now))
        for name, (amount, expires) in list(self.open.items()):
            if expires and expires <= self.now:
                self.spent += amount
                del self.open[name]

    @invariant()
    def books_agree_with_the_model_and_the_cap_holds(self) -> None:
        account = self.ledger.account("operator")
        held = sum(amount for amount, _ in self.open.values())
        assert (account.spent_micro_cents, account.held_micro_cents) == (self.spent, held)
        assert account.spent_micro_cents + account.held_micro_cents <= CAP
        states = {hold.state for hold in self.ledger.holds.values()}
        assert states <= {OPEN, SETTLED, RELEASED, EXPIRED}


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_any_order_of_events_keeps_the_cap = LedgerMachine.TestCase
