"""An orchestrator whose machine grafos made goes with its machine, and what came home is remembered meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from orchestrator_operator import QUICK, OrchestratorOperator, reachable_fabric

from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.bundle import Bundles
from grafos_stacks.journal import StackRow, StackState
from grafos_stacks.ledger_moves import bring_ledger_home, move_ledger
from grafos_stacks.lowering import (
    bring_all_home,
    came_home,
    check_machine,
    joining_cells,
    registered_cells,
    take_machine_down,
)
from grafos_stacks.spec import CellSpec


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[OrchestratorOperator]:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("aws",), times=QUICK)) as clouds:
        bundles = Bundles(tmp_path / "bundles")
        yield OrchestratorOperator("aws", clouds, reachable_fabric(), bundles, tmp_path / "project")


def test_an_orchestrator_goes_with_its_machine_and_its_runs(operator: OrchestratorOperator) -> None:
    """One story, since a machine takes its time."""
    operator.up()
    check_that_a_machine_which_the_journal_lost_is_not_left_behind(operator)
    check_that_cells_are_told_that_have_not_enrolled_yet(operator)
    check_that_what_came_home_holds_until_the_ledger_moves_again(operator)

    hands = operator.hands()
    came = bring_all_home(hands.fabric, hands.clock, time.sleep)
    assert came.audit_records > 0
    torn = take_machine_down(hands, operator.project, msgspec.structs.replace(came, runs=3))
    assert torn is not None
    assert (torn.receipt.runs_brought_home, torn.receipt.settlement) == (3, "settled")
    assert bring_all_home(hands.fabric, hands.clock, time.sleep) == came, "nobody answers there any more"
    operator.home.forget()
    assert came_home(operator.fabric) is None
    assert operator.clouds.world() == ()


def check_that_a_machine_which_the_journal_lost_is_not_left_behind(operator: OrchestratorOperator) -> None:
    fabric, home, clock = operator.fabric, operator.home, SystemClock()
    journal, away = fabric.home / "journal.db", fabric.home / "away.db"
    check_machine(fabric, clock)
    journal.rename(away)
    made = home.known()
    as_another_home_has_it = msgspec.structs.replace(made, provider="", cell_id="")
    for record in (made, as_another_home_has_it):
        home.keep_record(record)
        with pytest.raises(GrafosError) as unknown:
            check_machine(fabric, clock)
        assert unknown.value.code == "cell_unknown"
        assert "grafos cloud recover" in unknown.value.next
    home.keep_record(made)
    away.rename(journal)


def check_that_cells_are_told_that_have_not_enrolled_yet(operator: OrchestratorOperator) -> None:
    clock, hands, plan = SystemClock(), operator.hands(), operator.plan()
    joins = msgspec.structs.replace(plan, spec=CellSpec("gcp", "gcp-7", "us-central1", ""))
    row = StackRow("gcp-7", "gcp", "us-central1", "x", StackState.MAKING, 1.0, 1.0, plan=joins)
    hands.journal.write(row)
    assert registered_cells(operator.fabric) == ()
    assert joining_cells(operator.fabric, clock) == ("gcp-7",)
    hands.journal.write(row.moved(StackState.GONE, 2.0))
    assert joining_cells(operator.fabric, clock) == ()


def check_that_what_came_home_holds_until_the_ledger_moves_again(operator: OrchestratorOperator) -> None:
    fabric, clock = operator.fabric, SystemClock()
    bring_ledger_home(fabric)
    assert came_home(fabric) is None, "the ledger alone"
    came = bring_all_home(fabric, clock, time.sleep)
    assert came_home(fabric) == came
    move_ledger(fabric)
    assert came_home(fabric) is None
    bring_ledger_home(fabric)
    assert came_home(fabric) is None, "that was another time"
    move_ledger(fabric)
