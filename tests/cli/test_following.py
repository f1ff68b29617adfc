"""Logs and events that are followed: each line once, on through lost connections, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import FOR_EVER, HELLO, Person, ends_with, record_of
from follower import Follower

from grafos_cli.events import events_of_cell, events_of_resources, events_of_run
from grafos_cli.following import Console, LogFile, Looked, follow, newer_lines, whole_lines
from grafos_connectors.contract import Kind
from grafos_core.errors import GrafosError
from grafos_scheduler.messages import Cost, RunView
from grafos_stacks.journal import Life, ResourceRow
from grafos_stacks.records import CellRecord

# --- what is new --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "abc", "abc"),
        ("abc", "abc", ""),
        ("abc", "abcde", "de"),
        ("abcde", "cdefg", "fg"),  # the beginning was cut off meanwhile
        ("abcde", "bcd", ""),  # an older view
        ("abcde", "", ""),
        ("abc", "xyz", "xyz"),  # so much was said that nothing of before is left
        ("aaa", "aaaa", "a"),
        ("abab", "ababab", "ab"),
    ],
)
def test_of_two_views_of_a_console_only_what_is_new_is_shown(before: str, now: str, new: str) -> None:
    assert list(newer_lines(list(before), list(now))) == list(new)


def test_a_view_that_begins_within_a_line_is_known_again() -> None:
    assert newer_lines(["first", "second", "third"], ["cond", "third", "fourth"]) == ["fourth"]


def test_a_line_is_shown_when_it_has_come_to_its_end() -> None:
    assert whole_lines("one\r\ntwo\n\nthr") == ["one", "two", ""]
    views = iter(["one\ntw", "one\ntwo\nthree\n", "one\ntwo\n", "three\nfour\n"])
    console = Console(lambda: next(views))
    assert [list(console.look().fresh) for _ in range(4)] == [["one"], ["two", "three"], [], ["four"]]


def test_a_log_that_grows_is_read_on_and_one_that_was_replaced_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "cell.log"
    log = LogFile(path)
    assert log.look() == []
    for said, new in ((b"one\ntw", ["one"]), (b"one\ntwo\n", ["two"]), (b"one\ntwo\n", []), (b"again\n", ["again"])):
        path.write_bytes(said)
        assert log.look() == new
    (tmp_path / "other").write_bytes(b"a longer line than before\n")
    (tmp_path / "other").replace(path)
    assert log.look() == ["a longer line than before"]


def test_who_falls_silent_is_told_of_once_and_nothing_is_shown_twice() -> None:
    silent = GrafosError("scheduler_unreachable", "nobody answers")
    answers: Iterator[Looked[int] | GrafosError] = iter(
        [Looked([1]), silent, silent, Looked([2]), Looked([]), silent, Looked([3], over=True)]
    )

    def look() -> Looked[int]:
        answer = next(answers)
        if isinstance(answer, GrafosError):
            raise answer
        return answer

    notes: list[str] = []
    waited: list[float] = []
    assert list(follow(look, 7.0, notes.append, waited.append)) == [1, 2, 3]
    lost, back = "note: nobody answers; trying again until it answers", "note: it answers again"
    assert notes == [lost, back, lost, back]
    assert waited == [7.0] * 6


@pytest.mark.parametrize("code", ["cell_gone", "interrupted"])
def test_what_waiting_does_not_cure_ends_it(code: str) -> None:
    answers = iter([True, False])

    def look() -> Looked[int]:
        if next(answers):
            return Looked([])
        raise GrafosError(code, "over")

    with pytest.raises(GrafosError, match="over"):
        list(follow(look, 0.0, lambda _: None, lambda _: None))


# --- what happened ------------------------------------------------------------------------------------------------

RUN = RunView(
    "run-1", "t", "local", "", "local", "p", "one", "m", "", "planned", "", "", 10.0, 0.0, 0, Cost(0, 0.0, 0, 0.0, "0")
)  # fmt: skip


def changed(view: RunView, **fields: object) -> RunView:
    return RunView(**{**{name: getattr(view, name) for name in view.__struct_fields__}, **fields})


def test_the_events_of_a_run_are_its_asking_and_its_end() -> None:
    [asked] = events_of_run(RUN)
    placed, ended = events_of_run(changed(RUN, cell_id="c", state="failed", code="fuel_exhausted", ended_at=12.0))
    assert (asked.at, asked.what, ended.at, ended.what, ended.detail) == (
        10.0,
        "asked",
        12.0,
        "failed",
        "fuel_exhausted",
    )
    assert asked.key == placed.key  # it is the same event, though now its cell is known


@pytest.mark.parametrize(
    ("now", "gone_at", "told"),
    [
        (20.0, 0.0, ["ready"]),
        (99.0, 0.0, ["ready", "expired"]),
        (99.0, 20.0, ["ready", "gone"]),
        (99.0, 60.0, ["ready", "expired", "gone"]),
    ],
)
def test_the_events_of_a_cell_are_its_making_and_its_end(now: float, gone_at: float, told: list[str]) -> None:
    record = CellRecord("c", "fab", "aws", "r", "", 1, 50.0, 10.0, gone_at=gone_at)
    assert [one.what for one in events_of_cell(record, now)] == told


def test_each_step_of_a_resource_is_an_event() -> None:
    row = ResourceRow("k", "c", "machine", Kind.MACHINE, "r", "z", 1, "t", Life.INTENDED, 1.0, 1.0, 1.0)
    steps = [row, row.moved(Life.BEGUN, 2.0), row.moved(Life.READY, 3.0)]
    told = [one for step in steps for one in events_of_resources("c", [step])]
    assert [one.what for one in told] == ["intended", "begun", "ready"]
    assert len({one.key for one in told}) == len(steps)


# --- the commands -------------------------------------------------------------------------------------------------


def whats(lines: list[str]) -> list[tuple[str, str]]:
    return [(told["name"], told["what"]) for told in map(json.loads, lines)]


def test_events_come_as_they_happen_and_go_on_after_a_scheduler_was_lost(resident: Person) -> None:
    resident.write_program(HELLO)
    first = resident("deploy", "run", "--json").document["run_id"]
    follower = Follower(resident, "events", "-f", "--json")
    follower.until(lambda lines: (first, "finished") in whats(lines))
    second = resident("deploy", "run", "--json").document["run_id"]
    follower.until(lambda lines: (second, "finished") in whats(lines))
    for daemon in record_of(resident)["daemons"]:
        os.kill(daemon["pid"], signal.SIGKILL)
    time.sleep(1.5)  # a look that nobody answers
    assert resident("dev", "up").code == 0
    third = resident("deploy", "run", "--json").document["run_id"]
    follower.until(lambda lines: (third, "finished") in whats(lines))
    code, err = follower.stop()
    assert (code, err) == (130, "")
    assert len(set(follower.lines)) == len(follower.lines)
    assert whats(follower.lines).count((first, "finished")) == 1


def test_events_of_one_run_and_of_one_cell(resident: Person) -> None:
    resident.write_program(HELLO)
    run_id = resident("deploy", "run", "--json").document["run_id"]
    of_run = resident("events", "--run-id", run_id, "--json").document["events"]
    assert [(one["name"], one["what"]) for one in of_run] == [(run_id, "asked"), (run_id, "finished")]
    cell_id = str(record_of(resident)["cell_id"])
    of_cell = resident("events", "--cell-id", cell_id, "--json").document["events"]
    assert (cell_id, "ready") in [(one["name"], one["what"]) for one in of_cell]
    assert resident("events", "--cell-id", "nobody").out == "Nothing happened yet.\n"
    assert len(resident("events", "--limit", "1", "--stream").out.splitlines()) == 1


def test_the_logs_of_the_local_fabric_are_read_and_followed(resident: Person) -> None:
    said = resident("dev", "logs", "--json").document["lines"]
    assert {"scheduler", "cell"} <= {one["program"] for one in said}
    only = resident("dev", "logs", "cell", "--lines", "1").out
    assert only.startswith("cell ")
    assert only.count("\n") == 1
    follower = Follower(resident, "dev", "logs", "cell", "-f", "--lines", "1", "--json")
    follower.until(len)
    log = resident.project / ".grafos" / "dev" / "cell.log"
    with log.open("a") as file:
        file.write("one more line\n")
    follower.until(lambda lines: "one more line" in lines[-1])
    assert follower.stop() == (130, "")
    assert len(follower.lines) == 2
    wrong = resident("dev", "logs", "shceduler")
    assert (wrong.code, wrong.error_code, "did you mean scheduler?" in wrong.err) == (2, "usage", True)


def test_where_no_fabric_has_run_there_are_no_logs(tmp_path: Path) -> None:
    answer = Person(tmp_path)("dev", "logs", "-f")
    assert (answer.code, answer.error_code) == (6, "runtime_not_ready")


LOG_WRITE = '(import "grafos_tasklet_v0" "log_write" (func $log (param i32 i32) (result i32)))'
LOGGING = HELLO.replace("(import", f"{LOG_WRITE}\n  (import", 1).replace(
    "(drop (call $respond", "(drop (call $log (i32.const 0) (i32.const 9))) (drop (call $respond"
)


def test_the_log_of_a_run_is_printed_and_waited_for(resident: Person) -> None:
    resident.write_program(LOGGING)
    run_id = resident("deploy", "run", "--json").document["run_id"]
    assert resident("runs", "logs", run_id).out == '{"hello":\n'
    follower = Follower(resident, "runs", "logs", run_id, "-f", "--json")
    code, err = follower.end()
    assert (code, err) == (0, "")
    told = [(one["state"], one["line"]) for one in map(json.loads, follower.lines)]
    assert told == [("finished", None), ("finished", '{"hello":')]


def test_a_run_that_goes_on_is_followed_to_its_end(resident: Person) -> None:
    resident.write_program(FOR_EVER, fuel=10**12, deadline_s=60)
    waiting = resident.starts("deploy", "run")
    deadline = time.monotonic() + 30
    while (run := resident.only_run())["state"] != "running":
        assert time.monotonic() < deadline
    run_id = run["run_id"]
    early = resident("runs", "logs", run_id)
    assert (early.code, early.out) == (0, "")
    assert f"grafos runs logs {run_id} -f" in early.err
    stopped, followed = (Follower(resident, "runs", "logs", run_id, "--follow", "--json") for _ in range(2))
    for follower in (stopped, followed):
        follower.until(len)
    assert stopped.stop() == (130, "")
    assert resident("runs", "cancel", run_id).code == 0
    assert followed.end() == (0, "")
    assert [json.loads(line)["state"] for line in followed.lines] == ["running", "cancelled"]
    assert ends_with(waiting).code == 8


def test_a_run_that_nobody_knows_is_not_waited_for(resident: Person) -> None:
    answer = resident("runs", "logs", "run-000000-000000-aaaaaaaaaaaaaaaa", "-f")
    assert (answer.code, answer.error_code) == (2, "run_unknown")
