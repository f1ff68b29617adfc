"""Pulumi's real engine with our provider on an emulated AWS."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from parts_program import CELL, REGION, parts_only
from pulumi_ground import CANARY, emulated_aws, engine_in_path, fabric, machines

from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_emulators.emulator import EmulatedClouds
from grafos_stacks.pulumi.at_hand import PROJECT
from grafos_stacks.pulumi.engine import EngineStack, Workplace
from grafos_stacks.records import project_cells

pytestmark = [
    pytest.mark.needs("pulumi"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Pulumi's library leaves the loop of a program that was refused unclosed; no later test is to be blamed for it."""
    yield
    gc.collect()


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[EmulatedClouds]:
    with emulated_aws(tmp_path) as aws:
        engine_in_path()
        yield aws


@pytest.fixture
def place(aws: EmulatedClouds, tmp_path: Path) -> Workplace:
    project = tmp_path / "project"
    project.mkdir()
    return Workplace(fabric(), project)


def parts_of_a_cell(place: Workplace, **more: str) -> EngineStack:
    asked = {"provider": "aws", "region": REGION, **more}
    return EngineStack(place, "dev", asked, parts_only)


def holds() -> list[str]:
    return [hold.state for hold in fabric().read_ledger().holds.values()]


def counts(stack: EngineStack) -> dict[str, int]:
    return dict(stack.preview())


def test_up_twice_loss_outside_and_destroy(aws: EmulatedClouds, place: Workplace) -> None:
    """One stack through its life: made, left alone, healed by a plain `up`, and gone without a trace or a secret."""
    os.environ["AWS_SESSION_TOKEN"] = CANARY
    stack = parts_of_a_cell(place)
    [first] = stack.up().values()
    assert machines(aws) == [first]
    assert counts(stack) == {"same": 10}
    boto3.client("ec2", **aws.client_arguments()).terminate_instances(InstanceIds=[first])
    [second] = stack.up().values()
    assert machines(aws) == [second]
    assert second != first
    assert canaries(place.home) == []
    stack.destroy()
    assert (aws.world(), holds()) == ((), [ledgers.SETTLED])
    assert stack.state().get("resources", []) == []


def canaries(folder: Path) -> list[Path]:
    """Files in which what stands for a credential can be read."""
    return [file for file in folder.rglob("*") if file.is_file() and CANARY.encode() in file.read_bytes()]


@pytest.mark.deep
def test_another_type_is_another_machine_and_the_old_one_goes_first(aws: EmulatedClouds, place: Workplace) -> None:
    stack = parts_of_a_cell(place)
    [first] = stack.up().values()
    larger = parts_of_a_cell(place, type="t3.large")
    assert counts(larger)["replace"] == 9
    [second] = larger.up().values()
    assert (machines(aws), second != first) == ([second], True)
    assert holds() == [ledgers.SETTLED, ledgers.OPEN]
    larger.destroy()
    assert aws.world() == ()


@pytest.mark.deep
def test_a_whole_cell_is_made_used_extended_and_destroyed(tmp_path: Path) -> None:
    """With a machine that boots: the cell is ready after `up`, and its end is moved without another machine."""
    with emulated_aws(tmp_path, boots=True) as aws:
        engine_in_path()
        place = Workplace(fabric(), tmp_path)
        asked = {"provider": "aws", "region": REGION, "ttl": "2h", "cellId": CELL}
        told: Any = EngineStack(place, "dev", asked).up()
        assert told["scheduler_url"][CELL].startswith("https://")
        [record] = project_cells(tmp_path, "aws")
        longer: Any = EngineStack(place, "dev", {**asked, "ttl": "3h"}).up()
        assert longer["expires_at"][CELL] == told["expires_at"][CELL] + 3600
        assert machines(aws) == [record.machine_id]
        EngineStack(place, "dev", asked).destroy()
        assert (aws.world(), project_cells(tmp_path, "aws")) == ((), [])


def test_what_the_cap_forbids_is_told_before_anything_is_made(aws: EmulatedClouds, place: Workplace) -> None:
    stack = parts_of_a_cell(place, ttl="30d")
    with pytest.raises(GrafosError) as over:
        stack.up()
    assert over.value.code == "budget_exceeded"
    assert (aws.world(), holds()) == ((), [])


@pytest.mark.deep
def test_a_lock_of_a_dead_process_bars_nobody_and_a_living_one_is_named(aws: EmulatedClouds, place: Workplace) -> None:
    stack = parts_of_a_cell(place)
    stack.up()
    folder = place.home / "state" / ".pulumi" / "locks" / "organization" / PROJECT / "dev"
    folder.mkdir(parents=True, exist_ok=True)
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = os.uname().nodename
    lock = '{{"pid": {}, "username": "somebody", "hostname": "{}", "timestamp": "2026-11-21T00:00:00Z"}}'
    (folder / "one.json").write_text(lock.format(dead.pid, host))
    stack.up()
    (folder / "two.json").write_text(lock.format(os.getpid(), host))
    with pytest.raises(GrafosError) as held:
        stack.up()
    assert (held.value.code, str(os.getpid()) in held.value.what) == ("stack_busy", True)
    (folder / "two.json").unlink()
    stack.destroy()
    assert aws.world() == ()
