"""Cells that join an orchestrator, on the emulated Azure and the emulated Compute Engine, by Pulumi's real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fabrics_orchestrator import FabricsOrchestrator
from pulumi_ground import emulated, engine_in_path, fabric, machines
from registered import CLOUDS, REGIONS
from tasklets import tasklet

from grafos_core import ledger as ledgers
from grafos_emulators.emulator import EmulatedClouds
from grafos_scheduler.messages import RunRequest
from grafos_stacks.pulumi.engine import EngineStack, Workplace
from grafos_stacks.records import project_cells, tenant_name

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(600)]


@pytest.fixture(params=[pytest.param("gcp", marks=pytest.mark.deep), "azure"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[EmulatedClouds]:
    with emulated(tmp_path, *CLOUDS, boots=True) as clouds:
        engine_in_path()
        yield clouds


@pytest.fixture
def orchestrator(clouds: EmulatedClouds, tmp_path: Path) -> Iterator[FabricsOrchestrator]:
    folder = tmp_path / "orchestrator"
    folder.mkdir()
    orchestrator = FabricsOrchestrator(fabric(), folder)
    yield orchestrator
    orchestrator.discard()


def test_a_cell_joins_runs_a_program_is_left_alone_and_leaves_with_its_machine(
    provider: str, clouds: EmulatedClouds, orchestrator: FabricsOrchestrator, tmp_path: Path
) -> None:
    place = Workplace(fabric(), tmp_path)
    asked = {"provider": provider, "region": REGIONS[provider], "ttl": "2h", "cellId": "one"}
    stack = EngineStack(place, "dev", asked)
    told: Any = stack.up()
    assert told["cell_id"] == ["one"]
    [record] = project_cells(tmp_path, provider)
    assert (record.state, record.pattern, [record.machine_id]) == ("ready", "registered", machines(clouds))
    with orchestrator.home.client(tenant_name("default")) as client:
        module, data = client.put_blob(tasklet()), client.put_blob(b"")
        run = client.start_run(RunRequest("k" * 16 + provider, provider, "t", "t", module, data))
        assert client.run(run.run_id, wait_s=20.0).state == "finished"
    assert set(stack.preview()) == {"same"}
    stack.destroy()
    assert clouds.world() == ()
    with orchestrator.client() as client:
        assert not [cell for cell in client.cells() if cell.ready]
    assert [hold.state for hold in fabric().read_ledger().holds.values()] == [ledgers.SETTLED]
