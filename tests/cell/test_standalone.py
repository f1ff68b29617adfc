"""The supervisor of a standalone cell: what it keeps alive, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from grafos_cell.ending import Ending, keeps_orders, move_timer
from grafos_cell.standalone import Program, Supervisor, _parser, programs_of
from grafos_core.machine_files import END_FILE, END_WANTED_FILE, read_moment
from grafos_stacks import machine_script

PATIENCE_S = 60.0

# A process that runs a supervisor over one program, which notes each of its starts and then does what it was told.
RUNNER = """
import sys
from grafos_cell.standalone import Program, Supervisor
note, what, expires_at, switch_off = sys.argv[1:]
child = f"import os, sys, time; print(os.getpid(), file=open({note!r}, 'a'), flush=True); {what}"
Supervisor([Program("child", [sys.executable, "-c", child])], float(expires_at), switch_off.split()).run()
"""


class Running:
    """A supervisor in a process of its own."""

    def __init__(
        self, folder: Path, what: str, *, life_s: float = 0.0, switch_off: str = "true", stdout: Any = subprocess.PIPE
    ) -> None:
        self.note = folder / "starts"
        self.note.touch()
        expires_at = time.time() + life_s if life_s else 0.0
        arguments = [sys.executable, "-c", RUNNER, str(self.note), what, str(expires_at), switch_off]
        self.process = subprocess.Popen(arguments, stdout=stdout, text=True)

    def starts(self) -> list[int]:
        return [int(line) for line in self.note.read_text().split()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_program_that_ends_is_started_again(tmp_path: Path) -> None:
    with Running(tmp_path, "os._exit(3)") as running:
        until(lambda: len(running.starts()) >= 3)


def test_the_pause_before_a_new_start_doubles_and_a_steady_program_begins_anew() -> None:
    lines: list[str] = []
    program = Program("child", [sys.executable, "-c", "pass"])
    supervisor = Supervisor([program], 0.0, say=lines.append)
    for began_s_ago in (0.0, 0.0, 0.0, 31.0):
        program.process = subprocess.Popen(program.command)
        program.process.wait()
        program.began_at = time.monotonic() - began_s_ago
        supervisor._reap()
    assert [line.rpartition("again in ")[2] for line in lines] == ["0.1 s", "0.2 s", "0.4 s", "0.1 s"]


def test_a_console_that_takes_nothing_more_ends_nobody(tmp_path: Path) -> None:
    """It may be a file on a full disk, and the supervisor is who switches the machine off."""
    off = tmp_path / "off"
    with (
        Path("/dev/full").open("w") as full,
        Running(tmp_path, "os._exit(3)", life_s=2.0, switch_off=f"touch {off}", stdout=full) as running,
    ):
        until(off.exists)
        assert len(running.starts()) >= 2


def test_a_program_that_cannot_be_started_is_tried_again_and_the_machine_still_switched_off(tmp_path: Path) -> None:
    lines: list[str] = []
    off = tmp_path / "off"
    program = Program("child", [str(tmp_path / "missing")])
    supervisor = Supervisor([program], time.time() + 0.5, ["touch", str(off)], say=lines.append)
    threading.Timer(1.5, lambda: signal.raise_signal(signal.SIGTERM)).start()
    supervisor.run()
    assert off.exists()
    assert sum("child does not start" in line for line in lines) >= 2


def test_sigterm_ends_the_programs_and_then_the_supervisor(tmp_path: Path) -> None:
    with Running(tmp_path, "time.sleep(600)") as running:
        until(running.starts)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 0
        assert not is_alive(running.starts()[0])


def test_whatever_kills_the_supervisor_kills_its_programs(tmp_path: Path) -> None:
    with Running(tmp_path, "time.sleep(600)") as running:
        until(running.starts)
        running.process.kill()
        until(lambda: not is_alive(running.starts()[0]))


def test_at_expiry_the_programs_are_killed_before_the_machine_is_switched_off(tmp_path: Path) -> None:
    """A program that ignores SIGTERM does not live a moment longer for it."""
    off = tmp_path / "off"
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    with Running(tmp_path, stubborn, life_s=1.0, switch_off=f"touch {off}") as running:
        until(off.exists)
        assert running.starts()
        assert not any(is_alive(pid) for pid in running.starts())


def test_a_machine_that_does_not_switch_off_stays_without_programs(tmp_path: Path) -> None:
    with Running(tmp_path, "time.sleep(600)", life_s=0.5, switch_off="false") as running:
        assert running.process.stdout is not None
        lines = [running.process.stdout.readline() for _ in range(2)]
        assert "time is over" in lines[0]
        assert "does not switch off" in lines[1]
        assert not any(is_alive(pid) for pid in running.starts())
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 0


# --- an end that is moved -----------------------------------------------------------------------------------------


def tools(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> Path:
    """A path with nothing but these programs on it; what they were told stands in the file."""
    told = folder / "told"
    told.touch()
    for name, what in programs.items():
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {told}\n{what}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return told


def ending_of(folder: Path, lines: list[str]) -> Ending:
    now = int(time.time())
    state = folder / "state"
    state.mkdir()
    return Ending(state, now + 600.0, now + 7200.0, lines.append)


def test_the_operator_s_new_end_moves_the_timer_of_the_operating_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, lines = tools(tmp_path, monkeypatch, shutdown="true"), list[str]()
    ending = ending_of(tmp_path, lines)
    ending.begin()
    assert read_moment(ending.state / END_FILE) == ending.at
    later = int(ending.at) + 3600
    (ending.state / END_WANTED_FILE).write_text(f"{later}\n")
    ending.follow()
    ending.follow()
    assert (ending.at, read_moment(ending.state / END_FILE)) == (later, later)
    assert told.read_text().splitlines() == ["shutdown -P +70"]
    again = Ending(ending.state, ending.at - 3600, ending.at_most, lines.append)
    again.begin()
    assert again.at == later


def test_an_end_past_the_last_moment_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, lines = tools(tmp_path, monkeypatch, shutdown="true"), list[str]()
    ending = ending_of(tmp_path, lines)
    before = ending.at
    (ending.state / END_WANTED_FILE).write_text(f"{int(ending.at_most) + 1}\n")
    for _ in range(3):
        ending.follow()
    assert (ending.at, told.read_text(), len(lines)) == (before, "", 1)
    (ending.state / END_WANTED_FILE).write_text("soon\n")
    ending.follow()
    assert ending.at == before


def test_a_timer_that_cannot_be_moved_leaves_the_earlier_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(tmp_path, monkeypatch, shutdown="exit 1")
    ending = ending_of(tmp_path, [])
    ending.begin()
    (ending.state / END_WANTED_FILE).write_text(f"{int(ending.at) + 60}\n")
    ending.follow()
    assert read_moment(ending.state / END_FILE) == ending.at


def test_where_shutdown_does_not_take_the_order_the_timer_of_systemd_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one first: in between the machine has two, and never none."""
    systemctl = 'test "$1" = stop'
    told = tools(tmp_path, monkeypatch, shutdown="exit 1", systemctl=systemctl, **{"systemd-run": "true"})
    at = int(time.time()) + 600
    assert move_timer(at, at - 300, list[str]().append)
    assert told.read_text().splitlines()[1:] == [
        f"systemctl is-active --quiet grafos-expiry-{at}.timer",
        f"systemd-run --unit=grafos-expiry-{at} --on-calendar=@{at} shutdown -P now",
        f"systemctl stop grafos-expiry-{at - 300}.timer",
    ]


