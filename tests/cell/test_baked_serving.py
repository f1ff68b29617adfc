"""A machine with a baked image and a port: what it is told, its addresses, its end, its supervisor without rights."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grafos_cell import baked, baked_supervisors, first_boot, moving_end, orchestrating, service, standalone
from grafos_cell.ending import Ending, asking
from grafos_cell.moving_end import ASKS, ENDS, end_of
from grafos_cell.standalone import Program
from grafos_core.errors import GrafosError
from grafos_core.machine_files import (
    END_FILE,
    END_WANTED_FILE,
    SOFTWARE_REFUSED_FILE,
    SOFTWARE_WANTED_FILE,
    read_moment,
)

PATIENCE_S = 60.0
NOW = int(time.time())
LATEST = NOW + 7200
SERVES = {
    "pattern": "standalone",
    "fabric": "fab-1",
    "port": 8443,
    "claim_secret": "5ec2e7",
    "ends_at_most": LATEST,
    "made_at": NOW,
    "mem_capacity": 1 << 30,
}
TOLD = {"cell_id": "aws-1", "provider": "aws", "region": "us-east-1", "expires_at": NOW + 600, "timer_at": NOW + 600}
JOINS = {"orchestrator": "https://203.0.113.7:8443", "ca_pem": "pem", "bootstrap_token": "a-token"}


def told(**change: object) -> bytes:
    return json.dumps({**TOLD, "serves": SERVES, **change}).encode()


# --- what it is told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"serves": None},
        JOINS,
        {"serves": None, **JOINS, "bootstrap_token": ""},
        {"serves": {**SERVES, "pattern": "registered"}},
        {"serves": {**SERVES, "port": 80}},
        {"serves": {**SERVES, "more": 1}},
    ],
    ids=["nothing", "both", "half", "a pattern without a port", "a port of root's", "what nobody knows"],
)
def test_a_machine_joins_or_serves_and_is_told_all_that_it_takes(change: dict[str, object]) -> None:
    with pytest.raises(GrafosError) as refused:
        baked.read_told(told(**change))
    assert (refused.value.code, refused.value.where) == ("config_invalid", "grafos.cell")


def test_what_is_told_once_is_written_once_and_all_of_it(tmp_path: Path) -> None:
    folder = baked.given_once(tmp_path / "standalone", {"claim-secret": "5ec2e7"})
    (folder / "claim-secret").unlink()  # its scheduler was claimed
    assert baked.given_once(folder, {"claim-secret": "5ec2e7"}) == folder
    assert list(folder.iterdir()) == []


def words_of(monkeypatch: pytest.MonkeyPatch, addresses: list[str], **serves: object) -> dict[str, str]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/grafos")
    one = baked.read_told(told(serves={**SERVES, **serves}))
    assert one.serves is not None
    words = baked_supervisors.arguments(one, one.serves, Path("/state"), addresses)
    assert not any("5ec2e7" in word for word in words), "a command line can be read by all"
    return dict(zip(words[::2], words[1::2], strict=True))


def test_a_standalone_cell_binds_to_its_own_address_and_asks_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(monkeypatch, ["10.77.0.9", "203.0.113.9"])
    assert (words["--bind"], words["--name"]) == ("10.77.0.9:8443", "203.0.113.9")
    assert (words["--end-asked"], words["--end-told"]) == ("/run/grafos/end-wanted", "/run/grafos-end/end")
    given = standalone._parser().parse_args([word for pair in words.items() for word in pair])
    scheduler, cell = standalone.programs_of(given)
    assert "--claim-secret-file" in scheduler.command
    assert cell.command[list(cell.command).index("--on-expiry") + 1] == "", "it has no right to switch anything off"
    assert standalone.switch_off_of(given) == ()


def test_an_orchestrator_has_the_addresses_that_were_reserved_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    orchestrator = {"pattern": "orchestrator", "names": ["203.0.113.9"], "healthy_after_s": 30.0}
    words = words_of(monkeypatch, ["10.77.0.9"], **orchestrator)
    assert (words["--name"], words["--healthy-after-s"]) == ("203.0.113.9", "30.0")
    orchestrating._parser().parse_args([word for pair in words.items() for word in pair])


def test_a_machine_without_an_address_serves_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(GrafosError) as refused:
        words_of(monkeypatch, [])
    assert refused.value.code == "config_invalid"
    for names in ((), ("not an address",)):
        with pytest.raises(ValueError, match="is no address"):
            first_boot.find_out_addresses("", names, tmp_path)
    first_boot.find_out_addresses("", ("127.0.0.1", "203.0.113.9"), tmp_path)
    assert (tmp_path / baked.ADDRESSES).read_text().split() == ["127.0.0.1", "203.0.113.9"]


# --- its end ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with what a machine is told, and systemd's programs, which note what they were told."""
    (tmp_path / "run" / ASKS).mkdir(parents=True)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / baked.CREDENTIAL).write_bytes(told())
    (tmp_path / "bin").mkdir()
    for name, what in {"systemctl": 'test "$1" = stop', "systemd-run": f"test ! -e {tmp_path}/refuses"}.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/told\n{what}\n')
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    return tmp_path


def roots_turn(machine: Path) -> int:
    return moving_end.main(["--run", str(machine / "run"), "--kept", str(machine / "kept")])


def timers(machine: Path) -> list[str]:
    lines = (machine / "told").read_text().splitlines() if (machine / "told").exists() else []
    return [line.split()[2] for line in lines if line.startswith("systemd-run")]


