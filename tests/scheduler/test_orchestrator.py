"""An orchestrator takes cells of several providers in, each by a token that its operator minted."""

from __future__ import annotations

import hashlib
import itertools
import signal
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from orchestrator import HAS, NAME, Member, Orchestrator, key_of
from raw_link import RawLink
from standalone import Identity

from grafos_cell.conformance.wat import tasklet
from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import frames, messages
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.credentials import CELL_LIFE_S
from grafos_scheduler.protocol import STRANGERS_MAX
from grafos_scheduler.refusing import TRIES_AT_ONCE_MAX
from grafos_scheduler.routes import ROUTES

PATIENCE_S = 60.0
_numbers = itertools.count(1)


def refused(action: object, *args: object, **kwargs: object) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action(*args, **kwargs)  # type: ignore[operator]
    return caught.value


@pytest.fixture
def member(orchestrator: Orchestrator, operator: Identity) -> Member:
    """A cell of its own for each test, enrolled and registered."""
    joined = orchestrator.joined(operator, f"aws-{next(_numbers)}")
    joined.register()
    return joined


@pytest.fixture
def links() -> Iterator[list[RawLink]]:
    opened: list[RawLink] = []
    yield opened
    for link in opened:
        link.close()


def dial(links: list[RawLink], member: Member) -> RawLink:
    """A link that was welcomed."""
    links.append(member.link())
    assert isinstance(member.hello(links[-1]), frames.Welcome)
    return links[-1]


def anonymous(orchestrator: Orchestrator) -> HTTPSConnection:
    context = trust.client_context(orchestrator.ca_pem)
    return HTTPSConnection("127.0.0.1", orchestrator.port, context=context, timeout=60)


def status_of(connection: HTTPSConnection, path: str) -> int:
    connection.request("GET", path)
    return connection.getresponse().status


def until_ready(orchestrator: Orchestrator, operator: Identity, *providers: str) -> None:
    end = time.monotonic() + PATIENCE_S
    with orchestrator.client(operator) as client:
        while not all(client.provider(name).ready for name in providers):
            assert time.monotonic() < end, client.providers()
            time.sleep(0.05)


# --- enrolment ----------------------------------------------------------------------------------------------------


def test_a_machine_enrols_and_has_a_certificate_for_an_hour(orchestrator: Orchestrator, operator: Identity) -> None:
    cell_id = f"aws-{next(_numbers)}"
    token = orchestrator.bootstrap(operator, cell_id)
    granted = orchestrator.enrol(token, orchestrator.request(cell_id))
    peer = trust.check_issued_by(granted.certificate_pem, orchestrator.ca_pem, at=time.time())
    assert (peer.kind, peer.name, peer.provider, peer.fabric) == ("cell", cell_id, "aws", orchestrator.fabric.id)
    assert 0 < peer.not_after - time.time() <= CELL_LIFE_S
    assert granted.valid_until == pytest.approx(peer.not_after, abs=2)
    log = orchestrator.scheduler.log.read_text()
    assert f"INFO grafos.security: operator ada at 127.0.0.1 let cell {cell_id} of aws enrol" in log
    assert f"WARNING grafos.security: cell {cell_id} of aws enrolled from 127.0.0.1 with key" in log


def test_a_replayed_token_is_refused_and_logged_with_who_and_from_where(
    orchestrator: Orchestrator, operator: Identity
) -> None:
    cell_id = f"aws-{next(_numbers)}"
    token, csr_pem = orchestrator.bootstrap(operator, cell_id), orchestrator.request(cell_id)
    first, again = orchestrator.enrol(token, csr_pem), orchestrator.enrol(token, csr_pem)
    assert first.cell_id == again.cell_id
    thief = trust.make_csr(trust.new_key(), cell_id)
    assert refused(orchestrator.enrol, token, thief).code == "enrolment_refused"
    log = orchestrator.scheduler.log.read_text()
    assert "WARNING grafos.security: enrolment refused, from 127.0.0.1 with the token " in log
    assert f"of cell {cell_id} of aws: the bootstrap token of cell {cell_id} was used already" in log


def test_a_request_for_another_cell_does_not_fit_the_token(orchestrator: Orchestrator, operator: Identity) -> None:
    token = orchestrator.bootstrap(operator, f"aws-{next(_numbers)}")
    assert refused(orchestrator.enrol, token, orchestrator.request("another")).code == "enrolment_refused"


