"""A cell obeys whoever proves to know its secret, once, and nobody else; and the operator knows that it is the cell."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest
from orchestrator import Orchestrator
from standalone import CELL_ID, OPERATOR, FabricKey, Standalone

from grafos_core import trust
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.rowstore import GroupStore
from grafos_scheduler import messages
from grafos_scheduler.audit_messages import AuditQuery
from grafos_scheduler.claiming_client import claim
from grafos_scheduler.process import opened
from grafos_scheduler.refusing import TRIES_AT_ONCE_MAX, TRY_AGAIN_EVERY_S, Tries
from grafos_scheduler.settings import Settings
from grafos_scheduler.store import open_keeper


def refused(action: Any) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action()
    return caught.value


def test_the_operator_gets_credentials_that_work_and_the_claim_is_then_closed(unclaimed: Standalone) -> None:
    csr_pem = unclaimed.request("operator")
    grant = unclaimed.claim(csr_pem)
    peer = trust.check_issued_by(grant.certificate_pem, grant.ca_pem, at=VirtualClock().now())
    assert (peer.kind, peer.name, peer.fabric) == ("operator", OPERATOR, unclaimed.fabric.id)
    assert unclaimed.secret_file.exists()
    operator = unclaimed.identity("operator", grant.certificate_pem, grant.api_token)
    with unclaimed.client(operator) as client:
        assert client.tenants() == []
    assert not unclaimed.secret_file.exists()
    # Now the port itself demands a certificate, also for the same request and the right secret.
    assert refused(lambda: unclaimed.claim(csr_pem)).code == "claim_refused"


def test_the_same_request_may_be_repeated_until_the_operator_has_called(unclaimed: Standalone) -> None:
    """The answer to the first may have been lost on the way."""
    csr_pem = unclaimed.request("operator")
    first, second = unclaimed.claim(csr_pem), unclaimed.claim(csr_pem)
    assert first.mac == second.mac
    operator = unclaimed.identity("operator", second.certificate_pem, second.api_token)
    with unclaimed.client(operator) as client:
        client.tenants()


def test_another_request_with_the_used_secret_is_refused_and_logged(unclaimed: Standalone) -> None:
    grant = unclaimed.claim(unclaimed.request("operator"))
    assert refused(lambda: unclaimed.claim(unclaimed.request("thief"))).code == "claim_refused"
    told = "claim refused, from 127.0.0.1 with a proof by the one-time secret: the secret was used already"
    assert f"WARNING grafos.security: {told}" in unclaimed.scheduler.log.read_text()
    with unclaimed.client(unclaimed.identity("operator", grant.certificate_pem, grant.api_token)) as client:
        [record] = client.audit(AuditQuery(kind="ClaimRefused")).records
    assert (record.details["from"], record.details["why"]) == (
        "127.0.0.1",
        "the secret was used already, for another certificate request",
    )


@pytest.mark.parametrize(
    "change",
    [{"secret": b"x" * 32}, {"secret": b""}, {"fabric": "fab-000000000000"}, {"operator": "Not A Name"}],
    ids=["wrong secret", "no secret", "another fabric", "no name"],
)
def test_a_claim_that_does_not_hold_is_refused_and_changes_nothing(
    unclaimed: Standalone, change: dict[str, Any]
) -> None:
    error = refused(lambda: unclaimed.claim(unclaimed.request("operator"), **change))
    assert error.code in ("claim_refused", "request_invalid")
    unclaimed.claim(unclaimed.request("operator"))


def test_the_key_of_another_fabric_does_not_claim_the_cell_even_with_the_secret(unclaimed: Standalone) -> None:
    other = FabricKey()
    csr_pem = unclaimed.request("operator")
    for fabric in (other.id, unclaimed.fabric.id):
        error = refused(lambda fabric=fabric: unclaimed.claim(csr_pem, fabric=fabric, fabric_key_pem=other.pem))
        assert error.code == "claim_refused"


def test_the_secret_and_its_proof_for_another_server_are_never_on_the_wire(unclaimed: Standalone) -> None:
    """A recorded claim is worthless anywhere else: the proof is made over the server's own certificate."""
    csr_pem = unclaimed.request("operator")
    mac = trust.claim_mac(unclaimed.secret, "operator", b"another server", csr_pem, unclaimed.fabric.pem)
    asked = messages.ClaimRequest(unclaimed.fabric.id, OPERATOR, csr_pem, unclaimed.fabric.pem, mac)
    assert unclaimed.secret.hex() not in msgspec.json.encode(asked).decode()
    connection = HTTPSConnection("127.0.0.1", unclaimed.port, context=trust.unverified_context(), timeout=60)
    connection.request("POST", "/api/v1/claim", msgspec.json.encode(asked))
    assert json.loads(connection.getresponse().read())["code"] == "claim_refused"
    connection.close()


