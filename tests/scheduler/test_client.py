"""The client tells every trouble on the way in our words, and asks again only where asking again is harmless."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standalone import Standalone

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_scheduler import messages
from grafos_scheduler.client import SchedulerClient


class Babbler(threading.Thread):
    """A TLS server with a good certificate that answers every connection with the same bytes."""

    def __init__(self, town: Any, answer: bytes) -> None:
        super().__init__(daemon=True)
        folder = town.cell.trust
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listening.getsockname()[1]}"
        self.answer = answer
        self.connections = 0

    def run(self) -> None:
        while True:
            try:
                plain, _ = self.listening.accept()
                with self.context.wrap_socket(plain, server_side=True) as tls:
                    self.connections += 1
                    if self.answer:
                        tls.recv(65536)
                        tls.sendall(self.answer)
            except OSError:
                if self.listening.fileno() < 0:
                    return


@pytest.fixture
def babble(town: Any) -> Iterator[Any]:
    made: list[Babbler] = []

    def start(answer: bytes) -> Babbler:
        made.append(Babbler(town, answer))
        made[-1].start()
        return made[-1]

    yield start
    for babbler in made:
        babbler.listening.shutdown(socket.SHUT_RDWR)
        babbler.listening.close()
        babbler.join(60)


def client_to(town: Any, url: str, **other: Any) -> SchedulerClient:
    who = town.operator
    return SchedulerClient(url, town.cell.ca_pem, who.certificate, who.key, who.token, **other)


def code_of(action: Any) -> str:
    with pytest.raises(GrafosError) as caught:
        action()
    assert caught.value.next or caught.value.code == "answer_invalid"
    return caught.value.code


def test_every_route_of_the_table_has_its_method(town: Any) -> None:
    """Driven against the real scheduler; what each does is held by the tests of its subject."""
    with town.cell.client(town.operator) as client:
        assert client.health().claimed
        terms = messages.Terms(36_000_000, 4_000_000_000.0)
        assert client.set_terms(terms) == terms
        assert {"acme", "globex"} <= {view.name for view in client.tenants()}
        assert client.drain().draining
        assert not client.drain(draining=False).draining
    with town.cell.client(town.acme) as client:
        sha256 = client.put_blob(b"data")
        assert client.put_blob(b"data") == sha256 == sha256_of(b"data")
        assert (client.has_blob(sha256), client.has_blob("0" * 64)) == (True, False)
        assert client.get_blob(sha256) == b"data"
        assert list(client.all_runs()) == []
    with town.cell.client(town.globex) as client:
        assert not client.has_blob(sha256)


def test_nobody_listening_is_told_with_the_address(town: Any) -> None:
    with client_to(town, "https://127.0.0.1:9") as client, pytest.raises(GrafosError) as caught:
        client.health()
    assert (caught.value.code, caught.value.where) == ("scheduler_unreachable", "https://127.0.0.1:9")
    assert caught.value.retryable


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "127.0.0.1:1", "https://", "https://127.0.0.1:1/path", "https://127.0.0.1:99999"]
)
def test_what_is_no_address_is_told_before_anything_is_sent(town: Any, url: str) -> None:
    with pytest.raises(GrafosError) as caught:
        client_to(town, url)
    assert caught.value.code == "config_invalid"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "certificate_refused"),
        (b"SSH-2.0-OpenSSH\r\n", "answer_invalid"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "answer_invalid"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot json!", "answer_invalid"),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nOops", "answer_invalid"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\nconnection: close\r\n\r\nshort", "answer_invalid"),
    ],
    ids=["silence", "another protocol", "another shape", "no json", "no error of ours", "cut short"],
)
def test_whatever_answers_there_is_told_in_our_words(town: Any, babble: Any, answer: bytes, code: str) -> None:
    with client_to(town, babble(answer).url) as client:
        assert code_of(client.health) == code


def test_a_server_of_another_ca_gets_no_request(town: Any, tmp_path: Path) -> None:
    other = trust.make_ca(trust.new_key(), "other", 1_800_000_000.0)
    who = town.operator
    with SchedulerClient(town.cell.url, other, who.certificate, who.key, who.token) as client:
        assert code_of(client.health) == "certificate_refused"


def test_a_certificate_that_is_good_for_another_address_is_refused(town: Any) -> None:
    """The pinned CA also signed the tenants' certificates; only the server's names an address."""
    url = town.cell.url.replace("127.0.0.1", "127.0.0.5")
    with socket.create_server(("127.0.0.5", 0)) as listening:
        port = listening.getsockname()[1]
        with client_to(town, url.replace(str(town.cell.port), str(port)), timeout_s=0.5) as client:
            assert code_of(client.health) == "scheduler_unreachable"


def test_credentials_that_cannot_be_read_are_told_by_their_names(town: Any, tmp_path: Path) -> None:
    with pytest.raises(GrafosError) as caught:
        SchedulerClient(town.cell.url, town.cell.ca_pem, tmp_path / "none.pem", tmp_path / "none-key.pem", "t")
    assert caught.value.code == "credentials_missing"
    assert "none.pem" in caught.value.where


@pytest.mark.parametrize("token", ["garbage\n", "gat1.\x00", "gat1.ä"])
def test_a_token_that_was_damaged_on_the_disk_is_no_crash(town: Any, token: str) -> None:
    who = town.operator
    with pytest.raises(GrafosError) as caught:
        SchedulerClient(town.cell.url, town.cell.ca_pem, who.certificate, who.key, token)
    assert caught.value.code == "token_refused"


def test_an_idle_connection_that_the_server_closed_is_made_anew_unseen(unclaimed: Standalone) -> None:
    operator = unclaimed.claimed()
    with unclaimed.client(operator) as client:
        client.tenants()
        unclaimed.scheduler.end()
        unclaimed.start()
        assert client.tenants() == []


def test_patience_waits_for_a_scheduler_that_is_on_its_way_up(unclaimed: Standalone) -> None:
    operator = unclaimed.claimed()
    unclaimed.scheduler.end()
    answers: list[Any] = []

    def ask() -> None:
        with unclaimed.client(operator, patience_s=30.0) as client:
            answers.append(client.tenants())

    asking = threading.Thread(target=ask)
    asking.start()
    unclaimed.start()
    asking.join(60)
    assert answers == [[]]


def test_importing_the_client_brings_no_server_along() -> None:
    """The command line imports it, and starts fast."""
    script = "import sys, grafos_scheduler.client; print(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in child.stdout.split()}
    assert loaded & {"asyncio", "httptools", "sqlite3", "uvicorn", "uvloop", "wasmtime"} == set()
