"""When a certificate is renewed, and when it is over: decided from two clocks, chance and how asking went."""

from __future__ import annotations

import random

import pytest

from grafos_cell.renewing_identity import OVER, PAUSE_MOST_S, RENEW, WAIT, Moment, Tries, Watched, decide, watch
from grafos_core.errors import GrafosError

BEGAN, HOUR = 1_800_000_000.0, 3600.0
HERE = Moment(BEGAN, 50.0)
UNREACHABLE = GrafosError("scheduler_unreachable", "nobody answers")
REFUSED = GrafosError("certificate_refused", "not with that one")


def watched(seed: int = 1) -> Watched:
    return watch(BEGAN, BEGAN + HOUR, HERE, random.Random(seed))


def failed(fault: GrafosError, times: int, at: Moment) -> Tries:
    tries = Tries()
    for _ in range(times):
        tries = tries.failed(fault, at, random.Random(1))
    return tries


def test_it_is_due_about_halfway_and_cells_that_came_together_do_not_renew_together() -> None:
    due = {watched(seed).due.wall - BEGAN for seed in range(50)}
    assert min(due) >= 0.4 * HOUR
    assert max(due) <= 0.6 * HOUR
    assert len(due) > 40


def test_until_then_nothing_is_asked() -> None:
    assert decide(watched(), Tries(), HERE.later(0.39 * HOUR)) == WAIT
    assert decide(watched(), Tries(), HERE.later(0.61 * HOUR)) == RENEW


def test_a_wall_clock_that_was_set_back_puts_nothing_off() -> None:
    assert decide(watched(), Tries(), Moment(BEGAN - 86400, HERE.steady + 0.61 * HOUR)) == RENEW


def test_a_machine_that_slept_renews_when_it_wakes() -> None:
    assert decide(watched(), Tries(), Moment(BEGAN + 5 * HOUR, HERE.steady + 1)) == RENEW


def test_after_a_try_that_failed_it_pauses_for_longer_and_longer() -> None:
    pauses = [failed(UNREACHABLE, times, HERE).again_at_steady - HERE.steady for times in range(1, 12)]
    assert pauses[0] < pauses[3] < pauses[5]
    assert max(pauses) <= PAUSE_MOST_S
    now = HERE.later(0.7 * HOUR)
    tries = failed(UNREACHABLE, 4, now)
    assert decide(watched(), tries, now) == WAIT
    assert decide(watched(), tries, now.later(PAUSE_MOST_S)) == RENEW


def test_it_is_over_when_it_ran_out_and_nobody_answered() -> None:
    now = HERE.later(HOUR + 1)
    assert decide(watched(), Tries(), now) == RENEW
    assert decide(watched(), failed(UNREACHABLE, 1, now), now) == OVER


def test_it_is_not_over_by_our_own_clock_alone() -> None:
    """A clock that was set ahead by hours while the orchestrator is away for a moment."""
    now = Moment(BEGAN + 5 * HOUR, HERE.steady + 10)
    tries = failed(UNREACHABLE, 1, now)
    assert decide(watched(), tries, now.later(PAUSE_MOST_S)) == RENEW


def test_it_is_over_when_the_orchestrator_does_not_take_what_has_run_out() -> None:
    now = Moment(BEGAN + 5 * HOUR, HERE.steady + 10)
    assert decide(watched(), failed(REFUSED, 1, now), now) == OVER


def test_a_refusal_before_its_end_is_no_end() -> None:
    now = HERE.later(0.7 * HOUR)
    assert decide(watched(), failed(REFUSED, 3, now), now.later(PAUSE_MOST_S)) == RENEW


@pytest.mark.parametrize("seed", range(5))
def test_a_certificate_that_had_run_out_before_we_began_is_tried_once(seed: int) -> None:
    old = watch(BEGAN - 5 * HOUR, BEGAN - 4 * HOUR, HERE, random.Random(seed))
    assert decide(old, Tries(), HERE) == RENEW
    assert decide(old, failed(UNREACHABLE, 1, HERE), HERE) == OVER
