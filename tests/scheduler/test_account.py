"""People come to an orchestrator by invitation, leave it, and sign what is run at their tenant's cost."""

from __future__ import annotations

import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from typing import Any

import msgspec
import pytest
from desk import ORCHESTRATOR, Desk
from msgspec.structs import replace
from orchestrator import Orchestrator, key_of
from standalone import Identity

from grafos_cell.conformance.wat import tasklet
from grafos_core import signed_claims, trust
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.invitations import InvitationClaims
from grafos_core.receipts import RunOrder, Signed, SigningKeyProof, open_signed, sign_record
from grafos_scheduler import messages, rows, tenant_events
from grafos_scheduler.account_client import Signer, sign_in
from grafos_scheduler.account_messages import InvitationAsked, InvitationGrant
from grafos_scheduler.audit_messages import AuditQuery
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_scheduler.order_check import ORDER_AGE_S_MAX
from grafos_scheduler.ordering import order_of

_numbers = itertools.count(1)
MODULE = b"\0asm\1\0\0\0"


def refused(action: object, *args: object, **kwargs: object) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action(*args, **kwargs)  # type: ignore[operator]
    return caught.value


def patiently(action: Any, *args: Any) -> Any:
    """The refusals of one test make the next ones wait, since all come from one address."""
    while True:
        try:
            return action(*args)
        except GrafosError as error:
            if not error.retryable:
                raise
            time.sleep(0.2)


def turned_away(*args: Any) -> str:
    """The code with which a sign-in is refused."""
    return refused(patiently, sign_in, *args).code


@pytest.fixture
def acme(orchestrator: Orchestrator, operator: Identity) -> str:
    """A tenant of its own for each test."""
    name = f"acme-{next(_numbers)}"
    orchestrator.employ(operator, name)
    return name


def invited(at: Orchestrator, operator: Identity, tenant: str, name: str = "bea", **other: Any) -> InvitationGrant:
    with at.client(operator) as client:
        return client.invite(InvitationAsked(tenant, name, **other))


def joined(at: Orchestrator, operator: Identity, tenant: str, name: str = "bea") -> Identity:
    """A person who has signed in."""
    key_name = f"{tenant}-{name}-{next(_numbers)}"
    token = invited(at, operator, tenant, name).token
    granted = patiently(sign_in, at.url, at.ca_pem, token, at.request(key_name))
    return at.identity(key_name, granted.certificate_pem, granted.api_token)


def records(at: Orchestrator, operator: Identity, kind: str, tenant: str) -> list[dict[str, Any]]:
    with at.client(operator) as client:
        return [one.details for one in client.audit(AuditQuery(kind=kind, tenant=tenant)).records]


# --- coming and going ---------------------------------------------------------------------------------------------


