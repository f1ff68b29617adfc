"""What a machine with a baked image makes of what its firmware or its user data tell it."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grafos_cell import baked, first_boot
from grafos_cell.first_boot import AWS, AZURE, AZURE_CHASSIS, GCP, Place, cloud_of, credentials_in, keep
from grafos_core import trust
from grafos_core.errors import GrafosError

TOLD = {
    "cell_id": "gcp-1",
    "provider": "gcp",
    "orchestrator": "https://203.0.113.7:8443",
    "ca_pem": "-----BEGIN CERTIFICATE-----",
    "bootstrap_token": "a-token",
}


def test_the_first_program_of_a_machine_loads_no_supervisor() -> None:
    program = "import sys, grafos_cell.first_boot; sys.exit('grafos_cell.standalone' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def user_data(**entry: object) -> bytes:
    return json.dumps({"systemd.credentials": [{"name": "grafos.cell", **entry}]}).encode()


@pytest.mark.parametrize(
    ("file", "words", "cloud"),
    [
        ("bios_vendor", "Amazon EC2\n", AWS),
        ("bios_vendor", "AmazonEC2\n", AWS),
        ("product_name", "Google Compute Engine\n", GCP),
        ("chassis_asset_tag", f"{AZURE_CHASSIS}\n", AZURE),
        ("product_name", "Standard PC (Q35 + ICH9, 2009)\n", ""),
        ("bios_vendor", "\xff\xfe", ""),
    ],
)
def test_a_machine_knows_its_cloud_by_what_the_firmware_says(file: str, words: str, cloud: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(words, "latin-1")
    assert cloud_of(tmp_path) == cloud


def test_credentials_come_as_text_or_as_base64_and_only_ours_are_taken() -> None:
    document = {
        "systemd.credentials": [
            {"name": "grafos.cell", "text": "{}"},
            {"name": "grafos.more", "data": base64.b64encode(b"\x00\x01").decode()},
            {"name": "passwd.hashed-password.root", "text": "let me in"},
            {"name": "grafos./../../etc/shadow", "text": "let me in"},
            "no entry",
        ]
    }
    assert credentials_in(json.dumps(document).encode()) == {"grafos.cell": b"{}", "grafos.more": b"\x00\x01"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\nrm -rf /\n",
        b"[]",
        b"{}",
        b'{"systemd.credentials": {}}',
        b'{"systemd.credentials": []}',
        user_data(),
        user_data(data="not base64!"),
        user_data(data=7),
        b"\xff\xff",
    ],
)
def test_user_data_of_another_form_are_no_credentials(data: bytes) -> None:
    with pytest.raises(first_boot.NO_ANSWER):
        credentials_in(data)


def test_user_data_that_nobody_can_read_to_the_end_are_no_credentials() -> None:
    with pytest.raises(first_boot.NO_ANSWER):
        credentials_in(b"[" * 60_000)


def test_credentials_are_laid_where_nobody_else_reads_them(tmp_path: Path) -> None:
    keep({"grafos.cell": b"secret"}, tmp_path / "credstore")
    assert (tmp_path / "credstore").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "credstore" / "grafos.cell").stat().st_mode & 0o777 == 0o600


def test_without_a_cloud_nobody_is_asked() -> None:
    with pytest.raises(GrafosError) as refused:
        first_boot.from_user_data("")
    assert refused.value.code == "config_invalid"


@pytest.mark.parametrize(
    "change", [{"cell_id": 7}, {"rm": "-rf"}, {"timer_at": "soon"}, {"orchestrator": None}], ids=str
)
def test_a_cell_that_is_told_something_else_says_so(change: dict[str, object]) -> None:
    with pytest.raises(GrafosError) as refused:
        baked.read_told(json.dumps({**TOLD, **change}).encode())
    assert (refused.value.code, refused.value.where) == ("config_invalid", "grafos.cell")


def test_what_a_cell_is_told_becomes_its_agents_command_line() -> None:
    told = baked.read_told(json.dumps({**TOLD, "expires_at": 1_900_000_000}).encode())
    words = baked.arguments(told, Path("/state"), Path("/state/trust"))
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given["--orchestrator"] == TOLD["orchestrator"]
    assert (given["--trust"], given["--state"], given["--expires-at"]) == ("/state/trust", "/state/cell", "1900000000")
    assert not any("token" in word for word in words), "a command line can be read by all"


def told(**change: object) -> bytes:
    return json.dumps({**TOLD, **change}).encode()


def test_a_cell_of_another_cloud_than_the_firmwares_is_not_believed() -> None:
    assert first_boot.told_of(told(), GCP).cell_id == "gcp-1"
    assert first_boot.told_of(told(), "").cell_id == "gcp-1", "whoever starts a machine here names what he likes"
    with pytest.raises(ValueError, match="a machine of aws"):
        first_boot.told_of(told(), AWS)


# --- a metadata service that is not what it should be ----------------------------------------------------------------

Serve = Callable[[socket.socket], None]
HEAD = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def metadata_service(serve: Serve) -> Iterator[str]:
    """Hands each connection to ``serve``."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def open_up() -> None:
            while True:
                try:
                    visitor, _ = door.accept()
                except OSError:
                    return
                with visitor, contextlib.suppress(OSError):
                    visitor.recv(65536)
                    serve(visitor)

        thread = threading.Thread(target=open_up, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}/"
        door.shutdown(socket.SHUT_RDWR)
    thread.join()