@pytest.mark.parametrize(
    ("made", "mode", "other"), [(Standalone, "cell", "orchestrator"), (Orchestrator, "orchestrator", "cell")]
)
def test_a_refused_claim_speaks_of_what_was_to_be_claimed(
    tmp_path: Path, made: type[Standalone], mode: str, other: str
) -> None:
    at = made(tmp_path)
    try:
        at.start()
        right, csr_pem = at.secret, at.request("operator")
        at.secret = b"w" * 32
        told = [refused(lambda: at.claim(csr_pem))]
        at.secret = right
        at.claim(csr_pem)
        told.append(refused(lambda: at.claim(at.request("somebody-else"))))
    finally:
        at.discard()
    for error in told:
        assert error.code == "claim_refused"
        assert f"this {mode}" in error.what or "the secret was used already" in error.what
        assert mode in error.next
        assert other not in error.what + error.next


def test_a_request_without_possession_of_its_key_is_refused(unclaimed: Standalone) -> None:
    csr_pem = unclaimed.request("operator")
    lines = csr_pem.splitlines()
    lines[-2] = lines[-2][:8] + ("A" if lines[-2][8] != "A" else "B") + lines[-2][9:]
    assert refused(lambda: unclaimed.claim("\n".join(lines))).code == "request_invalid"


def test_a_cell_without_a_secret_cannot_be_claimed(tmp_path: Path) -> None:
    cell = Standalone(tmp_path)
    cell.secret_file.unlink()
    try:
        cell.start()
        assert refused(lambda: cell.claim(cell.request("operator"))).code == "claim_refused"
    finally:
        cell.discard()


def test_an_unclaimed_cell_admits_no_tenant_and_no_slice(unclaimed: Standalone) -> None:
    """Not even for a certificate that its own CA signed: nobody has said yet whose money it may spend."""
    with unclaimed.client(unclaimed.cell()) as client:
        request = messages.TenantRequest("acme", unclaimed.request("acme"), unclaimed.fabric.slice("acme"))
        assert refused(lambda: client.register_tenant(request)).code == "rights_missing"


def test_a_secret_that_cannot_be_removed_does_not_keep_the_claim_open(unclaimed: Standalone) -> None:
    csr_pem = unclaimed.request("operator")
    grant = unclaimed.claim(csr_pem)
    unclaimed.secret_file.unlink()
    unclaimed.secret_file.mkdir()
    operator = unclaimed.identity("operator", grant.certificate_pem, grant.api_token)
    with unclaimed.client(operator) as client:
        assert client.tenants() == []
    assert "cannot be removed" in unclaimed.scheduler.log.read_text()
    for _ in range(2):
        assert refused(lambda: unclaimed.claim(csr_pem)).what.startswith("it lets nobody in")
        assert unclaimed.scheduler.end() == 0
        unclaimed.start()


