"""The fabric's key lets its holder in again at a scheduler that the fabric claimed, and the operator before out."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import msgspec
import pytest
from orchestrator import NAME, Orchestrator
from standalone import CELL_ID, OPERATOR, FabricKey, Identity, Standalone

from grafos_core import trust
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.receipts import RegainProof, SchedulerVoucher, Signed, sign_record
from grafos_scheduler.audit_messages import AuditQuery
from grafos_scheduler.challenges import Challenges
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.regaining_client import OwnerClient, regain, voucher_of
from grafos_scheduler.regaining_messages import RegainChallenge, RegainGrant, RegainRequest
from grafos_scheduler.wire import TIMEOUT_S, Wire, decode

PROBE = "POST", "/api/v1/claim/challenge"


def signer(fabric: FabricKey) -> Callable[[msgspec.Struct], Signed]:
    return lambda record: sign_record(record, fabric.key)


def hand_in(at: Orchestrator, operator: Identity) -> None:
    with at.client(operator) as client:
        client.keep_voucher(voucher_of(signer(at.fabric), at.fabric.id, NAME, at.ca_pem))


def regained(at: Orchestrator, name: str, key: FabricKey | None = None, url: str = "") -> Identity:
    """The operator in another home, whose key is kept under that name."""
    csr_pem, key = at.request(name), key or at.fabric
    grant = regain(
        url or at.url,
        signer(key),
        fabric=key.id,
        fabric_key_pem=key.pem,
        operator=OPERATOR,
        csr_pem=csr_pem,
        scheduler=NAME,
    )
    return at.identity(name, grant.certificate_pem, grant.api_token)


def refused(action: Callable[[], object], code: str = "claim_refused") -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action()
    assert caught.value.code == code, caught.value
    assert caught.value.next
    return caught.value


@pytest.fixture
def claimed(tmp_path: Path) -> Iterator[tuple[Orchestrator, Identity]]:
    at = Orchestrator(tmp_path)
    try:
        at.start()
        operator = at.claimed()
        hand_in(at, operator)
        yield at, operator
    finally:
        at.discard()


def test_another_home_gets_in_and_the_one_before_is_out_at_its_very_next_call(
    claimed: tuple[Orchestrator, Identity],
) -> None:
    at, before = claimed
    tenant = at.employ(before, "acme")
    with at.client(before) as kept_open, at.client(tenant) as of_tenant:
        kept_open.tenants()
        of_tenant.runs()
        after = regained(at, "new-laptop")
        error = refused(kept_open.tenants, "operator_replaced")
        assert "another home of this fabric became the operator at" in error.what
        assert "grafos fabric claim" in error.next
        refused(of_tenant.runs, "operator_replaced")
    with at.client(after) as client:
        assert [view.name for view in client.tenants()] == ["acme"]
        [record] = client.audit(AuditQuery(kind="OperatorReplaced")).records
        assert record.by == f"operator/{OPERATOR}"
        assert record.details["tenant_keys"] == 1
    at.scheduler.end()
    at.start()
    with at.client(before) as client:
        refused(client.tenants, "operator_replaced")
    with at.client(at.employ(after, "acme")) as client:
        assert client.runs().runs == []


def test_the_home_before_gets_back_in_the_same_way(claimed: tuple[Orchestrator, Identity]) -> None:
    at, _ = claimed
    first, second = regained(at, "first"), regained(at, "second")
    third = regained(at, "third")
    for who in (first, second):
        with at.client(who) as client:
            refused(client.tenants, "operator_replaced")
    with at.client(third) as client:
        assert len(client.audit(AuditQuery(kind="OperatorReplaced")).records) == 3


def test_the_same_request_repeated_changes_nothing(claimed: tuple[Orchestrator, Identity]) -> None:
    """Its answer may have been lost on the way."""
    at, _ = claimed
    csr_pem = at.request("new-laptop")
    given = {"fabric": at.fabric.id, "fabric_key_pem": at.fabric.pem, "operator": OPERATOR, "scheduler": NAME}
    regain(at.url, signer(at.fabric), csr_pem=csr_pem, **given)
    grant = regain(at.url, signer(at.fabric), csr_pem=csr_pem, **given)
    with at.client(at.identity("new-laptop", grant.certificate_pem, grant.api_token)) as client:
        assert len(client.audit(AuditQuery(kind="OperatorReplaced")).records) == 1


def test_another_fabrics_key_opens_nothing_and_is_told_to_the_log(claimed: tuple[Orchestrator, Identity]) -> None:
    at, operator = claimed
    error = refused(lambda: regained(at, "thief", FabricKey()))
    assert "not signed by the key of the fabric" in error.what
    with at.client(operator) as client:
        [record] = client.audit(AuditQuery(kind="RegainRefused")).records
    assert record.details["from"] == "127.0.0.1"


def test_a_claimed_orchestrator_without_a_voucher_lets_nobody_in_and_says_what_to_do(tmp_path: Path) -> None:
    at = Orchestrator(tmp_path)
    try:
        at.start()
        refused(lambda: regained(at, "too-early"))
        operator = at.claimed()
        error = refused(lambda: regained(at, "new-laptop"))
        assert "from the home that has it: grafos fabric claim URL" in error.next
        assert error.why == "its home did not hand it in"
        with at.client(operator) as client:  # and nobody was put out
            client.tenants()
        hand_in(at, operator)
        regained(at, "new-laptop")
    finally:
        at.discard()


def test_a_voucher_is_the_fabrics_own_and_of_this_very_ca(claimed: tuple[Orchestrator, Identity]) -> None:
    at, operator = claimed
    other_ca = trust.make_ca(trust.new_key(), "other", 1_800_000_000.0)
    with at.client(operator) as client:
        for voucher, code in (
            (voucher_of(signer(FabricKey()), at.fabric.id, NAME, at.ca_pem), "receipt_invalid"),
            (voucher_of(signer(at.fabric), at.fabric.id, NAME, other_ca), "request_invalid"),
            (voucher_of(signer(at.fabric), at.fabric.id, "another", at.ca_pem), "request_invalid"),
        ):
            refused(lambda voucher=voucher: client.keep_voucher(voucher), code)


# --- at a standalone cell ---------------------------------------------------------------------------------------------


def visitor(key: FabricKey, named: str = "") -> ssl.SSLContext:
    return trust.visitor_context(named or key.id, key.key, time.time())


def regained_cell(at: Standalone, name: str, context: ssl.SSLContext) -> Identity:
    """The operator in another home, whose key is kept under that name."""
    csr_pem = at.request(name)
    given = {"fabric": at.fabric.id, "fabric_key_pem": at.fabric.pem, "operator": OPERATOR, "scheduler": CELL_ID}
    grant = regain(at.url, signer(at.fabric), csr_pem=csr_pem, context=context, **given)
    assert grant.ca_pem == at.ca_pem
    return at.identity(name, grant.certificate_pem, grant.api_token)


def hand_in_of_cell(at: Standalone, operator: Identity) -> None:
    with OwnerClient(at.url, at.ca_pem, operator.certificate, operator.key, operator.token) as client:
        client.keep_voucher(voucher_of(signer(at.fabric), at.fabric.id, CELL_ID, at.ca_pem))


def test_a_standalone_cell_lets_the_holder_of_the_fabrics_key_in_and_who_was_there_before_out(
    unclaimed: Standalone,
) -> None:
    before = unclaimed.claimed()
    acme = unclaimed.tenant(before, "acme")
    refused(lambda: regained_cell(unclaimed, "too-early", visitor(unclaimed.fabric)))
    hand_in_of_cell(unclaimed, before)
    for name in ("new-laptop", "after-a-restart"):
        after = regained_cell(unclaimed, name, visitor(unclaimed.fabric))
        with unclaimed.client(after) as client:
            assert [tenant.name for tenant in client.tenants()] == ["acme"]
        for gone, call in ((before, SchedulerClient.tenants), (acme, SchedulerClient.runs)):
            with unclaimed.client(gone) as client:
                error = refused(lambda client=client, call=call: call(client), "operator_replaced")
                assert "grafos cloud claim" in error.next
        acme = unclaimed.tenant(after, "acme", slice_id=f"slice-{name}")
        with unclaimed.client(acme) as client:
            assert client.runs().runs == []
        unclaimed.scheduler.end()
        unclaimed.start()
        before = after


def test_a_claimed_cell_shakes_hands_with_nobody_else(unclaimed: Standalone) -> None:
    """Neither without a certificate nor with one of another fabric's key, whatever fabric it names."""
    hand_in_of_cell(unclaimed, unclaimed.claimed())
    thief = FabricKey()
    for context in (trust.unverified_context(), visitor(thief), visitor(thief, unclaimed.fabric.id)):
        error = refused(lambda context=context: regained_cell(unclaimed, "thief", context))
        assert "closes the connection" in error.what


