"""The life of a run: its end, what it costs, and that it always has one."""

from __future__ import annotations

import pytest
from desk import RATE, Desk

from grafos_core.clock import VirtualClock
from grafos_core.ledger import HOLD
from grafos_scheduler import effects, events, frames, outcomes, rows, runs, views


def ready() -> Desk:
    desk = Desk()
    desk.add_cell(cores=2)
    return desk


def money(desk: Desk) -> tuple[int, int]:
    account = desk.state.ledger.accounts["slice-1"]
    return account.spent_micro_cents, account.held_micro_cents


def test_a_finished_run_is_settled_by_its_receipt_and_acknowledged() -> None:
    desk = ready()
    run = desk.start()
    desk.report(run, seconds=2.0)
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code, ended.fuel_used, ended.lease_seconds) == (runs.FINISHED, "", 5, 2.0)
    assert ended.cost_micro_cents == RATE * 2 // 3600 // 2
    assert money(desk) == (ended.cost_micro_cents, 0)
    assert frames.RunEndedNoted(run.run_id) in desk.sent
    assert effects.RunMoved(run.run_id) in desk.effects


def test_a_view_shows_the_cost_in_whole_micro_cents_and_in_cents() -> None:
    desk = ready()
    run = desk.start()
    desk.report(run, seconds=2.0)
    cost = views.run_view(desk.state, desk.state.runs[run.run_id]).cost
    assert (cost.micro_cents, cost.cents_per_run, cost.share) == (1000, 0.001, "1/2")


def test_a_failed_run_costs_what_it_ran() -> None:
    desk = ready()
    run = desk.start()
    desk.report(run, "program_error", seconds=2.0)
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code, ended.what, ended.cost_micro_cents) == (
        runs.FAILED,
        "program_error",
        "words",
        1000,
    )


@pytest.mark.parametrize("seconds", [10.5, 86400.0])
def test_a_run_never_costs_more_than_was_held(seconds: float) -> None:
    desk = ready()
    run = desk.start(deadline_s=10.0)
    _, held = money(desk)
    desk.report(run, seconds=seconds)
    assert money(desk) == (held, 0)


def test_a_receipt_that_runs_backwards_costs_nothing() -> None:
    desk = ready()
    desk.report(desk.start(), seconds=-50.0)
    assert money(desk) == (0, 0)


def test_the_artifacts_are_stored_with_the_end_and_not_kept_in_memory() -> None:
    desk = ready()
    run = desk.start()
    desk.report(run)
    [artifact] = [row for kind, _, row in desk.memory.load() if kind == rows.ARTIFACT]
    assert (artifact.run_id, artifact.output, artifact.log) == (run.run_id, b"out", "log")
    assert not any(isinstance(table, dict) and artifact in table.values() for table in vars(desk.state).values())


def test_an_end_is_final_and_a_second_report_is_only_acknowledged() -> None:
    desk = ready()
    run = desk.start()
    desk.report(run)
    ended = desk.state.runs[run.run_id]
    desk.report(run, "program_error", seconds=9.0)
    assert desk.state.runs[run.run_id] == ended
    assert desk.sent == [frames.RunEndedNoted(run.run_id)]


def test_a_run_that_nobody_knows_is_acknowledged_so_that_the_cell_may_forget_it() -> None:
    desk = ready()
    other = Desk()
    other.add_cell()
    run = other.start()
    desk.report(run)
    assert desk.sent == [frames.RunEndedNoted(run.run_id)]
    assert not desk.state.runs


def test_a_cell_cannot_end_the_run_of_another() -> None:
    desk = ready()
    desk.add_cell("cell-2", mem=1)
    run = desk.start()
    desk.report(rows.Run(run.run_id, "ada", run.request, "running", 0.0, cell_id="cell-2"))
    assert desk.state.runs[run.run_id] == run


@pytest.mark.parametrize(
    "wrong", [{"run_id": "run-x"}, {"module_sha256": "c" * 64}, {"tenant": "eve"}, {"code": "finished"}]
)
def test_a_receipt_for_something_else_fails_the_run(wrong: dict[str, str]) -> None:
    desk = ready()
    run = desk.start()
    desk.report(run, "trapped", **wrong)
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code) == (runs.FAILED, "receipt_invalid")


def test_a_code_that_nobody_knows_is_still_a_typed_end() -> None:
    desk = ready()
    run = desk.start()
    desk.report(run, "from_the_future")
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code, ended.what) == (runs.FAILED, "answer_invalid", "from_the_future: words")


def test_a_run_whose_leases_ran_out_at_the_cell_is_expired() -> None:
    desk = ready()
    run = desk.start()
    desk.report(run, "lease_expired")
    assert desk.state.runs[run.run_id].state == runs.EXPIRED


def test_a_cell_that_restarts_and_keeps_no_end_has_lost_the_run_and_it_costs_nothing() -> None:
    desk = ready()
    run = desk.start()
    desk.dial(boot_epoch=2)
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code) == (runs.FAILED, "cell_lost")
    assert money(desk) == (0, 0)


