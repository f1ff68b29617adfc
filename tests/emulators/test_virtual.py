"""Machines that really boot: what they consist of, what they are told, and that nothing of them is left. QEMU itself is
played here; what boots under it is in ``tests/cellimage``."""

from __future__ import annotations

import base64
import http.server
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from agents import until

from grafos_core.virtual_machines import FIRST, HOST, METADATA, command
from grafos_emulators.boot import keeper, metadata_way, virtual
from grafos_emulators.boot.driver import AWS, AZURE, GCP, RAW, TAR_GZ, VHD, MachineDisk, MachineSetup
from grafos_emulators.boot.metadata_way import own_address, translated
from grafos_emulators.boot.process import START, package_root
from grafos_emulators.boot.processes import of_machine
from grafos_emulators.disk_files import DiskFile

MIB = 1 << 20
IMDS = "http://127.0.0.1:4566/imds/i-1/"
TOLD = json.dumps({"systemd.credentials": [{"name": "grafos.cell", "text": '{"url": "https://127.42.1.3:8443"}'}]})


def setup_of(cloud: str = GCP, user_data: str = TOLD) -> MachineSetup:
    disk = MachineDisk(DiskFile(MIB), RAW, cloud, "amd64", user_data.encode())
    return MachineSetup("i-1", "127.42.1.5", b"", runs_user_data=False, environment={"SOME": IMDS}, disk=disk)


def words(setup: MachineSetup) -> str:
    assert setup.disk is not None
    return " ".join(command(virtual.hardware(setup, setup.disk), Path("/here"), "stdio", accelerated=False))


# --- what a machine reaches, and what it is told ---------------------------------------------------------------------


def test_a_machine_reaches_its_metadata_and_what_its_user_data_name_and_nothing_else() -> None:
    told = words(setup_of())
    assert "restrict=on" in told
    assert told.count("guestfwd=") == 2
    assert f"guestfwd=tcp:{HOST}:8443-cmd:" in told
    assert "carrying.py 127.42.1.3 8443" in told
    assert f"guestfwd=tcp:{METADATA}:80-cmd:" in told
    assert f"metadata_way.py 127.0.0.1:4566 /imds/i-1 127.42.1.5={FIRST} {HOST} 127.42.1.3:8443" in told
    assert "hostfwd" not in told


def test_a_machine_with_a_port_is_reached_there_and_knows_the_address_that_it_has_inside() -> None:
    served = json.dumps({"systemd.credentials": [{"name": "grafos.cell", "text": '{"serves": {"port": 8443}}'}]})
    assert f"hostfwd=tcp:127.42.1.5:8443-{FIRST}:8443" in words(setup_of(AWS, served))
    own = f"127.42.1.5={FIRST}"
    assert own_address("/latest/meta-data/local-ipv4", b"127.42.1.5", own) == FIRST.encode()
    assert own_address("/latest/meta-data/public-ipv4", b"127.42.1.5", own) == b"127.42.1.5"
    assert own_address("/latest/meta-data/local-ipv4", b"127.42.1.50", own) == b"127.42.1.50"


def test_a_machine_whose_user_data_name_nobody_reaches_its_metadata_alone() -> None:
    assert words(setup_of(user_data="#!/bin/sh\n")).count("guestfwd=") == 1


@pytest.mark.parametrize(
    ("cloud", "disk"), [(AWS, "nvme,drive=disk"), (GCP, "scsi-hd,drive=disk"), (AZURE, "scsi-hd,drive=disk")]
)
def test_a_machine_looks_like_one_of_the_cloud_that_keeps_its_image(cloud: str, disk: str) -> None:
    assert disk in words(setup_of(cloud))


def test_a_machine_is_told_where_it_finds_what_is_on_its_hosts_loopback() -> None:
    said = translated(TOLD.encode(), HOST, ["127.42.1.3:8443"])
    assert json.loads(said)["systemd.credentials"][0]["text"] == f'{{"url": "https://{HOST}:8443"}}'
    hidden = base64.b64encode(TOLD.encode())
    assert base64.b64decode(translated(hidden, HOST, ["127.42.1.3:8443"])) == said


