"""The bad days of a local fabric: each is a finding of one line with the next step, and no other program is harmed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import FOR_EVER, GOLDEN, HELLO, Answer, Person, ends_with, named, record_of
from screen import Screen

from grafos_cli.daemons import Daemon, daemons_that_name, last_words, start_daemon
from grafos_cli.local_health import CLOCK_TOLERANCE_S, TICKS_PER_S, clock_moved_s, clock_text
from grafos_cli.local_state import LocalFabric

Golden = Callable[[Path, str], None]
STRANGER = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n{}")
    connection.close()
"""
NAMES = ["writable", "record", "folder", "clock", "scheduler", "cell", "health", "tenants", "readiness", "helper"]


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody whose local fabric runs, and is down again afterwards."""
    somebody = Person(tmp_path)
    up = somebody("dev", "up")
    assert up.code == 0, up.err
    yield somebody
    somebody("dev", "down", "--within", "0s")
    somebody("dev", "down", "--discard")


def lines(answer: Answer) -> dict[str, str]:
    """What is said of each name in a pipe."""
    return dict(line.split(": ", 1) for line in answer.out.splitlines())


def failed(person: Person) -> dict[str, str]:
    return {name: said for name, said in lines(person("dev", "doctor")).items() if said != "ok"}


def dev(person: Person) -> Path:
    return person.project / ".grafos" / "dev"


def pids(person: Person) -> list[int]:
    return [daemon["pid"] for daemon in record_of(person)["daemons"]]


def rewrite(person: Person, **changed: Any) -> None:
    path = dev(person) / "dev.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def kill(person: Person, *which: int) -> None:
    for pid in [pids(person)[number] for number in which]:
        os.kill(pid, signal.SIGKILL)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- how it looks -------------------------------------------------------------------------------------------------


def test_in_a_pipe_each_line_is_a_name_and_ok(resident: Person) -> None:
    answer = resident("dev", "doctor")
    assert (answer.code, answer.err) == (0, "")
    assert lines(answer) == dict.fromkeys(NAMES, "ok")


def test_at_a_terminal_each_line_tells_what_was_seen(resident: Person, golden: Golden) -> None:
    screen = Screen(resident, "dev", "doctor", NO_COLOR="1")
    assert screen.end() == 0
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "{time}", screen.text.replace("\r\n", "\n"))
    text = re.sub(r"process \d+", "process {pid}", re.sub(r"127\.0\.0\.1:\d+", "{address}", text))
    golden(GOLDEN / "dev-doctor.txt", named(text, cell=record_of(resident)["cell_id"], project=resident.project))


def test_in_json_it_says_whether_all_is_well(resident: Person) -> None:
    document = resident("dev", "doctor", "--json").document
    assert document["healthy"] is True
    assert [finding["name"] for finding in document["findings"]] == NAMES


def test_without_a_fabric_the_next_step_is_to_start_one(tmp_path: Path) -> None:
    answer = Person(tmp_path)("dev", "doctor")
    assert answer.code == 1
    assert re.fullmatch(r"failed: no local fabric runs in \S+; next: grafos dev up", lines(answer)["record"])


# --- processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("victim", "name"), [(0, "scheduler"), (1, "cell")])
def test_a_daemon_that_crashed_is_named_with_its_log(victim: int, name: str, person: Person) -> None:
    kill(person, victim)
    found = failed(person)
    assert set(found) == {name}
    assert re.fullmatch(
        rf"failed: process \d+ ended; its log is \S+{name}\.log; next: grafos dev up  \(.*\)", found[name]
    )
    assert person("dev", "up").code == 0
    assert failed(person) == {}


def test_a_number_that_another_program_has_by_now_deceives_nobody(person: Person) -> None:
    kill(person, 0)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        record = record_of(person)
        scheduler, cell = record["daemons"]
        rewrite(person, daemons=[{**scheduler, "pid": stranger.pid}, cell])
        said = failed(person)["scheduler"]
        assert said.startswith(f"failed: process {stranger.pid} ended (that number is sleep's now); its log is ")
        run = person("deploy", "run", env={"PWD": str(person.project)})
        assert run.code != 0
        assert person("dev", "down").code == 9
        assert stranger.poll() is None
        assert person("dev", "up", "--json").document["how"] == "resumed"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_another_program_on_the_port_is_named_and_another_port_is_taken(person: Person) -> None:
    kill(person, 0)
    url = str(record_of(person)["scheduler_url"])
    port = int(url.rpartition(":")[2])
    until(lambda: failed(person).get("scheduler"))
    with socket.create_server(("127.0.0.1", port)):
        said = failed(person)["port"]
        assert said.startswith(f"failed: 127.0.0.1:{port} is taken by another program (process {os.getpid()}, ")
        assert said.endswith("next: grafos dev up  (it takes another port)")
        assert person("dev", "up", "--json").document["how"] == "resumed"
        assert record_of(person)["scheduler_url"] != url
        assert failed(person) == {}


def test_a_stranger_where_the_scheduler_should_be_is_not_believed(person: Person) -> None:
    """The record names another address: whoever answers there does not show the pinned CA's certificate."""
    other = subprocess.Popen([sys.executable, "-c", STRANGER], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        before = record_of(person)["scheduler_url"]
        rewrite(person, scheduler_url=f"https://127.0.0.1:{other.stdout.readline().strip()}")
        assert "health" in failed(person)
        rewrite(person, scheduler_url=before)
    finally:
        other.kill()
        other.communicate()


def test_a_helper_that_died_is_told_and_runs_go_on_without_it(person: Person) -> None:
    helper: Any = record_of(person)["helper"]
    os.kill(helper["pid"], signal.SIGKILL)
    found = failed(person)
    assert set(found) == {"helper"}
    assert found["helper"].endswith("next: grafos dev up  (it starts the helper again)")
    person.write_program(HELLO)
    assert person("deploy", "run").code == 0
    assert person("dev", "up", "--json").document["how"] == "running"
    assert failed(person) == {}


# --- folder -------------------------------------------------------------------------------------------------------


def test_a_project_that_was_moved_goes_on_in_its_new_place(person: Person) -> None:
    person.write_program(HELLO)
    run_id = person("deploy", "run", "--json").document["run_id"]
    old, new = person.project, person.project.with_name("moved")
    old.rename(new)
    person.project = new
    assert failed(person)["folder"].endswith("next: grafos dev up  (it goes on in the new place)")
    refused = person("deploy", "run")
    assert (refused.code, refused.error_code) == (6, "runtime_not_ready")
    assert "was moved while its local fabric ran" in refused.err
    up = person("dev", "up")
    assert f"the project was moved from {old}" in up.err
    assert person.only_run()["run_id"] == run_id
    assert person("deploy", "run").code == 0
    assert failed(person) == {}
    assert not old.exists()


def test_a_copy_of_a_project_leaves_the_original_s_fabric_alone(person: Person) -> None:
    person.write_program(HELLO)
    original, copy = person.project, person.project.with_name("copy")
    before = pids(person)
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("lock"))
    assert "(it makes this copy a fabric of its own)" in lines(person("dev", "doctor", cwd=copy))["folder"]
    assert person("deploy", "run", cwd=copy).error_code == "runtime_not_ready"
    assert person("dev", "down", cwd=copy).out == "No local fabric ran in this project.\n"
    assert person("dev", "up", "--json", cwd=copy).document["how"] == "started"
    try:
        assert pids(person) == before
        assert failed(person) == {}
    finally:
        assert person("dev", "down", cwd=copy).code == 0
    assert failed(person) == {}


