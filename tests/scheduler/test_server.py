"""Whatever comes in over the port, the answer is typed, bounded and tells nothing of the inside."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standalone import Identity, Process, Standalone

from grafos_core import tokens, trust
from grafos_core.errors import CODES, GrafosError
from grafos_scheduler import messages
from grafos_scheduler.protocol import HEAD_BYTES_MAX, HEAD_S_MAX
from grafos_scheduler.route import JSON_BYTES_MAX
from grafos_scheduler.routes import ROUTES

ERROR_FIELDS = {"code", "what", "where", "why", "next", "retryable", "context"}


class Caller:
    """One connection of one identity, for requests that no good client makes."""

    def __init__(self, cell: Standalone, who: Identity) -> None:
        context = trust.client_context(cell.ca_pem, who.certificate, who.key)
        self.connection = HTTPSConnection("127.0.0.1", cell.port, context=context, timeout=60)
        self.token = who.token

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and decoded answer; an error must have the one shape of errors."""
        given = {"authorization": f"Bearer {self.token}", **headers}
        self.connection.request(method, path, body, given, encode_chunked="transfer-encoding" in headers)
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status == 200:
            return answer.status, {}
        error = json.loads(data)
        assert set(error) == ERROR_FIELDS
        assert answer.status == CODES[error["code"]].http_status
        assert answer.headers["grafos-code"] == error["code"]
        assert "Traceback" not in data.decode()
        return answer.status, error

    def raw(self) -> ssl.SSLSocket:
        self.connection.connect()
        return self.connection.sock


@pytest.fixture
def acme(town: Any) -> Iterator[Caller]:
    caller = Caller(town.cell, town.acme)
    yield caller
    caller.connection.close()


@pytest.fixture
def operator(town: Any) -> Iterator[Caller]:
    caller = Caller(town.cell, town.operator)
    yield caller
    caller.connection.close()


def test_an_unknown_path_is_not_found_and_a_wrong_method_names_the_right_one(acme: Caller) -> None:
    assert acme.ask("GET", "/api/v1/nothing")[1]["code"] == "not_found"
    assert acme.ask("GET", "/api/v1/runs/")[1]["code"] == "not_found"
    assert acme.ask("GET", "/%2e%2e/%2e%2e/etc/passwd")[1]["code"] == "not_found"
    wrong = acme.ask("DELETE", "/api/v1/runs")[1]
    assert wrong["code"] == "request_invalid"
    assert "GET" in wrong["next"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"run_key": 5}',
        b'{"run_key": "short"}',
        b"[" * 50_000,
        b"{}",
    ],
    ids=repr,
)
def test_a_body_without_the_documented_shape_is_refused(acme: Caller, body: bytes) -> None:
    assert acme.ask("POST", "/api/v1/runs", body[:JSON_BYTES_MAX])[1]["code"] == "request_invalid"


@pytest.mark.parametrize(
    "change",
    [
        {"fuel": 0},
        {"fuel": 10**13},
        {"memory_bytes": 1},
        {"deadline_s": 0},
        {"deadline_s": 1e9},
        {"lease_mem_bytes": -1},
        {"module_sha256": "A" * 64},
        {"module_sha256": "../../../etc/passwd"},
        {"provider": "Local"},
        {"provider": ""},
        {"run_key": "k" * 65},
        {"run_key": "with a space in it"},
    ],
    ids=str,
)
def test_a_run_outside_the_documented_bounds_is_refused(acme: Caller, change: dict[str, Any]) -> None:
    good = messages.RunRequest("k" * 16, "local", "p", "t", "0" * 64, "")
    body = json.dumps({**msgspec.to_builtins(good), **change}).encode()
    assert acme.ask("POST", "/api/v1/runs", body)[1]["code"] == "request_invalid"


def test_negative_or_endless_amounts_are_refused(operator: Caller) -> None:
    for quota in ({"cpu_cores": -1}, {"mem_bytes": 10**30}, {"cpu_cores": "many"}):
        body = {
            "name": "acme",
            "csr_pem": "x",
            "quota": quota,
            "budget_slice": {"kind": "", "body": "", "signature": ""},
        }
        assert operator.ask("POST", "/api/v1/tenants", json.dumps(body).encode())[1]["code"] == "request_invalid"
    terms = {"rate_micro_cents_per_hour": -1}
    assert operator.ask("PUT", "/api/v1/cell/terms", json.dumps(terms).encode())[1]["code"] == "request_invalid"


