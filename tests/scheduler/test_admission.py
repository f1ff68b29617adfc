"""Whether a run may start: every refusal of the path, the hold, and run keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from desk import MIB, RATE, Desk

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import events, frames, runs


def an_empty_provider(desk: Desk) -> None:
    desk.ask(provider="local")


def a_silent_cell(desk: Desk) -> None:
    desk.add_cell()
    desk.clock.advance(60.0)
    desk.ask()


def a_cell_without_a_price(desk: Desk) -> None:
    desk.register()
    desk.dial()
    desk.ask()


def a_tenant_at_its_quota(desk: Desk) -> None:
    desk.add_cell()
    desk.give_slice("slice-2", 10**9, quota=Resources(cpu_cores=1, mem_bytes=MIB))
    desk.ask()
    desk.ask(run_key="another-key-of-it")


def a_tenant_without_the_money(desk: Desk) -> None:
    desk.add_cell()
    desk.ask(deadline_s=3600.0, lease_mem_bytes=2 * MIB)


def a_slice_that_ends_before_the_run(desk: Desk) -> None:
    desk.add_cell()
    desk.clock.advance(86_390.0)
    desk.dial()
    desk.ask()


def a_full_cell(desk: Desk) -> None:
    desk.add_cell(cores=1)
    desk.ask()
    desk.ask(run_key="another-key-of-it")


def a_cell_that_ends_before_the_run(desk: Desk) -> None:
    desk.add_cell()
    desk.set_terms(life_s=20.0)
    desk.ask()


def a_draining_cell(desk: Desk) -> None:
    desk.add_cell()
    desk.tell(events.DrainAsked("cell-1"))
    desk.ask()


def a_draining_scheduler(desk: Desk) -> None:
    desk.add_cell()
    desk.tell(events.DrainAsked())
    desk.ask()


REFUSALS: list[tuple[Callable[[Desk], None], str, str]] = [
    (an_empty_provider, "runtime_not_ready", "provider local has no healthy cell"),
    (a_silent_cell, "runtime_not_ready", "the last heartbeat was 60 s ago"),
    (a_cell_without_a_price, "no_eligible_provider_cells", "no price and no end were recorded"),
    (a_tenant_at_its_quota, "quota_exceeded", "cpu_cores: 1 of 1 leased, 1 wanted"),
    (a_tenant_without_the_money, "budget_exceeded", "tenant ada has 1.80¢ left here"),
    (a_slice_that_ends_before_the_run, "budget_exceeded", "has 0¢ left here"),
    (a_full_cell, "placement_failed", "cell-1 (cpu_cores: 1 wanted, 0 of 1 free)"),
    (a_cell_that_ends_before_the_run, "placement_failed", "cell-1 (the cell may end before the run does)"),
    (a_draining_cell, "placement_failed", "cell-1 (draining)"),
    (a_draining_scheduler, "draining", "admits no new runs"),
]


@pytest.mark.parametrize(("story", "code", "words"), REFUSALS, ids=[story.__name__ for story, _, _ in REFUSALS])
def test_a_refusal_is_typed_says_why_and_leaves_a_record_that_costs_nothing(
    story: Callable[[Desk], None], code: str, words: str
) -> None:
    desk = Desk(budget_micro_cents=1_800_000)
    with pytest.raises(GrafosError) as refusal:
        story(desk)
    assert refusal.value.code == code
    assert words in refusal.value.what
    assert refusal.value.next
    [refused] = [run for run in desk.state.runs.values() if run.state == runs.REFUSED]
    assert (refused.code, refused.cell_id, refused.lease_ids, refused.cost_micro_cents) == (code, "", (), 0)
    assert not desk.sent


def test_an_unknown_tenant_is_refused_without_a_record() -> None:
    desk = Desk()
    with pytest.raises(GrafosError) as refusal:
        desk.ask(tenant="nobody")
    assert refusal.value.code == "tenant_unknown"
    assert not desk.state.runs


def test_an_admitted_run_holds_its_worst_case_and_asks_for_its_leases() -> None:
    desk = Desk()
    desk.add_cell(cores=4, mem=4 * MIB)
    run = desk.ask(deadline_s=10.0, lease_mem_bytes=2 * MIB)
    assert run.state == runs.ADMITTED
    assert run.share == "1/2"  # half the memory is more than a quarter of the cores
    assert desk.state.ledger.accounts["slice-1"].held_micro_cents == RATE * 10 // 3600 // 2
    grants = [(frame.kind, frame.amount, frame.generation) for frame in desk.frames(frames.GrantLease)]
    assert grants == [("cpu", 1, 1), ("mem", 2 * MIB, 1)]
    assert desk.state.leased_by_cell["cell-1"] == Resources(cpu_cores=1, mem_bytes=2 * MIB)


def test_a_run_without_fabric_memory_leases_a_core_only() -> None:
    desk = Desk()
    desk.add_cell()
    assert len(desk.ask().lease_ids) == 1


def test_the_worst_case_is_rounded_up() -> None:
    desk = Desk()
    desk.add_cell(cores=3)
    desk.set_terms(rate=1)
    desk.ask()
    assert desk.state.ledger.accounts["slice-1"].held_micro_cents == 1


def test_a_run_is_held_on_the_slice_that_ends_first_and_has_enough() -> None:
    desk = Desk(budget_micro_cents=4_000)
    desk.add_cell(cores=8)
    desk.give_slice("slice-late", 10**9, life_s=2 * 86400.0)
    desk.give_slice("slice-soon", 2_000, life_s=3600.0)
    for number in range(5):
        desk.ask(run_key=f"key-of-the-run-{number}")  # 1,250 micro-cents each
    held = {name: account.held_micro_cents for name, account in desk.state.ledger.accounts.items()}
    assert held == {"slice-soon": 1_250, "slice-1": 3_750, "slice-late": 1_250}


def test_a_cell_that_is_too_dear_is_vetoed_and_another_is_taken() -> None:
    desk = Desk(budget_micro_cents=10_000)
    desk.add_cell("cell-dear", mem=64 * MIB)
    desk.set_terms("cell-dear", rate=100 * RATE)
    desk.add_cell("cell-cheap")
    assert desk.ask().cell_id == "cell-cheap"


def test_the_same_run_key_is_the_same_run() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.ask()
    assert desk.ask().run_id == run.run_id
    assert not desk.effects
    assert len(desk.state.runs) == 1


def test_the_same_run_key_is_the_same_run_after_a_restart() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.ask()
    desk.restart()
    assert desk.ask().run_id == run.run_id


def test_a_run_key_with_other_contents_is_refused() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.ask()
    with pytest.raises(GrafosError) as refusal:
        desk.ask(fuel=1)
    assert refusal.value.code == "run_key_reused"
    assert desk.state.runs[run.run_id] == run


def test_two_tenants_may_have_made_the_same_run_key() -> None:
    desk = Desk()
    desk.add_cell()
    desk.give_slice("slice-2", 10**9, tenant="grace")
    assert desk.ask().run_id != desk.ask(tenant="grace").run_id


def test_a_refusal_that_can_pass_is_decided_anew_under_the_same_run() -> None:
    desk = Desk()
    with pytest.raises(GrafosError):
        desk.ask()
    [refused] = desk.state.runs.values()
    desk.add_cell()
    run = desk.ask()
    assert (run.run_id, run.state, run.attempt, run.code) == (refused.run_id, runs.ADMITTED, 2, "")


def test_a_refusal_that_cannot_pass_is_given_again_whatever_has_changed() -> None:
    """The asker was told no; a copy of the request that arrives late must not run after all."""
    desk = Desk(budget_micro_cents=10)
    desk.add_cell()
    with pytest.raises(GrafosError) as first:
        desk.ask()
    desk.give_slice("slice-2", 10**9)
    with pytest.raises(GrafosError) as second:
        desk.ask()
    assert (first.value.code, second.value.code) == ("budget_exceeded", "budget_exceeded")
    assert second.value.what == first.value.what
    assert desk.ask(run_key="another-key-of-it").state == runs.ADMITTED


def test_an_admission_after_a_refused_one_holds_money_of_its_own() -> None:
    """An ended hold stays as it ended, so each attempt needs a hold of its own."""
    desk = Desk()
    desk.add_cell()
    run = desk.ask()
    lease = desk.state.leases[run.lease_ids[0]]
    desk.say("cell-1", frames.LeaseRefused(lease.lease_id, 1, "placement_failed", "no room"))
    desk.tear_down(run)
    assert desk.state.ledger.accounts["slice-1"].held_micro_cents == 0
    again = desk.ask()
    assert (again.run_id, again.state) == (run.run_id, runs.ADMITTED)
    assert desk.state.ledger.accounts["slice-1"].held_micro_cents > 0


def test_only_so_many_refused_runs_are_kept_and_the_oldest_go_first() -> None:
    desk = Desk()
    for number in range(runs.REFUSED_RUNS_KEPT_MAX + 5):
        desk.clock.advance(1.0)
        with pytest.raises(GrafosError):
            desk.ask(run_key=f"key-of-the-run-{number}")
    kept = sorted(run.request.run_key for run in desk.state.runs.values())
    assert len(kept) == runs.REFUSED_RUNS_KEPT_MAX
    assert "key-of-the-run-4" not in kept
    assert "key-of-the-run-5" in kept
