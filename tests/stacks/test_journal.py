"""The journal is on the disk before a call is made, tells of every trouble, and belongs to one command at a time."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from crash_sweep import make
from twin_ground import TwinGround

from grafos_connectors.contract import Kind, Operation, Ref
from grafos_core.errors import GrafosError
from grafos_stacks.journal import NEXT_LIVES, Journal, Life, ResourceRow, StackRow, StackState

ROW = ResourceRow(
    key="ab" * 16,
    stack="aws-one",
    name="machine",
    kind=Kind.MACHINE,
    region="us-east-1",
    zone="us-east-1a",
    attempt=1,
    token="g1",
    life=Life.INTENDED,
    first_at=1.0,
    intended_at=1.0,
    changed_at=1.0,
)


def stack(name: str = "aws-one") -> StackRow:
    return StackRow(name, "aws", "us-east-1", "1234", StackState.MAKING, 1.0, 1.0)


@pytest.fixture
def ground() -> TwinGround:
    return TwinGround()


def opened(ground: TwinGround) -> Journal:
    return Journal(ground.fabric, ground.clock)


def test_what_was_written_is_there_for_the_next_process(ground: TwinGround) -> None:
    ref = Ref(ROW.key, Kind.MACHINE, "i-1", "us-east-1")
    begun = ROW.moved(Life.BEGUN, 2.0, ref=ref, operation=Operation("create", ref, handle="h" * 5000))
    opened(ground).write(stack(), begun)
    again = opened(ground)
    assert again.stack("aws-one") == stack()
    assert again.resources("aws-one") == {ROW.key: begun}
    assert [row.stack for row in again.stacks()] == ["aws-one"]


def test_a_write_is_all_or_nothing(ground: TwinGround) -> None:
    journal = opened(ground)
    unfit = msgspec.structs.replace(ROW, tags={"a": object()})  # cannot be encoded
    with pytest.raises(TypeError):
        journal.write(stack(), unfit)
    assert opened(ground).stack("aws-one") is None


def test_every_step_of_a_resource_stands_in_the_table() -> None:
    for life, nexts in NEXT_LIVES.items():
        row = msgspec.structs.replace(ROW, life=life)
        for other in Life:
            if other in nexts:
                assert row.moved(other, 2.0).life is other
            else:
                with pytest.raises(AssertionError):
                    row.moved(other, 2.0)


def test_a_surplus_resource_has_a_row_of_its_own() -> None:
    ref = Ref(ROW.key, Kind.MACHINE, "i-2", "us-east-1")
    assert msgspec.structs.replace(ROW, name="", ref=ref).row_key != ROW.row_key


# --- one command at a time --------------------------------------------------------------------------------------


def test_a_second_command_on_the_same_stack_is_told_that_it_is_busy(ground: TwinGround) -> None:
    with opened(ground).lock("aws-one"):
        with pytest.raises(GrafosError) as refused, opened(ground).lock("aws-one"):
            pass
        with opened(ground).lock("aws-two"):
            pass
    assert refused.value.code == "stack_busy"
    assert str(os.getpid()) in refused.value.what


def test_a_lock_dies_with_its_process(ground: TwinGround) -> None:
    holder = (
        "import sys, time; from grafos_core.clock import SystemClock; from grafos_core.fabric import open_fabric;"
        "from grafos_stacks.journal import Journal\n"
        "with Journal(open_fabric(SystemClock(), sys.argv[1]), SystemClock()).lock('aws-one'):\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", holder, ground.fabric.name], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(GrafosError), opened(ground).lock("aws-one"):
        pass
    child.kill()
    child.communicate()
    with opened(ground).lock("aws-one"):
        pass


def test_the_shared_network_is_waited_for(ground: TwinGround) -> None:
    waits: list[float] = []
    journal = opened(ground)
    patient = journal.lock("net", patience_s=0.5, sleep=waits.append)
    with opened(ground).lock("net"), pytest.raises(GrafosError) as refused, patient:
        pass
    assert refused.value.code == "stack_busy"
    assert 0.4 < sum(waits) < 0.7


# --- bad days ---------------------------------------------------------------------------------------------------


def test_a_journal_that_is_gone_though_there_was_one_is_lost_from_that_moment_on(ground: TwinGround) -> None:
    assert opened(ground).lost_at == 0.0
    make(ground.hands())
    ground.lose_journal()
    ground.clock.advance(10)
    lost_at = opened(ground).lost_at
    assert lost_at == ground.clock.now()
    ground.clock.advance(10)
    assert opened(ground).lost_at == lost_at


def test_a_fabric_that_never_provisioned_has_lost_nothing(ground: TwinGround) -> None:
    opened(ground).write(stack())
    ground.lose_journal()
    assert opened(ground).lost_at == 0.0


@pytest.mark.parametrize("damage", ["garbage", "cut", "row"])
def test_a_journal_that_cannot_be_read_is_said_and_never_overwritten(ground: TwinGround, damage: str) -> None:
    journal = opened(ground)
    journal.write(stack())
    journal.close()
    damaged(journal.path, damage)
    before = journal.path.read_bytes()
    with pytest.raises(GrafosError) as refused:
        opened(ground).stacks()
    assert refused.value.code == "journal_invalid"
    assert "move the file away" in refused.value.next
    assert journal.path.read_bytes()[:4096] == before[:4096]


def damaged(path: Path, damage: str) -> None:
    if damage == "garbage":
        path.write_bytes(b"no database at all " * 500)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE rows SET body = x'c1' WHERE kind = 'stack'")


def test_a_journal_of_a_newer_grafos_is_refused(ground: TwinGround) -> None:
    journal = opened(ground)
    with sqlite3.connect(journal.path) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'schema_version'")
    with pytest.raises(GrafosError) as refused:
        opened(ground)
    assert refused.value.code == "schema_newer"


def test_a_full_disk_is_told_before_the_cloud_is_asked(ground: TwinGround) -> None:
    """The intent does not reach the disk, so the call is not made."""
    journal = opened(ground)
    pages = journal._file._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._file._connection.execute(f"PRAGMA max_page_count = {pages}")
    many = [stack(f"aws-{number}") for number in range(200)]
    with pytest.raises(GrafosError) as refused:
        journal.write(*many)
    assert opened(ground).stacks() == []
    assert refused.value.code == "store_failed"
    assert "nothing was asked of the cloud" in refused.value.what


def test_the_journal_is_synced_at_each_write(ground: TwinGround) -> None:
    journal = opened(ground)
    full = 2
    assert journal._file._connection.execute("PRAGMA synchronous").fetchone()[0] == full
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_two_processes_write_at_once_and_both_are_kept(ground: TwinGround) -> None:
    one, two = opened(ground), opened(ground)
    for number in range(20):
        one.write(stack(f"one-{number}"))
        two.write(stack(f"two-{number}"))
    assert len(opened(ground).stacks()) == 40
