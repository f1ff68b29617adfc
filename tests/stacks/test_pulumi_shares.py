"""A fleet that is too large for one Pulumi stack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_stacks.pulumi.shares import CELLS_OF_A_STACK_MAX, Share, share_of, shares_of


@given(st.integers(1, 1000))
def test_every_cell_is_in_one_share_and_none_is_too_large(count: int) -> None:
    shares = shares_of(count)
    assert [n for share in shares for n in range(share.first, share.first + share.size)] == [*range(1, count + 1)]
    assert max(share.size for share in shares) <= CELLS_OF_A_STACK_MAX


@given(st.integers(1, 500), st.integers(1, 500))
def test_a_cell_keeps_its_stack_and_its_number_when_the_fleet_grows(count: int, more: int) -> None:
    before, after = shares_of(count), shares_of(count + more)
    for was, now in zip(before, after, strict=False):
        assert (was.first, was.size <= now.size) == (now.first, True)


def test_a_stack_that_names_no_share_has_a_small_fleet_and_is_told_of_a_large_one() -> None:
    assert share_of(64, 0) == share_of(64, 1) == Share(1, 64)
    assert share_of(0, 0) == Share(1, 0)
    assert share_of(65, 2) == Share(65, 1)
    for count, number in ((65, 0), (65, 3), (64, 2), (65, -1)):
        with pytest.raises(ValueError, match="set grafos:share to its number"):
            share_of(count, number)