@pytest.mark.parametrize("body", [b"", b"us-central1-a", b"aGVsbG8=", b'{"a": "https://127.0.0.1:9"}', b"\x00\xff"])
def test_all_else_comes_as_the_metadata_service_says_it(body: bytes) -> None:
    assert translated(body, HOST, ["127.42.1.3:8443"]) == body


class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = f"{self.path} {self.headers['Host']} {self.headers['Metadata-Flavor']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_machine_asks_its_metadata_service_by_its_own_name_and_the_emulator_is_asked_by_the_emulators() -> None:
    asked = b"GET /computeMetadata/v1 HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata-Flavor: Google\r\n\r\n"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        address = f"127.0.0.1:{server.server_port}"
        words = [sys.executable, "-I", "-S", metadata_way.__file__, address, "/imds/i-1", "127.42.1.5=127.0.0.1", HOST]
        way = subprocess.run(words, input=asked, capture_output=True, check=True)
        server.shutdown()
        serving.join()
    assert way.stdout.endswith(f"/imds/i-1/computeMetadata/v1 {address} Google".encode())


# --- its disk --------------------------------------------------------------------------------------------------------

PLACES = (0, 3 * MIB + 512, 8 * MIB - 512)
SIZE = 8 * MIB


def a_disk() -> bytes:
    """Mostly zeros."""
    disk = bytearray(SIZE)
    for number, place in enumerate(PLACES):
        disk[place : place + 512] = bytes([number + 1]) * 512
    return bytes(disk)


def in_the_form(form: str) -> bytes:
    if form == VHD:
        return a_disk() + b"conectix".ljust(512)
    if form == RAW:
        return a_disk()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("disk.raw")
        member.size = SIZE
        archive.addfile(member, io.BytesIO(a_disk()))
    return packed.getvalue()


@pytest.mark.parametrize("form", [RAW, TAR_GZ, VHD])
def test_the_disk_is_byte_for_byte_what_was_published(form: str, tmp_path: Path) -> None:
    kept = in_the_form(form)
    content, target = DiskFile(len(kept)), tmp_path / "disk.raw"
    for at in range(0, len(kept), MIB):
        if part := kept[at : at + MIB].rstrip(b"\0"):
            content.write(at, part)
    assert keeper.put_disk(content.fileno(), form, content.size_bytes, target, lambda: False)
    assert target.read_bytes() == a_disk()
    assert target.stat().st_blocks * 512 < SIZE, "zeros take no room"


def test_what_a_machine_wrote_is_there_when_it_boots_again(tmp_path: Path) -> None:
    content, target = DiskFile(MIB), tmp_path / "disk.raw"
    target.write_bytes(b"written by the machine")
    assert keeper.put_disk(content.fileno(), RAW, MIB, target, lambda: False)
    assert target.read_bytes() == b"written by the machine"


@pytest.mark.parametrize("form", [RAW, TAR_GZ])
def test_a_machine_that_is_halted_while_its_disk_is_put_there_has_none(form: str, tmp_path: Path) -> None:
    looks = iter([False, True])
    kept = in_the_form(form)
    content, target = DiskFile(len(kept)), tmp_path / "disk.raw"
    content.write(0, kept)
    assert not keeper.put_disk(content.fileno(), form, len(kept), target, lambda: next(looks))
    assert not target.exists()
    assert next(looks, "none") == "none", "it went no further"


# --- its end ---------------------------------------------------------------------------------------------------------

CONNECTION = "import subprocess, time; subprocess.Popen(['sleep', '1000'], start_new_session=True); time.sleep(1000)"


