"""When a lease is renewed: the public design's policy, and the same moment in every process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grafos_core.renewal import POLICY, RenewalPolicy, jitter_seed, renewal_deadline

MOMENTS = st.floats(0, 4e9)
LIVES = st.floats(0, 7200)
SEEDS = st.integers(0, 2**64 - 1)


def test_the_defaults_are_those_of_the_public_design() -> None:
    assert RenewalPolicy(0.75, 0.10, 30.0, 5.0) == POLICY


@given(MOMENTS, LIVES, SEEDS)
def test_a_lease_is_due_around_three_quarters_of_its_life(created_at: float, life_s: float, seed: int) -> None:
    due_at = renewal_deadline(created_at, created_at + life_s, seed)
    assert due_at <= created_at + life_s
    assert due_at >= created_at + min(life_s, 0.65 * life_s) - 1.0
    assert due_at <= max(created_at + 0.85 * life_s, created_at + 30.0) + 1.0


@given(MOMENTS, LIVES, SEEDS)
def test_the_moment_is_the_same_each_time(created_at: float, life_s: float, seed: int) -> None:
    again = RenewalPolicy().renewal_deadline(created_at, created_at + life_s, seed)
    assert renewal_deadline(created_at, created_at + life_s, seed) == again


@given(MOMENTS, st.floats(60, 7200), SEEDS)
def test_nothing_is_renewed_in_its_first_thirty_seconds(created_at: float, life_s: float, seed: int) -> None:
    assert renewal_deadline(created_at, created_at + life_s, seed) >= int(created_at + 30.0)


def test_leases_of_one_moment_are_not_all_due_at_one_moment() -> None:
    due = {renewal_deadline(0.0, 300.0, jitter_seed(f"{number:032x}", 1)) for number in range(100)}
    assert len(due) > 30
    assert 195 <= min(due) < 210
    assert 240 < max(due) <= 255


def test_the_pause_after_an_attempt_doubles_up_to_five_seconds() -> None:
    assert [POLICY.pause_s(attempts) for attempts in (1, 2, 3, 4, 5, 10_000)] == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
