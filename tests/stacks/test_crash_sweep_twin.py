"""Die at every call of the cloud, throw all memory away, go on: nothing is left behind and nothing is made twice.

On the in-memory twin, whose reads may miss for 30 seconds what was just made, with other people's things and copies of
our tags around. The same sweeps on the emulated clouds are in ``tests/scenarios``.
"""

from __future__ import annotations

import random
import time

import pytest
from crash_cases import LAGS_S, SCENARIOS, Case, Traveller
from crash_sweep import Fuse, check_gone, check_whole, dies, make, undo
from decoys import copies, foreign
from twin_ground import TwinGround

from grafos_connectors.contract import Kind
from grafos_core.errors import GrafosError

DECOYS = 100
SEED = 20261121
SECONDS = 10.0
"""What `make test` gives to cases by chance; `make deep` looks at all."""
PLANTED = (Kind.NETWORK, Kind.FIREWALL, Kind.GATEWAY, Kind.SUBNET, Kind.MACHINE, Kind.ADDRESS)
ALL = pytest.mark.parametrize("scenario", range(len(SCENARIOS)), ids=[one.name.replace(", ", "-") for one in SCENARIOS])


def fresh(lag_s: float) -> TwinGround:
    ground = TwinGround(lag_s=lag_s)
    mine = list(copies(ground.fabric, "aws", PLANTED))
    ground.plant([*mine, *foreign(DECOYS - len(mine), PLANTED)])
    ground.clock.advance(60)
    return ground


def test_dying_at_moments_by_chance_leaves_nothing_makes_nothing_twice_and_touches_nothing_else() -> None:
    traveller = Traveller(fresh)
    traveller.some(random.Random(SEED), time.monotonic() + SECONDS)
    traveller.tally.show("in-memory twin, listing lag 0 and 30 s, journal kept and lost: a share")
    assert traveller.tally.points.total() >= 10


@pytest.mark.deep
@ALL
def test_dying_anywhere_leaves_nothing_makes_nothing_twice_and_touches_nothing_else(scenario: int) -> None:
    traveller = Traveller(fresh)
    for lag in range(len(LAGS_S)):
        for lost in (0, 1):
            traveller.all_points(scenario, lag, lost)
    traveller.tally.show("in-memory twin, listing lag 0 and 30 s, journal kept and lost")
    assert traveller.tally.points.total() >= 40


@pytest.mark.deep
@ALL
@pytest.mark.parametrize("lag", range(len(LAGS_S)), ids=[f"lag-{lag:.0f}s" for lag in LAGS_S])
@pytest.mark.parametrize("lost", [0, 1], ids=["journal-kept", "journal-lost"])
def test_dying_at_every_pair_of_moments_leaves_nothing(scenario: int, lag: int, lost: int) -> None:
    """The second death is in the run that goes on after the first."""
    traveller = Traveller(fresh)
    traveller.all_pairs(scenario, lag, lost)
    traveller.tally.show(f"in-memory twin, pairs, listing lag {LAGS_S[lag]:.0f} s")
    assert traveller.tally.pairs.total() >= 40


def test_a_case_is_replayed_by_one_number() -> None:
    for case in (Case(0, 0, 0, 0), Case(10, 1, 1, 999, 999), Case(3, 0, 1, 17), Case(3, 0, 1, 17, 0)):
        assert Case.of(case.number) == case
    Traveller(fresh).run(Case.of(Case(0, 1, 1, 40, 20).number))


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
