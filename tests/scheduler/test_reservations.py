"""One hold for many runs: nothing outside of it is touched, and what they did not need goes home."""

from __future__ import annotations

import pytest
from desk import RATE, Desk

from grafos_core.errors import GrafosError
from grafos_core.receipts import Settlement
from grafos_scheduler import reservations, retention, runs
from grafos_scheduler.reservation_events import ReservationAsked, ReservationEnded
from grafos_scheduler.reservation_messages import ReservationView
from grafos_scheduler.tenant_events import SliceClosed

KEY = "a-key-of-the-program"
WORST = RATE * 10 // 3600 // 2
"""Of one run with a deadline of ten seconds, on half a cell."""


def money(desk: Desk) -> tuple[int, int]:
    account = desk.state.ledger.accounts["slice-1"]
    return account.spent_micro_cents, account.held_micro_cents


def ready(budget: int = 100 * WORST) -> Desk:
    desk = Desk(budget_micro_cents=budget)
    desk.add_cell(cores=2)
    return desk


def reserve(desk: Desk, amount: int = 2 * WORST, key: str = KEY, life_s: float = 3600.0) -> ReservationView:
    answer = desk.tell(ReservationAsked("ada", key, amount, desk.now + life_s)).answer
    assert isinstance(answer, ReservationView)
    return answer


def end(desk: Desk, key: str = KEY) -> ReservationView:
    answer = desk.tell(ReservationEnded("ada", key)).answer
    assert isinstance(answer, ReservationView)
    return answer


def test_runs_are_held_on_it_and_what_they_cost_is_all_that_is_spent() -> None:
    desk = ready()
    reserve(desk)
    assert money(desk) == (0, 2 * WORST)
    run = desk.start(deadline_s=10.0, reservation=KEY)
    assert money(desk) == (0, 2 * WORST)
    assert reserve(desk).held_micro_cents == WORST
    desk.report(run, seconds=2.0)
    ended = end(desk)
    assert (ended.closed, ended.spent_micro_cents, ended.held_micro_cents) == (True, 1000, 0)
    assert money(desk) == (1000, 0)


def test_what_is_not_reserved_is_not_spent_though_the_tenant_has_it() -> None:
    desk = ready()
    reserve(desk, WORST)
    desk.start(deadline_s=10.0, reservation=KEY)
    with pytest.raises(GrafosError) as refused:
        desk.start(run_key="another-key-of-a-run", deadline_s=10.0, reservation=KEY)
    assert refused.value.code == "budget_exceeded"


def test_what_is_reserved_nobody_else_spends() -> None:
    desk = ready(2 * WORST)
    reserve(desk, 2 * WORST)
    with pytest.raises(GrafosError) as refused:
        desk.start(deadline_s=10.0)
    assert refused.value.code == "budget_exceeded"
    with pytest.raises(GrafosError) as too_much:
        reserve(desk, 1, "another-key-of-a-program")
    assert too_much.value.code == "budget_exceeded"


def test_the_same_key_holds_once_and_another_amount_is_another_reservation() -> None:
    desk = ready()
    assert reserve(desk) == reserve(desk)
    assert money(desk) == (0, 2 * WORST)
    with pytest.raises(GrafosError) as reused:
        reserve(desk, WORST)
    assert reused.value.code == "run_key_reused"


def test_closed_under_a_run_it_is_settled_when_that_has_ended_also_by_a_scheduler_that_was_restarted() -> None:
    desk = ready()
    reserve(desk)
    run = desk.start(deadline_s=10.0, reservation=KEY)
    closing = end(desk)
    assert (closing.closed, closing.held_micro_cents) == (True, WORST)
    assert money(desk) == (0, 2 * WORST)
    with pytest.raises(GrafosError) as refused:
        desk.start(run_key="another-key-of-a-run", deadline_s=10.0, reservation=KEY)
    assert refused.value.code == "not_found"
    desk.report(run, seconds=2.0)
    desk.restart()
    desk.wait(1)
    assert money(desk) == (1000, 0)
    assert end(desk).spent_micro_cents == 1000