def test_a_body_over_the_limit_is_refused_before_it_is_read(acme: Caller) -> None:
    too_long = str(JSON_BYTES_MAX + 1)
    assert acme.ask("POST", "/api/v1/runs", b"", **{"content-length": too_long})[1]["code"] == "body_too_large"
    path = "/api/v1/blobs/" + "0" * 64
    too_long = str(messages.BLOB_BYTES_MAX + 1)
    assert acme.ask("PUT", path, b"", **{"content-length": too_long})[1]["code"] == "body_too_large"


def test_a_body_that_does_not_tell_its_length_is_cut_off_at_the_limit(acme: Caller) -> None:
    endless = (b"x" * 4096 for _ in range(2 * JSON_BYTES_MAX // 4096))
    try:
        status, error = acme.ask("POST", "/api/v1/runs", endless, **{"transfer-encoding": "chunked"})
        assert (status, error["code"]) == (413, "body_too_large")
    except OSError:
        pass  # the server was done with us while we were still sending


def test_a_route_without_a_body_takes_none(operator: Caller) -> None:
    assert operator.ask("POST", "/api/v1/settlement", b"{}")[1]["code"] == "body_too_large"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "request_invalid"),
        ("limit=1001", "request_invalid"),
        ("limit=ten", "request_invalid"),
        ("limit=1&limit=2", "request_invalid"),
        ("colour=blue", "request_invalid"),
        ("after=nonsense", "request_invalid"),
        ("after=nan~x&limit", "request_invalid"),
        ("after=" + "x" * 200, "request_invalid"),
        ("&".join(f"f{n}=1" for n in range(50)), "request_invalid"),
        ("after=" + "x" * 3000, "limit_exceeded"),
    ],
)
def test_a_query_without_the_documented_shape_is_refused(acme: Caller, query: str, code: str) -> None:
    assert acme.ask("GET", "/api/v1/runs?" + query)[1]["code"] == code


def test_a_query_where_none_is_taken_is_refused(acme: Caller) -> None:
    assert acme.ask("GET", "/api/v1/cells?a=1")[1]["code"] == "request_invalid"


def test_two_tokens_in_one_request_are_nobodys_honest_request(acme: Caller) -> None:
    acme.connection.putrequest("GET", "/api/v1/runs")
    for _ in range(2):
        acme.connection.putheader("authorization", f"Bearer {acme.token}")
    acme.connection.endheaders()
    assert acme.connection.getresponse().status == 400


def answer_to(raw: ssl.SSLSocket, data: bytes) -> bytes:
    """Sends bytes and reads until the server closes."""
    answer = b""
    try:
        raw.sendall(data)
        while part := raw.recv(65536):
            answer += part
    except OSError:
        pass
    return answer


def test_headers_over_the_limit_are_cut_off(acme: Caller) -> None:
    many = b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * HEAD_BYTES_MAX
    answer = answer_to(acme.raw(), many)
    assert answer.startswith(b"HTTP/1.1 431") or answer == b""


def test_one_header_without_an_end_is_cut_off(acme: Caller) -> None:
    """The parser keeps an unfinished header to itself, so the bytes are counted before it."""
    endless = b"GET /health HTTP/1.1\r\nx: " + b"y" * (64 * HEAD_BYTES_MAX)
    answer = answer_to(acme.raw(), endless)
    assert answer.startswith(b"HTTP/1.1 431") or answer == b""


def test_headers_without_an_end_are_cut_off_behind_a_body_too(acme: Caller) -> None:
    """While a request is under way no clock runs for a head, and the parser keeps what it has of one to itself."""
    raw = acme.raw()
    begun = f"POST /api/v1/runs HTTP/1.1\r\nauthorization: Bearer {acme.token}\r\ntransfer-encoding: chunked\r\n"
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        raw.sendall(f"{begun}\r\n2\r\n{{}}\r\n0\r\nx: ".encode())
        for _ in range(16):
            raw.sendall(b"y" * HEAD_BYTES_MAX)
    with contextlib.suppress(ConnectionError, ssl.SSLError):  # and no TimeoutError: the connection is over
        while raw.recv(65536):
            pass


def test_what_is_not_http_gets_our_shape_of_error(acme: Caller) -> None:
    answer = answer_to(acme.raw(), b"\x00\x01\x02 what is this\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "request_invalid"


def test_plain_http_on_the_tls_port_is_closed(town: Any) -> None:
    with socket.create_connection(("127.0.0.1", town.cell.port), timeout=60) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)


