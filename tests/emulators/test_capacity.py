"""How much hardware the emulated clouds have."""

from __future__ import annotations

import pytest

from grafos_emulators.capacity import Capacity, Limit


def nobody() -> dict[str, int]:
    return {}


def test_there_is_room_for_any_number_where_nothing_is_said() -> None:
    assert Capacity().fits("aws", "us-east-1a", "t3.medium", nobody, 10_000)


def test_a_full_place_is_full_for_its_own_cloud_and_type_alone() -> None:
    capacity = Capacity()
    capacity.fill("aws", "us-east-1a", "t3.medium")
    assert not capacity.fits("aws", "us-east-1a", "t3.medium", nobody)
    for other in (
        ("gcp", "us-east-1a", "t3.medium"),
        ("aws", "us-east-1b", "t3.medium"),
        ("aws", "us-east-1a", "t3.x"),
    ):
        assert capacity.fits(*other, nobody)
    assert capacity.clear() == 1
    assert capacity.fits("aws", "us-east-1a", "t3.medium", nobody)


@pytest.mark.parametrize(
    ("running", "count", "fits"),
    [({}, 2, True), ({}, 3, False), ({"small": 1}, 1, True), ({"small": 2}, 1, False), ({"large": 2}, 1, False)],
)
def test_a_limit_counts_what_runs_of_one_type_or_of_all_together(
    running: dict[str, int], count: int, *, fits: bool
) -> None:
    capacity = Capacity()
    capacity.limit(Limit("gcp", "z", "small", 5))
    capacity.limit(Limit("gcp", "z", "*", 2))
    assert capacity.fits("gcp", "z", "small", lambda: running, count) is fits


def test_a_later_limit_takes_the_place_of_an_earlier_one() -> None:
    capacity = Capacity()
    capacity.fill("azure", "eastus/1")
    capacity.limit(Limit("azure", "eastus/1", machines=1))
    assert capacity.fits("azure", "eastus/1", "Standard_B2s", nobody)
    assert capacity.limits() == (Limit("azure", "eastus/1", machines=1),)
