"""The order of a program's tasklets, decided from names and states alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafos_cli import graph
from grafos_cli.graph import DONE, FAILED, GOING, WAITING

DIAMOND = {"fetch": [], "left": ["fetch"], "right": ["fetch"], "both": ["left", "right"]}


@st.composite
def programs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Tasklets that need only earlier ones, in any order."""
    names = [f"t{number}" for number in range(draw(st.integers(1, 8)))]
    needs = {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []
        for place, name in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


@given(programs(), st.randoms(use_true_random=False))
def test_each_runs_once_and_after_all_that_it_needs(needs: dict[str, list[str]], chance) -> None:
    assert graph.fault_in(needs) is None
    states, order = dict.fromkeys(needs, WAITING), []
    while begun := [*graph.can_begin(needs, states), *[name for name, state in states.items() if state == GOING]]:
        for name in graph.can_begin(needs, states):
            assert all(states[other] == DONE for other in needs[name])
            states[name] = GOING
        ends = chance.choice([name for name in begun if states[name] == GOING])
        states[ends] = DONE
        order.append(ends)
    assert sorted(order) == sorted(needs)


def test_what_can_run_at_once_begins_at_once_and_after_a_failure_nothing_more() -> None:
    states = {"fetch": DONE, "left": WAITING, "right": WAITING, "both": WAITING}
    assert graph.can_begin(DIAMOND, states) == ["left", "right"]
    assert graph.can_begin(DIAMOND, {**states, "left": FAILED}) == []


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"a": ["a"]}, "a needs itself"),
        ({"a": ["b"]}, "a needs 'b', which is none of the tasklets"),
        ({"a": [], "b": ["a", "d"], "c": ["b"], "d": ["c"]}, "b -> d -> c -> b"),
    ],
)
def test_what_is_no_order_is_said(needs: Mapping[str, list[str]], words: str) -> None:
    fault = graph.fault_in(needs)
    assert fault is not None
    assert words in fault.what


def test_the_last_ones_are_those_that_no_other_needs() -> None:
    assert graph.last_ones(DIAMOND) == ["both"]
