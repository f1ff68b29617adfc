"""A registered cell on the emulated Compute Engine and the emulated Azure: it boots, is no ready cell, and goes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from crash_sweep import Abort
from registered import CLOUDS, SHAPES
from registered_operator import CELL, QUICK, RegisteredOperator

from grafos_connectors.azure.shapes import SHAPES as AZURE_SHAPES
from grafos_connectors.contract import Connector, Identity, Kind
from grafos_connectors.gcp.shapes import GCP_SHAPES
from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock, VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.bootstrap import booted_in
from grafos_stacks.bundle import Bundles
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.extending import Wish, extend
from grafos_stacks.journal import Life
from grafos_stacks.layouts import CLOCK_OFF_S_MAX, check_clock
from grafos_stacks.names import expiry_in
from grafos_stacks.provision import prepare
from grafos_stacks.records import CellHome, project_cells

HOUR_S = 3600


@pytest.fixture(params=CLOUDS)
def operator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegisteredOperator]:
    yield from operator_on(request.param, tmp_path)


@pytest.fixture
def on_gcp(tmp_path: Path) -> Iterator[RegisteredOperator]:
    yield from operator_on("gcp", tmp_path)


@pytest.fixture
def on_azure(tmp_path: Path) -> Iterator[RegisteredOperator]:
    yield from operator_on("azure", tmp_path)


def operator_on(provider: str, folder: Path) -> Iterator[RegisteredOperator]:
    with EmulatedClouds(folder / "cloud", Settings(clouds=(provider,), times=QUICK)) as clouds:
        yield RegisteredOperator(provider, clouds, open_fabric(SystemClock()), folder / "project")


def console(operator: RegisteredOperator) -> str:
    hands = operator.hands()
    [row] = [row for row in hands.journal.resources(CELL).values() if row.kind is Kind.MACHINE]
    assert row.ref is not None
    return hands.connector.console(row.ref)


def test_the_plan_fits_what_the_connectors_take() -> None:
    assert SHAPES == {"gcp": GCP_SHAPES, "azure": AZURE_SHAPES}


def test_a_cell_boots_is_recorded_as_booted_and_torn_down_with_nothing_left(operator: RegisteredOperator) -> None:
    record = operator.provision(ttl_s=HOUR_S)
    assert (record.state, record.pattern, record.url) == ("booted", "registered", "")
    assert project_cells(operator.project, operator.provider) == [record]
    plan = operator.plan(ttl_s=HOUR_S)
    booted = booted_in(console(operator), CELL)
    assert booted is not None
    assert booted.timer_at == plan.timer_at > plan.expires_at
    assert booted.machine == plan.machine.cloud_name
    held = open_hold(operator.fabric, CELL)
    assert held is not None
    assert held.amount_micro_cents == plan.bill.total_micro_cents

    torn = operator.teardown()
    assert operator.clouds.world() == ()
    assert (torn.receipt.left, torn.receipt.settlement) == (0, "settled")
    assert 0 < torn.receipt.cost_micro_cents < torn.receipt.held_micro_cents == held.amount_micro_cents
    assert project_cells(operator.project, operator.provider) == []


def test_it_holds_no_secret_and_lets_nobody_in(operator: RegisteredOperator) -> None:
    """What the machine is told is public: whoever reads its user data learns nothing that opens anything."""
    operator.provision(ttl_s=HOUR_S)
    kinds = operator.kinds()
    assert not [kind for kind in kinds if "rule" in kind.lower() or kind == "firewall"]
    assert not CellHome(operator.fabric, CELL).is_granted("operator")
    operator.teardown()


def test_a_provision_stopped_at_every_step_goes_on_and_makes_one_machine(operator: RegisteredOperator) -> None:
    for step in range(200):
        operator.stop_at = step
        try:
            record = operator.provision(ttl_s=HOUR_S)
        except Abort:
            assert len(operator.machines()) <= 1
            home = CellHome(operator.fabric, CELL)
            assert not home.is_recorded or home.record().state != "ready"
            continue
        break
    else:
        pytest.fail("it never came to its end")
    assert step > 6
    assert record.state == "booted"
    assert len(operator.machines()) == 1
    operator.stop_at = None
    assert operator.provision(ttl_s=HOUR_S) == record
    print(f"{operator.provider}: provision stopped at {step} steps, 1 machine")
    operator.teardown()
    assert operator.clouds.world() == ()


def test_two_cells_share_their_region_s_network_and_the_last_takes_it_along(operator: RegisteredOperator) -> None:
    operator.provision("one", ttl_s=HOUR_S)
    alone = operator.kinds()
    operator.provision("two", ttl_s=HOUR_S)
    assert len(operator.machines()) == 2
    operator.teardown("two")
    assert operator.kinds() == alone
    operator.teardown("one")
    assert operator.clouds.world() == ()


def test_on_azure_the_deadline_stands_before_the_cell_counts(on_azure: RegisteredOperator) -> None:
    for step in range(200):
        on_azure.stop_at = step
        try:
            on_azure.provision(ttl_s=HOUR_S)
        except Abort:
            rows = on_azure.hands().journal.resources(CELL).values()
            deadlines = [row for row in rows if row.kind is Kind.DEADLINE and row.life is Life.READY]
            assert deadlines or not CellHome(on_azure.fabric, CELL).is_recorded
            continue
        break
    on_azure.stop_at = None
    on_azure.teardown()


# --- its end is moved -----------------------------------------------------------------------------------------------


def ends_shown(operator: RegisteredOperator) -> set[int]:
    """The ends that the cloud itself shows on the cell's own resources."""
    hands = operator.hands()
    rows = hands.journal.resources(CELL).values()
    return {expiry_in(hands.connector.observe(row.ref).tags) for row in rows if row.ref is not None}