def document(text: bytes) -> bytes:
    return json.dumps({"systemd.credentials": [{"name": "grafos.cell", "text": text.decode()}]}).encode()


def answers(data: bytes, status: bytes = HEAD, head: bytes = b"") -> Serve:
    return lambda visitor: visitor.sendall(status + head + b"Content-Length: %d\r\n\r\n" % len(data) + data)


def drips(head: bytes, part: bytes) -> Serve:
    """A service that sends something again and again, before whoever asks can say that it sent nothing."""

    def serve(visitor: socket.socket) -> None:
        visitor.sendall(head)
        while True:
            visitor.sendall(part)
            time.sleep(0.02)

    return serve


def elsewhere(visitor: socket.socket) -> None:
    place = b"Location: http://169.254.169.253/\r\n"
    answers(b"", b"HTTP/1.1 302 Found\r\n", place)(visitor)


@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(answers(b"\x00\xff{not json"), id="garbage"),
        pytest.param(answers(document(b"{}") + b" " * first_boot.ANSWER_BYTES_MAX), id="huge"),
        pytest.param(drips(HEAD + b"Content-Length: 60000\r\n\r\n", b" "), id="slow drip"),
        pytest.param(drips(HEAD, b"X-More: x\r\n"), id="slow head"),
        pytest.param(lambda visitor: visitor.recv(1), id="silence"),
        pytest.param(answers(b"", b"HTTP/1.1 503 No\r\n"), id="not yet"),
        pytest.param(answers(b"", b"SSH-2.0-OpenSSH\r\n"), id="another protocol"),
        pytest.param(elsewhere, id="sends elsewhere"),
        pytest.param(lambda visitor: visitor.close(), id="hangs up"),
    ],
)
def test_a_metadata_service_that_lies_is_one_that_does_not_answer(serve: Serve) -> None:
    with metadata_service(serve) as url, pytest.raises(first_boot.NO_ANSWER):
        first_boot.from_user_data(GCP, Place(url, answer_s=0.5))


def test_a_machine_believes_the_metadata_service_that_says_the_truth() -> None:
    with metadata_service(answers(document(told()))) as url:
        found = first_boot.from_user_data(GCP, Place(url))
    assert found == {"grafos.cell": told()}


def test_what_is_no_cell_is_not_kept_so_that_a_better_answer_can_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service changes its mind; what it said first is not what the daemon finds."""
    said = [document(b"{}"), document(told(provider="aws")), document(told())]

    def serve(visitor: socket.socket) -> None:
        answers(said.pop(0))(visitor)

    with metadata_service(serve) as url:
        monkeypatch.setenv("GRAFOS_METADATA_ENDPOINT", url)
        assert first_boot.learn(GCP, tmp_path).cell_id == "gcp-1"
    assert (tmp_path / "grafos.cell").read_bytes() == told()
    assert said == []


# --- a machine that can be no cell -----------------------------------------------------------------------------------


def test_a_machine_with_too_little_memory_says_how_much_it_has_and_needs() -> None:
    assert first_boot.too_little(700) == ""
    assert "442 MB: a cell needs a machine with 768" in first_boot.too_little(442)


def test_a_clock_in_the_past_is_known_by_what_the_machine_is_told() -> None:
    made_at = time.time()
    key = trust.new_key()
    begins = first_boot.beginning_of(trust.make_ca(key, "fab-0123456789ab", made_at))
    assert abs(begins - made_at) < 2 * 86400
    assert "1970-01-01" in first_boot.wrong_clock(begins, 0, 60.0)
    assert "too long before this machine's end" in first_boot.wrong_clock(0.0, int(made_at), 60.0)
    assert first_boot.wrong_clock(begins, int(made_at) + 8 * 3600, made_at) == ""


def test_a_clock_that_is_set_in_time_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    looks = ["it says 1970", "it says 1970", ""]
    assert first_boot.patient_with_clock(lambda: looks.pop(0)) == ""
    assert capsys.readouterr().out.count("waiting until somebody sets it") == 1