def test_two_requests_sent_at_once_are_answered_in_order(acme: Caller) -> None:
    one = f"GET /api/v1/runs HTTP/1.1\r\nauthorization: Bearer {acme.token}\r\n\r\n"
    two = "GET /nothing HTTP/1.1\r\nconnection: close\r\n\r\n"
    answer = answer_to(acme.raw(), (one + two).encode())
    assert answer.index(b" 200 OK") < answer.index(b" 404 Not Found")


def test_a_refused_call_leaves_the_connection_usable(acme: Caller) -> None:
    assert acme.ask("POST", "/api/v1/runs", b"{}")[0] == 400
    local = acme.connection.sock
    assert acme.ask("GET", "/api/v1/runs")[0] == 200
    assert acme.connection.sock is local


def test_nonsense_never_makes_the_server_fail(town: Any, acme: Caller, operator: Caller) -> None:
    """Seeded noise on every route that the two may call: each answer is one of ours, and none is a 5xx."""
    chance = random.Random(7)
    for _ in range(300):
        route = chance.choice(ROUTES)
        caller = operator if route.gate and "operator" in route.gate.kinds else acme
        path = route.path.replace("{sha256}", noise(chance)).replace("{run_id}", noise(chance))
        if route.query and chance.random() < 0.5:
            path += "?" + noise(chance)
        body = mutated(chance, route.body) if route.body not in (None, bytes) else noise(chance).encode()
        try:
            status, error = caller.ask(route.method if route.method != "HEAD" else "GET", path, body)
        except OSError:
            continue  # the refusal came before the whole body was sent
        assert status < 500 or error["code"] in ("unsupported", "no_eligible_provider_cells"), error


def noise(chance: random.Random) -> str:
    letters = "abcXYZ019-_.~=&%2F{}[]\"'"
    return "".join(chance.choice(letters) for _ in range(chance.randrange(1, 80)))


def mutated(chance: random.Random, kind: type) -> bytes:
    """An object with the kind's fields and values that do not belong there."""
    values = [
        None,
        0,
        -1,
        1e308,
        "",
        "x" * 300,
        [],
        {},
        True,
        "0" * 64,
        "-----BEGIN CERTIFICATE-----",
        [[[]]],
        "\ud800",
    ]
    fields = {name: chance.choice(values) for name in kind.__struct_fields__ if chance.random() < 0.9}
    return json.dumps(fields).encode()


def test_a_certificate_that_runs_out_on_an_open_connection_is_refused_from_then_on(town: Any, tmp_path: Path) -> None:
    """TLS looks at a certificate once, when the connection is made; the scheduler looks at every call."""
    folder, now, key = town.cell.trust, time.time(), trust.key_from_pem(town.acme.key.read_bytes())
    ca_key = trust.key_from_pem((folder / "ca-key.pem").read_bytes())
    uri = trust.spiffe_id(town.cell.fabric.id, "tenant", "acme")
    pem = trust.sign_csr(town.cell.ca_pem, ca_key, trust.make_csr(key, "acme"), uri, now, 6.0)
    rights = ("runs:read",)
    claims = tokens.ApiClaims("cell-1", "tenant", "acme", trust.key_sha256(key.public_key()), rights, now + 600)
    token = tokens.mint_api_token((folder / "token-key").read_bytes(), claims)
    (tmp_path / "key.pem").write_bytes(trust.key_to_pem(key))
    (tmp_path / "leaf.pem").write_text(pem)
    caller = Caller(town.cell, Identity(tmp_path / "leaf.pem", tmp_path / "key.pem", token))
    assert caller.ask("GET", "/api/v1/runs")[0] == 200
    open_connection = caller.connection.sock
    while time.time() < now + 6.1:
        time.sleep(0.1)
    assert caller.connection.sock is open_connection
    assert caller.ask("GET", "/api/v1/runs")[1]["code"] == "certificate_refused"
    caller.connection.close()


def test_the_port_is_open_on_the_given_address_only(town: Any) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", town.cell.port), timeout=5)


# --- the process --------------------------------------------------------------------------------------------------


def last_words(process: Process) -> str:
    return process.log.read_text().strip().splitlines()[-4:][0]


def test_sigterm_ends_the_process_at_once_and_in_good_order(unclaimed: Standalone) -> None:
    assert unclaimed.scheduler.end(signal.SIGTERM) == 0