def test_on_azure_an_extension_moves_money_schedule_and_tags(on_azure: RegisteredOperator) -> None:
    record = on_azure.provision(ttl_s=HOUR_S)
    before = open_hold(on_azure.fabric, CELL)
    ends_at = int(record.expires_at) + 2 * HOUR_S
    for step in range(100):
        on_azure.stop_at = step
        try:
            told = on_azure.extend(more_s=2 * HOUR_S)
        except Abort:
            continue
        break
    on_azure.stop_at = None
    assert step >= 4  # address, card, machine and schedule
    assert (told.record.expires_at, told.record.state) == (ends_at, "booted")
    assert ends_shown(on_azure) == {ends_at}
    held = open_hold(on_azure.fabric, CELL)
    assert held is not None
    assert before is not None
    assert held.amount_micro_cents > before.amount_micro_cents
    [schedule] = [thing for thing in on_azure.clouds.world() if "schedule" in thing.kind.lower()]
    assert schedule.tags["grafos:expires"] == str(ends_at)
    assert on_azure.provision(ttl_s=HOUR_S) == told.record
    on_azure.teardown()
    assert on_azure.clouds.world() == ()


def test_azure_s_schedule_reaches_no_further_than_a_day(on_azure: RegisteredOperator) -> None:
    on_azure.provision(ttl_s=HOUR_S)
    with pytest.raises(GrafosError) as refused:
        on_azure.extend(more_s=23 * HOUR_S)
    assert refused.value.code == "config_invalid"
    on_azure.teardown()


def test_on_compute_engine_an_end_is_moved_only_as_far_as_was_paid_for(on_gcp: RegisteredOperator) -> None:
    record = on_gcp.provision(ttl_s=HOUR_S)
    with pytest.raises(GrafosError) as refused:
        on_gcp.extend(more_s=HOUR_S)
    assert refused.value.code == "unsupported"
    assert "--max-ttl" in refused.value.next
    assert ends_shown(on_gcp) == {int(record.expires_at)}
    on_gcp.teardown()

    record = on_gcp.provision(ttl_s=HOUR_S, max_ttl_s=3 * HOUR_S)
    held = open_hold(on_gcp.fabric, CELL)
    ends_at = int(record.expires_at) + HOUR_S
    assert on_gcp.extend(more_s=HOUR_S).record.expires_at == ends_at
    assert ends_shown(on_gcp) == {ends_at}
    assert open_hold(on_gcp.fabric, CELL) == held
    with pytest.raises(GrafosError) as too_far:
        on_gcp.extend(more_s=HOUR_S + 1)
    assert too_far.value.code == "unsupported"
    on_gcp.teardown()
    assert on_gcp.clouds.world() == ()


def test_without_the_money_no_end_moves(on_azure: RegisteredOperator) -> None:
    record = on_azure.provision(ttl_s=HOUR_S)
    with on_azure.fabric.ledger() as transaction:
        account = transaction.ledger.account(OPERATOR_ACCOUNT)
        transaction.write(ledgers.set_cap(transaction.ledger, OPERATOR_ACCOUNT, account.held_micro_cents))
    with pytest.raises(GrafosError) as refused:
        on_azure.extend(more_s=HOUR_S)
    assert refused.value.code == "budget_exceeded"
    assert ends_shown(on_azure) == {int(record.expires_at)}
    on_azure.teardown()


# --- whose clock counts ---------------------------------------------------------------------------------------------


class TakenForReal:
    """A connector whose cloud is said to be none that is emulated: those may have clocks of their own."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def identity(self) -> Identity:
        return msgspec.structs.replace(self._connector.identity(), emulated=False)


@pytest.mark.parametrize("off_s", [-90, 90, 23 * HOUR_S])
def test_with_a_clock_that_is_not_the_cloud_s_nothing_is_planned_and_no_end_is_moved(
    off_s: int, on_azure: RegisteredOperator
) -> None:
    """An hour ahead, and the schedule of a cell for 23 h would stand at the minute that it is now."""
    record = on_azure.provision(ttl_s=HOUR_S)
    hands, clock = on_azure.hands(), VirtualClock(time.time() + off_s)
    off = dataclasses.replace(hands, clock=clock, connector=cast(Connector, TakenForReal(hands.connector)))
    with pytest.raises(GrafosError) as unplanned:
        prepare(off, on_azure.asked("two", ttl_s=HOUR_S), Bundles())
    with pytest.raises(GrafosError) as unmoved:
        extend(off, CELL, Wish(until=int(record.expires_at) + 60), on_azure.project)
    assert (unplanned.value.code, unmoved.value.code) == ("config_invalid", "config_invalid")
    assert "clock" in unplanned.value.what
    assert "clock" in unmoved.value.what
    assert ends_shown(on_azure) == {int(record.expires_at)}
    on_azure.teardown()


@pytest.mark.parametrize(("emulated", "server_time"), [(True, 1e9), (False, 0.0), (False, 2e9 - CLOCK_OFF_S_MAX)])
def test_a_clock_that_nobody_knows_or_that_costs_nothing_stops_nobody(server_time: float, *, emulated: bool) -> None:
    check_clock(Identity("gcp", "account", "me", emulated=emulated, server_time=server_time), 2e9)
