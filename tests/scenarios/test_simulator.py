"""The fabric under a simulator: any seed, and a kill at every single place of one deploy.

A failure names its seed; ``World(seed).run()`` plays it again to the byte.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import pytest

from grafos_scheduler import rows
from grafos_testkit.scenes import Faults, Scene
from grafos_testkit.stories import joining
from grafos_testkit.world import World

SHARE_OF_SEEDS_S = 5.0
"""What `make test` spends on fresh seeds, on whatever machine."""
SEEDS_AT_LEAST = 40
DEEP_SEEDS = 20_000

ONE_DEPLOY = Scene(cells=1, clients=1, budget_micro_cents=40_000_000, well_behaved=True)
CALM = Faults(until_s=20.0)
ONE_SEED = 1


RARE = (
    "never comes back",
    "'fenced': True",
    "'generation': 2",
    "'unacknowledged'",
    "run-forged",
    "ClearFence",
    "'state': 'grace_running'",
    "'state': 'checkpoint_reported'",
    "'state': 'forced_teardown'",
    "'state': 'torndown'",
)

RARE_ENDS = (
    "finished",
    "failed program_error",
    "failed cell_lost",
    "failed lease_revoked",
    "cancelled cancelled",
    "failed deadline_exceeded",
    "expired lease_expired",
)
GAVE_WAY = "somebody gave way to a run of a higher tier"
RARE_ENDS_AMONG_JOINERS = ("finished", "failed cell_lost", "failed cell_revoked", "failed lease_revoked")
RARE_AMONG_JOINERS = (
    "is renewed",
    "is not renewed",
    "is torn down",
    "turned away: cell_revoked",
    "turned away: token_expired",
    "turned away: generation_stale",
    "the copy of cell-0 is gone",
    "refused: error[enrolment_",
    "is in with cell-0-key-3",
    "DrainAsked",
    "KILL scheduler",
)

LONG = Scene(
    cells=1,
    clients=1,
    budget_micro_cents=400_000_000,
    well_behaved=True,
    deadline_s=100.0,
    least_share_of_deadline=0.9,
)
"""A run that outlives its first leases."""
TAKEN_BACK = replace(LONG, takes_back=1.0)
"""A run whose leases are taken back while it goes."""


ENDS_OF_A_LONG_RUN = {
    "finished",
    "cancelled cancelled",
    "expired lease_expired",
    "failed cell_lost",
    "failed lease_revoked",
    "failed worker_lost",
}


def one_deploy(*kill_at: int) -> World:
    return World(ONE_SEED, ONE_DEPLOY, Faults(until_s=20.0, kill_at=frozenset(kill_at))).run()


def outcome(world: World) -> str:
    [run] = world.scheduler.state.runs.values()
    return outcome_of(run)


def outcome_of(run: rows.Run) -> str:
    return f"{run.state} {run.code}".strip()


def test_what_must_be_true_is_true_at_each_step_of_every_seed() -> None:
    until = time.monotonic() + SHARE_OF_SEEDS_S
    seeds = steps = 0
    while seeds < SEEDS_AT_LEAST or time.monotonic() < until:
        steps += World(seeds).run().steps
        seeds += 1
    print(f"{seeds} seeds, {steps} steps")


def test_one_integer_replays_a_story_to_the_byte() -> None:
    for seed in range(5):
        assert World(seed).run().trace == World(seed).run().trace


def test_two_seeds_tell_two_stories() -> None:
    assert World(1).run().trace != World(2).run().trace


def missing_after(stories: Iterable[World], ends: Collection[str], words: Collection[str]) -> set[str]:
    """Plays the stories until runs ended in all these ways and traces said all these words; gives what never came."""
    wanted = {*ends, *words}
    for world in stories:
        told = "\n".join(world.run().trace)
        seen = {outcome_of(run) for run in world.scheduler.state.runs.values()}
        wanted -= {end for end in ends if end in seen} | {word for word in words if word in told}
        if world.ghost.gave_way:
            wanted.discard(GAVE_WAY)
        if not wanted:
            break
    return wanted


def test_the_storm_reaches_what_is_rare() -> None:
    """A simulator that never sees a fence, a restart or a lost cell proves nothing about them."""
    assert not missing_after(map(World, range(80)), RARE_ENDS, (*RARE, GAVE_WAY))


def test_a_deploy_in_calm_finishes() -> None:
    assert outcome(World(ONE_SEED, ONE_DEPLOY, CALM).run()) == "finished"


def test_a_kill_at_each_commit_and_each_effect_of_a_deploy_loses_nothing() -> None:
    """Whoever dies wherever: the run was finished or lost with its cell, and money, leases and fences come out even."""
    points = one_deploy().kill_points
    ends = Counter(outcome(one_deploy(point)) for point in range(1, points + 1))
    print(f"{points} kill points: {dict(ends)}")
    assert points > 50
    assert set(ends) == {"finished", "failed cell_lost"}


def played(scene: Scene, **faults: Any) -> World:
    return World(ONE_SEED, scene, Faults(until_s=60.0, **faults)).run()


def test_a_run_outlives_its_first_leases_because_they_are_renewed() -> None:
    world = played(LONG)
    assert outcome(world) == "finished"
    assert "'generation': 3" in "\n".join(world.trace)


@pytest.mark.parametrize(
    ("scene", "faults"),
    [(LONG, {}), (TAKEN_BACK, {}), (TAKEN_BACK, {"failed_unbind": 0.7}), (TAKEN_BACK, {"stuck_worker": 1.0})],
    ids=["renewed", "taken back", "fenced and cleared", "cannot be stopped"],
)
def test_a_kill_at_any_place_of_a_lease_s_life_loses_nothing(scene: Scene, faults: dict[str, float]) -> None:
    """Renewed, warned, torn down, fenced and cleared: whoever dies wherever, no lease has two holders, no fence is
    lost, and in the end nothing is left."""
    points = played(scene, **faults).kill_points
    seen = Counter(outcome(played(scene, kill_at=frozenset({point}), **faults)) for point in range(1, points + 1))
    print(f"{points} kill points: {dict(seen)}")
    assert points > 50
    assert set(seen) <= ENDS_OF_A_LONG_RUN


def test_what_must_be_true_is_true_of_cells_that_join_in_every_seed() -> None:
    until = time.monotonic() + SHARE_OF_SEEDS_S
    seeds = steps = 0
    while seeds < SEEDS_AT_LEAST or time.monotonic() < until:
        steps += joining(seeds).run().steps
        seeds += 1
    print(f"{seeds} seeds, {steps} steps")


def test_the_storm_of_those_who_join_reaches_what_is_rare() -> None:
    assert not missing_after(map(joining, range(60)), RARE_ENDS_AMONG_JOINERS, RARE_AMONG_JOINERS)


def test_in_calm_all_cells_join_and_stay() -> None:
    world = World(ONE_SEED, replace(ONE_DEPLOY, joins=True, cells=3), CALM).run()
    assert outcome(world) == "finished"
    assert [cell.machines for cell in world.cells] == [1, 1, 1]
    assert "\n".join(world.trace).count("is renewed") > 10


@pytest.mark.deep
def test_two_kills_at_any_two_places_of_a_deploy_lose_nothing() -> None:
    points = one_deploy().kill_points
    pairs = [(first, second) for first in range(1, points + 1) for second in range(first + 1, first + points)]
    ends = Counter(outcome(one_deploy(*pair)) for pair in pairs)
    print(f"{len(pairs)} pairs of kill points: {dict(ends)}")


@pytest.mark.deep
def test_many_seeds_of_those_who_join() -> None:
    steps = sum(joining(seed).run().steps for seed in range(DEEP_SEEDS // 4))
    print(f"{DEEP_SEEDS // 4} seeds, {steps} steps")


@pytest.mark.deep
def test_many_seeds() -> None:
    steps = sum(World(seed).run().steps for seed in range(DEEP_SEEDS))
    print(f"{DEEP_SEEDS} seeds, {steps} steps")