def test_an_end_is_asked_for_moved_by_root_told_back_and_kept(machine: Path) -> None:
    asked, told_at = machine / "run" / ASKS / END_WANTED_FILE, machine / "run" / ENDS / END_FILE
    state = machine / "state"
    state.mkdir()
    ending = Ending(state, NOW + 600.0, float(LATEST), lambda _: None, move=asking(asked, told_at))
    ending.begin()
    (state / END_WANTED_FILE).write_text(f"{NOW + 3600}\n")
    ending.follow()
    assert (ending.at, read_moment(asked)) == (NOW + 600, NOW + 3600), "what is only asked for does not hold"
    assert roots_turn(machine) == 0
    ending.follow()
    assert (ending.at, read_moment(state / END_FILE)) == (NOW + 3600, NOW + 3600)
    assert timers(machine) == [f"--on-calendar=@{NOW + 3600}"]
    assert f"systemctl stop grafos-expiry-{NOW + 600}.timer" in (machine / "told").read_text()
    assert end_of(baked.read_told(told()), machine / "kept") == NOW + 3600, "also after a reboot"
    assert told_at.stat().st_mode & 0o777 == 0o644
    assert roots_turn(machine) == 0
    assert len(timers(machine)) == 1


def test_no_end_is_taken_past_the_latest_one_whoever_asks(machine: Path) -> None:
    asked = machine / "run" / ASKS / END_WANTED_FILE
    for wanted in (f"{LATEST + 1}\n", "soon\n", "9" * 40, ""):
        asked.write_text(wanted)
        assert roots_turn(machine) == 0
    (machine / "kept" / ENDS).mkdir(parents=True)
    (machine / "kept" / ENDS / END_FILE).write_text(f"{LATEST + 1}\n")
    assert end_of(baked.read_told(told()), machine / "kept") == NOW + 600
    assert timers(machine) == []


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "endless"])
def test_root_is_neither_led_nor_held_up_by_what_was_laid_there_in_place_of_a_moment(kind: str, machine: Path) -> None:
    asked, held_open = machine / "run" / ASKS / END_WANTED_FILE, contextlib.ExitStack()
    if kind == "pipe":
        os.mkfifo(asked)
        held_open.callback(os.close, os.open(asked, os.O_RDWR))  # somebody may write, and nobody does
    elif kind == "folder":
        asked.mkdir()
    else:
        (machine / "secret").write_text(f"{NOW + 3600}\n")
        asked.symlink_to("/dev/zero" if kind == "endless" else machine / "secret")
    with held_open:
        assert roots_turn(machine) == 0
    assert timers(machine) == []


def test_the_end_of_a_cell_that_joins_is_moved_by_nobody(machine: Path) -> None:
    (machine / "credentials" / baked.CREDENTIAL).write_bytes(told(serves=None, **JOINS))
    (machine / "run" / ASKS / END_WANTED_FILE).write_text(f"{NOW + 3600}\n")
    assert roots_turn(machine) == 0
    assert timers(machine) == []


def test_a_timer_that_cannot_be_set_is_not_told(machine: Path) -> None:
    (machine / "refuses").touch()
    (machine / "run" / ASKS / END_WANTED_FILE).write_text(f"{NOW + 3600}\n")
    assert roots_turn(machine) == 1
    assert not (machine / "run" / ENDS / END_FILE).exists()
    assert "stop" not in (machine / "told").read_text(), "the earlier one stays"


# --- its supervisor --------------------------------------------------------------------------------------------------

CHILD = """
import os, sys, time
with open(sys.argv[1], "a") as note:
    note.write("heard" if "NOTIFY_SOCKET" in os.environ else "not heard")
time.sleep(600)
"""
RUNNER = """
import sys
from grafos_cell.standalone import Program, Supervisor
Supervisor([Program("child", [sys.executable, "-c", *sys.argv[1:]])], 0.0, ()).run()
"""


def test_the_manager_hears_from_the_supervisor_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "note"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with subprocess.Popen([sys.executable, "-c", RUNNER, CHILD, str(note)]) as running:
            try:
                assert [manager.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
                while not (note.exists() and note.read_text()):
                    manager.recv(100)
            finally:
                running.terminate()
            assert running.wait(PATIENCE_S) == 0
    assert note.read_text() == "not heard"


def test_a_restore_gets_the_time_that_it_takes_and_no_other_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        with service.unwatched(60.0):
            assert manager.recv(100) == b"WATCHDOG_USEC=60000000"
        assert manager.recv(100) == b"WATCHDOG_USEC=30000000\nWATCHDOG=1"
        monkeypatch.delenv("WATCHDOG_USEC")
        with service.unwatched(60.0):
            service.notify("nobody watches")
        assert manager.recv(100) == b"nobody watches"


def test_other_software_than_the_images_is_refused(tmp_path: Path) -> None:
    supervisor = orchestrating.OrchestratorSupervisor(
        [Program("orchestrator", [])], 0.0, (), state=tmp_path, software=tmp_path / "software", is_baked=True
    )
    (tmp_path / SOFTWARE_WANTED_FILE).write_text("ab" * 32 + "\n")
    supervisor.begin()
    supervisor._follow_orders()
    assert (tmp_path / SOFTWARE_REFUSED_FILE).read_text() == f"{'ab' * 32} is not in this machine's image\n"