def test_an_address_that_fails_too_often_waits_and_one_that_succeeds_never_does(tmp_path: Path) -> None:
    other = Orchestrator(tmp_path)
    try:
        other.start()
        operator = other.claimed()
        for number in range(2 * TRIES_AT_ONCE_MAX):
            other.joined(operator, f"aws-{number}")
        token, csr_pem = other.bootstrap(operator, "aws-x"), other.request("aws-x")
        errors = [refused(other.enrol, f"{token}x", csr_pem) for _ in range(TRIES_AT_ONCE_MAX + 1)]
        assert [error.retryable for error in errors] == [False] * TRIES_AT_ONCE_MAX + [True]
        assert refused(other.enrol, token, csr_pem).retryable
    finally:
        other.discard()


def test_what_was_enrolled_is_durable_before_it_is_answered(tmp_path: Path) -> None:
    """Killed right after the answer, the orchestrator still knows whose the cell is and that the token is used."""
    other = Orchestrator(tmp_path)
    try:
        other.start()
        operator = other.claimed()
        token = other.bootstrap(operator, "aws-1")
        csr_pem = other.request("aws-1")
        granted = other.enrol(token, csr_pem)
        other.scheduler.end(signal.SIGKILL)
        other.start()
        member = Member(other, "aws-1", "aws", other.identity("aws-1", granted.certificate_pem, granted.api_token))
        assert other.enrol(token, csr_pem).cell_id == "aws-1"
        assert refused(other.enrol, token, trust.make_csr(trust.new_key(), "aws-1")).code == "enrolment_refused"
        member.register()
    finally:
        other.discard()


# --- who gets in --------------------------------------------------------------------------------------------------


def test_without_a_certificate_every_other_route_says_so_and_the_handshake_holds(orchestrator: Orchestrator) -> None:
    for route in ROUTES:
        if route.gate is None:
            continue
        connection = anonymous(orchestrator)
        connection.request(route.method, route.path.replace("{", "").replace("}", ""))
        answer = connection.getresponse()
        assert (answer.status, answer.headers["grafos-code"]) == (401, "certificate_refused"), route.path
        connection.close()


