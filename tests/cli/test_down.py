"""`grafos fabric down` of an orchestrator on a machine of one's own: what it keeps is home before it is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import HELLO, Person
from own_orchestrator import OwnOrchestrator


@pytest.fixture
def used(tmp_path: Path) -> Iterator[OwnOrchestrator]:
    """With a cell, and a run that ended."""
    orchestrator = OwnOrchestrator(Person(tmp_path))
    try:
        somebody = orchestrator.person
        assert somebody("fabric", "claim", orchestrator.url).code == 0
        orchestrator.start_agent(orchestrator.bootstrap("gcp", "gcp-1"))
        somebody.write_program(HELLO)
        ran = somebody("deploy", "run", "--provider", "gcp")
        assert ran.code == 0, ran.err
        yield orchestrator
    finally:
        orchestrator.discard()


def test_a_ledger_that_came_home_by_itself_does_not_let_the_rest_be_forgotten(used: OwnOrchestrator) -> None:
    somebody = used.person
    assert somebody("fabric", "bring-home", "--yes").code == 0
    assert somebody("fabric", "down", "--yes").error_code == "cells_registered"
    gone = somebody("fabric", "down", "--force", "--yes", "--json")
    assert gone.code == 0, gone.err
    assert gone.document["cells"] == ["gcp-1"]
    assert gone.document["runs_brought_home"] == 1
    assert len(Path(gone.document["audit_file"]).read_text().splitlines()) == gone.document["audit_records"] > 0
    [run] = somebody("runs", "ls", "--json").document["runs"]
    assert somebody("artifacts", run["run_id"], "--verify").code == 0


def test_one_that_does_not_answer_is_forgotten_only_as_lost_and_what_is_lost_is_told(used: OwnOrchestrator) -> None:
    somebody = used.person
    assert somebody("fabric", "bring-home", "--yes").code == 0
    used.process.end()
    silent = somebody("fabric", "down", "--yes")
    assert silent.error_code == "scheduler_unreachable"
    assert "grafos fabric down --lost" in silent.err
    both = somebody("fabric", "down", "--lost", "--force", "--yes")
    assert both.error_code == "usage", "no cell would go first, and all of them would bill on"
    assert "grafos cloud teardown" in both.err
    lost = somebody("fabric", "down", "--lost", "--yes", "--json")
    assert lost.code == 0, lost.err
    assert "Runs and audit log" in " ".join(lost.document["notes"])
