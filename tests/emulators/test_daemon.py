from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from grafos_core.errors import GrafosError
from grafos_emulators import daemon, state
from grafos_emulators.boot.processes import of_machine
from grafos_emulators.http import Response, Server

STUBBORN = """#!/usr/bin/env python3
import os, time
if os.fork() == 0:
    os.setsid()
    print("child up", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path.resolve() / "emulate"
    yield place
    for leftover in (place / state.STATE_NAME,) if not state.is_locked(place) else ():
        leftover.unlink(missing_ok=True)
    daemon.stop(place)


@pytest.fixture
def machine(state_dir: Path, sdk: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Launches a machine on a daemon, with nothing but the daemon's environment; gives the ids of its processes."""

    def launch(info: daemon.EmulatorInfo) -> list[int]:
        for name, value in info.environment.items():
            monkeypatch.setenv(name, value)
        import boto3

        client = boto3.client("ec2")
        image = client.describe_images(Owners=["136693071363"])["Images"][0]
        machine_type = {"x86_64": "t3.medium", "arm64": "t4g.medium"}[image["Architecture"]]
        made = client.run_instances(
            ImageId=image["ImageId"], InstanceType=machine_type, MinCount=1, MaxCount=1, UserData=STUBBORN
        )
        instance_id = made["Instances"][0]["InstanceId"]
        until(lambda: "child up" in client.get_console_output(InstanceId=instance_id).get("Output", ""))
        client.close()
        return of_machine(state_dir / "machines")

    return launch


