"""What runs on two cells are told of one region, while links break, can have happened one after the other."""

from __future__ import annotations

import pytest
from linearizability import COMPARE_EXCHANGE, FETCH_ADD, NEVER, READ, WRITE, Operation, is_linearizable
from regions_under_faults import CALLS, World

SEEDS = 40


def test_histories_of_runs_on_two_cells_are_linearizable_while_links_break() -> None:
    lost = answered = 0
    for seed in range(SEEDS):
        world = World(seed).play()
        assert is_linearizable(world.history), f"seed {seed}"
        lost, answered = lost + world.lost, answered + sum(one.is_sure for one in world.history)
    assert lost > SEEDS / 4, "some answers are lost for good, or nothing was tried"
    assert answered > SEEDS * CALLS * 2


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_thousands_of_histories_are_linearizable() -> None:
    for seed in range(SEEDS, 5000):
        world = World(seed, steady_s=(0.05, 0.3, 2.0)[seed % 3]).play()
        assert is_linearizable(world.history), f"seed {seed}"


def test_the_same_seed_is_the_same_history() -> None:
    assert World(7).play().history == World(7).play().history


# --- the judge itself ---------------------------------------------------------------------------------------------


def read(found: int, called: int, returned: int) -> Operation:
    return Operation(0, READ, called, returned, found=found)


def add(found: int, called: int, returned: int, **more: bool) -> Operation:
    return Operation(0, FETCH_ADD, called, returned, value=1, found=found, **more)


def unknown_add(called: int, returned: int = NEVER) -> Operation:
    return Operation(0, FETCH_ADD, called, returned, value=1, is_sure=False)


def write(value: int, called: int, returned: int) -> Operation:
    return Operation(0, WRITE, called, returned, value=value)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [add(0, 1, 2), add(1, 3, 4), read(2, 5, 6)],
        [add(1, 1, 4), add(0, 2, 3)],
        [write(5, 1, 6), read(0, 2, 3), read(5, 4, 5)],
        [unknown_add(1), read(0, 2, 3), read(1, 4, 5)],
        [unknown_add(1), read(0, 2, 3)],
        [unknown_add(1, 4), read(1, 2, 3), read(1, 5, 6)],
        [Operation(0, COMPARE_EXCHANGE, 1, 2, 0, 9, 0), Operation(0, COMPARE_EXCHANGE, 3, 4, 0, 7, 9), read(9, 5, 6)],
        [Operation(8, WRITE, 1, 2, value=5), read(0, 3, 4)],
    ],
)
def test_what_can_have_happened_is_taken(history: list[Operation]) -> None:
    assert is_linearizable(history)


@pytest.mark.parametrize(
    "history",
    [
        [read(1, 1, 2)],
        [add(0, 1, 2), add(0, 3, 4)],  # one was lost
        [add(0, 1, 4), add(0, 2, 3)],
        [write(5, 1, 2), read(0, 3, 4)],  # stale
        [write(5, 1, 8), read(5, 2, 3), read(0, 4, 5)],  # back in time
        [unknown_add(1), read(2, 2, 3)],  # it happened twice
        [unknown_add(1), read(1, 2, 3), read(0, 4, 5)],
        [unknown_add(1, 4), read(0, 5, 6), read(1, 7, 8)],  # it came too late
        [Operation(0, COMPARE_EXCHANGE, 1, 2, 5, 9, 0), read(9, 3, 4)],
    ],
)
def test_what_cannot_have_happened_is_refused(history: list[Operation]) -> None:
    assert not is_linearizable(history)
