"""Die around every request to an emulated EC2, throw all memory away, go on, and count in the emulator's own world.

`make test` looks at cases by chance for a fixed time; `make deep` at every point, and at pairs by chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from aws_ground import AwsCloud
from crash_sweep import Fuse, check_gone, check_whole, dies, make, spec, undo
from emulated_ground import EmulatedGround
from emulated_sweeps import ALL_SCENARIOS, by_chance, every_point, foreign_things, planted, replayed


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsCloud]:
    cloud = planted(AwsCloud(tmp_path_factory.mktemp("aws")))
    yield cloud
    cloud.close()


def test_dying_at_moments_by_chance_leaves_nothing_makes_nothing_twice_and_touches_nothing_else(
    cloud: AwsCloud,
) -> None:
    by_chance(cloud)


@pytest.mark.deep
@ALL_SCENARIOS
def test_dying_at_every_request_leaves_nothing_makes_nothing_twice_and_touches_nothing_else(
    cloud: AwsCloud, scenario: int
) -> None:
    every_point(cloud, scenario)


@pytest.mark.deep
def test_dying_twice_by_chance_leaves_nothing_either(cloud: AwsCloud) -> None:
    by_chance(cloud, seconds=900.0, pairs=1.0)


@pytest.mark.deep
def test_ten_thousand_things_of_others_are_not_touched(cloud: AwsCloud) -> None:
    foreign_things(cloud, 10_000)


def test_replay_of_one_case(cloud: AwsCloud) -> None:
    replayed(cloud)


def test_ctrl_c_at_random_moments_is_finished_or_undone(cloud: AwsCloud) -> None:
    chance = random.Random(5)
    for _ in range(4):
        ground = EmulatedGround(cloud)
        dies(ground, make, Fuse(chance.randrange(80), death=KeyboardInterrupt))
        if chance.random() < 0.5:
            make(ground.hands())
            check_whole(ground, 0)
            dies(ground, undo, Fuse(chance.randrange(90), death=KeyboardInterrupt))
        check_gone(ground, 0)


def changing(cloud: AwsCloud, since: int) -> list[str]:
    """The requests since then that change something."""
    return [call.action for call in cloud.clouds.journal()[since:] if not call.action.startswith(("Describe", "Get"))]


def test_a_cell_takes_few_changing_calls(cloud: AwsCloud) -> None:
    """At most 12 for the first cell of a region, 3 for a further one, 3 for its teardown."""
    ground = EmulatedGround(cloud)
    counts = {}

    def count(what: str, act: Callable[[], object]) -> list[str]:
        since = len(cloud.clouds.journal())
        act()
        counts[what] = changing(cloud, since)
        return counts[what]

    first = count("first cell", lambda: make(ground.hands(), spec("aws-one")))
    further = count("further cell", lambda: make(ground.hands(), spec("aws-two")))
    undone = count("teardown of a further cell", lambda: undo(ground.hands(), "aws-two"))
    last = count("teardown of the last cell, with the network", lambda: undo(ground.hands(), "aws-one"))
    for what, calls in counts.items():
        print(f"{what}: {len(calls)} ({', '.join(calls)})")
    assert (len(first), len(further), len(undone), len(last)) == (8, 3, 2, 6)
    assert ground.live() == []
