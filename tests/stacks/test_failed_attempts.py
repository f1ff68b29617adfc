"""A machine that the cloud made and could not start goes with all that goes with it, and the same run begins anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_sweep import Abort
from registered_operator import CELL, QUICK, RegisteredOperator

from grafos_connectors.contract import CloudError, Kind
from grafos_core.clock import SystemClock
from grafos_core.fabric import open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_stacks.cell_holds import open_hold

HOUR_S = 3600


@pytest.fixture
def on_azure(tmp_path: Path) -> Iterator[RegisteredOperator]:
    """Its first machine gets no hardware: accepted, then failed, and left behind with its disk."""
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("azure",), times=QUICK)) as clouds:
        full = Fault(Effect.OPERATION_ERROR, ErrorClass.CAPACITY)
        clouds.faults.add(FaultRule(full, provider="azure", operation="virtualMachines.createOrUpdate", times=1))
        yield RegisteredOperator("azure", clouds, open_fabric(SystemClock()), tmp_path / "project")


def dies_while_its_machine_is_made(operator: RegisteredOperator) -> None:
    """At the first wait after the machine's create call was answered."""

    def dying(seconds: float) -> None:
        if operator.steps[-1].name == "machine":
            raise Abort
        time.sleep(seconds)

    operator.sleep = dying
    with pytest.raises(Abort):
        operator.provision(ttl_s=HOUR_S, zone="1")
    operator.sleep = time.sleep


def check_whole(operator: RegisteredOperator) -> None:
    """One machine with its card and address, and nothing when it is torn down."""
    kinds = operator.kinds()
    for kind in ("virtualMachine", "networkInterface", "publicIPAddress", "disk", "schedule"):
        assert kinds.count(kind) == 1
    hands = operator.hands()
    [row] = [row for row in hands.journal.resources(CELL).values() if row.kind is Kind.MACHINE]
    assert row.ref is not None
    assert hands.connector.observe(row.ref).attributes["public_ip"]
    operator.teardown()
    assert operator.clouds.world() == ()


def test_what_an_earlier_run_left_failed_is_replaced_with_its_card_and_address_in_one_run(
    on_azure: RegisteredOperator,
) -> None:
    dies_while_its_machine_is_made(on_azure)
    held = open_hold(on_azure.fabric, CELL)
    assert on_azure.provision(ttl_s=HOUR_S, zone="1").state == "booted"
    assert open_hold(on_azure.fabric, CELL) == held
    check_whole(on_azure)


def test_a_failed_attempt_of_this_run_leaves_nothing_of_the_cell_s_own(on_azure: RegisteredOperator) -> None:
    with pytest.raises(CloudError) as refused:
        on_azure.provision(ttl_s=HOUR_S, zone="1")
    assert refused.value.code == "cloud_capacity"
    assert on_azure.kinds() == ["networkSecurityGroup", "resourceGroup", "subnet", "virtualNetwork"]
    assert on_azure.provision(ttl_s=HOUR_S, zone="1").state == "booted"
    check_whole(on_azure)


def test_a_zone_without_hardware_is_followed_by_the_next_with_a_card_and_an_address_of_its_own(
    on_azure: RegisteredOperator,
) -> None:
    record = on_azure.provision(ttl_s=HOUR_S)
    assert record.zone == "2"
    check_whole(on_azure)


def test_without_its_journal_a_failed_machine_is_replaced_all_the_same(on_azure: RegisteredOperator) -> None:
    dies_while_its_machine_is_made(on_azure)
    on_azure.hands().journal.path.unlink()
    assert on_azure.provision(ttl_s=HOUR_S, zone="1").state == "booted"
    check_whole(on_azure)
