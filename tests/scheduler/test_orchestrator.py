"""An orchestrator takes cells of several providers in, each by a token that its operator minted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from orchestrator import NAME, Orchestrator
from standalone import Identity


@pytest.fixture(scope="module")
def orchestrator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestrator]:
    started = Orchestrator(tmp_path_factory.mktemp("orchestrator"))
    try:
        yield started.start()
    finally:
        started.discard()


@pytest.fixture(scope="module")
def operator(orchestrator: Orchestrator) -> Identity:
    return orchestrator.claimed()


def until(orchestrator: Orchestrator, operator: Identity, provider: str) -> bool:
    """Waits until a cell of the provider is ready; the test's own time limit ends it."""
    with orchestrator.client(operator) as client:
        while not client.provider(provider).ready:
            time.sleep(0.05)
    return True


def test_a_machine_enrols_and_its_daemon_is_a_ready_cell(orchestrator: Orchestrator, operator: Identity) -> None:
    daemon = orchestrator.joined(operator, "aws-1").begin()
    try:
        daemon.wait_ready()
        assert until(orchestrator, operator, "aws")
        with orchestrator.client(operator) as client:
            [cell] = [each for each in client.cells() if each.cell_id == "aws-1"]
            health = client.health()
        assert (cell.provider, cell.region, cell.ready) == ("aws", "aws-here", True)
        assert (health.name, health.mode, health.claimed) == (NAME, "orchestrator", True)
        assert daemon.end() == 0
    finally:
        daemon.discard()
