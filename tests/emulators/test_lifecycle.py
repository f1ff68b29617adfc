from __future__ import annotations

import pytest

from grafos_emulators.lifecycle import TRANSITIONS, Happening, LifecycleTimes, MachineState, passes_into


def test_a_machine_that_is_gone_stays_gone() -> None:
    assert not [state for state, _ in TRANSITIONS if state is MachineState.GONE]


def test_a_machine_can_be_ended_in_every_state_but_when_it_is_ending_or_gone() -> None:
    can_end = {state for state, happening in TRANSITIONS if happening is Happening.END}
    assert can_end == set(MachineState) - {MachineState.ENDING, MachineState.GONE}


def test_every_state_can_be_reached_from_the_first() -> None:
    reached = {MachineState.STARTING}
    for _ in MachineState:
        reached |= {to for (state, _), to in TRANSITIONS.items() if state in reached}
    assert reached == set(MachineState)


@pytest.mark.parametrize("state", list(MachineState))
def test_a_state_that_passes_by_itself_has_a_time_and_a_transition(state: MachineState) -> None:
    happening = passes_into(state)
    assert (happening is None) == (LifecycleTimes().lasts_s(state) is None)
    assert happening is None or (state, happening) in TRANSITIONS