def begin(folder: Path, *program: str, form: str = RAW, archive: bytes = b"") -> tuple[subprocess.Popen[bytes], Path]:
    """A keeper with a program in QEMU's place."""
    root = folder / "machines" / "i-1"
    root.mkdir(parents=True)
    fresh = folder / "fresh"
    fresh.touch()
    settings = {"command": program, "disk": "disk.raw", "form": form, "size_bytes": MIB}
    settings |= {"memory": "firmware", "fresh_memory": str(fresh)}
    (root / virtual.SETTINGS).write_text(json.dumps(settings))
    content = DiskFile(len(archive) or MIB)
    content.write(0, archive)
    start = [sys.executable, "-I", "-S", "-c", START.format(package_root(), "grafos_emulators.boot.keeper")]
    process = subprocess.Popen(
        [*start, str(root), str(folder / "console"), str(content.fileno())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[content.fileno()],
    )
    return process, root


def ends(process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
    """What it says at its own end, and its exit code."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        return process.stdout.read(), process.wait(60)


def test_a_machine_that_switches_itself_off_says_so_and_its_console_is_kept(tmp_path: Path) -> None:
    process, _ = begin(tmp_path, "sh", "-c", "echo a word from inside")
    assert ends(process) == (b"off\n", 0)
    assert "a word from inside" in (tmp_path / "console").read_text()


def test_a_machine_whose_emulator_failed_has_crashed(tmp_path: Path) -> None:
    process, _ = begin(tmp_path, "sh", "-c", "exit 3")
    assert ends(process) == (b"", 1)


def test_without_the_emulators_program_the_console_says_so(tmp_path: Path) -> None:
    process, _ = begin(tmp_path, "qemu-that-is-nowhere")
    assert ends(process) == (b"", 1)
    assert "it does not boot" in (tmp_path / "console").read_text()


PACKED = in_the_form(TAR_GZ)


@pytest.mark.parametrize("archive", [b"", b"no archive", PACKED[: len(PACKED) // 2]], ids=["empty", "none", "cut"])
def test_a_disk_that_cannot_be_read_boots_nothing_and_the_console_says_so(archive: bytes, tmp_path: Path) -> None:
    process, root = begin(tmp_path, "sh", "-c", "echo it runs", form=TAR_GZ, archive=archive)
    assert ends(process) == (b"", 1)
    console = (tmp_path / "console").read_text()
    assert "it does not boot" in console
    assert "Traceback" not in console
    assert "it runs" not in console
    assert not (root / "disk.raw").exists()


def test_without_the_firmware_the_console_says_so(tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    process, _ = begin(tmp_path, "sh", "-c", "echo it runs")
    assert ends(process) == (b"", 1)
    assert "it does not boot" in (tmp_path / "console").read_text()


def test_an_emulator_that_could_boot_nothing_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    words = [sys.executable, "-m", "grafos_emulators", "up", "--boot", "qemu", "--state-dir", str(tmp_path / "state")]
    environment = {**os.environ, "PATH": str(tmp_path / "nothing")}
    up = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert up.returncode == 1
    assert "tool_missing" in up.stderr
    assert "apt-get install --no-install-recommends ovmf qemu-system-x86" in up.stderr
    assert not (tmp_path / "state").exists()


HURRIED = (
    "import sys; from grafos_emulators.boot import metadata_way; metadata_way.WHOLE_S_MAX = 1; metadata_way.main()"
)


def test_a_request_that_never_ends_keeps_no_process() -> None:
    words = [sys.executable, "-c", HURRIED, "127.0.0.1:9", "/imds/i-1", "127.42.1.5=127.0.0.1", HOST]
    ours, its = socket.socketpair()
    with ours, its:
        ours.sendall(b"GET / HTTP/1.1\r\n")  # before it starts: it may be gone before a busy machine comes to it
        assert subprocess.run(words, stdin=its, capture_output=True, check=False).returncode == -signal.SIGALRM


@pytest.mark.parametrize("how", ["halted", "its keeper is killed"])
def test_nothing_of_a_machine_is_left_whatever_ends_it(how: str, tmp_path: Path) -> None:
    """Halted is also what becomes of it when the emulator is killed: the pipe breaks."""
    process, root = begin(tmp_path, sys.executable, "-c", CONNECTION)
    until(lambda: len(of_machine(root)) == 2, "QEMU and what it started")
    left = of_machine(root)
    assert process.stdin is not None
    if how == "halted":
        process.stdin.close()
        process.stdin = None
        assert process.communicate(timeout=60)[0] == b"", "nobody is told that it switched itself off"
        assert not any(Path(f"/proc/{pid}").exists() for pid in left)
    else:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        until(lambda: len(of_machine(root)) == 1, "QEMU's end, which the kernel brings about")
        for pid in of_machine(root):  # what QEMU started in a session of its own; the driver does this
            os.kill(pid, signal.SIGKILL)
