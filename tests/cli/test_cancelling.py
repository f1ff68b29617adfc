"""Whoever started a run may end it: with a command, or with Ctrl-C and an answer."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable

import pytest
from command_line import FOR_EVER, HELLO, Person, ends_with, record_of
from screen import Screen


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def runner(resident: Person) -> Person:
    """Somebody whose next run does not end by itself."""
    resident.write_program(FOR_EVER, fuel=10**12, deadline_s=60)
    return resident


def running(person: Person) -> list[str]:
    runs = person("runs", "ls", "--json").document["runs"]
    return [run["run_id"] for run in runs if run["state"] == "running"]


def state_of(person: Person, run_id: str) -> str:
    return str(person("runs", "show", run_id, "--json").document["run"]["state"])


def test_a_run_is_cancelled_and_whoever_waits_for_it_is_told(runner: Person) -> None:
    waiting = runner.starts("deploy", "run")
    until(lambda: running(runner))
    [run_id] = running(runner)
    answer = runner("runs", "cancel", run_id)
    assert re.fullmatch(rf"Run {run_id} is cancelled; it cost 0¢\.\n", answer.out)
    told = ends_with(waiting)
    assert (told.code, told.error_code) == (8, "cancelled")
    again = runner("runs", "cancel", run_id, "--json").document
    assert (again["run"]["state"], again["was_under_way"]) == ("cancelled", False)
    assert "cancelled: its tenant cancelled the run\n" in runner("runs", "show", run_id).out
    runner.write_program(HELLO)
    assert runner("deploy", "run").code == 0  # its worker is free again


def test_a_run_that_has_ended_stays_as_it_is(resident: Person) -> None:
    resident.write_program(HELLO)
    run_id = resident("deploy", "run", "--json").document["run_id"]
    answer = resident("runs", "cancel", run_id)
    assert (answer.code, answer.out) == (0, f"Run {run_id} had ended before: finished. Nothing was cancelled.\n")


@pytest.mark.parametrize("run_id", ["run-000000-000000-aaaaaaaaaaaaaaaa", "../.."])
def test_a_run_that_nobody_knows_is_told(run_id: str, resident: Person) -> None:
    answer = resident("runs", "cancel", run_id)
    assert (answer.code, answer.error_code) == (2, "run_unknown")


def resident_cell(person: Person) -> str:
    return str(record_of(person)["cell_id"])


def at_the_question(person: Person) -> tuple[Screen, str]:
    screen = Screen(person, "deploy", "run")
    until(lambda: running(person))
    [run_id] = running(person)
    screen.until("running on")
    screen.process.send_signal(signal.SIGINT)
    screen.until("Keep it running, or cancel it? [K/c]")
    assert f"goes on on {resident_cell(person)}" in screen.text
    assert "✗" not in screen.text  # nothing has failed
    return screen, run_id


def test_ctrl_c_at_a_terminal_asks_and_a_c_cancels(runner: Person) -> None:
    screen, run_id = at_the_question(runner)
    screen.type("c\n")
    assert screen.end() == 130
    assert f"Run {run_id} is cancelled" in screen.text
    assert state_of(runner, run_id) == "cancelled"


@pytest.mark.parametrize("keys", ["k\n", "\n"])
def test_ctrl_c_at_a_terminal_keeps_it_running_unless_told_otherwise(keys: str, runner: Person) -> None:
    screen, run_id = at_the_question(runner)
    screen.type(keys)
    assert screen.end() == 130
    assert f"grafos runs show {run_id}" in screen.text
    assert state_of(runner, run_id) == "running"
    assert runner("runs", "cancel", run_id).code == 0


def test_ctrl_c_twice_leaves_at_once_with_the_command_that_goes_on(runner: Person) -> None:
    screen, run_id = at_the_question(runner)
    screen.process.send_signal(signal.SIGINT)
    assert screen.end() == 130
    assert f"Run {run_id} goes on; next: grafos runs show {run_id}" in screen.text
    assert state_of(runner, run_id) == "running"
    assert runner("runs", "cancel", run_id).code == 0


def test_without_a_terminal_nobody_is_asked_and_both_ways_are_told(runner: Person) -> None:
    waiting = runner.starts("deploy", "run")
    until(lambda: running(runner))
    [run_id] = running(runner)
    waiting.send_signal(signal.SIGINT)
    told = ends_with(waiting)
    assert (told.code, told.error_code) == (130, "interrupted")
    ways = (f"grafos runs show {run_id}", f"to wait for it: grafos runs logs {run_id} -f")
    ways += (f"to end it: grafos runs cancel {run_id}",)
    assert "  next:  " + "\n         ".join(ways) + "\n" in told.err
    assert runner("runs", "cancel", run_id).code == 0
