"""A registered cell on the emulated Compute Engine and the emulated Azure joins a real orchestrator, and leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_sweep import Abort
from fabrics_orchestrator import FabricsOrchestrator
from registered import CLOUDS
from registered_operator import CELL, QUICK, RegisteredOperator
from tasklets import tasklet

from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric, open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_scheduler.messages import CellView, RunRequest
from grafos_stacks.bundle import Bundles
from grafos_stacks.inviting import Patience
from grafos_stacks.records import CellHome, project_cells, tenant_name
from grafos_stacks.spec import BY_TOKEN

HOUR_S = 3600


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedClouds]:
    with EmulatedClouds(tmp_path_factory.mktemp("clouds"), Settings(clouds=CLOUDS, times=QUICK)) as clouds:
        yield clouds


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return open_fabric(SystemClock(), "joining")


@pytest.fixture(scope="module")
def orchestrator(fabric: Fabric, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FabricsOrchestrator]:
    started = FabricsOrchestrator(fabric, tmp_path_factory.mktemp("orchestrator"))
    yield started
    started.discard()


@pytest.fixture(params=CLOUDS)
def operator(
    request: pytest.FixtureRequest,
    clouds: EmulatedClouds,
    fabric: Fabric,
    orchestrator: FabricsOrchestrator,
    bundles: Bundles,
    tmp_path: Path,
) -> Iterator[RegisteredOperator]:
    somebody = RegisteredOperator(
        request.param, clouds, fabric, tmp_path / "project", joining=BY_TOKEN, bundles=bundles
    )
    yield somebody
    somebody.stop_at = None
    if somebody.machines():
        somebody.teardown()
    assert clouds.world() == ()


def view(orchestrator: FabricsOrchestrator, cell_id: str = CELL) -> CellView | None:
    with orchestrator.client() as client:
        return next((cell for cell in client.cells() if cell.cell_id == cell_id), None)


def test_a_cell_joins_runs_a_program_and_is_put_out_with_its_machine(
    operator: RegisteredOperator, orchestrator: FabricsOrchestrator
) -> None:
    record = operator.provision(ttl_s=HOUR_S)
    assert (record.state, record.pattern, record.url) == ("ready", "registered", "")
    assert project_cells(operator.project, operator.provider) == [record]
    seen = view(orchestrator)
    assert seen is not None
    assert (seen.ready, seen.provider, seen.region) == (True, operator.provider, record.region)
    assert seen.rate_micro_cents_per_hour == record.rate_micro_cents_per_hour
    assert seen.expires_at == record.expires_at
    assert list(CellHome(operator.fabric, CELL).folder.glob("invitation-*")) == []
    with orchestrator.home.client(tenant_name("default")) as client:
        module, data = client.put_blob(tasklet()), client.put_blob(b"")
        run = client.start_run(RunRequest("k" * 16 + operator.provider, operator.provider, "t", "t", module, data))
        run = client.run(run.run_id, wait_s=20.0)
    assert (run.state, run.cell_id) == ("finished", CELL), run

    torn = operator.teardown()
    assert (torn.receipt.left, torn.receipt.identity) == (0, f"revoked at {orchestrator.url}")
    seen = view(orchestrator)
    assert seen is None or not seen.ready
