"""The ledger's one promise: spent and held together never pass the cap, whatever happens in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.ledger import EXPIRED, OPEN, RELEASED, SETTLED, Hold, Ledger, Meter

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


def test_an_open_hold_is_not_taken_for_one_of_more() -> None:
    ledger = ledger_with()
    ledger.apply(ledgers.hold(ledger, "a", "operator", 400, "cell a"))
    with pytest.raises(GrafosError) as refusal:
        ledgers.hold(ledger, "a", "operator", 401, "cell a")
    assert refusal.value.code == "plan_stale"
    assert ledgers.hold(ledger, "a", "operator", 399, "cell a") == (), "less is inside of what is held"
    assert ledger.holds["a"].amount_micro_cents == 400


def test_a_hold_grows_by_what_is_free_and_never_shrinks() -> None:
    ledger = ledger_with()
    meter = Meter("aws", 100, since=0.0, until=3600.0)
    ledger.apply(ledgers.hold(ledger, "a", "operator", 400, "cell a", meter=meter))
    ledger.apply(ledgers.enlarge(ledger, "a", 700, until=7200.0))
    assert ledger.account("operator").held_micro_cents == 700
    grown = ledger.holds["a"]
    assert (grown.amount_micro_cents, grown.meter and grown.meter.until) == (700, 7200.0)
    assert ledgers.enlarge(ledger, "a", 700, until=7200.0) == ledgers.enlarge(ledger, "a", 1) == ()
    with pytest.raises(GrafosError) as refusal:
        ledgers.enlarge(ledger, "a", 1001)
    assert refusal.value.code == "budget_exceeded"
    assert refusal.value.context["free_micro_cents"] == 300
    assert ledger.holds["a"] == grown


def test_what_an_emulator_would_bill_is_labelled_where_it_is_refused() -> None:
    ledger = ledger_with()
    fictional = Meter("aws", 1, since=0.0, until=10.0, fictional=True)
    with pytest.raises(GrafosError, match=r"cell a may cost \S+ \(fictional\), and"):
        ledgers.hold(ledger, "a", "operator", 1100, "cell a", meter=fictional)
    ledger.apply(ledgers.hold(ledger, "a", "operator", 900, "cell a", meter=fictional))
    with pytest.raises(GrafosError, match=r"cell a may cost \S+ \(fictional\), \S+ more"):
        ledgers.enlarge(ledger, "a", 1100)
    with pytest.raises(GrafosError) as real:
        ledgers.hold(ledger, "b", "operator", 1100, "cell b")
    assert "fictional" not in real.value.what


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_not_held_cannot_be_enlarged(*, ended: bool) -> None:
    ledger = ledger_with()
    if ended:
        ledger.apply(ledgers.hold(ledger, "a", "operator", 400, "cell a"))
        ledger.apply(ledgers.settle(ledger, "a", 1))
    with pytest.raises(GrafosError) as refusal:
        ledgers.enlarge(ledger, "a", 500)
    assert refusal.value.code == "plan_stale"


def test_a_lowered_cap_leaves_what_is_held_and_refuses_more() -> None:
    ledger = ledger_with()
    ledger.apply(ledgers.hold(ledger, "a", "operator", 900, "cell a"))
    ledger.apply(ledgers.set_cap(ledger, "operator", 100))
    assert ledger.account("operator").free_micro_cents == -800
    for more in (1, 0):  # a hold of nothing is refused too: the account is over its cap
        with pytest.raises(GrafosError) as refusal:
            ledgers.hold(ledger, "b", "operator", more, "cell b")
        assert refusal.value.code == "budget_exceeded"
        assert "0¢ left of 0.0001¢" in refusal.value.what
    with pytest.raises(GrafosError):
        ledgers.enlarge(ledger, "a", 901)
    ledger.apply(ledgers.settle(ledger, "a", 60))
    ledger.apply(ledgers.hold(ledger, "b", "operator", 40, "cell b"))


def test_the_cap_of_an_account_that_nobody_opened_is_not_set() -> None:
    with pytest.raises(GrafosError) as refusal:
        ledgers.set_cap(Ledger(), "nobody", 1)
    assert refusal.value.code == "tenant_unknown"


@given(now=st.floats(-10.0, 1e5), rate=st.integers(0, 10**9), lasts=st.floats(0, 1e4), amount=st.integers(0, 10**9))
def test_what_has_accrued_grows_with_time_and_stays_inside_the_hold(
    now: float, rate: int, lasts: float, amount: int
) -> None:
    held = Hold("a", "operator", amount, "cell a", meter=Meter("aws", rate, since=0.0, until=lasts))
    assert 0 <= ledgers.accrued(held, now) <= ledgers.accrued(held, now + 1.0) <= amount
    assert ledgers.accrued(held, lasts) == ledgers.accrued(held, lasts + 1e9), "nothing bills after its end"


def test_an_hour_accrues_the_rate_of_an_hour() -> None:
    held = Hold("a", "operator", 10**9, "cell a", meter=Meter("aws", 360, since=100.0, until=1e9))
    assert ledgers.accrued(held, 100.0 + 3600) == 360
    assert ledgers.accrued(held, 100.0 + 10) == 1


def test_what_is_left_behind_accrues_after_the_end() -> None:
    meter = Meter("azure", 360, since=0.0, until=3600.0, left_micro_cents_per_hour=36)
    held = Hold("a", "operator", 10**9, "cell a", meter=meter)
    assert ledgers.accrued(held, 3600.0) == 360
    assert ledgers.accrued(held, 7200.0) == 396


def test_what_has_ended_cost_what_it_was_settled_for_and_what_has_no_meter_counts_whole() -> None:
    meter = Meter("aws", 360, since=0.0, until=1e9)
    settled = Hold("a", "operator", 900, "x", state=SETTLED, actual_micro_cents=7, meter=meter)
    assert ledgers.accrued(settled, 1e6) == 7
    assert ledgers.accrued(Hold("a", "operator", 900, "x"), 0.0) == 900


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
    """Any order of holds, enlargements, settlements, releases, expiries and caps, beside a model of a few numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = ledger_with()
        self.open: dict[str, tuple[int, float]] = {}
        self.spent = 0
        self.cap = CAP
        self.before = 0
        self.now = 0.0

    @property
    def used(self) -> int:
        return self.spent + sum(held for held, _ in self.open.values())

    @rule(name=st.sampled_from("abcdef"), amount=st.integers(0, 700), life=st.sampled_from([0.0, 5.0, 20.0]))
    def hold(self, name: str, amount: int, life: float) -> None:
        expires = self.now + life if life else 0.0
        if name in self.ledger.holds:
            refused = "plan_stale" if name not in self.open or amount > self.open[name][0] else ""
        else:
            is_empty_slice = expires and not amount  # nobody can spend of it
            refused = "budget_exceeded" if self.used + amount > self.cap and not is_empty_slice else ""
        scheduler = "s" if expires else ""
        if self.does(refused, "hold", name, "operator", amount, "x", slice_for=scheduler, expires_at=expires):
            self.open.setdefault(name, (amount, expires))

    @rule(name=st.sampled_from("abcdef"), amount=st.integers(0, 900))
    def enlarge(self, name: str, amount: int) -> None:
        if name not in self.open:
            self.does("plan_stale", "enlarge", name, amount)
            return
        before, expires = self.open[name]
        if expires:
            return  # a slice is signed for its amount
        more = max(0, amount - before)
        if self.does("budget_exceeded" if more and self.used + more > self.cap else "", "enlarge", name, amount):
            self.open[name] = (before + more, expires)

    def does(self, refused: str, verb: str, *args: object, **options: object) -> bool:
        """Whether it was done; it must be refused with this code, or not at all."""
        code = ""
        try:
            self.ledger.apply(getattr(ledgers, verb)(self.ledger, *args, **options))
        except GrafosError as error:
            code = error.code
        assert code == refused
        return not code

    @rule(cap=st.integers(0, 2 * CAP))
    def set_cap(self, cap: int) -> None:
        self.ledger.apply(ledgers.set_cap(self.ledger, "operator", cap))
        self.cap = cap

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
        # Over the cap one gets by lowering it alone, and from there it only goes down.
        assert self.used <= max(self.cap, self.before)
        self.before = self.used
        states = {hold.state for hold in self.ledger.holds.values()}
        assert states <= {OPEN, SETTLED, RELEASED, EXPIRED}


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_any_order_of_events_keeps_the_cap = LedgerMachine.TestCase
