"""Die before and after every request to an emulated EC2, throw all memory away, run the command again, tear down.

Orphans and duplicates are counted in the emulator's own world. `make test` looks at a share of the points, another one
for each variant; `make deep` looks at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from aws_ground import AwsGround, Cloud
from crash_sweep import (
    Fuse,
    check_gone,
    check_whole,
    dies,
    every,
    make,
    share,
    spec,
    sweep_another,
    sweep_provision,
    sweep_teardown,
    undo,
)

SHARE = 16
"""`make test` looks at one point in so many, per variant."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("aws"), lag_s=0.0)
    yield cloud
    cloud.close()


def sweep_all(fresh: Callable[[], AwsGround], pick: Callable[[int], Callable[[int], bool]]) -> dict[str, int]:
    """Every variant; ``pick`` chooses the points of the n-th."""
    return {
        "provision, rerun, teardown": sweep_provision(fresh, pick(0), rerun=True),
        "provision, teardown": sweep_provision(fresh, pick(1), rerun=False),
        "provision, journal lost, rerun, teardown": sweep_provision(fresh, pick(2), rerun=True, lose=True),
        "provision, journal lost, teardown": sweep_provision(fresh, pick(3), rerun=False, lose=True),
        "teardown, rerun": sweep_teardown(fresh, pick(4)),
        "teardown, journal lost, rerun": sweep_teardown(fresh, pick(5), lose=True),
        "teardown, another cell, teardown of both": sweep_another(fresh, pick(6)),
    }


def report(counts: dict[str, int]) -> None:
    for variant, points in counts.items():
        print(f"{variant}: {points} points, 0 orphans, 0 duplicates")
    print(f"all: {sum(counts.values())} points, 0 orphans, 0 duplicates")


def test_dying_at_a_share_of_all_requests_leaves_nothing_and_makes_nothing_twice(cloud: Cloud) -> None:
    counts = sweep_all(lambda: AwsGround(cloud), lambda variant: share(SHARE, variant))
    report(counts)
    assert cloud.aws.world() == ()


@pytest.mark.deep
def test_dying_at_every_request_leaves_nothing_and_makes_nothing_twice(cloud: Cloud) -> None:
    counts = sweep_all(lambda: AwsGround(cloud), lambda _: every)
    report(counts)
    assert cloud.aws.world() == ()


def test_ctrl_c_at_random_moments_is_finished_or_undone(cloud: Cloud) -> None:
    chance = random.Random(5)
    for _ in range(4):
        ground = AwsGround(cloud)
        dies(ground, make, Fuse(chance.randrange(80), death=KeyboardInterrupt))
        if chance.random() < 0.5:
            make(ground.hands())
            check_whole(ground, 0)
            dies(ground, undo, Fuse(chance.randrange(90), death=KeyboardInterrupt))
        check_gone(ground, 0)
    assert cloud.aws.world() == ()


def changing(cloud: Cloud, since: int) -> list[str]:
    """The requests since then that change something."""
    return [call.action for call in cloud.aws.journal()[since:] if not call.action.startswith(("Describe", "Get"))]


def test_a_cell_takes_few_changing_calls(cloud: Cloud) -> None:
    """At most 12 for the first cell of a region, 3 for a further one, 3 for its teardown."""
    ground = AwsGround(cloud)
    counts = {}

    def count(what: str, act: Callable[[], object]) -> list[str]:
        since = len(cloud.aws.journal())
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
