"""A whole cell on the emulated AWS: a machine boots from its user data, runs a tasklet, and all comes home again."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from aws_operator import QUICK, REGION, Operator
from crash_sweep import Abort

from grafos_connectors.aws.connector import AwsConnector
from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, open_fabric, tenant_account
from grafos_core.receipts import RunReceipt, open_signed_by_cell
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_scheduler.claiming_client import claim
from grafos_scheduler.messages import RunView
from grafos_stacks.bundle import Bundles
from grafos_stacks.homecoming import kept_artifacts, kept_runs
from grafos_stacks.names import claim_secret
from grafos_stacks.records import CellHome, project_cells
from grafos_stacks.teardown import TornDownCell


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def operator(tmp_path: Path, bundles: Bundles) -> Iterator[Operator]:
    with EmulatedClouds(tmp_path / "aws", Settings(clouds=("aws",), times=QUICK)) as aws:
        yield Operator(aws, open_fabric(SystemClock()), bundles, tmp_path / "project")


def test_a_cell_is_provisioned_used_and_torn_down_and_its_run_outlives_it(operator: Operator) -> None:
    record = operator.provision()
    assert project_cells(operator.project, "aws") == [record]
    view = operator.run()
    assert (view.state, view.cell_id, view.provider) == ("finished", "aws-one", "aws"), view
    assert view.cost.micro_cents > 0

    torn = operator.teardown()
    assert operator.aws.world() == ()
    assert (torn.receipt.left, torn.receipt.runs_brought_home, torn.receipt.settlement) == (0, 1, "settled")
    assert project_cells(operator.project, "aws") == []
    [kept] = kept_runs(operator.fabric)
    assert kept == view
    check_receipt(operator, view)
    check_money(operator, torn, view)
    assert CellHome(operator.fabric, "aws-one").record().gone_at > 0


def check_receipt(operator: Operator, view: RunView) -> None:
    """The answer is signed by the cell that is gone, up to the CA that was pinned when it was claimed."""
    kept = kept_artifacts(operator.fabric, view.run_id)
    pinned = CellHome(operator.fabric, "aws-one").ca_pem
    receipt = open_signed_by_cell(kept.receipt, RunReceipt, pinned, "ended_at")
    assert (receipt.run_id, receipt.cell_id, receipt.module_sha256) == (view.run_id, "aws-one", view.module_sha256)
    assert base64.b64decode(kept.output_b64) == b""


def check_money(operator: Operator, torn: TornDownCell, view: RunView) -> None:
    """The cell is paid by the operator's cap, its run by the tenant's budget, and nothing stays held."""
    with operator.fabric.ledger() as transaction:
        ledger = transaction.ledger
        assert ledger.account(OPERATOR_ACCOUNT).spent_micro_cents == torn.receipt.cost_micro_cents
        assert ledger.account(tenant_account("default")).spent_micro_cents == view.cost.micro_cents
        assert [hold.state for hold in ledger.holds.values()] == [ledgers.SETTLED, ledgers.SETTLED]


def test_a_provision_stopped_at_every_step_goes_on_from_there_and_makes_one_machine(operator: Operator) -> None:
    """Each run is ended one step later than the one before, with all its memory."""
    for step in range(200):
        operator.stop_at = step
        try:
            record = operator.provision()
        except Abort:
            assert len(operator.machines()) <= 1
            continue
        break
    else:
        pytest.fail("it never came to its end")
    assert step > 20
    assert len(operator.machines()) == 1
    operator.stop_at = None
    assert operator.provision() == record  # and once more changes nothing
    view = operator.run()
    assert view.state == "finished", view
    print(f"provision with a real machine: stopped at {step} steps, 1 machine, ready")
    stop_teardown_at_every_step(operator)


def stop_teardown_at_every_step(operator: Operator) -> None:
    for step in range(100):
        operator.stop_at = step
        try:
            torn = operator.teardown()
        except Abort:
            continue
        break
    else:
        pytest.fail("it never came to its end")
    assert operator.aws.world() == ()
    assert (torn.receipt.left, torn.receipt.runs_brought_home, torn.receipt.settlement) == (0, 1, "settled")
    print(f"teardown with a real machine: stopped at {step} steps, nothing left, 1 run at home")


def test_ctrl_c_in_a_provision_says_how_to_go_on_and_how_to_undo(operator: Operator) -> None:
    operator.stop_at, operator.death = 17, KeyboardInterrupt
    with pytest.raises(GrafosError) as stopped:
        operator.provision()
    assert stopped.value.code == "interrupted"
    assert "provision aws --cell-id aws-one" in stopped.value.next
    assert "teardown aws --cell-id aws-one" in stopped.value.next
    operator.stop_at = None
    assert operator.teardown().receipt.left == 0
    assert operator.aws.world() == ()


def test_the_secret_in_the_user_data_opens_nothing_once_the_cell_is_claimed(operator: Operator) -> None:
    record = operator.provision()
    row = operator.hands().journal.stack("aws-one")
    assert row is not None
    assert row.plan is not None
    secret = claim_secret(operator.fabric, row.plan.machine.key, 1)
    console = operator.aws.console(record.machine_id).decode()
    assert "waiting for bundle" in console
    assert secret not in console
    for fabric, stolen in ((operator.fabric, secret), (open_fabric(SystemClock(), "thief"), "5e" * 32)):
        with pytest.raises(GrafosError) as refused:
            claim(
                record.url,
                bytes.fromhex(stolen),
                fabric=str(fabric.id),
                fabric_key_pem=fabric.public_key_pem,
                operator="operator",
                csr_pem=CellHome(open_fabric(SystemClock(), "thief"), "aws-one").request_for("operator"),
                cell_id="aws-one",
            )
        assert refused.value.code in ("claim_refused", "certificate_refused")
    operator.teardown()


def test_a_cell_that_does_not_answer_is_torn_down_and_the_receipt_says_what_stayed_there(operator: Operator) -> None:
    record = operator.provision()
    home = CellHome(operator.fabric, "aws-one")
    home.keep_record(msgspec.structs.replace(record, url="https://127.0.0.1:1"))
    torn = operator.teardown()
    assert torn.receipt.left == 0
    assert "unsettled" in torn.receipt.settlement
    assert operator.aws.world() == ()


def end_machine(operator: Operator) -> str:
    """By hand, in the cloud's console."""
    [machine] = operator.machines()
    calls = AwsConnector(REGION, environment=operator.aws.environment())._calls
    calls.change("terminate_instances", REGION, InstanceIds=[machine])
    return machine


