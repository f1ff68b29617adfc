"""`deploy --provider any` after a lost answer: the run is where it was asked for, whoever answers by now."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import until
from command_line import FOR_EVER, Person
from invited import signed_in, with_acme
from own_orchestrator import OwnOrchestrator

from grafos_cli.reach import recorded
from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_stacks.records import CellHome, CellRecord


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    """Somebody else's orchestrator, with a cell."""
    orchestrator = with_acme(Person(tmp_path_factory.mktemp("ada")))
    yield orchestrator
    orchestrator.discard()


@pytest.fixture(scope="module")
def hers(theirs: OwnOrchestrator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    """Bea's own, with a cell that costs less; she is signed in at the other one, too."""
    orchestrator = OwnOrchestrator(Person(tmp_path_factory.mktemp("bea")))
    try:
        assert orchestrator.person("fabric", "claim", orchestrator.url).code == 0
        orchestrator.start_agent(orchestrator.bootstrap("azure", "azure-1", "--rate", "1"), cores=1)
        signed_in(theirs, orchestrator.person, "bea")
        yield orchestrator
    finally:
        orchestrator.discard()


def test_a_run_whose_scheduler_went_silent_is_not_begun_again_elsewhere(
    hers: OwnOrchestrator, theirs: OwnOrchestrator
) -> None:
    bea = hers.person
    bea.write_program(FOR_EVER, fuel=10**12, deadline_s=10)
    lost = bea.starts("deploy", "run", "--provider", "any")
    until(lambda: [run["state"] for run in runs(bea)] == ["running"])
    lost.kill()
    lost.communicate()
    [run] = runs(bea)
    assert run["cell_id"] == "azure-1"
    hers.process.end(signal.SIGKILL)
    silent = bea("deploy", "run", "--provider", "any")
    assert silent.error_code == "scheduler_unreachable", silent
    assert "may have begun this run" in silent.err
    assert runs(theirs.person) == []

    with damaged_record(bea):
        unread = bea("deploy", "run", "--provider", "any")
    assert unread.error_code == "fabric_invalid", unread
    assert "is gone" not in unread.err, "nobody knows that"

    hers.process = hers.again()
    again = bea("deploy", "run", "--provider", "any")
    assert f"run {run['run_id']} on cell azure-1" in again.err
    assert [one["run_id"] for one in runs(bea)] == [run["run_id"]]
    assert runs(theirs.person) == []


@contextlib.contextmanager
def damaged_record(somebody: Person) -> Iterator[None]:
    """Her orchestrator's record cannot be read, and some other cell may still be asked."""
    file = somebody.fabric_home / "orchestrator.json"
    before = file.read_bytes()
    key = trust.key_from_pem((somebody.fabric_home / "fabric-key.pem").read_bytes())
    fabric = Fabric(somebody.fabric_home, "default", key)
    CellHome(fabric, "aws-9").keep_record(cell_record(fabric, "aws-9", expires_at=time.time() + 3600))
    file.write_text("{")
    try:
        yield
    finally:
        file.write_bytes(before)
        shutil.rmtree(fabric.cell_home("aws-9"))


def cell_record(fabric: Fabric, cell_id: str, *, expires_at: float, gone_at: float = 0.0) -> CellRecord:
    return CellRecord(
        cell_id, str(fabric.id), "aws", "us-east-1", "https://127.0.0.1:9", 1, expires_at, 1.0, gone_at=gone_at
    )


def test_a_cell_counts_as_gone_only_where_it_is_known_to_be(tmp_path: Path) -> None:
    fabric = Fabric(tmp_path, "default", trust.new_key())
    for cell_id, gone_at in (("past", 0.0), ("gone", 2.0)):
        CellHome(fabric, cell_id).keep_record(cell_record(fabric, cell_id, expires_at=2.0, gone_at=gone_at))
    assert (there := recorded(fabric, "past", "aws")) is not None, "it may have been extended from another home"
    assert there.cell_id == "past"
    assert recorded(fabric, "gone", "aws") is None
    assert recorded(fabric, "unheard-of", "aws") is None
    assert "unheard-of" not in fabric.cell_ids()
    (fabric.cell_home("past") / "cell.json").write_text("{")
    with pytest.raises(GrafosError) as refused:
        recorded(fabric, "past", "aws")
    assert refused.value.code == "fabric_invalid"


def runs(somebody: Person) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = somebody("runs", "ls", "--json").document["runs"]
    return found
