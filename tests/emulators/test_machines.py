"""Machines that really run their user data."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from grafos_emulators.boot.confinement import LEAST_VERSION, SCOPES_SINCE
from grafos_emulators.boot.processes import of_machine
from grafos_emulators.emulator import EmulatedClouds


def script(body: str) -> str:
    """User data: Python, as a stock machine finds it."""
    return "#!/usr/bin/env python3\n" + textwrap.dedent(body)


def state(ec2: Any, instance: dict[str, Any]) -> str:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


@pytest.fixture
def machine_root(tmp_path: Path) -> Any:
    return lambda instance: tmp_path.resolve() / "emulator" / "machines" / instance["InstanceId"]


@pytest.fixture
def says(booting: EmulatedClouds, until: Any) -> Any:
    """``says(instance, text)``: waits until the console has the text, and gives the console."""

    def wait(instance: dict[str, Any], text: str) -> str:
        def look() -> str:
            console = booting.console(instance["InstanceId"]).decode()
            return console if text in console else ""

        found: str = until(look)
        return found

    return wait


def test_user_data_runs_unmodified_and_its_output_is_the_console(real_ec2: Any, boot: Any, says: Any) -> None:
    instance = boot(UserData=script("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    says(instance, "user-data ended, exit code 3")
    console = real_ec2.get_console_output(InstanceId=instance["InstanceId"])["Output"]
    assert {"out", "err"} <= set(console.splitlines())


def test_the_machines_environment_is_its_own(boot: Any, says: Any, machine_root: Any, booting: EmulatedClouds) -> None:
    os.environ["LEAKED"] = "from the host"
    instance = boot(UserData=script("import json, os; print(json.dumps(dict(os.environ))); print('end')"))
    del os.environ["LEAKED"]
    import json

    lines = says(instance, "end\n").splitlines()
    found = json.loads(next(line for line in lines if line.startswith("{")))
    root = machine_root(instance)
    assert found.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python's own, when the locale is C
    assert found == {
        "PATH": f"{root}/usr/bin",
        "HOME": f"{root}/root",
        "USER": "root",
        "LOGNAME": "root",
        "LANG": "C.UTF-8",
        "TMPDIR": f"{root}/tmp",
        "STATE_DIRECTORY": f"{root}/var/lib/grafos",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{booting.endpoint}/imds/{instance['InstanceId']}/",
    }


def test_the_machine_has_the_hosts_python_without_any_package(boot: Any, says: Any) -> None:
    body = """
    import sys
    try:
        import msgspec
        print("found a package of the host")
    except ImportError:
        print("bare", sys.version_info[:2], sys.executable)
    """
    instance = boot(UserData=script(body))
    console = says(instance, "ended")
    assert f"bare {sys.version_info[:2]}" in console
    assert f"{instance['InstanceId']}/usr/bin/python3" in console


def test_the_path_holds_nothing_but_the_machines_own_commands(boot: Any, says: Any) -> None:
    instance = boot(UserData=script("import os; print(sorted(os.listdir(os.environ['PATH'])))"))
    console = says(instance, "ended")
    assert "['poweroff', 'python3', 'sh', 'shutdown', 'systemctl', 'systemd-run']" in console


def test_a_machine_reads_its_metadata_and_binds_to_its_address(boot: Any, says: Any) -> None:
    body = """
    import os, socket, urllib.request
    base = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    ask = urllib.request.Request(base + "latest/api/token", method="PUT", headers={
        "X-aws-ec2-metadata-token-ttl-seconds": "60"})
    token = urllib.request.urlopen(ask).read().decode()
    ask = urllib.request.Request(base + "latest/meta-data/local-ipv4", headers={"X-aws-ec2-metadata-token": token})
    address = urllib.request.urlopen(ask).read().decode()
    listener = socket.create_server((address, 8443))
    print("listening", address, flush=True)
    listener.accept()[0].sendall(b"hello")
    """
    first, second = boot(UserData=script(body)), boot(UserData=script(body))
    import socket

    for instance in (first, second):
        says(instance, f"listening {instance['PublicIpAddress']}")
        with socket.create_connection((instance["PublicIpAddress"], 8443), timeout=10) as connection:
            assert connection.recv(5) == b"hello"


@pytest.mark.parametrize(
    ("command", "behaviour", "expected"),
    [
        ("['shutdown', '-P', 'now']", "terminate", "terminated"),
        ("['poweroff']", "stop", "stopped"),
        ("['systemctl', 'poweroff']", "terminate", "terminated"),
        ("['/sbin/shutdown', 'now']", "terminate", "terminated"),
    ],
)
def test_a_machine_that_powers_itself_off_is_terminated_or_stopped_as_it_was_launched(
    real_ec2: Any, boot: Any, until: Any, command: str, behaviour: str, expected: str
) -> None:
    # A path into the host's system means the machine's own command wherever the machine's init starts it.
    body = f"import subprocess; subprocess.run(['systemd-run', *{command}], check=True)"
    instance = boot(UserData=script(body), InstanceInitiatedShutdownBehavior=behaviour)
    until(lambda: state(real_ec2, instance) == expected)
    (reservation,) = real_ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"]
    assert reservation["Instances"][0]["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


@pytest.mark.parametrize(
    "timer",
    [
        "['systemd-run', '--unit=deadline', '--on-active=1s', 'systemctl', 'poweroff']",
        "['systemd-run', f'--on-calendar=@{int(time.time()) + 1}', 'shutdown', '-P', 'now']",
    ],
)
def test_a_timer_of_the_machine_ends_it_when_all_else_is_dead(
    booting: EmulatedClouds, real_ec2: Any, boot: Any, until: Any, timer: str
) -> None:
    body = f"import subprocess, time; print(subprocess.run({timer}, check=True))"
    instance = boot(UserData=script(body), InstanceInitiatedShutdownBehavior="terminate")
    until(lambda: state(real_ec2, instance) == "terminated")
    assert booting.world() == ()


def test_an_order_to_shut_down_can_be_taken_back(real_ec2: Any, boot: Any, says: Any) -> None:
    body = """
    import subprocess
    print(subprocess.run(["shutdown", "-P", "+1"], check=True))
    print(subprocess.run(["shutdown", "-c"], check=True), flush=True)
    """
    instance = boot(UserData=script(body))
    says(instance, "user-data ended, exit code 0")
    assert state(real_ec2, instance) == "running"


def test_a_service_runs_beside_the_user_data_and_starts_again_when_it_fails(boot: Any, says: Any) -> None:
    body = """
    import subprocess
    run = ["systemd-run", "--unit=cell", "-p", "Restart=on-failure", "-E", "A=b", "--", "python3", "-c"]
    service = '''
    import os, pathlib, sys
    marker = pathlib.Path(os.environ["STATE_DIRECTORY"], "ran")
    if not marker.exists():
        marker.touch()
        sys.exit("first time")
    print("second time", os.environ["A"], flush=True)
    sys.stdin.read()
    import time; time.sleep(1000)
    '''
    import textwrap
    print(subprocess.run([*run, textwrap.dedent(service)], check=True, capture_output=True, text=True).stdout)
    print("again:", subprocess.run([*run, "pass"], capture_output=True, text=True).stderr)
    """
    instance = boot(UserData=script(body))
    console = says(instance, "second time b")
    assert "running as unit: cell.service" in console
    assert "first time" in console


def test_a_service_can_be_asked_after_and_stopped(boot: Any, says: Any) -> None:
    body = """
    import subprocess, time
    def state():
        asked = subprocess.run(["systemctl", "is-active", "cell"], capture_output=True, text=True)
        return asked.stdout.strip(), asked.returncode
    print("before", state())
    subprocess.run(["systemd-run", "--unit=cell", "python3", "-c", "import time; time.sleep(1000)"], check=True)
    print("after", state())
    subprocess.run(["systemctl", "stop", "cell"], check=True)
    while state()[0] == "active":
        time.sleep(0.01)
    print("end", state())
    """
    console = says(boot(UserData=script(body)), "user-data ended, exit code 0")
    states = [line for line in console.splitlines() if line.startswith(("before", "after", "end"))]
    assert states == ["before ('inactive', 3)", "after ('active', 0)", "end ('inactive', 3)"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("['shutdown', '-r', 'now']", "not emulated"),
        ("['systemctl', 'start', 'ssh']", "not emulated"),
        ("['systemd-run', '/sbin/reboot']", "no such program"),
        ("['systemd-run', 'curl', 'x']", "no such program"),
    ],
)
def test_a_command_that_is_not_emulated_fails_and_says_why(boot: Any, says: Any, command: str, words: str) -> None:
    body = f"import subprocess; print(subprocess.run({command}, capture_output=True, text=True).stderr)"
    assert words in says(boot(UserData=script(body)), "ended, exit code 0")


needs_landlock = pytest.mark.skipif(
    ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) < LEAST_VERSION,
    reason="this kernel has no Landlock; a machine says so on its console",
)


@needs_landlock
@pytest.mark.parametrize("environment", ["{}", "{'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'}"])
def test_no_program_of_the_host_can_be_started_by_whatever_path(boot: Any, says: Any, environment: str) -> None:
    """``cat`` stands for the host's ``shutdown`` and ``systemctl``: it does no harm where this fails."""
    body = f"""
    import subprocess
    for command in (["cat", "/dev/null"], ["/bin/cat", "/dev/null"], ["/bin/sh", "-c", "exec /bin/cat /dev/null"]):
        try:
            ended = subprocess.run(command, env={environment}, capture_output=True)
        except PermissionError:
            print("refused")
        else:
            print("refused" if b"Permission denied" in ended.stderr else ("ran", command))
    """
    console = says(boot(UserData=script(body)), "user-data ended")
    assert console.count("refused") == 3