def test_closed_under_a_run_on_a_free_cell_it_stands_until_that_has_ended() -> None:
    desk = ready()
    desk.set_terms(rate=0)
    reserve(desk, 0)
    run = desk.start(deadline_s=10.0, reservation=KEY)
    assert end(desk).held_micro_cents == 0
    desk.wait(1, "cell-1")
    desk.report(run, seconds=2.0)
    assert desk.state.runs[run.run_id].state == runs.FINISHED
    desk.wait(1, "cell-1")
    assert reservations.state_of(next(iter(desk.state.reservations.values()))) == reservations.SETTLED
    assert not desk.state.ledger.holds


def test_nobody_ends_it_and_it_runs_out_and_is_forgotten_once_nobody_asks_again() -> None:
    desk = ready()
    reserve(desk, life_s=60.0)
    desk.wait(61, "cell-1")
    assert money(desk) == (0, 0)
    assert end(desk).closed
    desk.clock.advance(retention.KEY_KEPT_S)
    desk.wait(1)
    with pytest.raises(GrafosError) as gone:
        end(desk)
    assert gone.value.code == "not_found"
    assert [name for name in desk.state.ledger.accounts if name != "slice-1"] == []


def test_a_run_that_outlasts_it_is_refused_and_so_is_one_of_another_s() -> None:
    desk = ready()
    desk.give_slice("slice-2", 100 * WORST, tenant="bea")
    reserve(desk, life_s=5.0)
    for asked in ({"deadline_s": 10.0}, {"deadline_s": 1.0, "tenant": "bea"}):
        with pytest.raises(GrafosError) as refused:
            desk.start(reservation=KEY, **asked)
        assert refused.value.code == "not_found"
    assert [run.state for run in desk.state.runs.values()] == [runs.REFUSED, runs.REFUSED]


def test_money_that_ends_before_it_pays_for_nothing_of_it() -> None:
    desk = ready()
    with pytest.raises(GrafosError) as refused:
        reserve(desk, life_s=7 * 86400.0)
    assert refused.value.code == "budget_exceeded"


def test_a_closed_slice_closes_what_is_held_on_it_and_pays_for_no_further_run() -> None:
    desk = ready()
    reserve(desk)
    run = desk.start(deadline_s=10.0, reservation=KEY)
    settlement = desk.tell(SliceClosed("slice-1")).answer
    assert isinstance(settlement, Settlement)
    assert not settlement.final
    with pytest.raises(GrafosError) as refused:
        desk.start(run_key="another-key-of-a-run", deadline_s=10.0, reservation=KEY)
    assert refused.value.code == "not_found"
    desk.report(run, seconds=2.0)
    desk.wait(1)
    settled = desk.tell(SliceClosed("slice-1")).answer
    assert isinstance(settled, Settlement)
    assert (settled.final, settled.spent_micro_cents) == (True, 1000)


def test_a_run_that_could_only_wait_beyond_it_is_refused_for_the_room_that_there_is_not() -> None:
    desk = ready()
    reserve(desk, life_s=100.0)
    for number in range(2):
        desk.start(run_key=f"key-of-a-run-that-is-{number}")
    with pytest.raises(GrafosError) as refused:
        desk.start(run_key="another-key-of-a-run", deadline_s=10.0, reservation=KEY)
    assert refused.value.code == "placement_failed"


def test_whoever_lists_them_sees_what_each_is_for_and_which_runs_of_it_go() -> None:
    desk = ready()
    desk.tell(ReservationAsked("ada", KEY, 2 * WORST, desk.now + 3600.0, "sums"))
    run = desk.start(deadline_s=10.0, reservation=KEY)
    [told] = reservations.listed(desk.state, "ada")
    assert (told.program, told.state, told.run_ids) == ("sums", reservations.OPEN, (run.run_id,))
    assert reservations.listed(desk.state, "") == [told]
    assert reservations.listed(desk.state, "bob") == []
    end(desk)
    assert reservations.listed(desk.state, "ada")[0].state == reservations.CLOSING
    desk.report(run, seconds=2.0)
    end(desk)
    [told] = reservations.listed(desk.state, "ada")
    assert (told.state, told.run_ids, told.spent_micro_cents) == (reservations.SETTLED, (), 1000)
