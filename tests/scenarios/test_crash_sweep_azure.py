"""Die around every request to an emulated Azure, throw all memory away, go on, and count in the emulator's own world.

`make test` looks at cases by chance for a fixed time; `make deep` at every point, and at pairs by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from azure_ground import AzureCloud
from crash_sweep import make, spec, undo
from emulated_ground import EmulatedGround
from emulated_sweeps import ALL_SCENARIOS, by_chance, every_point, foreign_things, planted, replayed


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureCloud]:
    cloud = planted(AzureCloud(tmp_path_factory.mktemp("azure")))
    yield cloud
    cloud.close()


def test_dying_at_moments_by_chance_leaves_nothing_makes_nothing_twice_and_touches_nothing_else(
    cloud: AzureCloud,
) -> None:
    by_chance(cloud)


@pytest.mark.deep
@ALL_SCENARIOS
def test_dying_at_every_request_leaves_nothing_makes_nothing_twice_and_touches_nothing_else(
    cloud: AzureCloud, scenario: int
) -> None:
    every_point(cloud, scenario)


@pytest.mark.deep
def test_dying_twice_by_chance_leaves_nothing_either(cloud: AzureCloud) -> None:
    by_chance(cloud, seconds=900.0, pairs=1.0)


@pytest.mark.deep
def test_ten_thousand_things_of_others_are_not_touched(cloud: AzureCloud) -> None:
    foreign_things(cloud, 10_000)


def test_replay_of_one_case(cloud: AzureCloud) -> None:
    replayed(cloud)


def test_a_cell_takes_few_changing_calls(cloud: AzureCloud) -> None:
    """Eight for the first cell of a region, four for a further one, two for its teardown."""
    ground = EmulatedGround(cloud)
    counts: dict[str, list[str]] = {}

    def count(what: str, act: Callable[[], object]) -> None:
        since = len(cloud.clouds.journal())
        act()
        counts[what] = [call.action for call in cloud.clouds.journal()[since:] if call.mutating]

    count("first cell", lambda: make(ground.hands(), spec("azure-one", "azure")))
    count("further cell", lambda: make(ground.hands(), spec("azure-two", "azure")))
    count("teardown of a further cell", lambda: undo(ground.hands(), "azure-two"))
    count("teardown of the last cell, with the network", lambda: undo(ground.hands(), "azure-one"))
    for what, calls in counts.items():
        print(f"{what}: {len(calls)} ({', '.join(calls)})")
    assert [len(calls) for calls in counts.values()] == [8, 4, 2, 5]
    assert ground.live() == []
