"""A machine type that a region does not offer is told alike on all clouds."""

from __future__ import annotations

import pytest

from grafos_connectors.unoffered import unoffered


@pytest.mark.parametrize("provider", ["aws", "azure", "gcp"])
def test_a_type_of_no_region_is_invalid_and_the_nearest_is_named(provider: str) -> None:
    told = unoffered(provider, "here", "m5.lagre", {"m5.large", "c5.large"}, ())
    assert (told.code, told.next) == ("cloud_invalid", "Did you mean 'm5.large'?")


@pytest.mark.parametrize("provider", ["aws", "azure", "gcp"])
def test_a_type_of_other_regions_lacks_capacity_here_and_they_are_named(provider: str) -> None:
    told = unoffered(provider, "here", "m5.large", {"c5.large"}, {"there", "far"})
    assert (told.code, told.what) == ("cloud_capacity", "here does not offer m5.large.")
    assert told.next.endswith("a region that offers it: far, there.")


def test_what_is_like_nothing_that_is_there_is_no_slip_of_the_hand() -> None:
    told = unoffered("aws", "here", "t9.huge", {"t2.large", "m6g.large"}, ())
    assert told.next == "Choose another machine type or region."


def test_a_region_without_any_type_names_none() -> None:
    assert unoffered("aws", "here", "m5.large", (), ()).next == "Choose another machine type or region."
