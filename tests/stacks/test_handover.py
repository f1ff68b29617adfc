"""What is told when a machine does not become a cell, and what a claim whose answer was lost comes to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from standalone import CELL_ID, Standalone
from tasklets import tasklet
from twin_ground import TwinGround

from grafos_core import ledger as ledgers
from grafos_core.clock import SystemClock, VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric, open_fabric
from grafos_core.receipts import Settlement
from grafos_scheduler.messages import CellView, RunRequest, Signal, Terms
from grafos_stacks.door import TLS, knock
from grafos_stacks.handover import (
    Handover,
    Possession,
    SliceWanted,
    hold_slice,
    take_over,
    unmet_signals,
)
from grafos_stacks.homecoming import _checked, bring_home, kept_runs
from grafos_stacks.records import CellHome, CellRecord, add_to_project, drop_from_project, project_cells, tenant_name

NOBODY = "https://127.0.0.1:1"


def nowhere(fabric: Fabric, console: str = "") -> Handover:
    """A cell at whose address nobody answers, on a clock that only moves when it is slept on."""
    clock = VirtualClock()
    return Handover(fabric, CellHome(fabric, "aws-one"), NOBODY, clock, clock.advance, lambda: console)


@pytest.fixture
def fabric() -> Fabric:
    return open_fabric(SystemClock())


def test_a_machine_on_which_nothing_answers_shows_the_end_of_its_console(fabric: Fabric) -> None:
    with pytest.raises(GrafosError) as refused:
        nowhere(fabric, "line one\nKernel panic").bring_software(Path)
    assert (refused.value.code, refused.value.exit_code) == ("cell_not_ready", 10)
    assert "Kernel panic" in refused.value.why
    assert refused.value.next


def test_a_machine_that_ended_is_told_as_what_it_is(fabric: Fabric) -> None:
    clock = VirtualClock()

    def gone() -> str:
        raise GrafosError("cell_gone", "the machine ended")

    handover = Handover(fabric, CellHome(fabric, "aws-one"), NOBODY, clock, clock.advance, gone)
    with pytest.raises(GrafosError) as refused:
        handover.bring_software(Path)
    assert refused.value.code == "cell_gone"


def test_a_scheduler_that_never_comes_up_is_given_up(fabric: Fabric) -> None:
    with pytest.raises(GrafosError) as refused:
        nowhere(fabric).take_possession(b"x" * 32, "operator")
    assert refused.value.code == "cell_not_ready"


def test_unmet_signals_are_named_with_their_reasons() -> None:
    view = CellView.__struct_fields__
    cell = CellView(
        **{name: None for name in view if name not in ("cell_id", "readiness", "ready")},  # type: ignore[arg-type]
        cell_id="aws-one",
        ready=False,
        readiness={"healthy_cell": Signal(met=False, why="no heartbeat"), "code_enabled": Signal(met=True)},
    )
    assert unmet_signals([cell]) == ["healthy_cell: no heartbeat"]
    assert unmet_signals([]) == ["no cell has registered yet"]


# --- the door -------------------------------------------------------------------------------------------------------


@pytest.fixture
def babbler() -> Iterator[str]:
    """A server that says one thing to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"

        def babble() -> None:
            while True:
                try:
                    visitor, _ = server.accept()
                except OSError:
                    return
                with visitor:
                    visitor.recv(4096)
                    visitor.sendall(b"HTTP/1.0 200 OK\r\n\r\nwaiting for bundle of joy\n")

        threading.Thread(target=babble, daemon=True).start()
        yield url
        server.shutdown(socket.SHUT_RDWR)


def test_a_stranger_at_the_door_is_nobody(babbler: str) -> None:
    assert knock(babbler) == ""
    assert knock(NOBODY) == ""


# --- with a real scheduler ------------------------------------------------------------------------------------------


@pytest.fixture
def cell(tmp_path: Path, fabric: Fabric) -> Iterator[Standalone]:
    made = Standalone(tmp_path)
    made.fabric.key, made.fabric.pem, made.fabric.id = fabric.key, fabric.public_key_pem, fabric.id
    made.start()
    yield made
    made.discard()


def handover_of(fabric: Fabric, cell: Standalone) -> Handover:
    return Handover(fabric, CellHome(fabric, CELL_ID), cell.url, SystemClock(), time.sleep, lambda: "")


def possession(fabric: Fabric, cell: Standalone) -> Possession:
    clock = SystemClock()
    budget = hold_slice(fabric, clock, SliceWanted("slice-1", CELL_ID, "default", 10**9, clock.now() + 3600))
    return Possession(cell.secret, "operator", Terms(36_000_000), "default", budget)


def test_a_tls_server_is_told_from_a_bootstrap(cell: Standalone) -> None:
    assert knock(cell.url) == TLS


def test_a_claim_whose_answer_was_lost_is_repeated_with_the_same_request(fabric: Fabric, cell: Standalone) -> None:
    """The grant is lost with the process: nothing of it was written."""
    home = CellHome(fabric, CELL_ID)
    request = home.request_for("operator")
    cell.claim(request, operator="operator")
    assert not home.is_granted("operator")
    handover_of(fabric, cell).take_possession(cell.secret, "operator")
    assert home.is_granted("operator")
    assert home.request_for("operator") == request
    with home.client("operator", cell.url) as client:
        assert client.tenants() == []


