"""Ended runs are kept for long, and not for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
from desk import SETTINGS, Desk

from grafos_core.errors import GrafosError
from grafos_scheduler import events, retention, rows

FEW = replace(SETTINGS, runs_kept_max=3, runs_kept_s=86400.0)


def desk_with(count: int) -> tuple[Desk, list[rows.Run]]:
    """A tenant with so many ended runs, a minute between them."""
    desk = Desk(FEW)
    desk.add_cell(cores=2)
    ended = []
    for number in range(count):
        run = desk.start(run_key=f"key-of-the-run-no-{number}")
        desk.report(run)
        desk.tear_down(run)
        ended.append(run)
        desk.wait(60, "cell-1")
    return desk, ended


def kept(desk: Desk, ended: list[rows.Run]) -> list[int]:
    return [number for number, run in enumerate(ended) if run.run_id in desk.state.runs]


def artifacts(desk: Desk) -> set[str]:
    return {key for kind, key, _ in desk.memory.load() if kind == rows.ARTIFACT}


def test_of_too_many_the_oldest_go_with_what_they_left_but_not_in_their_first_hour() -> None:
    desk, ended = desk_with(5)
    assert kept(desk, ended) == [0, 1, 2, 3, 4]
    desk.clock.advance(retention.KEY_KEPT_S)
    desk.tell(events.Tick())
    assert kept(desk, ended) == [2, 3, 4]
    assert artifacts(desk) == {run.run_id for run in ended[2:]}


@pytest.mark.parametrize("restarts", [False, True])
def test_what_ended_long_ago_goes(*, restarts: bool) -> None:
    desk, ended = desk_with(3)
    if restarts:
        desk.restart()
    desk.clock.advance(FEW.runs_kept_s - 150.0)
    desk.tell(events.Tick())
    assert kept(desk, ended) == [1, 2]


def test_what_they_cost_stays_counted() -> None:
    desk, ended = desk_with(5)
    spent = desk.state.ledger.accounts["slice-1"].spent_micro_cents
    desk.clock.advance(2 * FEW.runs_kept_s)
    desk.tell(events.Tick())
    assert kept(desk, ended) == []
    assert desk.state.ledger.accounts["slice-1"].spent_micro_cents == spent > 0


def test_the_same_key_finds_its_run_as_long_as_it_is_kept_and_then_is_a_new_one() -> None:
    desk, ended = desk_with(1)
    assert desk.ask(run_key="key-of-the-run-no-0").run_id == ended[0].run_id
    desk.clock.advance(2 * FEW.runs_kept_s)
    desk.tell(events.Tick())
    desk.give_slice("slice-2", 10**9)
    desk.dial()
    assert desk.ask(run_key="key-of-the-run-no-0").run_id != ended[0].run_id


def test_a_run_whose_lease_is_fenced_stays_until_the_fence_is_cleared() -> None:
    desk, _ = desk_with(0)
    run = desk.start()
    desk.report(run)
    desk.tear_down(run, fenced=True)
    desk.clock.advance(2 * FEW.runs_kept_s)
    desk.tell(events.Tick())
    assert run.run_id in desk.state.runs
    desk.tell(events.FenceClearAsked(run.lease_ids[0]))
    desk.tear_down(run)
    desk.tell(events.Tick())
    assert run.run_id not in desk.state.runs


def test_a_tick_removes_a_bounded_number() -> None:
    desk = Desk(replace(SETTINGS, runs_kept_max=0))
    desk.add_cell(cores=2)
    for number in range(retention.COLLECTED_AT_ONCE_MAX + 10):
        run = desk.start(run_key=f"key-of-the-run-no-{number}")
        desk.report(run)
        desk.tear_down(run)
    desk.clock.advance(retention.KEY_KEPT_S + 1.0)
    desk.tell(events.Tick())
    assert len(desk.state.runs) == 10
    desk.tell(events.Tick())
    assert not desk.state.runs


def test_a_collected_run_is_unknown_to_whoever_cancels_it() -> None:
    desk, ended = desk_with(1)
    desk.clock.advance(2 * FEW.runs_kept_s)
    desk.tell(events.Tick())
    with pytest.raises(GrafosError) as refusal:
        desk.tell(events.RunCancelAsked("ada", ended[0].run_id))
    assert refusal.value.code == "run_unknown"
