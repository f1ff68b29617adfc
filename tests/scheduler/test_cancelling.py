"""A run that its tenant cancels: it ends once, pays for what it used, and leaves nothing leased."""

from __future__ import annotations

import pytest
from desk import Desk

from grafos_core.errors import GrafosError
from grafos_scheduler import events, frames, messages, rows, runs, views


def ready() -> Desk:
    desk = Desk()
    desk.add_cell(cores=2)
    return desk


def cancel(desk: Desk, run: rows.Run, tenant: str = "ada") -> messages.RunView:
    answer = desk.tell(events.RunCancelAsked(tenant, run.run_id)).answer
    assert isinstance(answer, messages.RunView)
    return answer


def held(desk: Desk) -> int:
    return desk.state.ledger.accounts["slice-1"].held_micro_cents


def test_one_that_waits_for_its_leases_ends_at_once_and_costs_nothing() -> None:
    desk = ready()
    run = desk.ask()
    assert cancel(desk, run).state == "cancelled"
    assert desk.frames(frames.TearDownLease)
    assert (held(desk), desk.state.runs[run.run_id].cost_micro_cents) == (0, 0)
    desk.grant_all(run)  # the cell had not heard of it yet
    assert desk.frames(frames.StartRun) == []


def test_one_that_runs_ends_with_the_cell_s_word_and_pays_for_its_time() -> None:
    desk = ready()
    run = desk.start()
    assert cancel(desk, run).state == "running"
    assert [frame.lease_id for frame in desk.frames(frames.TearDownLease)] == list(run.lease_ids)
    desk.report(run, "lease_expired", seconds=2.0)
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code, ended.cost_micro_cents) == (runs.CANCELLED, "cancelled", 1000)
    assert held(desk) == 0


def test_one_that_finished_before_the_word_came_has_finished() -> None:
    desk = ready()
    run = desk.start()
    cancel(desk, run)
    desk.report(run)
    assert desk.state.runs[run.run_id].state == runs.FINISHED


def test_one_that_its_cell_never_began_ends_when_its_leases_are_gone() -> None:
    desk = ready()
    run = desk.ask(lease_mem_bytes=4096)
    desk.grant_all(run)
    cancel(desk, run)
    first, second = desk.state.leases_of(run)
    desk.say(run.cell_id, frames.LeaseTornDown(first.lease_id, first.generation))
    assert desk.state.runs[run.run_id].state == runs.PLACED
    desk.say(run.cell_id, frames.LeaseTornDown(second.lease_id, second.generation))
    assert (desk.state.runs[run.run_id].state, held(desk)) == (runs.CANCELLED, 0)


def test_one_whose_cell_is_silent_ends_when_its_time_is_over() -> None:
    desk = ready()
    run = desk.start()
    cancel(desk, run)
    desk.wait(120)
    assert (desk.state.runs[run.run_id].state, held(desk)) == (runs.CANCELLED, 0)


def test_a_link_that_opens_again_is_told_to_tear_down_and_nothing_is_started() -> None:
    desk = ready()
    run = desk.ask()
    desk.grant_all(run)
    cancel(desk, run)
    desk.dial()
    assert desk.frames(frames.TearDownLease)
    assert desk.frames(frames.StartRun) == desk.frames(frames.GrantLease) == []


def test_again_or_after_the_end_nothing_changes() -> None:
    desk = ready()
    run, other = desk.start(), desk.start(run_key="key-of-the-second-run")
    cancel(desk, run)
    assert desk.tell(events.RunCancelAsked("ada", run.run_id)).batch == ()
    desk.report(other)
    decision = desk.tell(events.RunCancelAsked("ada", other.run_id))
    assert (decision.batch, decision.effects) == ((), ())
    assert decision.answer == views.run_view(desk.state, desk.state.runs[other.run_id])


def test_nobody_cancels_the_run_of_another() -> None:
    desk = ready()
    run = desk.start()
    for tenant, run_id in (("eve", run.run_id), ("ada", "run-of-nobody")):
        with pytest.raises(GrafosError) as refused:
            desk.tell(events.RunCancelAsked(tenant, run_id))
        assert refused.value.code == "run_unknown"


def test_an_admission_that_is_only_asked_about_tells_cell_price_and_leases() -> None:
    desk = ready()
    decision = desk.tell(events.RunRequested("ada", desk.request(lease_mem_bytes=4096)))
    seen = views.admission(decision)
    assert (seen.admitted, seen.cell_id, seen.share) == (True, "cell-1", "1/2")
    assert seen.leases == {"cpu": 1, "mem": 4096}
    assert seen.worst_case_micro_cents == held(desk) > 0
