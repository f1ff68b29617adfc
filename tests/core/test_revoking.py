"""How a lease is taken away: the table of the public design's nine states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_core.revoking import NEXT, RevokeState, moved

ENDS = {RevokeState.TORNDOWN, RevokeState.FENCED, RevokeState.FAILED_CLOSED}


def test_the_states_are_those_of_the_public_design_in_snake_case() -> None:
    assert [state.as_str() for state in RevokeState] == [
        "active",
        "revoke_warning",
        "grace_running",
        "checkpoint_reported",
        "forced_teardown",
        "torndown",
        "expired",
        "fenced",
        "failed_closed",
    ]
    assert all(state.human_summary() for state in RevokeState)


@given(st.data())
def test_every_way_through_the_table_comes_to_one_of_three_ends(data: st.DataObject) -> None:
    state, steps = RevokeState.ACTIVE, 0
    while not state.is_terminal:
        later = data.draw(st.sampled_from(sorted(NEXT[state])))
        assert state.legal_transition_to(later)
        assert state.leads_to(later)
        state, steps = later, steps + 1
        assert steps < len(RevokeState), "a way that comes back to where it was has no end"
    assert state in ENDS


@given(st.sampled_from(RevokeState), st.sampled_from(RevokeState))
def test_what_was_taken_away_is_never_honoured_again(before: RevokeState, later: RevokeState) -> None:
    if before.leads_to(later):
        assert before.is_honoured or not later.is_honoured
        assert not later.leads_to(before)


@given(st.sampled_from(RevokeState), st.sampled_from(RevokeState))
def test_a_step_that_is_not_in_the_table_is_a_bug_and_stops(before: RevokeState, later: RevokeState) -> None:
    if before.legal_transition_to(later):
        assert moved(before.value, later) == later.value
    else:
        with pytest.raises(AssertionError):
            moved(before.value, later)


@pytest.mark.parametrize("state", RevokeState)
def test_no_state_follows_itself_and_all_but_the_ends_lead_to_an_end(state: RevokeState) -> None:
    assert not state.leads_to(state)
    assert state in ENDS or any(state.leads_to(end) for end in ENDS)


def test_nothing_is_torn_down_without_a_warning() -> None:
    assert NEXT[RevokeState.ACTIVE] == {RevokeState.REVOKE_WARNING, RevokeState.EXPIRED}
