"""The simulator is worth what it finds: each mistake of a table, in money, in a fence or in what was acknowledged, made
in a copy of the code, breaks what must be true within a bounded number of steps.

A mistake whose place has moved says so; it is made anew in the new place. Who adds a rule adds a mistake in it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant, hunt
from mutants_by_another import BY_SOMEBODY_ELSE

SEEDS = range(120)
"""The stories that are played on each mutant, in this order."""
STEPS_MAX = 100_000
SOON = ("what is held already does not", "a slot is filled anew", "the end of a run is in memory alone")
"""One of each promise, which die within seconds."""
FIRST = [mutant for mutant in MUTANTS if mutant.name.startswith(SOON)]
OTHERS = [mutant for mutant in (*MUTANTS, *BY_SOMEBODY_ELSE) if mutant not in FIRST]


def by_name(mutant: Mutant) -> str:
    return mutant.name


def check_it_is_found(mutant: Mutant, folder: Path) -> None:
    death = hunt(mutant, SEEDS, folder)
    assert death is not None, f"no story found that {mutant.name}"
    where = f"seed {death.seed}, step {death.step}, {death.steps} steps in all"
    print(f"{mutant.promise}: {mutant.name}: {where}: {death.why[:100]}")
    assert death.steps <= STEPS_MAX


def test_there_are_mistakes_in_each_promise_and_one_of_each_is_looked_for_always() -> None:
    promises = {"money", "fence", "acknowledgement"}
    assert {mutant.promise for mutant in FIRST} == {mutant.promise for mutant in MUTANTS} == promises
    assert {mutant.promise for mutant in BY_SOMEBODY_ELSE} == promises
    assert len(FIRST) == len(SOON)
    names = [mutant.name for mutant in (*FIRST, *OTHERS)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("mutant", FIRST, ids=by_name)
def test_a_mistake_is_found(mutant: Mutant, tmp_path: Path) -> None:
    check_it_is_found(mutant, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("mutant", OTHERS, ids=by_name)
def test_every_mistake_is_found(mutant: Mutant, tmp_path: Path) -> None:
    check_it_is_found(mutant, tmp_path)


@pytest.mark.deep
def test_where_there_is_no_mistake_none_is_found(tmp_path: Path) -> None:
    """The same stories, on a copy of the code as it is."""
    plain = MUTANTS[0]._replace(name="nothing is changed", instead=MUTANTS[0].there)
    assert hunt(plain, SEEDS, tmp_path) is None
