"""An extension on Azure that dies at any moment: every layer stands at the old end or at the new one, both paid for."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_sweep import Abort
from registered_operator import CELL, QUICK, REGIONS, RegisteredOperator

from grafos_connectors.azure.connector import AzureConnector
from grafos_connectors.contract import Kind
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.bill import worst_case
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.direct import Hands
from grafos_stacks.extending import Wish, extend
from grafos_stacks.layouts import left_behind
from grafos_stacks.names import expiry_in

HOUR_S = 3600
MORE_S = 120


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[RegisteredOperator]:
    with EmulatedClouds(tmp_path / "cloud", Settings(clouds=("azure",), times=QUICK)) as clouds:
        yield RegisteredOperator("azure", clouds, open_fabric(SystemClock()), tmp_path / "project")


def dying_at(operator: RegisteredOperator, moment: int) -> Hands:
    """Hands that end with the n-th moment before or after a request."""
    moments = itertools.count()

    def watch(_: str) -> None:
        if next(moments) == moment:
            raise Abort

    connector = AzureConnector(REGIONS["azure"], environment=operator.clouds.environment(), watch=watch)
    return dataclasses.replace(operator.hands(), connector=connector)


def check_paid(operator: RegisteredOperator, ends: set[int]) -> None:
    """Every end that the cloud shows is one of ``ends``, the schedule stands at the minute of its own, and the money
    for it is held."""
    hands = operator.hands()
    rows = [row for row in hands.journal.resources(CELL).values() if row.ref is not None]
    seen = {row.kind: hands.connector.observe(row.ref) for row in rows if row.ref is not None}
    shown = {kind: expiry_in(found.tags) for kind, found in seen.items()}
    assert set(shown.values()) <= ends
    deadline = seen[Kind.DEADLINE].attributes
    assert int(deadline["ends_at"]) - shown[Kind.DEADLINE] in range(60)
    assert dt.datetime.fromtimestamp(int(deadline["ends_at"]), dt.UTC).strftime("%H%M") == deadline["daily_at"]
    row, held = hands.journal.stack(CELL), open_hold(operator.fabric, CELL)
    assert row is not None
    assert row.plan is not None
    assert held is not None
    longest_s = max(shown.values()) - int(row.plan.made_at)
    parts = left_behind("azure", orchestrates=False)
    bound = worst_case(row.plan.facts.price, row.plan.spec.disk_gib, longest_s, parts)
    assert held.amount_micro_cents >= bound.total_micro_cents


def test_died_in_at_every_request_it_is_finished_by_the_next_and_adds_nothing_twice(
    operator: RegisteredOperator,
) -> None:
    ends_at = int(operator.provision(ttl_s=HOUR_S).expires_at)
    for moment in range(400):
        wish = Wish(until=ends_at + MORE_S)
        try:
            extend(dying_at(operator, moment), CELL, wish, operator.project)
        except Abort:
            check_paid(operator, {ends_at, ends_at + MORE_S})
        else:
            break
        row = operator.hands().journal.stack(CELL)
        assert row is not None
        told = operator.extend(more_s=MORE_S)
        assert told.finished == bool(row.extending_to)
        ends_at += MORE_S
        assert told.record.expires_at == ends_at
        check_paid(operator, {ends_at})
    assert moment > 20
    print(f"azure: an extension died at {moment} moments, each was finished by the next")
    operator.teardown()
    assert operator.clouds.world() == ()


def test_of_two_extensions_at_once_one_is_told_to_wait(operator: RegisteredOperator) -> None:
    ends_at = int(operator.provision(ttl_s=HOUR_S).expires_at)
    held = open_hold(operator.fabric, CELL)
    with operator.hands().journal.lock(CELL), pytest.raises(GrafosError) as refused:
        operator.extend(more_s=MORE_S)
    assert refused.value.code == "stack_busy"
    assert open_hold(operator.fabric, CELL) == held
    check_paid(operator, {ends_at})
    operator.teardown()