def test_a_visitor_gets_as_far_as_proving_who_he_is_and_no_further(unclaimed: Standalone) -> None:
    hand_in_of_cell(unclaimed, unclaimed.claimed())
    for method, path, code in (("GET", "/api/v1/tenants", "certificate_refused"), ("GET", "/health", "")):
        with Wire(unclaimed.url, visitor(unclaimed.fabric), TIMEOUT_S) as wire:
            if code:
                refused(lambda wire=wire, method=method, path=path: wire.exchange(method, path, None, {}), code)
            else:
                assert wire.exchange(method, path, None, {})


# --- proofs that do not hold ----------------------------------------------------------------------------------------


class Ask:
    """A proof as it should be, over one connection, to be spoiled."""

    def __init__(self, at: Orchestrator) -> None:
        self.at = at
        self.wire = Wire(at.url, trust.unverified_context(), TIMEOUT_S)
        given = decode(self.wire.exchange(*PROBE, None, {}), RegainChallenge)
        self.csr_pem = at.request("new-laptop")
        self.proof = RegainProof(
            fabric=at.fabric.id,
            scheduler=NAME,
            operator=OPERATOR,
            server_sha256=hashlib.sha256(self.wire.server_certificate()).hexdigest(),
            csr_sha256=hashlib.sha256(self.csr_pem.encode()).hexdigest(),
            challenge=given.challenge,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def send(self, csr_pem: str = "", signed: Signed | None = None, **changes: str) -> RegainGrant:
        proof = msgspec.structs.replace(self.proof, **changes)
        asked = RegainRequest(csr_pem or self.csr_pem, signed or sign_record(proof, self.at.fabric.key))
        return decode(self.wire.exchange("POST", "/api/v1/claim/regain", msgspec.json.encode(asked), {}), RegainGrant)


@pytest.mark.parametrize(
    "changes",
    [
        {"server_sha256": "0" * 64},
        {"scheduler": "another"},
        {"fabric": "fab-000000000000"},
        {"challenge": "0.99999999999999.00"},
        {"challenge": "Grüße"},
        {"csr_sha256": "0" * 64},
    ],
    ids=str,
)
def test_a_proof_for_something_else_is_refused(claimed: tuple[Orchestrator, Identity], changes: dict[str, str]) -> None:
    at, operator = claimed
    with Ask(at) as ask:
        refused(lambda: ask.send(**changes))
        with at.client(operator) as client:
            client.tenants()
        ask.send()


def test_a_proof_is_taken_once_and_not_after_a_restart(claimed: tuple[Orchestrator, Identity]) -> None:
    at, _ = claimed
    with Ask(at) as ask:
        ask.send()
        assert "was used already" in refused(ask.send).what
    with Ask(at) as unused:
        pass
    at.scheduler.end()
    at.start()
    with unused:
        assert "no challenge of this process" in refused(unused.send).what


def test_a_record_of_another_kind_is_no_proof(claimed: tuple[Orchestrator, Identity]) -> None:
    at, _ = claimed
    voucher = sign_record(SchedulerVoucher(at.fabric.id, NAME, "0" * 64), at.fabric.key)
    with Ask(at) as ask:
        refused(lambda: ask.send(signed=voucher))


def test_a_challenge_lapses_by_a_clock_that_nobody_sets() -> None:
    clock, chance = VirtualClock(), random.Random(1)
    given = Challenges(clock, chance, 60.0, "claim_refused", "ask again")
    used, lapses = given.give(), given.give()
    given.take(used)
    assert "used already" in refused(lambda: given.take(used)).what
    clock.advance(60.0)
    assert "lapsed" in refused(lambda: given.take(lapses)).what


def test_a_challenge_is_of_one_door_and_for_whom_it_was_given() -> None:
    clock, chance = VirtualClock(), random.Random(1)
    doors = [Challenges(clock, chance, 60.0, "claim_refused", "ask again") for _ in range(2)]
    challenge = doors[0].give("key-of-bea")
    refused(lambda: doors[1].check(challenge, "key-of-bea"))
    for whom in ("key-of-carl", ""):
        refused(lambda whom=whom: doors[0].check(challenge, whom))
    for damaged in ("", "..", challenge[:-1], f"0{challenge}", challenge.replace(".", ".9", 1)):
        refused(lambda damaged=damaged: doors[0].check(damaged, "key-of-bea"))
    for _ in range(2):
        doors[0].check(challenge, "key-of-bea")


# --- somebody in the middle, and in the place of the orchestrator -----------------------------------------------------


class Relay:
    """Ends TLS with a certificate of its own and passes on what it reads, both ways."""

    def __init__(self, folder: Path, port: int) -> None:
        ca_key, key, now = trust.new_key(), trust.new_key(), 1_700_000_000.0
        ca_pem = trust.make_ca(ca_key, "relay", now)
        uri = trust.spiffe_id("fab-0", "scheduler", NAME)
        pem = trust.sign_csr(ca_pem, ca_key, trust.make_csr(key, "x"), uri, now, 10**9, ("127.0.0.1",))
        (folder / "r.pem").write_text(pem)
        (folder / "r-key.pem").write_bytes(trust.key_to_pem(key))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "r.pem", folder / "r-key.pem")
        self._port = port
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listening.getsockname()[1]}"
        self.passed: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self.listening.accept()
                near = self._context.wrap_socket(plain, server_side=True)
                far = trust.unverified_context().wrap_socket(socket.create_connection(("127.0.0.1", self._port)))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: ssl.SSLSocket, other: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.passed.append(data)
                other.sendall(data)
        for each in (one, other):
            each.close()