def test_a_cell_that_only_the_journal_forgot_keeps_its_credentials_its_slice_and_its_runs(operator: Operator) -> None:
    """It can be claimed once only."""
    record = operator.provision()
    assert operator.run().state == "finished"
    for file in operator.fabric.home.glob("journal.db*"):
        file.unlink()
    assert operator.provision().machine_id == record.machine_id
    with operator.fabric.ledger() as transaction:
        assert len([hold for hold in transaction.ledger.holds.values() if hold.slice_for]) == 1
    torn = operator.teardown()
    assert (torn.receipt.left, torn.receipt.runs_brought_home, torn.receipt.settlement) == (0, 1, "settled")


def test_a_machine_that_ended_is_replaced_whether_or_not_it_was_a_cell_already(operator: Operator) -> None:
    """The credentials that a dead machine granted open nothing on the next one."""
    operator.stop_at = 16
    with pytest.raises(Abort):
        operator.provision()
    operator.stop_at = None
    dead = [end_machine(operator)]
    operator.provision()
    dead.append(end_machine(operator))
    record = operator.provision()
    assert record.machine_id not in dead
    assert operator.machines() == [record.machine_id]
    view = operator.run()
    assert view.state == "finished", view
    torn = operator.teardown()
    assert torn.receipt.left == 0
    assert torn.receipt.settlement == "settled"
    assert operator.aws.world() == ()
    with operator.fabric.ledger() as transaction:
        holds = transaction.ledger.holds.values()
        slices = {hold.hold_id: hold for hold in holds if hold.slice_for and hold.state != ledgers.RELEASED}
    lost, last = (slices.pop(f"slice-{record.cell_id}-{machine}") for machine in (dead[1], record.machine_id))
    assert slices == {}
    assert (lost.state, last.state) == (ledgers.SETTLED, ledgers.SETTLED)
    assert lost.actual_micro_cents == lost.amount_micro_cents, "it was a cell: what it spent, nobody can tell"
    assert last.actual_micro_cents < last.amount_micro_cents


@pytest.mark.deep
@pytest.mark.timeout(400)
def test_a_cell_that_everybody_forgot_ends_itself_within_two_minutes_of_its_expiry(operator: Operator) -> None:
    record = operator.provision(ttl_s=60)
    until = record.expires_at + 120
    while operator.machines() and time.time() < until:
        time.sleep(1)
    assert operator.machines() == []
    torn = operator.teardown()
    assert torn.receipt.left == 0
    assert torn.receipt.cost_micro_cents <= torn.receipt.held_micro_cents
    assert "the machine had ended before" in torn.receipt.settlement