def test_a_hand_over_may_be_repeated_and_ends_the_same(fabric: Fabric, cell: Standalone) -> None:
    cell.start_cell()
    first = take_over(handover_of(fabric, cell), possession(fabric, cell))
    again = take_over(handover_of(fabric, cell), possession(fabric, cell))
    assert (first.ready, again.ready, again.rate_micro_cents_per_hour) == (True, True, 36_000_000)
    with CellHome(fabric, CELL_ID).client("operator", cell.url) as client:
        assert [tenant.budget_micro_cents for tenant in client.tenants()] == [10**9]


def test_runs_and_settlement_come_home_and_may_be_brought_twice(fabric: Fabric, cell: Standalone) -> None:
    cell.start_cell()
    take_over(handover_of(fabric, cell), possession(fabric, cell))
    home = CellHome(fabric, CELL_ID)
    with home.client(tenant_name("default"), cell.url) as tenant:
        module, data = tenant.put_blob(tasklet()), tenant.put_blob(b"")
        view = tenant.start_run(RunRequest("k" * 16, "local", "test", "answer", module, data))
        while view.state != "finished":
            view = tenant.run(view.run_id, wait_s=5.0)
    with home.client("operator", cell.url) as operator:
        came = [bring_home(fabric, home, operator, SystemClock(), lambda _: None) for _ in range(2)]
    assert [(one.runs, one.settled, one.spent_micro_cents) for one in came] == [(1, True, view.cost.micro_cents)] * 2
    assert list(kept_runs(fabric)) == [view]
    with fabric.ledger() as transaction:
        settled = transaction.ledger.holds["slice-1"]
    assert (settled.state, settled.actual_micro_cents) == (ledgers.SETTLED, view.cost.micro_cents)


def test_a_settlement_of_another_cell_is_not_booked(fabric: Fabric, cell: Standalone) -> None:
    handover_of(fabric, cell).take_possession(cell.secret, "operator")
    forged = fabric.sign(Settlement(str(fabric.id), "slice-1", CELL_ID, "default", 0, final=True, settled_at=1.0))
    with pytest.raises(GrafosError) as refused:
        _checked(fabric, CellHome(fabric, CELL_ID), forged)
    assert refused.value.code in ("receipt_invalid", "certificate_refused")


# --- records --------------------------------------------------------------------------------------------------------


def record(cell_id: str) -> CellRecord:
    return CellRecord(cell_id, "fab-1", "aws", "us-east-1", "https://127.0.0.1:1", 1, 2.0, 3.0)


def test_the_projects_record_holds_no_secret_and_is_kept_from_git(tmp_path: Path) -> None:
    add_to_project(tmp_path, record("aws-one"))
    add_to_project(tmp_path, record("aws-two"))
    add_to_project(tmp_path, record("aws-one"))
    assert sorted(cell.cell_id for cell in project_cells(tmp_path, "aws")) == ["aws-one", "aws-two"]
    assert (tmp_path / ".grafos" / ".gitignore").read_text() == "*\n"
    text = (tmp_path / ".grafos" / "cloud" / "aws-cells.json").read_text()
    assert "key" not in text
    assert "token" not in text
    drop_from_project(tmp_path, "aws", "aws-one")
    drop_from_project(tmp_path, "gcp", "never")
    assert [cell.cell_id for cell in project_cells(tmp_path, "aws")] == ["aws-two"]


def test_a_projects_record_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    add_to_project(tmp_path, record("aws-one"))
    (tmp_path / ".grafos" / "cloud" / "aws-cells.json").write_text("{")
    with pytest.raises(GrafosError) as refused:
        project_cells(tmp_path, "aws")
    assert refused.value.code == "config_invalid"


def test_what_is_kept_of_a_cell_is_for_its_owner_alone() -> None:
    home = CellHome(TwinGround().fabric, "aws-one")
    home.request_for("operator")
    home.keep_grant("operator", "certificate", "token")
    home.keep_record(record("aws-one"))
    assert {path.stat().st_mode & 0o777 for path in home.folder.iterdir()} == {0o600}
    assert home.folder.stat().st_mode & 0o777 == 0o700


def test_the_ca_of_an_earlier_cell_of_the_name_stays_pinned_below_the_new_one() -> None:
    """Receipts of the earlier one are verified for ever; its keys are of no use to anybody."""
    home = CellHome(TwinGround().fabric, "aws-one")
    home.request_for("operator")
    home.pin_ca("first\n")
    home.begin_anew()
    home.pin_ca("second\n")
    home.pin_ca("second\n")
    assert home.ca_pem == "second\nfirst\n"
    assert [path.name for path in home.folder.iterdir()] == ["ca.pem"]


def test_a_cell_without_record_or_credentials_is_said_to_be_unknown() -> None:
    home = CellHome(TwinGround().fabric, "aws-one")
    with pytest.raises(GrafosError) as unknown:
        home.record()
    with pytest.raises(GrafosError) as missing:
        home.client("operator")
    assert (unknown.value.code, missing.value.code) == ("cell_unknown", "credentials_missing")
