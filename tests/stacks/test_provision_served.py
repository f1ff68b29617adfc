"""Machines with a port start from a published image: a standalone cell on the emulated AWS, and the orchestrator on
each emulated cloud. Nothing is installed at their first boot, and their timer moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import PATIENCE_S, until
from aws_operator import REGION, Operator
from image_ground import HOUR_S, put_up_at
from orchestrator_operator import QUICK, REGIONS, OrchestratorOperator, lose_the_machine, reachable_fabric

from grafos_connectors.contract import Kind
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_scheduler.client import SchedulerClient
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.extending import Wish, extend
from grafos_stacks.lowering import bring_all_home, take_machine_down
from grafos_stacks.orchestrator_machine import STACK
from grafos_stacks.publishing_end import unpublish
from grafos_stacks.records import OPERATOR, CellHome
from grafos_stacks.software_change import change_software

MAKES_MACHINES = {"aws": "RunInstances", "gcp": "instances.insert", "azure": "virtualMachines.createOrUpdate"}


def no_installer(*_: object) -> None:
    raise AssertionError("a machine with a published image needs no bundle")


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(tmp_path / "bundles", no_installer)


@pytest.fixture
def on_aws(tmp_path: Path, bundles: Bundles) -> Iterator[Operator]:
    with EmulatedClouds(tmp_path / "aws", Settings(clouds=("aws",), times=QUICK)) as aws:
        yield Operator(aws, open_fabric(SystemClock()), bundles, tmp_path / "project")


@pytest.fixture(params=["aws", *(pytest.param(name, marks=pytest.mark.deep) for name in ("gcp", "azure"))])
def operator(request: pytest.FixtureRequest, tmp_path: Path, bundles: Bundles) -> Iterator[OrchestratorOperator]:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=(request.param,), times=QUICK)) as clouds:
        yield OrchestratorOperator(request.param, clouds, reachable_fabric(), bundles, tmp_path / "project")


def console_of(hands: Hands, stack: str) -> str:
    [machine] = [row.ref for row in hands.journal.resources(stack).values() if row.kind is Kind.MACHINE]
    assert machine is not None
    return hands.connector.console(machine)


def test_a_standalone_cell_starts_from_the_published_image_runs_and_is_extended(
    on_aws: Operator, tmp_path: Path
) -> None:
    name = put_up_at(on_aws.hands(), REGION, tmp_path)
    record = on_aws.provision(ttl_s=HOUR_S)
    hands = on_aws.hands()
    row = hands.journal.stack("aws-one")
    assert row is not None
    assert row.plan is not None
    assert (row.plan.facts.image.name, row.plan.facts.bundle.sha256) == (name, "")
    console = console_of(hands, "aws-one")
    assert "machine=baked" in console
    assert "unpacked" not in console
    assert on_aws.run().state == "finished"
    longer = extend(hands, "aws-one", Wish(more_s=HOUR_S), on_aws.project).record
    assert longer.expires_at == record.expires_at + HOUR_S
    with CellHome(on_aws.fabric, "aws-one").open_client(SchedulerClient, OPERATOR, longer.url, PATIENCE_S) as client:
        until(lambda: client.cells()[0].ready)
    assert on_aws.teardown().receipt.left == 0


def test_an_orchestrator_that_was_begun_from_an_image_that_is_gone_since_says_so(
    operator: OrchestratorOperator, tmp_path: Path
) -> None:
    name = put_up_at(operator.hands(), REGIONS[operator.provider], tmp_path)
    full = Fault(Effect.REFUSE, ErrorClass.CAPACITY)
    operator.clouds.faults.add(FaultRule(full, operation=MAKES_MACHINES[operator.provider], times=0))
    with pytest.raises(GrafosError) as refused:
        operator.up()
    assert refused.value.code == "cloud_capacity"
    operator.clouds.faults.clear()
    unpublish(operator.hands(), name)
    with pytest.raises(GrafosError) as refused:
        operator.up()
    assert (refused.value.code, "grafos fabric down" in refused.value.next) == ("image_unknown", True)
    with pytest.raises(GrafosError) as refused:
        operator.plan(anew=True, image=name)
    assert (refused.value.code, "bake" in refused.value.next) == ("image_unknown", False), "fabric up bakes nothing"
    torn = take_machine_down(operator.hands(), operator.project)
    assert torn is not None
    assert torn.receipt.left == 0


def test_an_orchestrator_starts_from_the_published_image_is_extended_and_made_anew_from_a_backup(
    operator: OrchestratorOperator, tmp_path: Path
) -> None:
    region = REGIONS[operator.provider]
    first = put_up_at(operator.hands(), region, tmp_path, seed=1)
    raised = operator.up(max_ttl_s=3 * HOUR_S, image=first)
    hands = operator.hands()
    assert operator.plan().facts.image.name == first
    assert "machine=baked" in console_of(hands, STACK)
    longer = extend(hands, STACK, Wish(more_s=HOUR_S), operator.project)
    assert longer.record.expires_at == raised.machine.expires_at + HOUR_S
    with pytest.raises(GrafosError) as refused:
        change_software(hands, operator.bundles)
    assert (refused.value.code, "fabric up --restore" in refused.value.next) == ("unsupported", True)
    with operator.client() as client:
        archive = client.backup()
    second = put_up_at(operator.hands(), region, tmp_path, seed=2)
    unpublish(operator.hands(), first)
    lose_the_machine(operator)
    again = operator.up(archive)
    assert (again.filled, again.orchestrator.url) == (True, raised.orchestrator.url)
    assert operator.plan().facts.image.name == second
    bring_all_home(hands.fabric, hands.clock, hands.sleep, operator.told)
    torn = take_machine_down(operator.hands(), operator.project)
    assert torn is not None
    assert torn.receipt.left == 0