def test_a_certificate_of_another_ca_does_not_get_through_the_handshake(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    ca_key, key = trust.new_key(), trust.new_key()
    ca_pem = trust.make_ca(ca_key, f"grafos orchestrator {NAME}", time.time())
    uri = trust.spiffe_id(orchestrator.fabric.id, "operator", "ada")
    pem = trust.sign_csr(ca_pem, ca_key, trust.make_csr(key, "ada"), uri, time.time(), 3600)
    stranger = Identity(tmp_path / "leaf.pem", tmp_path / "key.pem", "")
    stranger.certificate.write_text(pem)
    stranger.key.write_bytes(trust.key_to_pem(key))
    with orchestrator.client(stranger) as client:
        assert refused(client.health).code == "certificate_refused"


def test_a_link_without_a_certificate_is_closed_at_once(orchestrator: Orchestrator, member: Member) -> None:
    import socket

    context = trust.client_context(orchestrator.ca_pem)
    context.set_alpn_protocols([frames.LINK_ALPN])
    plain = socket.create_connection(("127.0.0.1", orchestrator.port), timeout=60)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as link:
        try:
            assert link.recv(1) == b""
        except ConnectionError:
            pass


def test_an_orchestrator_is_claimed_once_though_anybody_may_connect(
    orchestrator: Orchestrator, operator: Identity
) -> None:
    assert not orchestrator.secret_file.exists()
    assert refused(orchestrator.claim, orchestrator.request("thief")).code == "claim_refused"


def test_whoever_has_no_certificate_cannot_keep_those_out_who_have_one(
    orchestrator: Orchestrator, operator: Identity
) -> None:
    import socket

    context = trust.client_context(orchestrator.ca_pem)
    opened = []
    try:
        for _ in range(STRANGERS_MAX + 8):
            plain = socket.create_connection(("127.0.0.1", orchestrator.port), timeout=60)
            opened.append(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        with orchestrator.client(operator) as client:
            assert client.health().claimed
        turned_away = anonymous(orchestrator)
        with pytest.raises(OSError):
            status_of(turned_away, "/health")
        turned_away.close()
    finally:
        for each in opened:
            each.close()


# --- the cell's life ----------------------------------------------------------------------------------------------


def test_a_cell_renews_with_its_own_key_and_no_other(member: Member) -> None:
    with member.at.client(member.identity) as client:
        renewed = client.renew(trust.make_csr(key_of(member.identity), member.cell_id))
        error = refused(client.renew, trust.make_csr(trust.new_key(), member.cell_id))
    assert error.code == "certificate_refused"
    before = trust.peer_of(trust.certificate_der(member.identity.certificate.read_text()))
    after = trust.check_issued_by(renewed.certificate_pem, member.at.ca_pem, at=time.time())
    assert (after.name, after.provider, after.key_sha256) == (before.name, before.provider, before.key_sha256)
    assert after.not_after >= before.not_after
    fresh = member.at.identity(member.cell_id, renewed.certificate_pem, renewed.api_token)
    with member.at.client(fresh) as client:
        client.renew(trust.make_csr(key_of(fresh), member.cell_id))


def test_an_operator_and_a_tenant_renew_with_their_own_key_and_no_other(
    orchestrator: Orchestrator, operator: Identity
) -> None:
    for who, name in ((operator, "ada"), (orchestrator.employ(operator, "renewing"), "renewing")):
        with orchestrator.client(who) as client:
            assert refused(client.renew_account, trust.make_csr(trust.new_key(), name)).code == "certificate_refused"
            renewed = client.renew_account(trust.make_csr(key_of(who), "whatever it asks for"))
        before = trust.peer_of(trust.certificate_der(who.certificate.read_text()))
        after = trust.check_issued_by(renewed.certificate_pem, orchestrator.ca_pem, at=time.time())
        assert (after.kind, after.name, after.key_sha256) == (before.kind, name, before.key_sha256)
        fresh = orchestrator.identity(f"{name}-fresh", renewed.certificate_pem, renewed.api_token)
        with orchestrator.client(Identity(fresh.certificate, who.key, fresh.token)) as client:
            client.cells()


def test_a_cell_says_only_of_itself_what_its_certificate_says(member: Member) -> None:
    with member.at.client(member.identity) as client:
        for said in (("another", "aws"), (member.cell_id, "gcp")):
            registration = messages.CellRegistration(*said, "", "test", HAS)
            assert refused(client.register_cell, registration).code == "certificate_refused"


def test_a_cell_that_speaks_no_protocol_of_ours_is_told_so(member: Member, links: list[RawLink]) -> None:
    newest = messages.PROTOCOL_MAX
    for low, high in ((newest + 1, newest + 5), (0, 0)):
        error = refused(member.register, protocol_min=low, protocol_max=high)
        assert error.code == "version_unsupported"
        links.append(member.link())
        goodbye = member.hello(links[-1], protocol_min=low, protocol_max=high)
        assert isinstance(goodbye, frames.Goodbye)
        assert goodbye.code == "version_unsupported"


def test_a_cell_of_an_older_protocol_joins_as_well(member: Member, links: list[RawLink]) -> None:
    assert member.register(protocol_min=1, protocol_max=1).protocol == 1
    links.append(member.link())
    welcome = member.hello(links[-1], protocol_min=1, protocol_max=1)
    assert isinstance(welcome, frames.Welcome)
    assert welcome.protocol == 1


def test_a_link_ends_with_its_certificate_though_nobody_says_a_word(tmp_path: Path, links: list[RawLink]) -> None:
    # Silence alone would end the link only long after the certificate has run out.
    other = Orchestrator(tmp_path, **{"heartbeat-every-s": 60})
    try:
        other.start()
        member = other.joined(other.claimed(), "aws-1")
        member.register()
        old = dial(links, member.short_lived(3.0))
        assert old.hear_goodbye() == "certificate_refused"
        assert refused(member.short_lived(-1.0).register).code == "certificate_refused"
        dial(links, member)
    finally:
        other.discard()


def test_a_revocation_reaches_a_held_link_and_every_later_call(
    orchestrator: Orchestrator, operator: Identity, member: Member, links: list[RawLink]
) -> None:
    link = dial(links, member)
    with orchestrator.client(member.identity) as cell, orchestrator.client(operator) as client:
        cell.renew(trust.make_csr(key_of(member.identity), member.cell_id))
        view = client.revoke_cell(member.cell_id, why="its disk was stolen", grace_s=0.0)
        assert link.hear_goodbye() == "cell_revoked"
        assert (view.revoked_at > 0, view.why) == (True, "its disk was stolen")
        assert refused(cell.renew, trust.make_csr(key_of(member.identity), member.cell_id)).code == "cell_revoked"
        assert client.revoke_cell(member.cell_id, why="again") == view
    assert refused(member.register).code == "cell_revoked"
    links.append(member.link())
    goodbye = member.hello(links[-1])
    assert isinstance(goodbye, frames.Goodbye)
    assert goodbye.code == "cell_revoked"
    log = orchestrator.scheduler.log.read_text()
    assert f"operator ada at 127.0.0.1 revokes cell '{member.cell_id}': 'its disk was stolen'" in log


def test_the_operator_sets_what_an_enrolled_cell_costs(
    orchestrator: Orchestrator, operator: Identity, member: Member
) -> None:
    with orchestrator.client(operator) as client:
        end = time.time() + 3600
        client.set_cell_terms(member.cell_id, messages.Terms(7, end))
        [view] = [cell for cell in client.cells() if cell.cell_id == member.cell_id]
        assert (view.rate_micro_cents_per_hour, view.expires_at) == (7, end)
        assert refused(client.set_cell_terms, "nobody", messages.Terms(7)).code == "cell_unknown"


def test_a_provider_that_nobody_knows_is_not_found(orchestrator: Orchestrator, operator: Identity) -> None:
    with orchestrator.client(operator) as client:
        assert [view.provider for view in client.providers()] == ["aws", "azure", "gcp"]
        assert refused(client.provider, "moon").code == "not_found"


# --- tenants, money, runs -----------------------------------------------------------------------------------------


def run_on(client: SchedulerClient, provider: str, module: str, data: str, **other: object) -> messages.RunView:
    """A run that has ended."""
    key = f"a-key-of-run-{next(_numbers):08d}"
    run = client.start_run(messages.RunRequest(key, provider, "prog", "main", module, data, **other))
    end = time.monotonic() + PATIENCE_S
    while not run.ended_at:
        assert time.monotonic() < end, run
        run = client.run(run.run_id, wait_s=5.0)
    return run


def test_one_tenant_runs_on_cells_of_several_providers_out_of_one_budget(
    orchestrator: Orchestrator, operator: Identity
) -> None:
    daemons = [orchestrator.joined(operator, f"{name}-run", name).begin() for name in ("aws", "gcp")]
    try:
        for daemon in daemons:
            daemon.wait_ready()
        until_ready(orchestrator, operator, "aws", "gcp")
        tenant = orchestrator.employ(operator, "acme")
        with orchestrator.client(tenant) as client:
            module, data = client.put_blob(tasklet()), client.put_blob(b"")
            ended = [run_on(client, name, module, data) for name in ("aws", "gcp", "aws")]
            artifacts = client.artifacts(ended[0].run_id)
        assert [(run.state, run.provider) for run in ended] == [
            ("finished", "aws"),
            ("finished", "gcp"),
            ("finished", "aws"),
        ]
        assert artifacts.chain_pem.endswith(orchestrator.ca_pem)
        with orchestrator.client(operator) as client:
            [view] = [each for each in client.tenants() if each.name == "acme"]
        assert view.budget_micro_cents == 2_000 * 1_000_000
        assert view.spent_micro_cents == sum(run.cost.micro_cents for run in ended) > 0
        assert view.held_micro_cents == 0
    finally:
        for daemon in daemons:
            daemon.discard()


def test_a_tenant_without_budget_or_quota_is_refused_and_gets_on_once_it_has_some(
    orchestrator: Orchestrator, operator: Identity, member: Member, links: list[RawLink]
) -> None:
    dial(links, member)
    poor = orchestrator.employ(operator, "poor", budget_cents=0)
    with orchestrator.client(poor) as client, orchestrator.client(operator) as boss:
        module = client.put_blob(tasklet())

        def foreseen() -> str:
            return client.foresee(messages.RunRequest("x" * 16, "aws", "prog", "main", module, "")).code

        assert foreseen() == "budget_exceeded"
        assert boss.set_budget("poor", 500).budget_micro_cents == 500 * 1_000_000
        assert foreseen() == ""
        assert boss.set_quota("poor", Resources()).quota == Resources()
        assert foreseen() == "quota_exceeded"
        for change in (lambda: boss.set_budget("nobody", 5), lambda: boss.set_quota("nobody", Resources())):
            assert refused(change).code == "tenant_unknown"


def test_a_tenant_goes_only_when_nothing_of_it_runs_and_never_comes_back(
    orchestrator: Orchestrator, operator: Identity, member: Member, links: list[RawLink]
) -> None:
    link = dial(links, member)
    with orchestrator.client(operator) as boss:
        boss.drain(cell_id="aws-run")  # so that the run below comes to this test's own cell
        for other in boss.cells():
            if other.cell_id != member.cell_id:
                boss.drain(cell_id=other.cell_id)
    leaving = orchestrator.employ(operator, "leaving")
    with orchestrator.client(leaving) as client, orchestrator.client(operator) as boss:
        module = client.put_blob(tasklet())
        run = client.start_run(messages.RunRequest("a-key-of-leaving", "aws", "prog", "main", module, ""))
        grant = link.hear_one(frames.GrantLease)
        error = refused(boss.delete_tenant, "leaving")
        assert (error.code, error.http_status, error.context["runs"]) == ("tenant_in_use", 409, 1)
        client.cancel_run(run.run_id)
        link.hear_one(frames.TearDownLease)
        assert refused(boss.delete_tenant, "leaving").code == "tenant_in_use"
        link.say(frames.LeaseTornDown(grant.lease_id, grant.generation))
        end = time.monotonic() + PATIENCE_S
        while boss.leases(run.run_id):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert boss.delete_tenant("leaving").name == "leaving"
        assert "leaving" not in [view.name for view in boss.tenants()]
        assert refused(client.cells).code == "tenant_unknown"
        assert boss.delete_tenant("leaving").name == "leaving", "the answer may have been lost"
        assert refused(orchestrator.employ, operator, "leaving").code == "tenant_in_use"


def test_a_second_key_speaks_for_a_tenant_beside_the_first(orchestrator: Orchestrator, operator: Identity) -> None:
    one = orchestrator.employ(operator, "twice", budget_cents=300)
    first = Identity(one.certificate.with_suffix(".old"), one.key.with_suffix(".old"), one.token)
    first.certificate.write_bytes(one.certificate.read_bytes())
    first.key.write_bytes(one.key.read_bytes())
    second = orchestrator.employ(operator, "twice")
    for identity in (first, second):
        with orchestrator.client(identity) as client:
            client.cells()
    with orchestrator.client(operator) as client:
        [view] = [each for each in client.tenants() if each.name == "twice"]
    assert view.budget_micro_cents == 300 * 1_000_000


# --- bundles ------------------------------------------------------------------------------------------------------


def test_anybody_fetches_the_bundle_that_the_operator_put(orchestrator: Orchestrator, operator: Identity) -> None:
    data = bytes(range(256)) * 8192
    with orchestrator.client(operator) as client:
        sha256 = client.put_bundle(data)
        assert client.put_bundle(data) == sha256
    connection = anonymous(orchestrator)
    connection.request("GET", f"/api/v1/bundles/{sha256}")
    answer = connection.getresponse()
    assert (answer.status, int(answer.headers["content-length"])) == (200, len(data))
    assert answer.read() == data
    # The connection is good for more, and what is not there is told.
    connection.request("GET", f"/api/v1/bundles/{'0' * 64}")
    missing = connection.getresponse()
    assert (missing.status, missing.headers["grafos-code"]) == (404, "not_found")
    connection.close()


def test_only_the_operator_puts_a_bundle_and_only_under_its_own_hash(
    orchestrator: Orchestrator, operator: Identity, member: Member
) -> None:
    sha256 = hashlib.sha256(b"what the cell says it is").hexdigest()
    for who, code in ((member.identity, "rights_missing"), (operator, "blob_mismatch")):
        context = trust.client_context(orchestrator.ca_pem, who.certificate, who.key)
        connection = HTTPSConnection("127.0.0.1", orchestrator.port, context=context, timeout=60)
        headers = {"authorization": f"Bearer {who.token}"}
        connection.request("PUT", f"/api/v1/bundles/{sha256}", b"something else", headers)
        assert connection.getresponse().headers["grafos-code"] == code
        connection.close()


# --- the mode -----------------------------------------------------------------------------------------------------


def test_a_daemon_with_what_was_granted_is_a_ready_cell(orchestrator: Orchestrator, operator: Identity) -> None:
    daemon = orchestrator.joined(operator, "azure-1", "azure").begin()
    try:
        daemon.wait_ready()
        until_ready(orchestrator, operator, "azure")
        with orchestrator.client(operator) as client:
            [cell] = [each for each in client.cells() if each.cell_id == "azure-1"]
            health = client.health()
        assert (cell.provider, cell.region, cell.ready) == ("azure", "azure-here", True)
        assert (health.name, health.mode, health.claimed) == (NAME, "orchestrator", True)
        assert daemon.end() == 0
    finally:
        daemon.discard()


def test_what_is_a_standalone_cells_is_unsupported_here(orchestrator: Orchestrator, operator: Identity) -> None:
    tenant = messages.TenantRequest("acme", orchestrator.request("x"), orchestrator.fabric.slice("acme"))
    with orchestrator.client(operator) as client:
        assert refused(client.register_tenant, tenant).code == "unsupported"
        assert refused(client.settle).code == "unsupported"