def test_a_claim_repeated_while_the_first_call_closes_it_does_not_open_it_again(tmp_path: Path) -> None:
    """The answer to the repeated one is not waited for by anybody; what stays on the disk is a closed claim."""
    fabric, secret_file, csr_pem = FabricKey(), tmp_path / "secret", trust.make_csr(trust.new_key(), "operator")
    secret_file.write_text("5e" * 32)
    settings = Settings(
        fabric=fabric.id,
        scheduler_id=CELL_ID,
        providers=("local",),
        region="here",
        address="127.0.0.1",
        port=0,
        state=tmp_path / "state",
        trust=tmp_path / "trust",
        claim_secret_file=secret_file,
    )

    async def story() -> None:
        async with opened(settings, GroupStore(open_keeper(settings, ""))) as (services, *_):
            der = services.credentials.server_der
            mac = trust.claim_mac(bytes.fromhex("5e" * 32), "operator", der, csr_pem, fabric.pem)
            asked = messages.ClaimRequest(fabric.id, OPERATOR, csr_pem, fabric.pem, mac)
            await services.desk.claim(asked, "127.0.0.1")
            again = services.desk.claim(asked, "127.0.0.1")
            await asyncio.gather(services.desk.close(), again, return_exceptions=True)
            assert services.desk.is_closed
        async with opened(settings, GroupStore(open_keeper(settings, ""))) as (services, *_):
            assert services.desk.is_closed

    asyncio.run(story())


def tried(tries: Tries, client: str) -> None:
    """A try that fails, where another one is let."""
    tries.check(client)
    tries.count(client)


def test_too_many_tries_from_one_address_wait_and_others_do_not() -> None:
    clock = VirtualClock()
    tries = Tries(clock, "claim_refused", "claims that failed")
    for _ in range(TRIES_AT_ONCE_MAX):
        tried(tries, "198.51.100.7")
    error = refused(lambda: tried(tries, "198.51.100.7"))
    assert (error.code, error.retryable) == ("claim_refused", True)
    tried(tries, "198.51.100.8")
    clock.advance(TRY_AGAIN_EVERY_S)
    tried(tries, "198.51.100.7")
    refused(lambda: tried(tries, "198.51.100.7"))


def test_refused_tries_do_not_lengthen_the_wait() -> None:
    clock = VirtualClock()
    tries = Tries(clock, "claim_refused", "claims that failed")
    for _ in range(TRIES_AT_ONCE_MAX):
        tried(tries, "a")
    for _ in range(100):
        refused(lambda: tried(tries, "a"))
    clock.advance(TRY_AGAIN_EVERY_S)
    tried(tries, "a")


# --- slices and tenants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"scheduler": "cell-2"},
        {"tenant": "globex"},
        {"fabric": "fab-000000000000"},
        {"expires_at": 1.0},
    ],
    ids=str,
)
def test_a_slice_for_somebody_else_or_run_out_is_refused(town: Any, change: dict[str, Any]) -> None:
    money = town.cell.fabric.slice(**{"tenant": "acme", **change})
    with town.cell.client(town.operator) as client:
        request = messages.TenantRequest("acme", town.cell.request("acme-2"), money)
        assert refused(lambda: client.register_tenant(request)).code == "slice_refused"


def test_a_slice_that_another_fabric_signed_or_somebody_altered_is_refused(town: Any) -> None:
    foreign = FabricKey().slice("acme", fabric=town.cell.fabric.id)
    good = town.cell.fabric.slice("acme")
    more = msgspec.structs.replace(good, body=good.body.replace(b"1000000000", b"9000000000"))
    with town.cell.client(town.operator) as client:
        for money in (foreign, more):
            request = messages.TenantRequest("acme", town.cell.request("acme-3"), money)
            assert refused(lambda request=request: client.register_tenant(request)).code == "slice_refused"


def test_a_slice_counts_once_however_often_it_is_handed_in(town: Any) -> None:
    request = messages.TenantRequest("hooli", town.cell.request("hooli"), town.cell.fabric.slice("hooli"))
    with town.cell.client(town.operator) as client:
        for _ in range(3):
            grant = client.register_tenant(request)
        [view] = [view for view in client.tenants() if view.name == "hooli"]
    assert view.budget_micro_cents == 10**9
    hooli = town.cell.identity("hooli", grant.certificate_pem, grant.api_token)
    with town.cell.client(hooli) as client:
        assert client.runs().runs == []