def test_who_is_invited_works_as_one_of_the_tenant_and_is_listed(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    bea = joined(orchestrator, operator, acme)
    with orchestrator.client(bea) as client:
        shown = client.account()
        assert (shown.account.tenant, shown.account.name, shown.account.invited_by) == (acme, "bea", "ada")
        assert shown.tenant.budget_micro_cents == 2_000 * 10**6
        assert not shown.signs
        assert client.runs().runs == []
        assert refused(client.tenants).code == "rights_missing"
        assert refused(client.invite, InvitationAsked(acme, "carl")).code == "rights_missing"
    invited(orchestrator, operator, acme, "carl")
    with orchestrator.client(operator) as client:
        found = [view for view in client.accounts() if view.tenant == acme]
    assert [(view.name, bool(view.key_sha256), view.lapses_at > 0) for view in found] == [
        ("bea", True, False),
        ("carl", False, True),
    ]


def test_the_same_key_may_ask_again_and_a_second_use_is_a_security_event(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    token, csr_pem = invited(orchestrator, operator, acme).token, orchestrator.request(f"{acme}-bea")
    first = sign_in(orchestrator.url, orchestrator.ca_pem, token, csr_pem)
    again = sign_in(orchestrator.url, orchestrator.ca_pem, token, csr_pem)
    assert (first.tenant, first.name) == (again.tenant, again.name) == (acme, "bea")
    thief = trust.make_csr(trust.new_key(), "bea")
    assert turned_away(orchestrator.url, orchestrator.ca_pem, token, thief) == "invitation_refused"
    [told] = records(orchestrator, operator, "SignInRefused", acme)
    assert (told["from"], told["code"]) == ("127.0.0.1", "invitation_refused")
    assert f"of {acme}/bea" in told["with"]
    log = orchestrator.scheduler.log.read_text()
    assert "WARNING grafos.security: sign-in refused, from 127.0.0.1 with the invitation " in log
    assert f"INFO grafos.security: operator ada at 127.0.0.1 invited {acme}/bea" in log


def test_an_invitation_that_lapsed_or_is_foreign_lets_nobody_in(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    token = invited(orchestrator, operator, acme, valid_s=0.05).token
    time.sleep(0.1)
    csr_pem = orchestrator.request(f"{acme}-bea")
    assert turned_away(orchestrator.url, orchestrator.ca_pem, token, csr_pem) == "invitation_expired"
    issuer = signed_claims.issuer(orchestrator.fabric.id, "orchestrator")
    claims = InvitationClaims(issuer, "f" * 32, acme, "bea", time.time(), time.time() + 60)
    foreign = signed_claims.mint(signed_claims.new_key(), claims)
    assert turned_away(orchestrator.url, orchestrator.ca_pem, foreign, csr_pem) == "invitation_refused"
    cells = orchestrator.bootstrap(operator, f"aws-{acme}")
    assert turned_away(orchestrator.url, orchestrator.ca_pem, cells, csr_pem) == "invitation_refused"
    other_ca = trust.make_ca(trust.new_key(), "another", time.time())
    assert turned_away(orchestrator.url, other_ca, token, csr_pem) == "certificate_refused"


def test_who_is_put_out_is_out_at_once_and_the_name_is_free_again(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    bea, carl = joined(orchestrator, operator, acme), joined(orchestrator, operator, acme, "carl")
    with orchestrator.client(bea) as hers, orchestrator.client(operator) as client:
        hers.account()
        assert refused(client.invite, InvitationAsked(acme, "bea")).code == "account_exists"
        client.remove_account(acme, "bea")
        assert refused(hers.account).code == "certificate_refused"
        assert client.remove_account(acme, "bea").name == "bea", "the answer may have been lost"
        assert refused(client.remove_account, acme, "bee").code == "not_found"
    joined(orchestrator, operator, acme)
    with orchestrator.client(carl) as client:
        client.leave_account()
        assert refused(client.account).code == "certificate_refused"
    assert len(records(orchestrator, operator, "PersonRemoved", acme)) == 2


def test_an_invitation_may_be_taken_back(orchestrator: Orchestrator, operator: Identity, acme: str) -> None:
    token = invited(orchestrator, operator, acme).token
    with orchestrator.client(operator) as client:
        client.remove_account(acme, "bea")
    csr_pem = orchestrator.request(f"{acme}-bea")
    assert turned_away(orchestrator.url, orchestrator.ca_pem, token, csr_pem) == "invitation_refused"


def test_the_last_key_of_a_tenant_that_goes_leaves_nobody_in(orchestrator: Orchestrator, operator: Identity) -> None:
    name = f"acme-{next(_numbers)}"
    theirs = orchestrator.employ(operator, name)
    bea = joined(orchestrator, operator, name)
    with orchestrator.client(theirs) as client:
        client.register_signing_key(signer_of(orchestrator, name), trust.key_sha256(key_of(theirs).public_key()))
        client.leave_account()
    with orchestrator.client(bea) as client:
        client.leave_account()
    for who in (theirs, bea):
        with orchestrator.client(who) as client:
            assert refused(client.runs).code == "certificate_refused"


def test_credentials_are_renewed_by_possession(orchestrator: Orchestrator, operator: Identity, acme: str) -> None:
    bea = joined(orchestrator, operator, acme)
    with orchestrator.client(bea) as client:
        granted = client.renew_account(trust.make_csr(key_of(bea), "bea"))
    renewed = orchestrator.identity(f"{acme}-renewed", granted.certificate_pem, granted.api_token)
    renewed.key.write_bytes(bea.key.read_bytes())
    with orchestrator.client(renewed) as client:
        assert client.account().account.name == "bea"


# --- orders -------------------------------------------------------------------------------------------------------


def signer_of(at: Orchestrator, tenant: str) -> Signer:
    return Signer(trust.new_key(), at.fabric.id, "orchestrator", tenant)


def verified(client: OrchestratorClient, at: Orchestrator, tenant: str, who: Identity) -> Signer:
    signer = signer_of(at, tenant)
    client.register_signing_key(signer, trust.key_sha256(key_of(who).public_key()))
    return signer


def request_for(client: OrchestratorClient, **other: Any) -> messages.RunRequest:
    sha256 = client.put_blob(MODULE)
    fields = {
        "run_key": f"key-{next(_numbers):020d}",
        "provider": "aws",
        "program": "one",
        "tasklet": "one",
        "module_sha256": sha256,
        "input_sha256": "",
    }
    return messages.RunRequest(**{**fields, **other})


NO_CELL = "runtime_not_ready"
"""What becomes of a run that was let as far as admission."""


def test_from_the_first_signing_key_on_nothing_is_run_unsigned_at_the_tenants_cost(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    bea, carl = joined(orchestrator, operator, acme), joined(orchestrator, operator, acme, "carl")
    with orchestrator.client(bea) as hers, orchestrator.client(carl) as his:
        assert refused(hers.start_run, request_for(hers)).code == NO_CELL
        signer = verified(hers, orchestrator, acme, bea)
        assert hers.account().signs
        for client in (hers, his):
            error = refused(client.start_run, request_for(client))
            assert (error.code, "grafos account verify" in error.next) == ("order_refused", True)
        [one] = hers.start_runs([request_for(hers)])
        assert one.error is not None
        assert one.error.code == "order_refused"
        hers.signer = signer
        assert refused(hers.start_run, request_for(hers)).code == NO_CELL
        [one] = hers.start_runs([request_for(hers)])
        assert one.error is not None
        assert one.error.code == NO_CELL
        his.signer = signer
        assert refused(his.start_run, request_for(his)).code == "order_refused"
        assert {run.signed_by for run in hers.runs().runs} == {"", f"{acme}/bea"}


@pytest.mark.parametrize(
    "altered",
    [
        {"run_key": "another-key-00000000"},
        {"module_sha256": sha256_of(b"another")},
        {"input_sha256": sha256_of(b"another")},
        {"provider": "gcp"},
        {"deadline_s": 3600.0},
        {"max_micro_cents": 10**9},
        {"lease_mem_bytes": 1},
        {"fuel": 10**9},
        {"cell_id": "aws-1"},
        {"reservation": "another-key-00000000"},
    ],
    ids=lambda altered: next(iter(altered)),
)
def test_what_was_signed_is_what_is_run(
    orchestrator: Orchestrator, operator: Identity, acme: str, altered: dict[str, Any]
) -> None:
    bea = joined(orchestrator, operator, acme)
    with orchestrator.client(bea) as client:
        signer = verified(client, orchestrator, acme, bea)
        asked = request_for(client, **({"input_sha256": ""} if "input_sha256" in altered else {}))
        client.put_blob(b"another")
        order = sign_record(order_of(orchestrator.fabric.id, "orchestrator", acme, asked, time.time()), signer.key)
        other = messages.RunRequest(**{**as_fields(asked), **altered, "order": order})
        error = refused(client.start_run, other)
        assert (error.code, next(iter(altered)) in error.what) == ("order_refused", True)


def as_fields(asked: messages.RunRequest) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in asked.__struct_fields__}


@pytest.mark.parametrize("off_s", [-ORDER_AGE_S_MAX - 60, ORDER_AGE_S_MAX + 60, 3 * 3600.0])
def test_an_order_of_another_time_tenant_scheduler_or_key_is_refused(
    orchestrator: Orchestrator, operator: Identity, acme: str, off_s: float
) -> None:
    bea = joined(orchestrator, operator, acme)
    with orchestrator.client(bea) as client:
        signer = verified(client, orchestrator, acme, bea)
        asked = request_for(client)

        def ordered(fabric: str, scheduler: str, tenant: str, at: float, key: trust.PrivateKey) -> GrafosError:
            order = sign_record(order_of(fabric, scheduler, tenant, asked, at), key)
            return refused(client.start_run, messages.RunRequest(**{**as_fields(asked), "order": order}))

        fabric, now = orchestrator.fabric.id, time.time()
        late = ordered(fabric, "orchestrator", acme, now + off_s, signer.key)
        assert (late.code, "clock" in late.what + late.next) == ("order_refused", True)
        assert ordered(fabric, "orchestrator", "globex", now, signer.key).code == "order_refused"
        assert ordered(fabric, "another", acme, now, signer.key).code == "order_refused"
        assert ordered("fab-000000000000", "orchestrator", acme, now, signer.key).code == "order_refused"
        assert ordered(fabric, "orchestrator", acme, now, trust.new_key()).code == "order_refused"


def test_a_signing_key_is_registered_once_by_who_has_it_and_for_no_other_account(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    bea, carl = joined(orchestrator, operator, acme), joined(orchestrator, operator, acme, "carl")
    hers_sha256, his_sha256 = (trust.key_sha256(key_of(who).public_key()) for who in (bea, carl))
    with orchestrator.client(bea) as hers, orchestrator.client(carl) as his:
        signer = verified(hers, orchestrator, acme, bea)
        again = hers.register_signing_key(signer, hers_sha256)
        assert again.proof is not None
        said = open_signed(again.proof, SigningKeyProof, signer.key.public_key())
        assert (said.key_sha256, said.tenant) == (hers_sha256, acme)
        assert refused(verified, hers, orchestrator, acme, bea).code == "signing_key_refused"
        assert refused(his.register_signing_key, signer, his_sha256).code == "signing_key_refused"
        assert (
            refused(his.register_signing_key, signer_of(orchestrator, acme), hers_sha256).code == "signing_key_refused"
        )
    assert len(records(orchestrator, operator, "SigningKeyRegistered", acme)) == 1


def test_a_proof_of_another_form_challenge_or_account_registers_nothing(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    bea, carl = joined(orchestrator, operator, acme), joined(orchestrator, operator, acme, "carl")
    hers, his = (trust.key_sha256(key_of(who).public_key()) for who in (bea, carl))
    key, other = trust.new_key(), trust.new_key()
    pem = trust.public_key_to_pem(key.public_key())

    with orchestrator.client(bea) as client, orchestrator.client(carl) as of_carl:
        challenge, his_challenge = (asked_for_challenge(each) for each in (client, of_carl))
        good = SigningKeyProof(orchestrator.fabric.id, "orchestrator", acme, hers, pem, challenge)
        wrong = [
            sign_record(good, other),
            sign_record(replace(good, tenant="globex"), key),
            sign_record(replace(good, scheduler="another"), key),
            sign_record(replace(good, key_sha256=his), key),
            sign_record(replace(good, challenge=his_challenge), key),
            sign_record(replace(good, challenge=challenge[:-2]), key),
            sign_record(replace(good, signing_key_pem=pem + "\n"), key),
            sign_record(replace(good, signing_key_pem="damaged"), key),
            replace(sign_record(good, key), certificate_pem=pem),
            Signed("signing-key", b" " * 5000, b""),
            Signed("order", b"{}", b"no"),
        ]
        for proof in wrong:
            assert refused(put_proof, client, proof).code == "signing_key_refused", proof
        assert not client.account().signs
        put_proof(client, sign_record(good, key))
        assert client.account().signs


def asked_for_challenge(client: OrchestratorClient) -> str:
    path = "/api/v1/account/signing-key/challenge"
    return str(msgspec.json.decode(client._exchange("POST", path, None))["challenge"])


def put_proof(client: OrchestratorClient, proof: Signed) -> None:
    client._exchange("PUT", "/api/v1/account/signing-key", msgspec.json.encode(proof))


def test_who_is_put_out_while_she_waits_is_not_answered(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    daemon = orchestrator.joined(operator, f"gcp-{acme}", "gcp").begin()
    bea = joined(orchestrator, operator, acme)
    try:
        daemon.wait_ready()
        with orchestrator.client(bea) as client, ThreadPoolExecutor() as beside:
            await_ready(client, "gcp")
            module = client.put_blob(tasklet("(loop br 0) unreachable"))
            asked = request_for(client, provider="gcp", module_sha256=module, deadline_s=2.0, fuel=10**12)
            run = client.start_run(asked)
            waiting = beside.submit(refused, client.run, run.run_id, wait_s=20)
            with orchestrator.client(operator) as hers:
                hers.remove_account(acme, "bea")
            assert waiting.result().code == "certificate_refused"
    finally:
        daemon.discard()


def test_who_is_put_out_while_she_still_sends_has_said_nothing(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    bea = joined(orchestrator, operator, acme)
    context = trust.client_context(orchestrator.ca_pem, bea.certificate, bea.key)
    head = f"PUT /api/v1/blobs/{sha256_of(MODULE)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bea.token}\r\n"
    connection = HTTPSConnection("127.0.0.1", orchestrator.port, context=context, timeout=60)
    with contextlib.closing(connection):
        connection.connect()
        sending = connection.sock
        sending.sendall(f"{head}content-length: {len(MODULE)}\r\nexpect: 100-continue\r\n\r\n".encode())
        assert b"100 Continue" in sending.recv(1000), "she was let in"
        with orchestrator.client(operator) as client:
            client.remove_account(acme, "bea")
        sending.sendall(MODULE)
        assert b"certificate_refused" in sending.recv(1000)


def test_a_key_that_was_put_out_registers_no_signing_key() -> None:
    """It speaks for nobody, and its signature would bind the tenant for good."""
    desk = Desk(ORCHESTRATOR)
    desk.tell(tenant_events.TenantAdmitted("acme", None, None, "key-of-acme"))
    invitation = desk.tell(tenant_events.PersonInvited("acme", "bea", 60.0, "op")).answer
    assert isinstance(invitation, rows.Invitation)
    desk.tell(tenant_events.SignInAsked(invitation.token_id, "key-of-bea"))
    desk.tell(tenant_events.PersonRemoved("acme", "bea"))
    asked = tenant_events.SigningKeyRegistered("acme", "key-of-bea", "a pem", Signed("signing-key", b"", b""))
    assert refused(desk.tell, asked).code == "certificate_refused"
    assert "key-of-bea" not in desk.state.people


def await_ready(client: OrchestratorClient, provider: str) -> None:
    until = time.monotonic() + 30
    while not client.provider(provider).ready:
        assert time.monotonic() < until, client.provider(provider)
        time.sleep(0.05)


def test_with_a_tenant_its_people_are_gone(orchestrator: Orchestrator, operator: Identity, acme: str) -> None:
    bea = joined(orchestrator, operator, acme)
    token = invited(orchestrator, operator, acme, "carl").token
    with orchestrator.client(operator) as client:
        gone = client.delete_tenant(acme)
        assert client.delete_tenant(acme) == gone, "the answer may have been lost"
        assert [view.name for view in client.accounts() if view.tenant == acme] == []
        assert refused(client.invite, InvitationAsked(acme, "dora")).code == "tenant_unknown"
    with orchestrator.client(bea) as client:
        assert refused(client.account).code == "tenant_unknown"
    csr_pem = orchestrator.request(f"{acme}-carl")
    assert turned_away(orchestrator.url, orchestrator.ca_pem, token, csr_pem) == "invitation_refused"


def test_a_run_costs_no_more_than_was_allowed_for_it_and_its_order_is_kept(
    orchestrator: Orchestrator, operator: Identity, acme: str
) -> None:
    daemon = orchestrator.joined(operator, f"azure-{acme}", "azure").begin()
    bea = joined(orchestrator, operator, acme)
    try:
        daemon.wait_ready()
        with orchestrator.client(bea) as client:
            await_ready(client, "azure")
            client.signer = verified(client, orchestrator, acme, bea)
            module = client.put_blob(tasklet())
            asked = request_for(client, provider="azure", module_sha256=module, max_micro_cents=0)
            error = refused(client.start_run, asked)
            assert (error.code, "at most" in error.what) == ("budget_exceeded", True)
            asked = request_for(client, provider="azure", module_sha256=module, max_micro_cents=10**8)
            run = client.start_run(asked)
            again = client.start_run(asked)
            assert (run.run_id, run.signed_by) == (again.run_id, f"{acme}/bea")
            assert client.run(run.run_id, wait_s=20).state == "finished"
            left = client.artifacts(run.run_id)
        assert left.order is not None
        order = open_signed(left.order, RunOrder, trust.public_key_from_pem(left.signing_key_pem))
        assert (order.run_key, order.module_sha256) == (asked.run_key, run.module_sha256)
    finally:
        daemon.discard()
