"""Die at every call of the cloud, throw all memory away, go on: nothing is left behind and nothing is made twice.

On the in-memory twin, whose reads may miss for 30 seconds what was just made. The same sweep on an emulated EC2 is in
``tests/scenarios``.
"""

from __future__ import annotations

import random

import pytest
from crash_sweep import (
    Fuse,
    check_gone,
    check_whole,
    dies,
    every,
    make,
    sweep_another,
    sweep_provision,
    sweep_teardown,
    undo,
)
from twin_ground import TwinGround

from grafos_core.errors import GrafosError

LAGS = pytest.mark.parametrize("lag_s", [0.0, 30.0], ids=["no-lag", "lag-30s"])
JOURNALS = pytest.mark.parametrize("lose", [False, True], ids=["journal-kept", "journal-lost"])


@LAGS
def test_a_provision_that_died_anywhere_is_finished_by_the_next_and_undone_whole(lag_s: float) -> None:
    count = sweep_provision(lambda: TwinGround(lag_s=lag_s), every, rerun=True)
    print(f"provision, listing lag {lag_s:.0f} s: {count} points, 0 orphans, 0 duplicates")
    assert count >= 60


@LAGS
@JOURNALS
def test_a_provision_that_died_anywhere_is_undone_without_being_finished(lag_s: float, *, lose: bool) -> None:
    sweep_provision(lambda: TwinGround(lag_s=lag_s), every, rerun=False, lose=lose)


@LAGS
def test_a_provision_that_died_anywhere_is_finished_with_its_journal_lost(lag_s: float) -> None:
    sweep_provision(lambda: TwinGround(lag_s=lag_s), every, rerun=True, lose=True)


@LAGS
@JOURNALS
def test_a_teardown_that_died_anywhere_is_finished_by_the_next(lag_s: float, *, lose: bool) -> None:
    count = sweep_teardown(lambda: TwinGround(lag_s=lag_s), every, lose=lose)
    print(f"teardown, listing lag {lag_s:.0f} s, journal {'lost' if lose else 'kept'}: {count} points, 0 orphans")
    assert count >= 40


@LAGS
def test_another_cell_is_made_over_a_network_whose_removal_died_anywhere(lag_s: float) -> None:
    sweep_another(lambda: TwinGround(lag_s=lag_s), every)


@pytest.mark.parametrize("seed", range(3))
def test_dying_several_times_at_seeded_moments_leaves_nothing_either(seed: int) -> None:
    """Each further death is in a run that recovers from the one before."""
    chance = random.Random(seed)
    for _ in range(25):
        ground = TwinGround(lag_s=chance.choice([0.0, 3.0, 30.0]))
        for _ in range(chance.randrange(2, 6)):
            act = chance.choice([make, make, undo])
            try:
                dies(ground, act, Fuse(chance.randrange(70)))
            except GrafosError as error:
                if error.code != "stack_busy":  # a half torn down cell is first to be torn down
                    raise
            if chance.random() < 0.2:
                ground.lose_journal()
        check_gone(ground, seed)


@pytest.mark.parametrize("act", [make, undo], ids=["provision", "teardown"])
def test_ctrl_c_at_random_moments_leaves_a_journal_that_goes_on(act: object) -> None:
    """Unlike a dead process, an interrupted one still runs its own clean-up on the way out."""
    chance = random.Random(11)
    for _ in range(40):
        ground = TwinGround(lag_s=chance.choice([0.0, 30.0]))
        if act is undo:
            make(ground.hands())
        point = chance.randrange(90)
        interrupted = dies(ground, act, Fuse(point, death=KeyboardInterrupt))
        if act is make or interrupted:
            if act is make:
                make(ground.hands())
                check_whole(ground, point)
            check_gone(ground, point)


def test_another_fabric_in_the_same_account_is_never_touched() -> None:
    mine, other = TwinGround(), TwinGround()
    other.cloud, other.clock = mine.cloud, mine.clock
    make(other.hands())
    theirs = other.live()
    for point in range(0, 120, 7):
        if not dies(mine, make, Fuse(point)):
            break
        check_gone_but(mine, theirs)
    make(mine.hands())
    check_gone_but(mine, theirs)


def check_gone_but(ground: TwinGround, others: list[str]) -> None:
    undo(ground.hands())
    assert ground.live() == others


@pytest.mark.deep
@pytest.mark.parametrize("first", range(4))
def test_dying_at_every_pair_of_moments_leaves_nothing(first: int) -> None:
    """The second death is in the run that recovers from the first."""
    for at in range(first, 160, 4):
        for then in range(0, 160, 3):
            ground = TwinGround(lag_s=30.0 if at % 2 else 0.0)
            if not dies(ground, make, Fuse(at)):
                return
            if not dies(ground, make, Fuse(then)):
                break
            check_gone(ground, at)
