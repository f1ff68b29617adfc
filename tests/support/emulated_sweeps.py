"""The sweeps of one emulated cloud, as each cloud's test file runs them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from crash_cases import LAGS_S, ORCHESTRATORS, SCENARIOS, Case, Traveller
from crash_sweep import make, spec, undo
from decoys import copies, foreign
from emulated_ground import EmulatedCloud, EmulatedGround

from grafos_stacks import sweeping

DECOYS = 100
SEED = int(os.environ.get("GRAFOS_CRASH_SEED", "20261121"))
SECONDS, ORCHESTRATOR_SECONDS = 12.0, 5.0
"""What `make test` gives to each cloud, for cells and for the machine of an orchestrator."""
CASE_VARIABLE = "GRAFOS_CRASH_CASE"
ALL_SCENARIOS = pytest.mark.parametrize(
    "scenario", range(len(SCENARIOS)), ids=[one.name.replace(", ", "-") for one in SCENARIOS]
)


def planted(cloud: EmulatedCloud) -> EmulatedCloud:
    """The account with a hundred things of other people, some of which bear copies of our tags."""
    ground = EmulatedGround(cloud)
    mine = list(copies(cloud.master, cloud.provider, cloud.plantable))
    ground.plant([*mine, *foreign(DECOYS - len(mine), cloud.plantable)])
    assert ground.untouched()
    return cloud


def traveller(cloud: EmulatedCloud, *, orchestrator: bool = False) -> Traveller:
    """Walks through the cases of a cloud."""
    if orchestrator:
        return Traveller(lambda lag_s: EmulatedGround(cloud, lag_s, cloud.whole_orchestrator), ORCHESTRATORS)
    return Traveller(lambda lag_s: EmulatedGround(cloud, lag_s))


def by_chance(
    cloud: EmulatedCloud, seconds: float = SECONDS, pairs: float = 0.3, *, orchestrator: bool = False
) -> None:
    """Cases by chance for so long."""
    there = traveller(cloud, orchestrator=orchestrator)
    there.some(random.Random(SEED), time.monotonic() + seconds, pairs=pairs)
    there.tally.show(f"emulated {cloud.provider}, a share in {seconds:.0f} s, seed {SEED}, {len(cloud.planted)} decoys")
    assert there.tally.checked.total() >= 1


def every_point(cloud: EmulatedCloud, scenario: int, *, orchestrator: bool = False) -> None:
    """Every moment of one scenario, with and without a lag, with the journal kept and lost."""
    there = traveller(cloud, orchestrator=orchestrator)
    for lag in range(len(LAGS_S)):
        for lost in (0, 1):
            there.all_points(scenario, lag, lost)
    there.tally.show(f"emulated {cloud.provider}, every point, lag 0 and 30 s, journal kept and lost")


def foreign_things(cloud: EmulatedCloud, count: int) -> None:
    """A cell is made, swept, recovered and torn down among so many things of other people."""
    ground = EmulatedGround(cloud)
    mine = list(copies(cloud.master, cloud.provider, cloud.plantable))
    ground.plant([*mine * (count // 10 // len(mine)), *foreign(count - count // 10, cloud.plantable)])
    make(ground.hands())
    ground.lose_journal()
    sweeping.look(ground.hands())
    undo(ground.hands())
    assert ground.live() == []
    assert ground.untouched()
    print(f"emulated {cloud.provider}: {len(cloud.planted):,} things of others, 0 touched")


def replayed(cloud: EmulatedCloud) -> None:
    """The case whose number the environment names, else one that shows how."""
    there = traveller(cloud)
    there.run(Case.of(int(os.environ.get(CASE_VARIABLE, Case(0, 1, 1, 30, 12).number))))


def changing_calls(cloud: EmulatedCloud) -> list[int]:
    """How many calls change something for a region's first cell, a further one, its teardown, and the last one's, which
    takes the network along. Nothing is left of them."""
    ground, one, two = EmulatedGround(cloud), f"{cloud.provider}-one", f"{cloud.provider}-two"
    counts: list[int] = []

    def count(what: str, act: Callable[[], object]) -> None:
        since = len(cloud.clouds.journal())
        act()
        calls = [call.action for call in cloud.clouds.journal()[since:] if call.mutating]
        print(f"{what}: {len(calls)} ({', '.join(calls)})")
        counts.append(len(calls))

    count("first cell", lambda: make(ground.hands(), spec(one, cloud.provider)))
    count("further cell", lambda: make(ground.hands(), spec(two, cloud.provider)))
    count("teardown of a further cell", lambda: undo(ground.hands(), two))
    count("teardown of the last cell, with the network", lambda: undo(ground.hands(), one))
    assert ground.live() == []
    return counts


class EmulatedSweeps:
    """What holds on every emulated cloud. Inherit, and give a fixture ``cloud``."""

    # Who dies in the middle of a request does not close its socket; a real process takes it along.
    pytestmark = pytest.mark.filterwarnings("ignore:(?s).*unclosed <socket:pytest.PytestUnraisableExceptionWarning")

    def test_dying_at_moments_by_chance_leaves_nothing_makes_nothing_twice_and_touches_nothing_else(
        self, cloud: EmulatedCloud
    ) -> None:
        by_chance(cloud)

    def test_so_it_is_with_the_machine_of_an_orchestrator_and_the_address_that_outlives_it(
        self, cloud: EmulatedCloud
    ) -> None:
        by_chance(cloud, ORCHESTRATOR_SECONDS, orchestrator=True)

    @pytest.mark.deep
    @ALL_SCENARIOS
    def test_dying_at_every_request_of_an_orchestrator_s_leaves_nothing_and_makes_nothing_twice(
        self, cloud: EmulatedCloud, scenario: int
    ) -> None:
        every_point(cloud, scenario, orchestrator=True)

    @pytest.mark.deep
    @ALL_SCENARIOS
    def test_dying_at_every_request_leaves_nothing_makes_nothing_twice_and_touches_nothing_else(
        self, cloud: EmulatedCloud, scenario: int
    ) -> None:
        every_point(cloud, scenario)

    @pytest.mark.deep
    def test_dying_twice_by_chance_leaves_nothing_either(self, cloud: EmulatedCloud) -> None:
        by_chance(cloud, seconds=900.0, pairs=1.0)

    @pytest.mark.deep
    def test_ten_thousand_things_of_others_are_not_touched(self, cloud: EmulatedCloud) -> None:
        foreign_things(cloud, 10_000)

    def test_replay_of_one_case(self, cloud: EmulatedCloud) -> None:
        replayed(cloud)
