"""A whole fabric under the simulator: runs, programs, regions, services and their sessions, all at once, on four cells
and more, for three tenants, in storms of all kinds.

A failure names its seed; ``stories.whole(seed).run()`` plays it again to the byte.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

from grafos_testkit.stories import whole
from grafos_testkit.transitions import Row, all_rows
from grafos_testkit.world import World

SHARE_OF_SEEDS_S = 8.0
"""What `make test` spends on fresh seeds, on whatever machine."""
SEEDS_AT_LEAST = 12
COMMON_ROWS = 0.7
"""Of all rows of the transition tables: what so few stories take at least."""
DEEP_STEPS = 1_000_000
DEEP_STEPS_MAX = 3_000_000
"""The rarest rows come once in some 20,000 steps: for them it is played on."""
TAKEN_AT_LEAST = 100


class Told:
    """What several stories came to."""

    def __init__(self) -> None:
        self.stories = self.steps = self.answers = 0
        self.taken: Counter[Row] = Counter()
        self._began = time.process_time()

    def add(self, world: World) -> None:
        self.stories += 1
        self.steps += world.commits
        self.answers += world.ghost.services.answered
        self.taken.update(world.transitions.taken)

    def seldom(self) -> dict[Row, int]:
        """The rows that were not taken often enough."""
        return {row: self.taken[row] for row in all_rows() if self.taken[row] < TAKEN_AT_LEAST}

    def __str__(self) -> str:
        seconds = time.process_time() - self._began
        pace = self.steps / seconds
        return f"{self.stories} stories, {self.steps} steps, {self.answers} answers, {pace:.0f} steps a second"


def test_what_must_be_true_is_true_at_each_step_of_a_whole_fabric() -> None:
    until, told = time.monotonic() + SHARE_OF_SEEDS_S, Told()
    while told.stories < SEEDS_AT_LEAST or time.monotonic() < until:
        told.add(whole(told.stories).run())
    print(told)
    assert told.answers
    taken = [row for row in all_rows() if told.taken[row]]
    print(f"{len(taken)} of {len(all_rows())} rows of the transition tables taken")
    assert len(taken) >= COMMON_ROWS * len(all_rows())


def test_a_whole_fabric_has_four_cells_and_three_tenants_at_least() -> None:
    worlds = [whole(seed) for seed in range(20)]
    assert all(len(world.cells) >= 4 and len(world.scene.tenants) >= 3 for world in worlds)


@pytest.mark.deep
@pytest.mark.timeout(5400)  # a million steps take five minutes of a core that is free
def test_a_million_steps_and_more_take_each_row_of_each_table_a_hundred_times() -> None:
    told = Told()
    while told.steps < DEEP_STEPS or (told.steps < DEEP_STEPS_MAX and told.seldom()):
        told.add(whole(told.stories).run())
    print(told)
    for row in sorted(all_rows(), key=lambda row: told.taken[row]):
        print(f"{told.taken[row]:8} {' '.join(row)}")
    assert told.seldom() == {}
