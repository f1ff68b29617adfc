"""A cell's end is moved on the emulated AWS: the money, then the machine's timer, the tags, and the records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_operator import QUICK, Operator
from crash_sweep import Abort

from grafos_connectors.contract import Kind
from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.bundle import Bundles
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.extending import Extended, Wish, extend
from grafos_stacks.journal import StackRow
from grafos_stacks.names import expiry_in
from grafos_stacks.records import CellHome, project_cells

HOUR_S = 3600


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def operator(tmp_path: Path, bundles: Bundles) -> Iterator[Operator]:
    with EmulatedClouds(tmp_path / "aws", Settings(clouds=("aws",), times=QUICK)) as aws:
        yield Operator(aws, open_fabric(SystemClock()), bundles, tmp_path / "project")


def extended(operator: Operator, **wish: Any) -> Extended:
    return extend(operator.hands(), "aws-one", Wish(**wish), operator.project)


def row_of(operator: Operator) -> StackRow:
    row = operator.hands().journal.stack("aws-one")
    assert row is not None
    assert row.plan is not None
    return row


def tagged_ends(operator: Operator) -> set[int]:
    """The ends that the cloud itself shows on what the cell consists of."""
    hands = operator.hands()
    rows = hands.journal.resources("aws-one").values()
    return {expiry_in(hands.connector.observe(row.ref).tags) for row in rows if row.ref is not None}


def test_every_layer_of_the_cell_stands_at_its_new_end(operator: Operator) -> None:
    record = operator.provision(ttl_s=HOUR_S)
    before = open_hold(operator.fabric, "aws-one")
    assert before is not None
    told = extended(operator, more_s=2 * HOUR_S)
    ends_at = int(record.expires_at) + 2 * HOUR_S
    assert (told.before, told.record.expires_at, told.finished) == (int(record.expires_at), ends_at, False)

    held = open_hold(operator.fabric, "aws-one")
    assert held is not None
    assert held.amount_micro_cents == told.held_micro_cents > 2 * before.amount_micro_cents
    assert tagged_ends(operator) == {ends_at}
    console = operator.aws.console(record.machine_id).decode()
    assert f"grafos: the machine's end was moved to {ends_at}" in console
    assert project_cells(operator.project, "aws") == [told.record]
    assert CellHome(operator.fabric, "aws-one").record() == told.record
    row = row_of(operator)
    assert row.plan is not None
    assert (row.plan.expires_at, row.extending_to) == (ends_at, 0)
    check_it_goes_on(operator, told)


def check_it_goes_on(operator: Operator, told: Extended) -> None:
    """It is the same cell, runs what it is given, is paid by two slices, and settles them both."""
    assert operator.provision(ttl_s=HOUR_S) == told.record
    assert operator.run().state == "finished"
    with operator.fabric.ledger() as transaction:
        slices = [hold for hold in transaction.ledger.holds.values() if hold.slice_for]
        assert sorted(hold.expires_at for hold in slices) == [told.before + 120, told.record.expires_at + 120]
    torn = operator.teardown()
    assert (torn.receipt.left, torn.receipt.settlement) == (0, "settled")
    assert torn.receipt.held_micro_cents == told.held_micro_cents
    assert operator.aws.world() == ()


def test_an_extension_stopped_at_every_step_is_finished_and_adds_nothing_twice(operator: Operator) -> None:
    record = operator.provision(ttl_s=HOUR_S)
    ends_at = int(record.expires_at) + HOUR_S
    for step in range(100):
        operator.stop_at = step
        try:
            told = extended(operator, more_s=HOUR_S)
        except Abort:
            assert row_of(operator).extending_to in (0, ends_at)
            continue
        break
    else:
        pytest.fail("it never came to its end")
    assert step > 4
    operator.stop_at = None
    assert told.record.expires_at == ends_at
    assert tagged_ends(operator) == {ends_at}
    print(f"extend with a real machine: stopped at {step} steps, one hour more")
    operator.teardown()


def refused(operator: Operator, **wish: Any) -> GrafosError:
    before = (row_of(operator), open_hold(operator.fabric, "aws-one"), tagged_ends(operator))
    with pytest.raises(GrafosError) as said:
        extended(operator, **wish)
    assert (row_of(operator), open_hold(operator.fabric, "aws-one"), tagged_ends(operator)) == before
    assert said.value.next
    return said.value


def test_what_cannot_be_is_refused_before_anything_moves(operator: Operator) -> None:
    record = operator.provision(ttl_s=HOUR_S, max_ttl_s=8 * HOUR_S)
    ends_at = int(record.expires_at)
    assert refused(operator, until=ends_at - 60).code == "config_invalid"
    assert refused(operator, until=ends_at).code == "config_invalid"
    assert refused(operator, until=ends_at + 7 * HOUR_S + 1).code == "config_invalid"
    with pytest.raises(GrafosError) as unknown:
        extend(operator.hands(), "nobody", Wish(more_s=60), operator.project)
    assert unknown.value.code == "cell_unknown"
    held = open_hold(operator.fabric, "aws-one")
    told = extended(operator, until=ends_at + 7 * HOUR_S)  # paid for from the start
    assert open_hold(operator.fabric, "aws-one") == held
    assert told.record.expires_at == ends_at + 7 * HOUR_S
    operator.teardown()


def test_without_the_money_nothing_moves(operator: Operator) -> None:
    operator.provision(ttl_s=HOUR_S)
    with operator.fabric.ledger() as transaction:
        account = transaction.ledger.account(OPERATOR_ACCOUNT)
        transaction.write(ledgers.set_cap(transaction.ledger, OPERATOR_ACCOUNT, account.held_micro_cents))
    assert refused(operator, more_s=HOUR_S).code == "budget_exceeded"
    operator.teardown()


def test_a_cell_that_does_not_answer_keeps_its_end_and_its_tags(operator: Operator) -> None:
    """The money for the longer life is held by then, and the next try finds the intent."""
    record = operator.provision(ttl_s=HOUR_S)
    home = CellHome(operator.fabric, "aws-one")
    home.keep_record(
        type(record)(**{**{name: getattr(record, name) for name in record.__struct_fields__}, "url": GONE})
    )
    with pytest.raises(GrafosError) as said:
        extended(operator, more_s=HOUR_S)
    assert said.value.code == "scheduler_unreachable"
    assert tagged_ends(operator) == {int(record.expires_at)}
    home.keep_record(record)
    told = extended(operator, more_s=5 * HOUR_S)
    assert told.finished
    assert told.record.expires_at == record.expires_at + HOUR_S
    operator.teardown()


GONE = "https://127.0.0.1:1"


@pytest.mark.deep
@pytest.mark.timeout(400)
def test_an_extended_cell_that_everybody_forgot_ends_itself_at_its_new_end(operator: Operator) -> None:
    record = operator.provision(ttl_s=60)
    ends_at = int(extended(operator, more_s=60).record.expires_at)
    while time.time() < record.expires_at + 30:
        time.sleep(1)
    assert operator.machines() == [record.machine_id]
    while operator.machines() and time.time() < ends_at + 120:
        time.sleep(1)
    assert operator.machines() == []
    assert operator.teardown().receipt.left == 0
    rows = operator.hands().journal.resources("aws-one").values()
    assert Kind.MACHINE in {row.kind for row in rows}