def up(state_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "grafos_emulators", "up", "--state-dir", str(state_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def dead_process() -> tuple[int, int]:
    """Number and start of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = state.started_ticks(child.pid)
    assert ticks is not None
    child.communicate()
    return child.pid, ticks


def leave_state(state_dir: Path, pid: int, ticks: int) -> None:
    state_dir.mkdir(parents=True)
    state.write(state_dir, state.State(pid, ticks, "http://127.0.0.1:9", "000042000042", 0.0))


def test_an_emulator_answers_when_it_has_started_and_outlives_who_started_it(state_dir: Path) -> None:
    starter = up(state_dir)
    out, err = starter.communicate(timeout=100)
    assert starter.returncode == 0, err
    info = daemon.read(state_dir)
    assert info is not None
    assert f"emulated aws, azure, gcp at {info.endpoint}" in out
    assert daemon.world(info) == []
    assert daemon.journal(info) == []


def test_starting_again_gives_the_one_that_runs(state_dir: Path) -> None:
    assert daemon.start(state_dir).pid == daemon.start(state_dir).pid


def test_many_that_start_at_once_get_one_emulator(state_dir: Path) -> None:
    starters = [up(state_dir) for _ in range(4)]
    answers = [starter.communicate(timeout=100) for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 4, answers
    assert len({out for out, _ in answers}) == 1


def test_its_machines_run_and_end_with_it(state_dir: Path, machine: Any) -> None:
    info = daemon.start(state_dir)
    assert len(machine(info)) == 2
    assert [each["state"] for each in daemon.machines(info).values()] == ["running"]
    assert daemon.stop(state_dir)
    assert of_machine(state_dir / "machines") == []
    assert daemon.read(state_dir) is None
    assert not daemon.stop(state_dir)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_the_emulator_dies_its_machines_die_with_it(
    state_dir: Path, machine: Any, until: Any, number: signal.Signals
) -> None:
    info = daemon.start(state_dir)
    machine(info)
    os.kill(info.pid, number)
    until(lambda: not of_machine(state_dir / "machines"))
    until(lambda: not state.is_locked(state_dir))
    assert daemon.read(state_dir) is None


@pytest.mark.parametrize("operation", ["networks.list", "resourceGroups.list"])
def test_stopping_does_not_wait_for_a_request_that_is_still_answered(
    state_dir: Path, until: Any, operation: str
) -> None:
    info = daemon.start(state_dir)
    daemon.add_fault(info, {"operation": operation, "fault": {"effect": "delay", "after_s": 100.0}})
    group_list = f"/subscriptions/{info.environment['AZURE_SUBSCRIPTION_ID']}/resourcegroups?api-version=2024-07-01"
    network_list = "/compute/v1/projects/grafos-emulated/global/networks"
    asked = group_list if operation.startswith("resourceGroups") else network_list
    heard: list[BaseException] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(info.endpoint + asked, timeout=60)  # noqa: S310  loopback
        except OSError as broken:
            heard.append(broken)

    waiting = threading.Thread(target=ask)
    waiting.start()
    until(lambda: daemon.faults(info) == [])  # it was drawn: the request is inside
    assert daemon.stop(state_dir)
    waiting.join(timeout=60)
    assert heard, "the connection broke, and no answer came"


def test_after_a_sudden_death_the_next_start_gives_a_new_empty_emulator(state_dir: Path, machine: Any) -> None:
    first = daemon.start(state_dir)
    machine(first)
    os.kill(first.pid, signal.SIGKILL)
    second = daemon.start(state_dir)
    assert second.pid != first.pid
    assert daemon.world(second) == []
    assert list((state_dir / "machines").iterdir()) == []


def test_the_file_of_a_dead_emulator_counts_for_nothing(state_dir: Path) -> None:
    leave_state(state_dir, *dead_process())
    assert daemon.read(state_dir) is None
    assert daemon.start(state_dir).endpoint != "http://127.0.0.1:9"


def test_a_process_that_has_a_dead_emulators_number_is_left_alone(state_dir: Path) -> None:
    """This test's own process is that one here."""
    leave_state(state_dir, os.getpid(), 1)
    assert daemon.read(state_dir) is None
    assert not daemon.stop(state_dir)
    assert not (state_dir / state.STATE_NAME).exists()


def test_a_corrupt_file_without_an_emulator_is_replaced(state_dir: Path) -> None:
    state_dir.mkdir(parents=True)
    (state_dir / state.STATE_NAME).write_text("{]")
    assert daemon.read(state_dir) is None
    assert daemon.start(state_dir).pid


def test_a_corrupt_file_of_a_running_emulator_is_an_error_that_says_the_next_step(state_dir: Path) -> None:
    daemon.start(state_dir)
    path = state_dir / state.STATE_NAME
    good = path.read_bytes()
    for contents in (b"{]", b"{}", b'{"pid": "x"}', b"\xff"):
        path.write_bytes(contents)
        for act in (daemon.read, daemon.start, daemon.stop):
            with pytest.raises(GrafosError) as error:
                act(state_dir)
            assert error.value.code == "emulator_invalid"
            assert error.value.next
    path.write_bytes(good)


def test_a_state_directory_that_cannot_be_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GrafosError) as error:
        daemon.start(tmp_path / "file")
    assert error.value.code == "emulator_invalid"


def test_the_state_is_for_its_owner_only(state_dir: Path) -> None:
    daemon.start(state_dir)
    assert state_dir.stat().st_mode & 0o077 == 0
    assert (state_dir / state.STATE_NAME).stat().st_mode & 0o077 == 0
    assert msgspec.json.decode((state_dir / state.STATE_NAME).read_bytes())["schema_version"] == 1


def test_no_setting_of_the_callers_cloud_reaches_the_emulator(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-real-secret")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    info = daemon.start(state_dir)
    assert b"AWS_" not in Path(f"/proc/{info.pid}/environ").read_bytes()


def run(verb: str, state_dir: Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "grafos_emulators", verb, "--state-dir", str(state_dir)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    return ran.returncode, ran.stdout, ran.stderr


def test_the_front_door_starts_tells_and_stops(state_dir: Path) -> None:
    code, _, err = run("status", state_dir)
    assert (code, err.partition(":")[0]) == (1, "error[emulator_not_running]")
    assert run("up", state_dir)[0] == 0
    code, out, _ = run("env", state_dir)
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in out
    assert "fictional" in run("status", state_dir)[1]
    assert run("down", state_dir) == (0, "stopped\n", "")
    assert run("down", state_dir) == (0, "no emulated cloud ran\n", "")


def test_an_emulator_that_cannot_start_says_why(state_dir: Path) -> None:
    state_dir.mkdir(parents=True)
    (state_dir / "machines").touch()
    (state_dir / "machines").chmod(0)
    (state_dir / "consoles").symlink_to("/proc/1/nowhere")
    with pytest.raises(GrafosError) as error:
        daemon.start(state_dir)
    assert error.value.code == "emulator_not_running"
    assert "consoles" in error.value.why or "machines" in error.value.why


def test_no_module_of_the_callers_folder_is_run(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would look for ``platform`` there first, and the emulator may be root's."""
    state_dir.parent.joinpath("platform.py").write_text("raise SystemExit('the wrong platform')")
    monkeypatch.chdir(state_dir.parent)
    info = daemon.start(Path(state_dir.name))
    assert Path(f"/proc/{info.pid}/cwd").resolve() == state_dir


def test_stopping_also_ends_what_a_killed_emulator_left(state_dir: Path) -> None:
    home = state_dir / "machines" / "i-1" / "root"
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"HOME": str(home)})
    assert left.stdin is not None
    with left.stdin:
        assert not daemon.stop(state_dir)
        assert left.wait(timeout=60) == -signal.SIGKILL


def test_an_answer_that_is_a_failure_is_not_taken_for_one(state_dir: Path) -> None:
    server = Server(lambda _: Response(500, b'["broken"]'))
    server.start()
    try:
        info = daemon.EmulatorInfo(server.endpoint, os.getpid(), "000042000042", 0.0, state_dir)
        with pytest.raises(GrafosError) as error:
            daemon.world(info)
        assert (error.value.code, error.value.why) == ("emulator_not_running", '500: ["broken"]')
    finally:
        server.close()