@needs_landlock
def test_a_machine_writes_nowhere_but_in_its_own_directory(boot: Any, says: Any, tmp_path: Path) -> None:
    (tmp_path / "hosts").touch()
    body = f"""
    import multiprocessing, os, tempfile
    for change in (
        lambda: open("{tmp_path}/hosts", "a"),
        lambda: open("{tmp_path}/new", "w"),
        lambda: os.unlink("{tmp_path}/hosts"),
        lambda: os.mkdir("{tmp_path}/folder"),
    ):
        try:
            print("did", change())
        except PermissionError:
            print("refused")
    multiprocessing.Lock()
    open(os.devnull, "w").write("x")
    with tempfile.TemporaryDirectory() as place:
        os.mkdir(place + "/a")
        open(place + "/file", "w").close()
        os.rename(place + "/file", place + "/a/file")
    print("own is free")
    """
    console = says(boot(UserData=script(body)), "user-data ended, exit code 0")
    assert console.count("refused") == 4
    assert "own is free" in console
    assert sorted(place.name for place in tmp_path.iterdir()) == ["emulator", "hosts"]


@pytest.mark.skipif(
    ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) < SCOPES_SINCE,
    reason="this kernel's Landlock knows no scopes",
)
def test_a_machine_signals_nobody_outside(boot: Any, says: Any) -> None:
    body = f"""
    import os, subprocess, sys
    for pid in (1, {os.getpid()}):
        try:
            print("did", os.kill(pid, 0))
        except PermissionError:
            print("refused")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child.kill()
    print("own child", child.wait())
    """
    console = says(boot(UserData=script(body)), "user-data ended, exit code 0")
    assert (console.count("refused"), "own child -9" in console) == (2, True)


