"""Whatever happens in whatever order, no slice is ever spent or held beyond its amount."""

from __future__ import annotations

import math

import hypothesis.strategies as st
from desk import Desk
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from grafos_core.errors import GrafosError
from grafos_scheduler import frames, rows, tenant_events

REFUSALS = {
    "budget_exceeded",
    "no_eligible_provider_cells",
    "placement_failed",
    "quota_exceeded",
    "runtime_not_ready",
    "slice_refused",
}


class Money(RuleBasedStateMachine):
    """One tenant, one cell, slices that come and close, runs that end in all ways."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(budget_micro_cents=20_000)
        self.desk.add_cell(cores=4)
        self.boot_epoch = 1
        self.asked = 0
        self.paid: dict[str, int] = {}

    @rule(deadline_s=st.sampled_from([0.001, 1.0, 7.3, 30.0, 3600.0]), rate=st.sampled_from([1, 999_983, 36_000_000]))
    def ask(self, deadline_s: float, rate: int) -> None:
        self.asked += 1
        self.desk.set_terms(rate=rate)
        try:
            self.desk.ask(run_key=f"key-of-the-run-{self.asked}", deadline_s=deadline_s)
        except GrafosError as refusal:
            assert refusal.code in REFUSALS  # noqa: PT017  # which one depends on the story; that it is typed does not

    @precondition(lambda self: self.under_way())
    @rule(chosen=st.integers(0, 99), seconds=st.floats(-10, 10_000), code=st.sampled_from(["finished", "trapped"]))
    def run_and_end(self, chosen: int, seconds: float, code: str) -> None:
        run = self.under_way()[chosen % len(self.under_way())]
        self.desk.grant_all(run)
        self.desk.report(run, code, seconds=seconds)
        self.desk.tear_down(run)

    @precondition(lambda self: self.under_way())
    @rule(chosen=st.integers(0, 99))
    def cell_refuses(self, chosen: int) -> None:
        run = self.under_way()[chosen % len(self.under_way())]
        self.desk.say("cell-1", frames.LeaseRefused(run.lease_ids[0], 1, "placement_failed", ""))

    @rule()
    def cell_restarts(self) -> None:
        self.boot_epoch += 1
        self.desk.dial(boot_epoch=self.boot_epoch)

    @rule()
    def scheduler_restarts(self) -> None:
        self.desk.restart()
        self.desk.dial(boot_epoch=self.boot_epoch)

    @rule(seconds=st.sampled_from([1, 40]))
    def time_passes(self, seconds: int) -> None:
        self.desk.wait(seconds, "cell-1")

    @rule(number=st.integers(2, 4), amount=st.integers(0, 50_000))
    def give_slice(self, number: int, amount: int) -> None:
        try:
            self.desk.give_slice(f"slice-{number}", amount, life_s=7200.0)
        except GrafosError as refusal:
            assert refusal.code in REFUSALS  # noqa: PT017  # as above

    @precondition(lambda self: "slice-2" in self.desk.state.slices)
    @rule()
    def close_slice(self) -> None:
        self.desk.tell(tenant_events.SliceClosed("slice-2"))

    @invariant()
    def no_slice_is_overdrawn(self) -> None:
        state = self.desk.state
        for name, account in state.ledger.accounts.items():
            assert account.spent_micro_cents + account.held_micro_cents <= state.slices[name].amount_micro_cents
            assert min(account.spent_micro_cents, account.held_micro_cents) >= 0

    @invariant()
    def what_was_paid_stays_paid_and_is_what_runs_cost(self) -> None:
        state = self.desk.state
        for run in state.runs.values():
            assert self.paid.get(run.run_id, 0) in (0, run.cost_micro_cents)
            self.paid[run.run_id] = run.cost_micro_cents
        spent = sum(account.spent_micro_cents for account in state.ledger.accounts.values())
        assert spent == sum(run.cost_micro_cents for run in state.runs.values())

    @invariant()
    def held_is_what_runs_under_way_may_cost(self) -> None:
        state = self.desk.state
        worst = sum(
            math.ceil(run.rate_micro_cents_per_hour * run.request.deadline_s / 3600) for run in state.runs_under_way()
        )
        held = sum(account.held_micro_cents for account in state.ledger.accounts.values())
        assert (held > 0) == (worst > 0)
        assert held <= worst

    def under_way(self) -> list[rows.Run]:
        return list(self.desk.state.runs_under_way())


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
