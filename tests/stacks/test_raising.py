"""The fabric's orchestrator on each emulated cloud: its machine boots, it is claimed, and it keeps the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestrator_operator import QUICK, OrchestratorOperator, reachable_fabric

from grafos_core.ledger_place import Standing
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.bundle import Bundles


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("bundles"))


def operator_on(provider: str, folder: Path, bundles: Bundles) -> Iterator[OrchestratorOperator]:
    with EmulatedClouds(folder / "cloud", Settings(clouds=(provider,), times=QUICK)) as clouds:
        yield OrchestratorOperator(provider, clouds, reachable_fabric(), bundles, folder / "project")


@pytest.fixture(params=["aws", "gcp", "azure"])
def operator(request: pytest.FixtureRequest, tmp_path: Path, bundles: Bundles) -> Iterator[OrchestratorOperator]:
    yield from operator_on(request.param, tmp_path, bundles)


def test_an_orchestrator_is_made_claimed_and_given_the_ledger(operator: OrchestratorOperator) -> None:
    raised = operator.up()
    assert raised.orchestrator.provider == operator.provider
    assert raised.ledger.standing is Standing.MOVED
    assert (raised.machine.pattern, raised.machine.state) == ("orchestrator", "ready")
    with operator.client() as client:
        assert [one.name for one in client.tenants()] == ["default"]
        assert client.machine().software_sha256 == operator.plan().facts.bundle.sha256
    again = operator.up()
    assert again == raised
    assert len(operator.machines()) == 1