def test_a_machines_root_has_no_right_over_the_whole_host(boot: Any, says: Any) -> None:
    """Source: linux/capability.h; 16 load modules, 17 raw I/O, 21 administer, 22 reboot."""
    body = """
    rights = next(line for line in open("/proc/self/status") if line.startswith("CapEff"))
    held = int(rights.split()[1], 16)
    print("held", [right for right in (16, 17, 21, 22) if held >> right & 1])
    """
    assert "held []" in says(boot(UserData=script(body)), "user-data ended")


def test_user_data_that_is_no_script_is_not_run(boot: Any, says: Any) -> None:
    says(boot(UserData="#cloud-config\npower_state: {mode: poweroff}\n"), "user data is not a script")


def test_user_data_whose_interpreter_is_missing_does_not_start(real_ec2: Any, boot: Any, says: Any) -> None:
    instance = boot(UserData="#!/usr/bin/env ruby\n")
    says(instance, "ended, exit code 127")
    assert state(real_ec2, instance) == "running"


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
for _ in range(3):  # each in a session of its own, its parent gone
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            print("child up", flush=True)
            time.sleep(1000)
        os._exit(0)
time.sleep(0.2)
print("all up", flush=True)
time.sleep(1000)
"""


def test_no_process_of_a_machine_survives_its_termination(
    real_ec2: Any, boot: Any, says: Any, until: Any, machine_root: Any
) -> None:
    instance = boot(UserData=script(STUBBORN))
    says(instance, "all up")
    root = machine_root(instance)
    assert len(of_machine(root)) == 4
    real_ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    until(lambda: state(real_ec2, instance) == "terminated")
    assert of_machine(root) == []
    assert not root.exists()


def test_terminating_one_machine_leaves_the_others_alone(
    real_ec2: Any, boot: Any, says: Any, until: Any, machine_root: Any
) -> None:
    first, second = boot(UserData=script(STUBBORN)), boot(UserData=script(STUBBORN))
    for instance in (first, second):
        says(instance, "all up")
    real_ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
    until(lambda: state(real_ec2, first) == "terminated")
    assert len(of_machine(machine_root(second))) == 4


def test_the_console_outlives_the_machine(real_ec2: Any, boot: Any, says: Any, until: Any) -> None:
    instance = boot(UserData=script("print('last words', flush=True)"))
    says(instance, "last words")
    real_ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    until(lambda: state(real_ec2, instance) == "terminated")
    assert "last words" in real_ec2.get_console_output(InstanceId=instance["InstanceId"])["Output"]


def test_a_machine_whose_init_is_killed_is_gone_with_all_its_processes(
    real_ec2: Any, boot: Any, says: Any, until: Any, machine_root: Any
) -> None:
    """What a kernel panic is for a real machine."""
    instance = boot(UserData=script(STUBBORN), InstanceInitiatedShutdownBehavior="terminate")
    says(instance, "all up")
    root = machine_root(instance)
    os.kill(_init_of(root), signal.SIGKILL)
    until(lambda: state(real_ec2, instance) == "terminated")
    assert of_machine(root) == []


def _init_of(root: Path) -> int:
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(root) in words:
            return int(place.parent.name)
    raise AssertionError(f"no init of {root}")


def test_closing_the_emulator_ends_all_machines(booting: EmulatedClouds, boot: Any, says: Any, tmp_path: Path) -> None:
    for instance in [boot(UserData=script(STUBBORN)) for _ in range(3)]:
        says(instance, "all up")
    machines = tmp_path.resolve() / "emulator" / "machines"
    assert len(of_machine(machines)) == 12
    booting.close()
    assert of_machine(machines) == []


def test_a_machine_stopped_and_started_keeps_its_files_and_does_not_run_its_user_data_again(
    real_ec2: Any, boot: Any, says: Any, until: Any, booting: EmulatedClouds, machine_root: Any
) -> None:
    body = "import os; open(os.environ['STATE_DIRECTORY'] + '/kept', 'a').write('x'); print('written', flush=True)"
    instance = boot(UserData=script(body))
    says(instance, "written")
    real_ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
    until(lambda: state(real_ec2, instance) == "stopped")
    real_ec2.start_instances(InstanceIds=[instance["InstanceId"]])
    until(lambda: booting.console(instance["InstanceId"]).count(b" boots, ") == 2)
    assert (machine_root(instance) / "var/lib/grafos/kept").read_text() == "x"


def test_a_console_is_bounded(boot: Any, says: Any, booting: EmulatedClouds, tmp_path: Path) -> None:
    body = "import sys; [print('x' * 1000) for _ in range(3000)]; print('the end', flush=True)"
    instance = boot(UserData=script(body))
    says(instance, "the end")
    assert len(booting.console(instance["InstanceId"])) <= 65536
    assert (tmp_path / "emulator" / "consoles" / f"{instance['InstanceId']}.log").stat().st_size <= 1 << 20