def test_an_end_that_a_restarted_cell_still_keeps_is_waited_for() -> None:
    desk = ready()
    run = desk.start()
    desk.dial(boot_epoch=2, unacknowledged=(run.run_id,))
    assert desk.state.runs[run.run_id].state == runs.RUNNING
    desk.report(run)
    assert desk.state.runs[run.run_id].state == runs.FINISHED


def test_a_run_whose_cell_never_comes_back_expires() -> None:
    desk = ready()
    run = desk.start(deadline_s=10.0)
    desk.tell(events.LinkClosed("cell-1", 1))
    desk.wait(70)
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code) == (runs.EXPIRED, "lease_expired")
    assert money(desk) == (0, 0)


def test_an_admitted_run_whose_cell_does_not_answer_is_refused_and_may_be_asked_again() -> None:
    desk = ready()
    run = desk.ask()
    desk.wait(runs.GRANT_WITHIN_S + 1, "cell-1")
    refused = desk.state.runs[run.run_id]
    assert (refused.state, refused.code, refused.retryable) == (runs.REFUSED, "placement_failed", True)
    desk.tear_down(run)
    assert desk.ask().attempt == 2


def test_a_scheduler_that_was_away_lets_cells_dial_in_before_it_gives_a_run_up() -> None:
    """The cell may hold the end of a run whose time ran out while the scheduler was down."""
    desk = ready()
    run = desk.start()
    desk.clock.advance(3600.0)
    desk.restart()
    desk.tell(events.Tick())
    assert desk.state.runs[run.run_id].state == runs.RUNNING
    desk.dial(unacknowledged=(run.run_id,))
    desk.report(run)
    assert desk.state.runs[run.run_id].state == runs.FINISHED


def test_a_clock_that_is_set_back_does_not_hold_later_runs_until_it_has_caught_up() -> None:
    desk = ready()
    desk.clock = VirtualClock(desk.now - 86400.0)
    desk.wait(1, "cell-1")
    run = desk.start(deadline_s=10.0)
    desk.wait(70)
    assert desk.state.runs[run.run_id].state == runs.EXPIRED


def test_a_scheduler_that_was_away_gives_a_run_up_when_its_cell_stays_away() -> None:
    desk = ready()
    run = desk.start()
    desk.clock.advance(3600.0)
    desk.restart()
    desk.wait(runs.RECONNECT_WITHIN_S)
    assert desk.state.runs[run.run_id].state == runs.EXPIRED


def test_a_run_that_ended_leaves_no_hold_in_memory_or_on_the_disk() -> None:
    """The run tells what it cost; a hold for each attempt of each run would be kept for ever beside it."""
    desk = ready()
    desk.report(desk.start())
    for _ in range(3):
        run = desk.ask(run_key="another-key-of-it")
        desk.say("cell-1", frames.LeaseRefused(run.lease_ids[0], 1, "placement_failed", ""))
        desk.tear_down(run)
    assert not desk.state.ledger.holds
    assert not [key for kind, key, _ in desk.memory.load() if kind == HOLD]


def test_runs_that_a_cell_refuses_are_bounded_like_any_other_refused() -> None:
    desk = ready()
    for number in range(runs.REFUSED_RUNS_KEPT_MAX + 5):
        run = desk.ask(run_key=f"key-of-the-run-{number}")
        desk.say("cell-1", frames.LeaseRefused(run.lease_ids[0], 1, "placement_failed", ""))
        desk.tear_down(run)
        desk.clock.advance(0.01)
    assert len(desk.state.runs) == runs.REFUSED_RUNS_KEPT_MAX
    assert run.run_id in desk.state.runs


def test_one_decision_may_end_several_runs_of_one_account() -> None:
    desk = ready()
    desk.start()
    desk.start(run_key="another-key-of-it")
    desk.dial(boot_epoch=2)
    assert money(desk) == (0, 0)
    assert {run.code for run in desk.state.runs.values()} == {"cell_lost"}
    assert not desk.state.ledger.holds


def test_a_long_story_of_a_cell_is_cut() -> None:
    desk = ready()
    run = desk.ask()
    desk.say("cell-1", frames.LeaseRefused(run.lease_ids[0], 1, "fenced", "x" * 10**6))
    assert len(desk.state.runs[run.run_id].what) == runs.WHAT_CHARACTERS_MAX


def test_a_start_that_is_said_again_changes_nothing() -> None:
    desk = ready()
    run = desk.start()
    desk.say("cell-1", frames.RunStarted(run.run_id))
    assert not desk.effects
    desk.say("cell-1", frames.RunStarted("run-of-nobody"))
    assert not desk.effects


def test_the_ends_of_the_table_are_ends() -> None:
    assert all(not runs.NEXT[state] for state in runs.ENDED)
    assert all(runs.NEXT[state] for state in runs.UNDER_WAY | {runs.REFUSED, runs.PLANNED})


def test_a_step_that_is_not_in_the_table_is_a_bug() -> None:
    desk = ready()
    with pytest.raises(AssertionError, match="does not go from admitted to finished"):
        runs.moved(desk.ask(), runs.FINISHED)


def test_outcomes_wait_longer_than_a_cell_pauses_between_two_attempts() -> None:
    assert outcomes.RECONNECT_WITHIN_S >= 10.0