# --- the operator's side: an impostor in the cell's place -----------------------------------------------------------


class Impostor(threading.Thread):
    """A TLS server that answers one claim as it likes."""

    def __init__(self, folder: Path, answer: Any) -> None:
        super().__init__(daemon=True)
        key, now = trust.new_key(), 1_800_000_000.0
        self.ca_key = trust.new_key()
        self.ca_pem = trust.make_ca(self.ca_key, "impostor", now)
        uri = trust.spiffe_id("fab-0", "scheduler", CELL_ID)
        self.pem = trust.sign_csr(self.ca_pem, self.ca_key, trust.make_csr(key, "x"), uri, now, 10**8, ("127.0.0.1",))
        (folder / "i.pem").write_text(self.pem)
        (folder / "i-key.pem").write_bytes(trust.key_to_pem(key))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "i.pem", folder / "i-key.pem")
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listening.getsockname()[1]}"
        self.answer = answer
        self.seen: list[bytes] = []

    def run(self) -> None:
        plain, _ = self.listening.accept()
        with self.context.wrap_socket(plain, server_side=True) as tls:
            data = b""
            while b"\r\n\r\n" not in data or not data.rstrip().endswith(b"}"):
                data += tls.recv(65536)
            self.seen.append(data)
            body = msgspec.json.encode(self.answer(self, json.loads(data.partition(b"\r\n\r\n")[2])))
            tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def grant_of(impostor: Impostor, asked: dict[str, str], mac: str) -> messages.ClaimGrant:
    uri = trust.spiffe_id(asked["fabric"], "operator", asked["operator"])
    pem = trust.sign_csr(impostor.ca_pem, impostor.ca_key, asked["csr_pem"], uri, 1_800_000_000.0, 10**8)
    return messages.ClaimGrant(CELL_ID, impostor.ca_pem, pem, "gat1.a.b", mac)


@pytest.fixture
def fabric() -> FabricKey:
    return FabricKey()


@pytest.fixture
def impostors(tmp_path: Path) -> Iterator[Any]:
    made: list[Impostor] = []

    def start(answer: Any) -> Impostor:
        made.append(Impostor(tmp_path, answer))
        made[-1].start()
        return made[-1]

    yield start
    for impostor in made:
        impostor.join(60)
        impostor.listening.close()


@pytest.mark.parametrize("mac", ["0" * 64, "echo"], ids=["made up", "our own proof sent back"])
def test_whoever_does_not_know_the_secret_is_not_taken_for_the_cell(
    fabric: FabricKey, impostors: Any, mac: str
) -> None:
    impostor = impostors(lambda self, asked: grant_of(self, asked, asked["mac"] if mac == "echo" else mac))
    csr_pem = trust.make_csr(trust.new_key(), "operator")
    error = refused(
        lambda: claim(
            impostor.url,
            b"s" * 32,
            fabric=fabric.id,
            fabric_key_pem=fabric.pem,
            operator=OPERATOR,
            csr_pem=csr_pem,
            cell_id=CELL_ID,
        )
    )
    assert error.code == "claim_refused"
    assert "nothing was entrusted" in error.next
    assert "cell" not in error.what + error.next  # it may be an orchestrator that was to be claimed
    assert (b"s" * 32) not in impostor.seen[0]
    assert (b"s" * 32).hex().encode() not in impostor.seen[0]


def test_the_proof_is_a_mac_over_both_sides_keys() -> None:
    """The exact bytes, so that either side may be written anew in another language."""
    parts = b"".join(hashlib.sha256(part).digest() for part in (b"cell", b"der", b"csr", b"pem"))
    wanted = hmac.new(b"secret", b"grafos-claim-1" + parts, hashlib.sha256).hexdigest()
    assert trust.claim_mac(b"secret", "cell", b"der", "csr", "pem") == wanted
