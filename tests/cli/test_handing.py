"""A cell changes its engine by command, and only the one that it belongs to may change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from command_line import Person

from grafos_core.clock import SystemClock
from grafos_core.fabric import open_fabric
from grafos_stacks.journal import DIRECT, Journal, StackRow, StackState
from grafos_stacks.owners import OWN_PROJECT, PULUMI, pulumi_owner


@pytest.fixture
def somebody(tmp_path: Path) -> Person:
    return Person(tmp_path)


@contextmanager
def journal_of(person: Person) -> Iterator[Journal]:
    before = os.environ["XDG_DATA_HOME"]
    os.environ["XDG_DATA_HOME"] = person.env["XDG_DATA_HOME"]
    try:
        with closing(Journal(open_fabric(SystemClock()), SystemClock())) as journal:
            yield journal
    finally:
        os.environ["XDG_DATA_HOME"] = before


def with_cell(person: Person, engine: str) -> None:
    with journal_of(person) as journal:
        journal.write(StackRow("build", "aws", "us-east-1", "1", StackState.MADE, 1.0, 1.0, engine=engine))


def test_a_cell_is_handed_over_and_back(somebody: Person) -> None:
    with_cell(somebody, DIRECT)
    given = somebody("cloud", "handover", "build", "--to", "pulumi", "--json")
    assert (given.document["before"], given.document["engine"]) == ("direct", "pulumi")
    with journal_of(somebody) as journal:
        row = journal.stack("build")
        assert row is not None
        assert (row.engine, row.state) == (PULUMI, StackState.MADE)
    back = somebody("cloud", "handover", "build", "--to", "direct")
    assert back.out == "build belongs to direct now (before: pulumi).\n"


def test_what_is_no_engine_or_no_cell_is_told(somebody: Person) -> None:
    wrong = somebody("cloud", "handover", "build", "--to", "terraform")
    assert (wrong.code, "name one of direct, pulumi" in wrong.err) == (2, True)
    nobody = somebody("cloud", "handover", "build", "--to", "pulumi")
    assert (nobody.code, "the journal knows no cell 'build'" in nobody.err) == (2, True)


def test_a_cell_of_pulumi_is_neither_extended_nor_torn_down_here(somebody: Person, tmp_path: Path) -> None:
    with_cell(somebody, pulumi_owner("grafos", "dev"))
    up = somebody("emulate", "up", "--clouds", "aws")
    assert up.code == 0, up.err
    try:
        somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
        torn = somebody("cloud", "teardown", "aws", "--cell-id", "build", "--yes")
    finally:
        somebody("emulate", "down")
    assert torn.code != 0
    assert "build belongs to the Pulumi stack grafos/dev" in torn.err
    assert "grafos cloud handover build --to direct" in torn.err


def at_hand(person: Person, stack: str) -> None:
    """As if `--engine pulumi` had begun a stack here."""
    folder = person.fabric_home / "pulumi" / "work" / stack
    folder.mkdir(parents=True)
    (folder / "backend").write_text("file:///nowhere")


def test_cells_of_one_stack_end_together_and_what_another_program_owns_is_left_to_it(somebody: Person) -> None:
    """Pulumi would make again what its stack declares; and a teardown or recover of ours keeps off other people's."""
    with journal_of(somebody) as journal:
        for name, engine in (
            ("build-1", pulumi_owner(OWN_PROJECT, "build")),
            ("build-2", pulumi_owner(OWN_PROJECT, "build")),
            ("other", pulumi_owner("shop", "dev")),
        ):
            journal.write(StackRow(name, "aws", "us-east-1", "", StackState.MAKING, 1.0, 1.0, engine=engine))
    at_hand(somebody, "build")
    assert somebody("emulate", "up", "--clouds", "aws").code == 0
    try:
        somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
        part = somebody("cloud", "teardown", "aws", "--cell-id", "build-1", "--yes")
        assert "build-1 of the Pulumi stack build cannot end without the other cells of it" in part.err
        assert "--cell-id build-1 --cell-id build-2" in part.err
        several = somebody("cloud", "teardown", "aws", "--cell-id", "build-1", "--cell-id", "other", "--yes", "--json")
        codes = {one["cell_id"]: one["code"] for one in several.document["failures"]}
        assert codes == {"build-1": "stack_busy", "other": "stack_busy"}
        recovered = somebody("cloud", "recover", "--yes", env={"PATH": "/nowhere"})
        assert "other belongs to the Pulumi stack shop/dev" in recovered.err
        assert "use pulumi there; or take it back first: grafos cloud handover other --to direct" in recovered.err
        assert "the Pulumi stack build cannot be looked at: Pulumi's command line was not found" in recovered.err
        assert "Nothing else was interrupted" in recovered.out
    finally:
        somebody("emulate", "down")
    with journal_of(somebody) as journal:
        assert {row.state for row in journal.stacks()} == {StackState.MAKING}