def test_it_has_files_for_all_connections_where_the_usual_limit_has_not(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(one.name) for one in Path("/proc/self/fd").iterdir())  # this process may have many open itself
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 64, hard))
    cell = Standalone(tmp_path)
    try:
        cell.start()
        assert resource.prlimit(cell.scheduler.popen.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        cell.discard()


def test_a_port_that_is_taken_is_told_and_nothing_is_started(unclaimed: Standalone, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    second = Standalone(tmp_path / "two")
    second.port = unclaimed.port
    process = Process("grafos_scheduler", second.arguments(), tmp_path / "second.log")
    assert process.popen.wait(60) == CODES["port_taken"].exit_code
    assert "error[port_taken]" in process.log.read_text()
    assert not second.state.exists()
    process.discard()


def test_a_second_scheduler_on_the_same_state_fences_the_first(unclaimed: Standalone) -> None:
    arguments = [text.replace(f":{unclaimed.port}", ":0") for text in unclaimed.arguments()]
    second = Process("grafos_scheduler", arguments, unclaimed.folder / "second.log")
    try:
        second.wait_ready()
        assert unclaimed.scheduler.popen.wait(60) == CODES["store_fenced"].exit_code
        assert "error[store_fenced]" in unclaimed.scheduler.log.read_text()
    finally:
        second.discard()


def test_a_damaged_database_is_one_clear_error(unclaimed: Standalone) -> None:
    unclaimed.scheduler.end()
    database = unclaimed.state / "scheduler.db"
    database.write_bytes(b"not a database, " * 512)
    process = Process("grafos_scheduler", unclaimed.arguments(), unclaimed.folder / "again.log")
    assert process.popen.wait(60) == CODES["store_invalid"].exit_code
    text = process.log.read_text()
    assert "error[store_invalid]" in text
    assert str(database) in text
    assert "Traceback" not in text
    process.discard()


def test_an_inherited_socket_takes_the_place_of_binding(tmp_path: Path) -> None:
    """A parent that binds the port itself can tell everybody the address before the scheduler is up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        cell = Standalone(tmp_path)
        arguments = [*cell.arguments(), "--listen-fd", str(listening.fileno())]
        process = Process("grafos_scheduler", arguments, tmp_path / "log", keep=[listening.fileno()])
        port = listening.getsockname()[1]
    try:
        assert process.wait_ready()["url"] == f"https://127.0.0.1:{port}"
    finally:
        process.discard()


def test_private_files_are_private(unclaimed: Standalone) -> None:
    for folder in (unclaimed.state, unclaimed.trust):
        assert folder.stat().st_mode & 0o777 == 0o700
        for file in folder.rglob("*"):
            assert file.stat().st_mode & 0o077 == 0, file


def test_an_answer_is_never_an_internal_error_for_an_unclaimed_cell(unclaimed: Standalone) -> None:
    context = trust.unverified_context()
    connection = HTTPSConnection("127.0.0.1", unclaimed.port, context=context, timeout=60)
    connection.request("GET", "/api/v1/runs", headers={"authorization": "Bearer x"})
    answer = connection.getresponse()
    error = GrafosError.from_wire(json.loads(answer.read()))
    assert (answer.status, error.code) == (401, "certificate_refused")
    connection.close()


def test_credentials_from_before_the_state_was_lost_are_told_apart(unclaimed: Standalone) -> None:
    """The CA is the same, so the certificates hold; what they stand for is gone."""
    operator = unclaimed.claimed()
    tenant = unclaimed.tenant(operator, "acme")
    unclaimed.scheduler.end()
    shutil.rmtree(unclaimed.state)
    unclaimed.secret_file.write_text(unclaimed.secret.hex())
    unclaimed.start()
    for who, code in ((operator, "claim_refused"), (tenant, "tenant_unknown")):
        with unclaimed.client(who) as client, pytest.raises(GrafosError) as caught:
            client.runs()
        assert caught.value.code == code
    unclaimed.claim(unclaimed.request("operator"))


@pytest.mark.deep
def test_a_peer_that_says_nothing_or_says_it_drop_by_drop_is_cut_off(acme: Caller) -> None:
    raw = acme.raw()
    began = time.monotonic()
    answer = b"not closed"
    for byte in b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 20:
        time.sleep(0.2)
        try:
            raw.sendall(bytes([byte]))
        except OSError:
            answer = b""
            break
    assert answer == b""
    assert time.monotonic() - began > HEAD_S_MAX / 2