@pytest.mark.parametrize(("state", "keeps"), [("exit 3", False), ("exit 0", True)], ids=["nobody", "somebody"])
def test_shutdown_is_told_no_time_where_systemd_runs_and_nobody_manages_log_ins(
    state: str, keeps: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take any time for now."""
    tools(tmp_path, monkeypatch, systemctl=state)
    assert keeps_orders(tmp_path, list[str]().append) is keeps
    assert machine_script.keeps_orders(tmp_path) is keeps
    assert keeps_orders(tmp_path / "no systemd", list[str]().append)
    assert machine_script.keeps_orders(tmp_path / "no systemd")


def test_where_no_new_timer_can_be_set_the_earlier_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tools(tmp_path, monkeypatch, shutdown="exit 1", systemctl="exit 3", **{"systemd-run": "exit 1"})
    at = int(time.time()) + 600
    assert not move_timer(at, at - 300, list[str]().append)
    assert "stop" not in told.read_text()


def test_a_supervisor_ends_its_machine_at_the_moved_end_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, now = tools(tmp_path, monkeypatch, shutdown="true", off="true"), time.time()
    ending = Ending(tmp_path, now + 1.0, now + 60.0, lambda _: None)
    moved_to = int(now) + 4
    (tmp_path / END_WANTED_FILE).write_text(f"{moved_to}\n")
    supervisor = Supervisor([], now + 1.0, [str(tmp_path / "off")], say=lambda _: None, ending=ending)
    thread = threading.Thread(target=_stop_after, args=(told, time.monotonic() + PATIENCE_S), daemon=True)
    thread.start()
    supervisor.run()
    thread.join()
    assert time.time() >= moved_to
    assert "off " in told.read_text()


def _stop_after(told: Path, until_s: float) -> None:
    while "off " not in told.read_text() and time.monotonic() < until_s:
        time.sleep(0.02)
    signal.raise_signal(signal.SIGTERM)


def test_both_programs_get_command_lines_that_they_understand(tmp_path: Path) -> None:
    from grafos_cell import settings as cell_settings
    from grafos_scheduler import settings as scheduler_settings

    flags = ["--state", str(tmp_path), "--bind", "127.0.0.2:8443", "--name", "203.0.113.9", "--fabric", "fab-1"]
    flags += ["--cell-id", "aws-1", "--provider", "aws", "--region", "us-east-1", "--mem-capacity", "65536"]
    flags += ["--claim-secret-file", str(tmp_path / "secret"), "--expires-at", "1800000000"]
    scheduler, cell = (program.command for program in programs_of(_parser().parse_args(flags)))
    told = scheduler_settings.read_settings(scheduler[scheduler.index("grafos_scheduler") + 1 :])
    assert (told.address, told.port, told.names) == ("127.0.0.2", 8443, ("203.0.113.9",))
    daemon = cell_settings.read_settings(cell[cell.index("grafos_cell") + 1 :])
    assert (daemon.scheduler, daemon.total.mem_bytes) == ("https://127.0.0.2:8443", 65536)
    assert daemon.trust == told.trust
    assert daemon.on_expiry == ("shutdown", "-P", "now")
    assert daemon.end_file == told.end_file == tmp_path / END_FILE
    assert told.end_wanted_file == tmp_path / END_WANTED_FILE


def test_the_programs_run_isolated_and_find_what_the_supervisor_finds(tmp_path: Path) -> None:
    from grafos_cell.standalone import _command

    command = _command("grafos_scheduler", ["--help"])
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={}, check=True)
    assert "grafos-scheduler" in told.stdout
    assert command[1:3] == ["-I", "-S"]
    assert os.pathsep.join(sys.path) in command
