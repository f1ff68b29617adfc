"""`grafos dev watch`: save a file, see the answer."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import FOR_EVER, GRAFOS, HELLO, Person

from grafos_cli.watching import FILES_MAX, LOOK_EVERY_S, Watch, changed_names, sight_of
from grafos_core.errors import GrafosError

UNTIL_S = 60


class Watcher:
    """`grafos dev watch --json` and what it says, line by line."""

    def __init__(self, person: Person, *words: str) -> None:
        self.process = subprocess.Popen(
            [str(GRAFOS), "dev", "watch", "--json", *words],
            cwd=person.project,
            env={**os.environ, **person.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line)

    def next(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._said.get(timeout=UNTIL_S))
        return found

    def is_silent(self, seconds: float) -> bool:
        try:
            self._said.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(UNTIL_S)
        self._reading.join(UNTIL_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@pytest.fixture
def watcher(resident: Person) -> Iterator[Watcher]:
    resident.write_program(HELLO, fuel=10**12, deadline_s=1.0)
    save(resident, HELLO)
    watching = Watcher(resident)
    yield watching
    if watching.process.returncode is None:
        watching.end()


def save(person: Person, text: str) -> None:
    (person.project / "src" / "one.wat").write_text(text)


def test_a_save_is_built_and_answered_and_ctrl_c_ends_it_well(watcher: Watcher, resident: Person) -> None:
    assert watcher.next()["response"] == {"hello": 1}
    save(resident, HELLO.replace("hello", "hallo"))
    done = watcher.next()
    assert (done["tasklet"], done["response"], done["error"]) == ("one", {"hallo": 1}, None)
    assert done["run"]["state"] == "finished"
    assert resident.only_run()["run_id"] == done["run"]["run_id"]
    assert watcher.end() == 0


def test_a_build_that_fails_shows_the_compiler_s_words_and_the_next_save_is_waited_for(
    watcher: Watcher, resident: Person
) -> None:
    watcher.next()
    save(resident, "(broken")
    failed = watcher.next()["error"]
    assert failed["code"] == "build_failed"
    assert "expected valid module field" in failed["why"]
    save(resident, HELLO)
    assert watcher.next()["response"] == {"hello": 1}


def test_a_run_that_fails_and_a_manifest_that_is_none_are_waited_out_too(watcher: Watcher, resident: Person) -> None:
    watcher.next()
    save(resident, FOR_EVER)
    assert watcher.next()["error"]["code"] == "deadline_exceeded"
    manifest = resident.project / "grafos.toml"
    before = manifest.read_text()
    manifest.write_text("[program")
    assert watcher.next()["error"]["code"] == "manifest_invalid"
    manifest.write_text(before)
    save(resident, HELLO)
    assert watcher.next()["response"] == {"hello": 1}


def test_what_builds_leave_behind_and_a_save_of_the_same_bytes_run_nothing(watcher: Watcher, resident: Person) -> None:
    watcher.next()
    (resident.project / "target").mkdir(exist_ok=True)
    (resident.project / "target" / "x.o").write_text("")
    (resident.project / ".grafos" / "x").write_text("")
    save(resident, HELLO)
    assert watcher.is_silent(2.0)


def test_for_people_the_answer_is_on_stdout_and_all_else_beside_it(resident: Person) -> None:
    resident.write_program(HELLO)
    process = resident.starts("dev", "watch")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"hello": 1}
    save(resident, HELLO + ";; nothing that runs")
    assert process.stderr is not None
    said = ""
    while "their answers stand" not in said:
        said += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=UNTIL_S)
    assert (out, process.returncode) == ("", 0)
    assert "one: built in" in said
    assert err.endswith("stopped watching\n")


def test_its_own_words_in_a_file_of_the_program_s_folder_are_no_change(resident: Person) -> None:
    resident.write_program(HELLO)
    log = resident.project / "watched.txt"
    with log.open("w") as kept:
        process = resident.starts("dev", "watch", into=kept)
    try:
        _until_said(log, "waiting for a save", 1)
        time.sleep(10 * LOOK_EVERY_S)
        assert log.read_text().count("waiting for a save") == 1
        save(resident, HELLO.replace("hello", "hallo"))
        _until_said(log, "waiting for a save", 2)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(UNTIL_S)
    assert "changed: src/one.wat" in log.read_text()
    assert "changed: watched.txt" not in log.read_text()


def _until_said(log: Path, words: str, times: int) -> None:
    until = time.monotonic() + UNTIL_S
    while log.read_text().count(words) < times:
        assert time.monotonic() < until, log.read_text()
        time.sleep(LOOK_EVERY_S)


def test_without_a_fabric_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    somebody.write_program(HELLO)
    assert somebody("dev", "watch").error_code == "runtime_not_ready"


def test_an_input_from_elsewhere_is_watched_too(resident: Person, tmp_path: Path) -> None:
    resident.write_program(HELLO)
    elsewhere = tmp_path / "input.bin"
    elsewhere.write_bytes(b"one")
    watching = Watcher(resident, "--input", str(elsewhere), "--tasklet", "one")
    try:
        first = watching.next()["run"]["input_sha256"]
        elsewhere.write_bytes(b"three")
        assert watching.next()["run"]["input_sha256"] != first
    finally:
        watching.end()


# --- the parts ----------------------------------------------------------------------------------------------------


class Scripted:
    """Files as they are at each look; the last look lasts. A second goes by with each wait."""

    def __init__(self, *sights: int) -> None:
        self._sights = [{"a": (number, 0)} for number in sights]
        self.time_s = 0.0

    def look(self) -> dict[str, tuple[int, int]]:
        return self._sights.pop(0) if len(self._sights) > 1 else self._sights[0]

    def sleep(self, _seconds: float) -> None:
        self.time_s += 1.0

    def watch(self) -> Watch:
        return Watch(self.look, lambda: self.time_s, self.sleep)


def test_several_writes_of_one_save_are_one_change() -> None:
    assert Scripted(1, 1, 2, 3, 3, 4).watch().next_change({"a": (1, 0)}) == {"a": (3, 0)}


def test_what_never_keeps_still_is_taken_as_it_is_after_a_while() -> None:
    assert Scripted(*range(2, 100)).watch().next_change({"a": (1, 0)})["a"][0] < 10


def test_hidden_and_built_files_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("src/a.rs", ".git/x", ".grafos/y", "target/z", "node_modules/n", "b.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "loop").symlink_to(tmp_path)
    before = sight_of(tmp_path)
    assert changed_names({}, before, tmp_path) == ["b.toml", "src/a.rs"]
    (tmp_path / "b.toml").unlink()
    assert changed_names(before, sight_of(tmp_path), tmp_path) == ["b.toml"]


def test_a_folder_that_is_no_program_is_not_walked_through(tmp_path: Path) -> None:
    for number in range(FILES_MAX // 4000 + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        for each in range(4000):
            os.mknod(folder / str(each))
    with pytest.raises(GrafosError) as refused:
        sight_of(tmp_path)
    assert refused.value.code == "limit_exceeded"
