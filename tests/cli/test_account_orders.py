"""What a person asks for she signs, and nothing that nobody signed is run at her tenant's cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import HELLO, Person
from invited import refused, signed_in, with_acme
from own_orchestrator import OwnOrchestrator

from grafos_core import trust
from grafos_core.receipts import SigningKeyProof, open_signed
from grafos_scheduler.orchestrator_client import OrchestratorClient


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """The operator."""
    person = Person(tmp_path_factory.mktemp("ada"))
    person.write_program(HELLO, name="hello")
    return person


@pytest.fixture(scope="module")
def orchestrator(ada: Person) -> Iterator[OwnOrchestrator]:
    """Hers, with one cell and the tenant `acme`."""
    begun = with_acme(ada)
    yield begun
    begun.discard()


@pytest.fixture(scope="module")
def before(orchestrator: OwnOrchestrator, ada: Person) -> str:
    """A run at the cost of `acme` that nobody signed, before anybody could have."""
    return ran(ada, "--tenant", "acme")


@pytest.fixture(scope="module")
def bea(before: str, orchestrator: OwnOrchestrator, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """One of `acme`, who has registered a signing key."""
    person = signed_in(orchestrator, Person(tmp_path_factory.mktemp("bea")), "bea")
    person.write_program(HELLO, name="hello")
    verified = person("account", "verify")
    assert verified.code == 0, verified.err
    return person


@pytest.fixture(scope="module")
def carl(bea: Person, orchestrator: OwnOrchestrator, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Another one, who has none yet."""
    person = signed_in(orchestrator, Person(tmp_path_factory.mktemp("carl")), "carl")
    person.write_program(HELLO, name="hello")
    return person


def ran(person: Person, *more: str) -> str:
    answer = person("deploy", "run", "--provider", "gcp", *more, "--json")
    assert answer.code == 0, answer.err + answer.out
    return str(answer.document["run_id"])


def account(person: Person) -> Path:
    return person.fabric_home / "account" / "orchestrator"


def test_a_run_of_hers_bears_her_order_from_then_on(bea: Person) -> None:
    run_id = ran(bea)
    assert re.search(r"^ordered by +acme/bea$", bea("runs", "show", run_id).out, re.MULTILINE)
    [order] = [
        one for one in bea("artifacts", run_id, "--verify", "--json").document["verified"] if one["name"] == "order"
    ]
    assert order["how"].startswith("signed by you (key ")
    shown = bea("account", "show", "--json").document
    assert (shown["signs"], len(shown["signing_key"])) == (True, 32)


def test_a_key_is_made_once_and_registered_by_a_proof_that_is_kept(bea: Person, ada: Person) -> None:
    key = (account(bea) / "tenant-acme-signing-key.pem").read_bytes()
    first = bea("account", "show", "--json").document
    again = bea("account", "verify", "--json").document
    assert (again["signing_key"], again["verified_at"]) == (first["signing_key"], first["verified_at"])
    assert (account(bea) / "tenant-acme-signing-key.pem").read_bytes() == key
    client = of_operator(ada)
    with client:
        [hers] = [view for view in client.accounts() if view.name == "bea"]
    assert hers.proof is not None
    proof = open_signed(hers.proof, SigningKeyProof, trust.key_from_pem(key).public_key())
    assert (proof.tenant, proof.key_sha256) == ("acme", hers.key_sha256)


def of_operator(ada: Person) -> OrchestratorClient:
    home = ada.fabric_home / "orchestrator"
    record = json.loads((ada.fabric_home / "orchestrator.json").read_text())
    files = (home / "operator-cert.pem", home / "operator-key.pem")
    return OrchestratorClient(
        record["url"], (home / "ca.pem").read_text(), *files, (home / "operator-token").read_text().strip()
    )


def test_nobody_else_can_run_at_her_tenants_cost_unsigned(ada: Person, bea: Person, carl: Person) -> None:
    refused(carl("deploy", "run", "--provider", "gcp"), 4, "order_refused", "grafos account verify")
    refused(ada("deploy", "run", "--provider", "gcp", "--tenant", "acme"), 4, "order_refused")
    ran(ada)  # at the cost of the tenant of her own
    assert carl("account", "verify").code == 0
    run_id = ran(carl)
    checked = bea("artifacts", run_id, "--verify")
    assert checked.code == 0, checked.err
    assert "signed by acme/carl" in checked.out


def test_a_key_that_she_did_not_register_is_refused(bea: Person) -> None:
    file = account(bea) / "tenant-acme-signing-key.pem"
    good = file.read_bytes()
    try:
        file.write_bytes(trust.key_to_pem(trust.new_key()))
        refused(bea("deploy", "run", "--provider", "gcp"), 4, "order_refused", "acme/bea")
        refused(bea("account", "verify"), 4, "signing_key_refused", "another signing key")
        file.unlink()
        refused(bea("deploy", "run", "--provider", "gcp"), 4, "credentials_missing", "signing-key.pem")
        file.write_text("damaged")
        refused(bea("deploy", "run", "--provider", "gcp"), 4, "credentials_missing", "signing-key.pem")
    finally:
        file.write_bytes(good)
    ran(bea)


def test_a_run_without_an_order_is_told_to_be_nobodys(bea: Person, before: str) -> None:
    assert bea("artifacts", before, "--verify").code == 0  # from before she registered a key
    file = account(bea) / "tenant-acme-verified.json"
    good = file.read_text()
    try:
        file.write_text(json.dumps({**json.loads(good), "verified_at": 1.0}))
        refused(bea("artifacts", before, "--verify"), 4, "order_refused", "bears no order", "do not pay")
    finally:
        file.write_text(good)


def test_an_order_that_is_said_to_be_hers_and_is_not_is_told(bea: Person) -> None:
    run_id = ran(bea)
    file = account(bea) / "tenant-acme-verified.json"
    good = file.read_text()
    other = trust.public_key_to_pem(trust.new_key().public_key())
    try:
        file.write_text(json.dumps({**json.loads(good), "signing_key_pem": other}))
        refused(bea("artifacts", run_id, "--verify"), 4, "order_refused", "another key than the one")
    finally:
        file.write_text(good)


def test_an_operator_may_sign_for_a_tenant_of_her_own(ada: Person, orchestrator: OwnOrchestrator) -> None:
    assert ada("admin", "create-tenant", "--tenant", "signed").code == 0
    told = ada("account", "verify", "--tenant", "signed", "--json").document
    assert told["account"]["tenant"] == "signed"
    run_id = ran(ada, "--tenant", "signed")
    checked = ada("artifacts", run_id, "--verify")
    assert "signed by you" in checked.out, checked.err


def test_who_is_nowhere_signed_in_has_nothing_to_verify(tmp_path: Path) -> None:
    refused(Person(tmp_path)("account", "verify"), 4, "credentials_missing", "grafos account login")