def test_somebody_in_the_middle_gets_nothing_and_puts_nobody_out(
    claimed: tuple[Orchestrator, Identity], tmp_path: Path
) -> None:
    at, operator = claimed
    relay = Relay(tmp_path, at.port)
    try:
        error = refused(lambda: regained(at, "new-laptop", url=relay.url))
    finally:
        relay.listening.close()
    assert "another server" in error.what
    assert b"regain" in b"".join(relay.passed)
    with at.client(operator) as client:
        client.tenants()


class Impostor(BaseHTTPRequestHandler):
    """Lets anybody in, with a CA of its own and the voucher that it was given."""

    authority: Authority
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = self.authority.grant(data) if data else RegainChallenge("sign me", 60.0)
        body = msgspec.json.encode(answer)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Authority:
    """A CA that nobody knows, and a server of its own."""

    def __init__(self, folder: Path, fabric: FabricKey) -> None:
        self.fabric = fabric.id
        self._ca_key, key, now = trust.new_key(), trust.new_key(), 1_700_000_000.0
        self.ca_pem = trust.make_ca(self._ca_key, "authority", now)
        self.voucher = Signed("voucher", b"", b"")
        uri, csr_pem = trust.spiffe_id(self.fabric, "scheduler", NAME), trust.make_csr(key, "x")
        pem = trust.sign_csr(self.ca_pem, self._ca_key, csr_pem, uri, now, 10**9, ("127.0.0.1",))
        (folder / "server.pem").write_text(pem)
        (folder / "server-key.pem").write_bytes(trust.key_to_pem(key))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")

    def grant(self, data: bytes) -> RegainGrant:
        csr_pem = msgspec.json.decode(data, type=RegainRequest).csr_pem
        uri = trust.spiffe_id(self.fabric, "operator", OPERATOR)
        pem = trust.sign_csr(self.ca_pem, self._ca_key, csr_pem, uri, 1_700_000_000.0, 10**9)
        return RegainGrant(NAME, self.ca_pem, pem, "gat1.a.b", self.voucher)


