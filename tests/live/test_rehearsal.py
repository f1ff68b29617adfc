"""The machinery of `make live`, from the question to the last listing, rehearsed on an emulator.

It is the same code, started as make starts it, with the same commands; only the account is not real.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aws_place import AwsPlace
from command_line import Answer, Person
from contract_work import Work
from live_meter import SpendMeter
from live_recordings import Recorder, read_all
from live_tap import recording

from grafos_connectors.contract import Kind
from grafos_core.clock import VirtualClock
from grafos_core.errors import CODES, INTERRUPTED, NEEDS_INPUT, GrafosError
from grafos_emulators.emulator import EmulatedClouds, Settings

RUN = Path(__file__).parents[1] / "support" / "live_run.py"
LIMIT_S = 600
FEW_CLAIMS = "made_is_ready and network or a_quota_that"
MAX_CENTS = "500"  # the emulator's fictional prices; a forgotten Azure cell would cost half of it
SLOWLY = pytest.mark.timeout(LIMIT_S)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody whose shell is pointed at emulated clouds."""
    somebody = Person(tmp_path)
    up = somebody("emulate", "up")
    assert up.code == 0, up.err
    somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
    yield somebody
    somebody("emulate", "down")


def begin(person: Person, cloud: str, *more: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RUN), cloud, "--folder", str(person.project / cloud), "--max-cents", MAX_CENTS, *more],
        cwd=person.project,
        env={**os.environ, **person.env, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(begun: subprocess.Popen[str]) -> Answer:
    out, err = begun.communicate(timeout=LIMIT_S)
    return Answer(begun.returncode, out, err)


def live(person: Person, cloud: str, *more: str, **variables: str) -> Answer:
    return end_of(begin(person, cloud, *more, **variables))


def in_the_cloud(person: Person) -> list[Any]:
    """What the emulators' own world still has."""
    found: list[Any] = person("emulate", "status", "--json").document["resources"]
    return found


@SLOWLY
@pytest.mark.parametrize(
    "cloud", [pytest.param("aws", marks=pytest.mark.deep), pytest.param("azure", marks=pytest.mark.deep), "gcp"]
)
def test_a_run_holds_the_claims_makes_a_cell_and_leaves_nothing(person: Person, cloud: str) -> None:
    run = live(person, cloud, "--claims", FEW_CLAIMS, LIVE_YES="1")
    assert run.code == 0, run.err
    assert in_the_cloud(person) == []
    folder = person.project / cloud
    assert sorted(path.name for path in folder.iterdir()) == ["receipts.json", "recordings"]
    assert "a rehearsal on an emulator" in run.out
    assert "the account's quota is its owner's" in run.err  # a claim that cannot be made there says why
    recorded = read_all(folder / "recordings")
    assert len(recorded) > 10
    assert {one.of for one in recorded.values()} == {"emulator"}
    assert "deploy" in run.out
    assert ("orchestrator" in run.out) == (cloud != "aws")


@pytest.mark.deep
@SLOWLY
def test_a_run_that_is_stopped_takes_down_what_it_made(person: Person) -> None:
    begun = begin(person, "azure", "--claims", "made_is_ready and machine", LIVE_YES="1")
    wait_for_a_machine(person, begun)
    begun.send_signal(signal.SIGINT)
    run = end_of(begun)
    assert run.code == INTERRUPTED, run.err
    assert in_the_cloud(person) == []
    assert list((person.project / "azure").glob("run-*")) == []


@pytest.mark.deep
@SLOWLY
def test_what_a_killed_run_left_is_taken_down_by_the_next_before_it_begins(person: Person) -> None:
    begun = begin(person, "azure", "--claims", "made_is_ready and network", LIVE_YES="1")
    wait_for_a_machine(person, begun)
    begun.kill()
    begun.communicate()
    assert in_the_cloud(person)
    run = live(person, "azure", "--max-cents", "1", LIVE_YES="1")  # one cent is too little to begin anything
    assert run.code == CODES["budget_exceeded"].exit_code, run.err
    assert "an earlier run" in run.err
    assert "MAX_CENTS=" in run.err
    assert in_the_cloud(person) == []


def wait_for_a_machine(person: Person, begun: subprocess.Popen[str]) -> None:
    while begun.poll() is None and not any("achine" in one["kind"] for one in in_the_cloud(person)):
        time.sleep(0.1)


def test_nothing_begins_that_could_cost_too_much_or_that_nobody_agreed_to(person: Person) -> None:
    dear = live(person, "azure", "--max-cents", "1", LIVE_YES="1")
    assert dear.code == CODES["budget_exceeded"].exit_code
    assert "next: MAX_CENTS=" in dear.err
    unasked = live(person, "azure")
    assert unasked.code == NEEDS_INPUT
    assert "LIVE_YES=1" in unasked.err
    assert "emulated, region eastus" in unasked.err
    assert in_the_cloud(person) == []
    assert list((person.project / "azure").glob("run-*/data/grafos/*/cells/*")) == []


@pytest.mark.parametrize("cloud", ["aws", "azure"])
def test_without_credentials_the_next_step_is_told_in_one_error(tmp_path: Path, cloud: str) -> None:
    somebody = Person(tmp_path)
    run = live(somebody, cloud, LIVE_YES="1", AWS_EC2_METADATA_DISABLED="true")
    assert run.code == CODES["credentials_missing"].exit_code
    assert run.err.count("error[") == 1
    assert "error[credentials_missing]" in run.err
    assert "next:" in run.err
    assert "Traceback" not in run.err


def test_the_meter_lets_nothing_begin_that_would_pass_the_cap(tmp_path: Path) -> None:
    meter, another = (SpendMeter(tmp_path / "spent.json", 100) for _ in range(2))
    meter.begin("one", 60)
    with pytest.raises(GrafosError) as refused:
        another.begin("two", 41)
    assert refused.value.code == "budget_exceeded"
    assert meter.counted_micro_cents == 60
    another.end("one", 10)  # proved gone
    meter.begin("two", 90)
    assert another.counted_micro_cents == 100
    meter.end("two", 500)  # what was bounded costs no more than its bound
    assert meter.counted_micro_cents == 100


def test_the_meter_counts_for_many_at_once(tmp_path: Path) -> None:
    meter = SpendMeter(tmp_path / "spent.json", 50)

    def one(number: int) -> bool:
        try:
            meter.begin(f"claim {number}", 7)
        except GrafosError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(40))) == 50 // 7
    assert meter.counted_micro_cents == 49


def test_what_is_lost_on_our_side_of_the_wire_was_done_at_the_other(tmp_path: Path) -> None:
    """As a claim about a lost answer has it in a real account, where no hook can break a connection."""
    clock = VirtualClock()
    with EmulatedClouds(tmp_path / "state", Settings(clouds=("aws",), boots=False), clock=clock) as clouds:
        work = Work(AwsPlace(clouds, clock))
        with recording(Recorder(tmp_path / "answers")) as tap:
            tap.losing = True
            refusal = work.refused(work.desired(Kind.NETWORK))
            assert (refusal.code, refusal.ambiguous) == ("cloud_unreachable", True)
            assert work.listed() != []  # a read is never lost
        assert "ec2.CreateVpc.200" in read_all(tmp_path / "answers")
        assert len(work.place.world()) == 1
