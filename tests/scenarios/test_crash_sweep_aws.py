"""Die around every request to an emulated EC2, throw all memory away, go on, and count in the emulator's own world.

`make test` looks at cases by chance for a fixed time; `make deep` at every point, and at pairs by chance.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from aws_ground import AwsCloud
from crash_sweep import Fuse, check_gone, check_whole, dies, make, undo
from emulated_ground import EmulatedGround
from emulated_sweeps import EmulatedSweeps, changing_calls, planted


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsCloud]:
    cloud = planted(AwsCloud(tmp_path_factory.mktemp("aws")))
    yield cloud
    cloud.close()


class TestAws(EmulatedSweeps):
    pass


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


def test_a_cell_takes_few_changing_calls(cloud: AwsCloud) -> None:
    """At most 12 for the first cell of a region, 3 for a further one, 3 for its teardown."""
    assert changing_calls(cloud) == [8, 3, 2, 6]
