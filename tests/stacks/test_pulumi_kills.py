"""The engine, its provider, the person's process, or all of them, killed at any call: nothing is left, nothing double.

What stands in the way is looked for from outside: the processes by their parents, the machines in the account itself.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pulumi_ground import emulated_aws, engine_in_path, fabric, machines

from grafos_core import ledger as ledgers
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.lifecycle import LifecycleTimes

pytestmark = [pytest.mark.needs("pulumi"), pytest.mark.timeout(1800)]

SUPPORT = Path(__file__).resolve().parents[1] / "support"
SOME_TIME = LifecycleTimes(starting_s=1.0, stopping_s=0.05, ending_s=0.3)
"""So that a kill may fall into a machine's start."""
CELLS = 2
CALLS_MIN = 8
"""That change something in the making of one cell's parts: a sweep of fewer has not looked at all."""
PATIENCE_S = 240.0
WHO = ("engine", "provider", "both", "all")


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[EmulatedClouds]:
    with emulated_aws(tmp_path, times=SOME_TIME) as aws:
        engine_in_path()
        yield aws


def begin(verb: str, folder: Path, cells: int = CELLS) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SUPPORT / "pulumi_person.py"), verb, str(folder), str(cells)]
    paths = os.pathsep.join((str(SUPPORT), os.environ.get("PYTHONPATH", "")))
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": paths})


def to_its_end(verb: str, folder: Path, cells: int = CELLS) -> None:
    assert begin(verb, folder, cells).wait(PATIENCE_S) == 0, (folder / "said.txt").read_text()[-4000:]


def children(pid: int, named: str) -> list[int]:
    """Processes below that one whose command has the word in it."""
    with contextlib.suppress(OSError):
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = [int(one) for one in below if named.encode() in _command(int(one))]
        return found + [deeper for one in below for deeper in children(int(one), named)]
    return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def engine_of(person: subprocess.Popen[bytes]) -> list[int]:
    return [pid for pid in children(person.pid, "--client=") if b"resource-grafos" not in _command(pid)]


def wait_until_gone(pids: list[int]) -> None:
    until = time.monotonic() + PATIENCE_S
    while any(_command(pid) for pid in pids):
        assert time.monotonic() < until, "a process outlived its parent"
        time.sleep(0.05)


def at_call(aws: EmulatedClouds, number: int, person: subprocess.Popen[bytes]) -> bool:
    """Waits for the n-th changing call since; False if the command ended before."""
    began = len(aws.journal())
    while person.poll() is None:
        if sum(call.mutating for call in aws.journal()[began:]) >= number:
            return True
        time.sleep(0.01)
    return False


def kill(who: str, person: subprocess.Popen[bytes]) -> None:
    engine = engine_of(person)
    providers = [pid for one in engine for pid in children(one, "resource-grafos")]
    both = engine + providers
    hit = {"engine": engine, "provider": providers, "both": both, "all": [*both, person.pid]}
    for pid in hit[who]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    person.wait(PATIENCE_S)
    wait_until_gone(both)


def check_nothing_is_left(aws: EmulatedClouds) -> None:
    assert aws.world() == ()
    assert {hold.state for hold in fabric().read_ledger().holds.values()} <= {ledgers.SETTLED, ledgers.RELEASED}


@pytest.mark.deep
@pytest.mark.parametrize("who", WHO)
def test_killed_at_any_call_a_rerun_makes_exactly_what_is_wanted(aws: EmulatedClouds, tmp_path: Path, who: str) -> None:
    """Up is killed at one changing call after the other until it comes to its end."""
    killed = 0
    for number in range(1, 40):
        person = begin("up", tmp_path)
        if not at_call(aws, number % 4 + 1, person):
            break
        kill(who, person)
        killed += 1
        assert len(machines(aws)) <= CELLS
    to_its_end("up", tmp_path)
    assert len(machines(aws)) == CELLS
    to_its_end("destroy", tmp_path)
    check_nothing_is_left(aws)
    print(f"{who}: up killed {killed} times, then {CELLS} machines, then 0 left")


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("then", ["up and destroy", "destroy alone"])
def test_killed_at_each_call_of_its_own_whoever_goes_on_has_it_and_whoever_destroys_has_nothing(
    aws: EmulatedClouds, tmp_path: Path, who: str, then: str
) -> None:
    """One cell, in an empty world for each call that its making takes."""
    for number in itertools.count(1):
        person = begin("up", tmp_path, cells=1)
        if not at_call(aws, number, person):
            break
        kill(who, person)
        if then == "up and destroy":
            to_its_end("up", tmp_path, cells=1)
            assert len(machines(aws)) == 1
        to_its_end("destroy", tmp_path, cells=1)
        check_nothing_is_left(aws)
    assert number - 1 >= CALLS_MIN, (tmp_path / "said.txt").read_text()[-4000:]
    assert len(machines(aws)) == 1
    to_its_end("destroy", tmp_path, cells=1)
    check_nothing_is_left(aws)
    print(f"{who}: killed at each of {number - 1} calls, then {then}: nothing left each time")


@pytest.mark.deep
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_it_in_order_and_destroy_clears_all(aws: EmulatedClouds, tmp_path: Path, times: int) -> None:
    person = begin("up", tmp_path)
    assert at_call(aws, 8, person), (tmp_path / "said.txt").read_text()
    for _ in range(times):
        person.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert person.wait(PATIENCE_S) != 0
    to_its_end("destroy", tmp_path)
    check_nothing_is_left(aws)
