"""`deploy --provider any` after a lost answer: the run is where it was asked for, whoever answers by now."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from agents import until
from command_line import FOR_EVER, Person
from invited import signed_in, with_acme
from own_orchestrator import OwnOrchestrator


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    """Somebody else's orchestrator, with a cell."""
    orchestrator = with_acme(Person(tmp_path_factory.mktemp("ada")))
    yield orchestrator
    orchestrator.discard()


@pytest.fixture(scope="module")
def hers(theirs: OwnOrchestrator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    """Bea's own, with a cell that costs less; she is signed in at the other one, too."""
    orchestrator = OwnOrchestrator(Person(tmp_path_factory.mktemp("bea")))
    try:
        assert orchestrator.person("fabric", "claim", orchestrator.url).code == 0
        orchestrator.start_agent(orchestrator.bootstrap("azure", "azure-1", "--rate", "1"), cores=1)
        signed_in(theirs, orchestrator.person, "bea")
        yield orchestrator
    finally:
        orchestrator.discard()


def test_a_run_whose_scheduler_went_silent_is_not_begun_again_elsewhere(
    hers: OwnOrchestrator, theirs: OwnOrchestrator
) -> None:
    bea = hers.person
    bea.write_program(FOR_EVER, fuel=10**12, deadline_s=10)
    lost = bea.starts("deploy", "run", "--provider", "any")
    until(lambda: [run["state"] for run in runs(bea)] == ["running"])
    lost.kill()
    lost.communicate()
    [run] = runs(bea)
    assert run["cell_id"] == "azure-1"
    hers.process.end(signal.SIGKILL)
    silent = bea("deploy", "run", "--provider", "any")
    assert silent.error_code == "scheduler_unreachable", silent
    assert "may have begun this run" in silent.err
    assert runs(theirs.person) == []

    hers.process = hers.again()
    again = bea("deploy", "run", "--provider", "any")
    assert f"run {run['run_id']} on cell azure-1" in again.err
    assert [one["run_id"] for one in runs(bea)] == [run["run_id"]]
    assert runs(theirs.person) == []


def runs(somebody: Person) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = somebody("runs", "ls", "--json").document["runs"]
    return found
