"""The user data as a program of its own: what it does on a bare machine, and what it refuses."""

from __future__ import annotations

import ast
import hashlib
import http.client
import http.server
import io
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bare_machine import timers, without_shutdown
from crash_sweep import plan, spec
from twin_ground import TwinGround

from grafos_stacks.bootstrap import USER_DATA_BYTES_MAX, fill_in, render
from grafos_stacks.names import claim_secret

ADDRESS = "127.0.0.77"
PATIENCE_S = 20.0
SUPERVISOR = (
    "import json, sys; print('SUPERVISOR', json.dumps([sys.argv, sys.path[0], sys.flags.isolated, sys.flags.no_site]))"
)


def packed(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


BUNDLE = packed({"grafos_cell/__init__.py": b"", "grafos_cell/standalone.py": SUPERVISOR.encode()})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


class Metadata(http.server.ThreadingHTTPServer):
    """IMDSv2 as the bootstrap asks it; ``public`` None: the machine has no public address."""

    def __init__(self) -> None:
        super().__init__((ADDRESS, 0), Imds)
        self.public: str | None = "203.0.113.9"
        self.failures = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Imds(http.server.BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
        elif self.path == "/base/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]:
            self.say("token")

    def do_GET(self) -> None:
        values = {"local-ipv4": ADDRESS, "public-ipv4": self.server.public}
        value = values.get(self.path.removeprefix("/base/latest/meta-data/"))
        if self.headers["X-aws-ec2-metadata-token"] != "token" or value is None:
            self.send_error(404)
        else:
            self.say(value)

    def say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None: ...


class Machine:
    """A bare machine: Python by name, a ``shutdown`` that takes notes, and nothing else on the path."""

    def __init__(self, folder: Path, metadata: Metadata, bundle: bytes = BUNDLE, **settings: object) -> None:
        self.folder, self.metadata = folder, metadata
        self.port = free_port()
        self.state = folder / "state"
        self.state.mkdir()
        self.settings: dict[str, Any] = {
            "fabric": "fab-1",
            "cell_id": "aws-one",
            "provider": "aws",
            "region": "us-east-1",
            "port": self.port,
            "mem_capacity": 65536,
            "bundle_sha256": hashlib.sha256(bundle).hexdigest(),
            "bundle_bytes": len(bundle),
            "expires_at": int(time.time()) + 3600,
            "ends_at_most": int(time.time()) + 86400,
            "claim_secret": "5ec4e7" * 10,
            **settings,
        }
        self.tools = folder / "bin"
        self.tools.mkdir()
        (self.tools / "python3").symlink_to(sys.executable)
        self.tool("shutdown", 'echo "shutdown $*" >> orders')
        self.process: Any = None

    def tool(self, name: str, what: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\ncd {self.folder}\n{what}\n")
        (self.tools / name).chmod(0o755)

    def orders(self) -> list[str]:
        orders = self.folder / "orders"
        return orders.read_text().splitlines() if orders.exists() else []

    def boot(self) -> None:
        script = self.folder / "user-data"
        script.write_text(fill_in(self.settings))
        script.chmod(0o700)
        environment = {
            "PATH": str(self.tools),
            "STATE_DIRECTORY": str(self.state),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{ADDRESS}:{self.metadata.server_port}/base/",
        }
        python = shutil.which("python3") or sys.executable
        self.process = subprocess.Popen(
            [python, "-S", str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=PATIENCE_S)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def wait_for_door(self) -> str:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                return self.ask("GET", "/")[1]
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"no door: {self.console()}")

    def console(self) -> str:
        self.process.kill()
        return self.process.communicate()[0]

    def became(self) -> list[Any]:
        """What the supervisor was started with."""
        said = self.process.communicate(timeout=PATIENCE_S)[0]
        [line] = [line for line in said.splitlines() if line.startswith("SUPERVISOR ")]
        return json.loads(line.partition(" ")[2])


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def machine(tmp_path: Path, metadata: Metadata) -> Iterator[Machine]:
    one = Machine(tmp_path, metadata)
    yield one
    if one.process is not None:
        one.process.kill()
        one.process.wait()
        one.process.stdout.close()


# --- its text -----------------------------------------------------------------------------------------------------


def test_it_is_small_and_understood_by_python_3_9() -> None:
    ground = TwinGround()
    text = render(ground.fabric, plan(ground.hands(), spec()), 1)
    assert len(text.encode()) <= USER_DATA_BYTES_MAX
    ast.parse(text, feature_version=(3, 9))
    imported = {name.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for name in node.names}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_it_is_the_same_bytes_for_one_attempt_and_holds_its_one_secret() -> None:
    """EC2 refuses a repeated request whose user data differ."""
    ground = TwinGround()
    made = plan(ground.hands(), spec())
    one = render(ground.fabric, made, 1)
    ground.clock.advance(1000)
    assert render(ground.fabric, made, 1) == one
    assert render(ground.fabric, made, 2) != one
    assert claim_secret(ground.fabric, made.machine.key, 1) in one


def test_it_names_programs_and_never_their_places() -> None:
    """An emulated machine has its own ones, and must not reach the host's."""
    source = fill_in({})
    for place in ("/usr/bin/python", "/sbin", "/bin/sh", "/usr/sbin"):
        assert place not in source


# --- its work -----------------------------------------------------------------------------------------------------


def test_it_waits_for_its_bundle_unpacks_it_and_becomes_the_supervisor(machine: Machine) -> None:
    machine.boot()
    sha256 = machine.settings["bundle_sha256"]
    assert machine.wait_for_door() == f"waiting for bundle {sha256}\n"
    assert machine.ask("PUT", "/bundle", BUNDLE) == (201, "accepted\n")
    arguments, site, isolated, no_site = machine.became()
    software = machine.state / "software" / sha256
    assert (site, isolated, no_site) == (str(software), 1, 1)
    flags = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert flags["--bind"] == f"{ADDRESS}:{machine.port}"
    assert flags["--name"] == "203.0.113.9"
    assert flags["--claim-secret-file"] == str(machine.state / "claim-secret")
    assert (machine.state / "claim-secret").read_text() == machine.settings["claim_secret"]
    assert (machine.state / "claim-secret").stat().st_mode & 0o077 == 0


def test_it_takes_no_other_bytes_and_goes_on_waiting(machine: Machine) -> None:
    machine.boot()
    machine.wait_for_door()
    wrong = bytes(reversed(BUNDLE))
    assert machine.ask("PUT", "/bundle", wrong)[0] == 422
    assert machine.ask("PUT", "/bundle", BUNDLE + b"x")[0] == 413
    assert machine.ask("PUT", "/other", BUNDLE)[0] == 404
    assert machine.ask("GET", "/etc/passwd")[0] == 404
    assert machine.ask("DELETE", "/")[0] == 501
    assert not (machine.state / "bundle.tar.gz").exists()
    assert machine.ask("PUT", "/bundle", BUNDLE)[0] == 201


def test_a_sender_that_breaks_off_is_forgotten(machine: Machine) -> None:
    machine.boot()
    machine.wait_for_door()
    with socket.create_connection((ADDRESS, machine.port)) as broken:
        head = f"PUT /bundle HTTP/1.1\r\nContent-Length: {len(BUNDLE)}\r\n\r\n".encode()
        broken.sendall(head + BUNDLE[: len(BUNDLE) // 2])
    assert machine.ask("PUT", "/bundle", BUNDLE)[0] == 201


def test_it_says_no_secret_on_the_console(machine: Machine) -> None:
    machine.boot()
    machine.wait_for_door()
    assert machine.settings["claim_secret"] not in machine.console()


def test_the_timer_is_set_before_anything_else_can_fail(machine: Machine, metadata: Metadata) -> None:
    """Here the machine never gets an address."""
    metadata.failures = 10**9
    machine.boot()
    until(machine.orders)
    assert machine.orders() == ["shutdown -P +60"]


def test_a_machine_past_its_expiry_is_switched_off_at_once(machine: Machine) -> None:
    machine.settings["expires_at"] = int(time.time()) - 5
    machine.boot()
    until(machine.orders)
    assert machine.orders() == ["shutdown -P now"]


@pytest.mark.parametrize(
    ("moved_s", "minutes"), [(7200, 120), (2 * 86400, 60)], ids=["in time", "past the last moment"]
)
def test_a_machine_that_was_extended_and_starts_again_keeps_its_later_end(
    machine: Machine, moved_s: int, minutes: int
) -> None:
    (machine.state / "end").write_text(f"{int(time.time()) + moved_s}\n")
    machine.boot()
    until(machine.orders)
    assert machine.orders() == [f"shutdown -P +{minutes}"]


def test_where_shutdown_does_not_take_the_order_a_timer_of_systemd_does_at_every_start(machine: Machine) -> None:
    """As user data first, then as the service that it becomes, and then whenever that is started again."""
    without_shutdown(machine)
    for _ in (1, 2):
        machine.boot()
        machine.wait_for_door()
        assert "no timer" not in machine.console()
        at = machine.settings["expires_at"]
        assert timers(machine) == {f"timer-grafos-expiry-{at}.timer": f"@{at}"}


def test_a_timer_of_systemd_for_a_moment_that_has_passed_is_set_for_the_next_seconds(machine: Machine) -> None:
    without_shutdown(machine)
    machine.settings["expires_at"] = int(time.time()) - 60
    machine.boot()
    until(lambda: timers(machine))
    [moment] = timers(machine).values()
    assert 0 < int(moment[1:]) - machine.settings["expires_at"] - 60 < PATIENCE_S + 6


@pytest.mark.parametrize("kept", [b"\xff\xfe", b"\0" * 10, b"9" * 5000, b"-5"])
def test_what_an_earlier_life_kept_cannot_keep_the_timer_from_being_set(kept: bytes, machine: Machine) -> None:
    (machine.state / "end").write_bytes(kept)
    machine.boot()
    until(machine.orders)
    assert machine.orders() == ["shutdown -P +60"]


def test_it_waits_for_a_network_that_comes_up_late(machine: Machine, metadata: Metadata) -> None:
    metadata.failures = 3
    machine.boot()
    assert machine.wait_for_door().startswith("waiting")


def test_a_machine_without_a_public_address_has_one_name(machine: Machine, metadata: Metadata) -> None:
    metadata.public = None
    machine.boot()
    machine.wait_for_door()
    machine.ask("PUT", "/bundle", BUNDLE)
    assert "--name" not in machine.became()[0]


def test_after_a_reboot_it_needs_no_bundle_and_restores_no_used_secret(machine: Machine) -> None:
    machine.boot()
    machine.wait_for_door()
    machine.ask("PUT", "/bundle", BUNDLE)
    first = machine.became()
    (machine.state / "claim-secret").unlink()  # as the scheduler does when it was claimed
    machine.boot()
    assert machine.became() == first
    assert not (machine.state / "claim-secret").exists()


def test_a_crash_after_the_bundle_came_does_not_need_it_again(machine: Machine) -> None:
    (machine.state / "bundle.tar.gz").write_bytes(BUNDLE)
    (machine.state / "software").mkdir()
    (machine.state / "software" / f"{machine.settings['bundle_sha256']}.part").mkdir()
    machine.boot()
    assert machine.became()


def test_a_half_written_bundle_is_not_taken_for_whole(machine: Machine) -> None:
    (machine.state / "bundle.tar.gz").write_bytes(BUNDLE[:100])
    machine.boot()
    assert machine.wait_for_door().startswith("waiting")


def linked() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        entry = tarfile.TarInfo("grafos_cell/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return data.getvalue()


@pytest.mark.parametrize(
    "bundle",
    [packed({"../escape.py": b"x"}), packed({"/etc/escape.py": b"x"}), packed({"a/../../b.py": b"x"}), linked()],
    ids=["above", "absolute", "through", "link"],
)
def test_a_bundle_that_reaches_out_of_its_folder_is_refused(tmp_path: Path, metadata: Metadata, bundle: bytes) -> None:
    """The pin makes this a mistake of ours, and it must still do no harm."""
    machine = Machine(tmp_path, metadata, bundle)
    machine.boot()
    machine.wait_for_door()
    machine.ask("PUT", "/bundle", bundle)
    said = machine.process.communicate(timeout=PATIENCE_S)[0]
    assert "no plain file below it" in said
    assert machine.process.returncode != 0
    assert not list(machine.state.glob("software/*.py"))
    assert not (tmp_path / "state" / "software" / machine.settings["bundle_sha256"]).exists()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.02)