@contextlib.contextmanager
def serving(authority: Authority) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Impostor,), {"authority": authority}))
    server.socket = authority.context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_orchestrator_of_which_our_fabric_signed_nothing_is_not_believed(tmp_path: Path) -> None:
    fabric = FabricKey()
    authority, csr_pem = Authority(tmp_path, fabric), trust.make_csr(trust.new_key(), "operator")
    given = {"fabric": fabric.id, "fabric_key_pem": fabric.pem, "operator": OPERATOR, "scheduler": NAME}
    of_another = sign_record(SchedulerVoucher(fabric.id, NAME, "0" * 64), fabric.key)
    by_another = voucher_of(signer(FabricKey()), fabric.id, NAME, authority.ca_pem)
    for voucher, words in ((of_another, "of another scheduler"), (by_another, "nothing that this fabric's key")):
        authority.voucher = voucher
        with serving(authority) as url:
            error = refused(lambda url=url: regain(url, signer(fabric), csr_pem=csr_pem, **given))
        assert words in error.what
        assert "nothing was entrusted" in error.next
    authority.voucher = voucher_of(signer(fabric), fabric.id, NAME, authority.ca_pem)
    with serving(authority) as url:
        assert regain(url, signer(fabric), csr_pem=csr_pem, **given).ca_pem == authority.ca_pem
