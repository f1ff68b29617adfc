"""`--engine pulumi`: what it is not asked for is told, and what it makes is a cell like any other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import Person
from pulumi_ground import engine_in_path


@pytest.fixture
def somebody(tmp_path: Path) -> Person:
    return Person(tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("aws", "--engine", "terraform"), "name one of direct, pulumi"),
        (("--any", "--engine", "pulumi"), "Pulumi makes cells at one place"),
        (("aws", "--region", "us-east-1", "--engine", "pulumi", "--plan-out", "p"), "keeps plans itself"),
        (("aws", "--engine", "pulumi"), "no region was named"),
    ],
)
def test_what_pulumi_is_not_asked_for_is_told(somebody: Person, words: tuple[str, ...], told: str) -> None:
    answer = somebody("cloud", "provision", *words)
    assert (answer.code, told in answer.err) == (2, True), answer.err


@pytest.mark.needs("pulumi")
def test_without_an_engine_the_next_step_is_told(somebody: Person) -> None:
    answer = somebody(
        "cloud", "provision", "aws", "--region", "us-east-1", "--engine", "pulumi", "--yes", env={"PATH": "/nowhere"}
    )
    assert "Pulumi's command line was not found" in answer.err


@pytest.mark.deep
@pytest.mark.needs("pulumi")
def test_a_cell_is_made_by_pulumi_and_torn_down_here_once_it_is_handed_over(somebody: Person) -> None:
    before = os.environ["PATH"]
    engine_in_path()
    somebody.env["PATH"], os.environ["PATH"] = os.environ["PATH"], before
    assert somebody("emulate", "up", "--clouds", "aws").code == 0
    try:
        somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
        asked = ("cloud", "provision", "aws", "--region", "us-east-1", "--cell-id", "build", "--engine", "pulumi")
        shown = somebody(*asked, "--dry-run", "--json")
        assert shown.document["changes"]["create"] == 13, shown.err
        made = somebody(*asked, "--yes", "--json")
        assert made.document["outputs"]["cell_id"] == ["build"], made.err
        [cell] = somebody("cloud", "ls", "--json").document["cells"]
        assert (cell["cell_id"], cell["state"]) == ("build", "live")
        refused = somebody("cloud", "teardown", "aws", "--cell-id", "build", "--yes")
        assert "belongs to the Pulumi stack grafos/build" in refused.err
        assert somebody("cloud", "handover", "build", "--to", "direct").code == 0
        assert somebody("cloud", "teardown", "aws", "--cell-id", "build", "--yes").code == 0
    finally:
        somebody("emulate", "down")
