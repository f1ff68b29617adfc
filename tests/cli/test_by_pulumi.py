"""`--engine pulumi`: what it is not asked for is told, and what it makes is a cell like any other, whose life these
commands go on with by Pulumi's engine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Person, ends_with
from pulumi_ground import engine_in_path

PATIENCE_S = 90.0
PLACE = ("aws", "--region", "us-east-1")


@pytest.fixture
def somebody(tmp_path: Path) -> Person:
    return Person(tmp_path)


@pytest.fixture
def user(somebody: Person) -> Iterator[Person]:
    """With an emulated AWS and Pulumi's engine in PATH."""
    before = os.environ["PATH"]
    engine_in_path()
    somebody.env["PATH"], os.environ["PATH"] = os.environ["PATH"], before
    assert somebody("emulate", "up", "--clouds", "aws").code == 0
    try:
        somebody.env.update(somebody("emulate", "env", "--json").document["environment"])
        yield somebody
    finally:
        somebody("emulate", "down")


def pulumi_home(person: Person) -> Path:
    return person.fabric_home / "pulumi"


def stacks(person: Person) -> list[str]:
    """What Pulumi keeps: stacks in its backend, and their folders."""
    kept = [file.name for file in (pulumi_home(person) / "state" / ".pulumi" / "stacks").rglob("*.json")]
    return kept + [folder.name for folder in (pulumi_home(person) / "work").glob("*")]


def cells(person: Person) -> list[tuple[str, str]]:
    return [(cell["cell_id"], cell["state"]) for cell in person("cloud", "ls", "--json").document["cells"]]


def made(person: Person, *more: str, cell_id: str = "build") -> dict[str, Any]:
    answer = person("cloud", "provision", *PLACE, "--cell-id", cell_id, "--engine", "pulumi", *more, "--yes", "--json")
    assert answer.code == 0, answer.err + answer.out
    return answer.document


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("aws", "--engine", "terraform"), "name one of direct, pulumi"),
        (("--any", "--engine", "pulumi"), "Pulumi makes cells at one place"),
        (("aws", "--region", "us-east-1", "--engine", "pulumi", "--plan-out", "p"), "keeps plans itself"),
        (("aws", "--engine", "pulumi"), "no region was named"),
        (("aws", "--count", "65", "--engine", "pulumi"), "a Pulumi stack has 64 cells at most"),
    ],
)
def test_what_pulumi_is_not_asked_for_is_told(somebody: Person, words: tuple[str, ...], told: str) -> None:
    answer = somebody("cloud", "provision", *words)
    assert (answer.code, told in answer.err) == (2, True), answer.err


@pytest.mark.needs("pulumi")
def test_without_an_engine_nothing_is_fetched_before_somebody_agrees(somebody: Person) -> None:
    answer = somebody("cloud", "provision", *PLACE, "--engine", "pulumi", env={"PATH": "/nowhere"})
    assert "Pulumi's command line was not found" in answer.err
    assert "repeat the command with --yes" in answer.err


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.needs("pulumi")
def test_a_cell_that_pulumi_made_is_torn_down_by_pulumi(user: Person) -> None:
    """A look leaves no stack behind, nor does the end; until then there is one owner, and other inputs are refused."""
    looked = user("cloud", "provision", *PLACE, "--cell-id", "build", "--engine", "pulumi", "--dry-run", "--json")
    assert looked.document["changes"]["create"] == 13, looked.err
    assert stacks(user) == []
    assert made(user)["outputs"]["cell_id"] == ["build"]
    assert cells(user) == [("build", "live")]
    other = user(
        "cloud", "provision", *PLACE, "--cell-id", "build", "--type", "t3.large", "--engine", "pulumi", "--yes"
    )
    assert (other.error_code, "Pulumi would end what is there" in other.err) == ("plan_stale", True), other.err
    direct = user("cloud", "provision", *PLACE, "--cell-id", "build", "--yes")
    assert (direct.error_code, "--engine pulumi" in direct.err) == ("stack_busy", True), direct.err
    torn = user("cloud", "teardown", "aws", "--cell-id", "build", "--yes")
    assert torn.code == 0, torn.err
    assert "build-machine: done in" in torn.err
    assert "0 left" in torn.out
    assert (cells(user), stacks(user)) == ([("build", "gone")], [])


def below(pid: int) -> list[int]:
    """All processes below that one."""
    with contextlib.suppress(OSError):
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        children = [int(one) for file in threads for one in file.read_text().split()]
        return children + [deeper for one in children for deeper in below(one)]
    return []


def begun(person: Person, *, until: Callable[[], bool]) -> subprocess.Popen[str]:
    """A provision that has come so far."""
    process = person.starts("cloud", "provision", *PLACE, "--cell-id", "build", "--engine", "pulumi", "--yes")
    give_up = time.monotonic() + PATIENCE_S
    while not until():
        assert process.poll() is None, ends_with(process)
        assert time.monotonic() < give_up, "it never came so far"
        time.sleep(0.05)
    return process


def has_machine(person: Person) -> bool:
    return "RunInstances" in person("emulate", "journal", "--limit", "1000").out


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.needs("pulumi")
def test_what_was_killed_is_recovered_by_pulumi_past_the_lock_of_the_dead(user: Person) -> None:
    """Command, engine and provider die in a create: recover adopts what they made, and clears the rest."""
    process = begun(user, until=lambda: has_machine(user))
    for pid in (*below(process.pid), process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ends_with(process)
    shown = user("cloud", "recover", "--dry-run", "--json")
    assert [(one["cell_id"], one["action"]) for one in shown.document["cases"]] == [("build", "finish")], shown.out
    done = user("cloud", "recover", "--yes", "--json")
    assert (done.code, [one["error"] for one in done.document["cases"]]) == (0, [None]), done.out
    assert cells(user) == [("build", "live")]
    assert user("cloud", "recover", "--yes", "--json").document["cases"] == []
    assert user("cloud", "handover", "build", "--to", "direct").code == 0
    assert stacks(user) == []
    assert user("cloud", "teardown", "aws", "--cell-id", "build", "--yes").code == 0


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.needs("pulumi")
@pytest.mark.parametrize(
    "ending", [("recover", "--undo", "--yes"), ("sweep", "--provider", "aws", "--delete", "--yes")]
)
def test_the_first_ctrl_c_ends_it_in_order_and_says_how_to_go_on(user: Person, ending: tuple[str, ...]) -> None:
    """And what it left is undone by Pulumi when recover or sweep are asked for it."""
    process = begun(user, until=lambda: has_machine(user))
    children = below(process.pid)
    process.send_signal(signal.SIGINT)
    answer = ends_with(process)
    assert (answer.code, "grafos cloud teardown aws --cell-id build" in answer.err) == (130, True), answer.err
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    ended = user("cloud", *ending)
    assert (ended.code, "pulumi" in ended.err) == (0, True), ended.err + ended.out
    [account] = user("cloud", "sweep", "--provider", "aws", "--json").document["accounts"]
    assert (account["resources"], account["unsettled"], stacks(user)) == ([], [], [])