@pytest.mark.parametrize("where", [".grafos", ".grafos/dev", ".grafos/dev/state"])
def test_a_folder_that_cannot_be_written_is_one_line_and_nothing_is_left_running(where: str, tmp_path: Path) -> None:
    """A file where a folder should be: it stops whoever runs this, also one whom no mode stops."""
    somebody = Person(tmp_path)
    place = somebody.project / where
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("")
    answer = somebody("dev", "up")
    assert (answer.code, answer.error_code) == (2, "config_invalid")
    assert "  next:  " in answer.err
    assert "Traceback" not in answer.err
    assert daemons_that_name(str(somebody.project), ("grafos_scheduler", "grafos_cell", "grafos_cli.run_locally")) == []
    told = somebody("dev", "doctor")
    assert told.code == 1
    assert "Errno" not in told.out
    assert lines(told)["record"].startswith("failed: no local fabric runs in")


def test_a_folder_that_is_there_and_cannot_be_written_is_found_by_trying(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    (somebody.project / ".grafos").mkdir()
    (somebody.project / ".grafos" / "dev").symlink_to("/proc")  # stops also one whom no mode stops
    told = lines(somebody("dev", "doctor"))["writable"]
    assert re.fullmatch(r"failed: \S+/\.grafos/dev/\S+: .*; next: .*", told)


# --- clock --------------------------------------------------------------------------------------------------------


def a_record(started_at: float, ticks: int) -> LocalFabric:
    return LocalFabric("fab", "local-x", "https://127.0.0.1:1", 1, started_at, [Daemon("scheduler", 2, ticks, "")])


@pytest.mark.parametrize("moved_s", [0.0, 5.0, 3600.0, -86400.0])
@pytest.mark.parametrize("ran_s", [0.0, 12345.0])
def test_by_how_much_a_clock_was_set_is_seen_whatever_time_went_by(moved_s: float, ran_s: float) -> None:
    record = a_record(started_at=1_800_000_000.0, ticks=50 * TICKS_PER_S)
    seen = clock_moved_s(record, 1_800_000_000.0 + ran_s + moved_s, 50 + ran_s)
    assert seen == pytest.approx(moved_s)
    assert bool(clock_text(seen)) is (abs(moved_s) > CLOCK_TOLERANCE_S)


@pytest.mark.parametrize(("jump_s", "how"), [(-3600, "forward"), (3600, "back")])
def test_a_clock_that_jumped_is_told_with_its_amount(jump_s: int, how: str, person: Person) -> None:
    """The record as it would be had the clock been set since: nobody sets the machine's clock for a test."""
    before = record_of(person)["started_at"]
    assert isinstance(before, float)
    rewrite(person, started_at=before + jump_s)
    found = failed(person)
    assert set(found) == {"clock"}
    assert re.search(rf"was set {how} by 3,(599|600|601) s .*; next: set the clock; .*grafos dev down", found["clock"])


# --- state --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("daemon", ["scheduler", "cell"])
def test_a_corrupt_database_is_told_and_can_be_given_up(daemon: str, person: Person) -> None:
    person.write_program(HELLO)
    kill(person, 0, 1)
    until(lambda: {"scheduler", "cell"} <= set(failed(person)))
    for path in (dev(person) / "state" / daemon).glob("*.db*"):
        path.write_bytes(b"no database" * 1000 if path.suffix == ".db" else b"")
    answer = person("dev", "up")
    assert (answer.code, answer.error_code) == (1, "store_invalid")
    assert "next:  grafos dev down --discard" in answer.err
    assert "Traceback" not in answer.err
    assert all("next: grafos dev down --discard" in failed(person)[name] for name in ("scheduler", "cell"))
    assert "next:  grafos dev down --discard" in person("deploy", "run").err
    assert person("dev", "down").code == 9
    discarded = person("dev", "down", "--discard")
    assert (discarded.code, (dev(person) / "discarded" / daemon).is_dir()) == (0, True)
    assert person("dev", "up", "--json").document["how"] == "started"
    assert failed(person) == {}


def test_the_words_of_an_earlier_start_are_not_taken_for_those_of_this_one(tmp_path: Path) -> None:
    log = tmp_path / "cell.log"
    log.write_text("error[store_invalid]: long ago\n")
    daemon = start_daemon("cell", "grafos_cell", ["no-such-command"], log)
    until(lambda: not daemon.is_alive)
    assert "error[usage]" in last_words(daemon)
    assert "long ago" not in last_words(daemon)


def test_two_at_once_wait_for_each_other_and_say_so(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    both = [ends_with(process) for process in [somebody.starts("dev", "up") for _ in range(3)]]
    try:
        assert [answer.code for answer in both] == [0, 0, 0]
        assert any("waiting for it" in answer.err for answer in both)
        assert sum("runs already" in answer.out for answer in both) == 2
    finally:
        somebody("dev", "down")


def test_a_token_of_an_earlier_fabric_is_worth_nothing(person: Person) -> None:
    """Replayed with its own certificate and key, against the fabric that came after it."""
    person.write_program(HELLO)
    kept = {
        name: Path(str(record_of(person)[f"tenant_{name}"])).read_bytes() for name in ("certificate", "key", "token")
    }
    person("dev", "down")
    person("dev", "up")
    for name, content in kept.items():
        Path(str(record_of(person)[f"tenant_{name}"])).write_bytes(content)
    answer = person("deploy", "run")
    assert (answer.code, answer.error_code) == (4, "certificate_refused")
    assert "next:" in answer.err


# --- down ---------------------------------------------------------------------------------------------------------


def test_a_run_that_does_not_end_keeps_the_state_and_is_named_with_exit_code_9(person: Person) -> None:
    person.write_program(FOR_EVER, fuel=10**12, deadline_s=100)
    waiting = person.starts("deploy", "run")
    until(lambda: [run["state"] for run in person("runs", "ls", "--json").document["runs"]] == ["running"])
    run_id = person.only_run()["run_id"]
    down = person("dev", "down", "--within", "0s")
    waiting.kill()
    waiting.communicate()
    assert down.code == 9
    assert f"these runs had not: {run_id}" in down.out
    assert person("dev", "up", "--json").document["how"] == "resumed"
    ended = person("runs", "show", run_id, "--json").document["run"]
    assert (ended["state"], ended["code"]) == ("failed", "cell_lost")
    assert person("dev", "down").out == "The local fabric has ended; 1 run brought home.\n"
