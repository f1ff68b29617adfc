"""The tenants of an orchestrator by the command line; and certificates that are made by hand."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Person
from own_orchestrator import OwnOrchestrator

from grafos_core import trust

CENT = 1_000_000


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody who has claimed an orchestrator, where no cell has joined."""
    person = Person(tmp_path_factory.mktemp("ada"))
    orchestrator = OwnOrchestrator(person)
    claimed = person("fabric", "claim", orchestrator.url)
    assert claimed.code == 0, claimed.err
    yield person
    orchestrator.discard()


def tenant(person: Person, name: str) -> dict[str, object]:
    found = person("admin", "list-tenants", "--json").document["tenants"]
    return next((one for one in found if one["name"] == name), {})


def test_the_claim_makes_a_tenant_with_twenty_dollars(ada: Person) -> None:
    told = tenant(ada, "default")
    assert (told["budget_micro_cents"], told["scheduler"]) == (2_000 * CENT, "orchestrator")
    assert "$20.00" in ada("admin", "list-tenants").out


def test_a_budget_is_what_was_set_and_a_further_claim_leaves_it(ada: Person) -> None:
    answer = ada("admin", "set-tenant-budget", "--tenant", "default", "--cents", "5000", "--json")
    assert answer.document["tenant"]["budget_micro_cents"] == 5_000 * CENT
    record = ada("fabric", "show", "--json").document["orchestrator"]
    assert ada("fabric", "claim", record["url"]).code == 0
    assert tenant(ada, "default")["budget_micro_cents"] == 5_000 * CENT


def test_a_tenant_gets_credentials_of_its_own_and_the_same_again(ada: Person) -> None:
    made = ada("admin", "create-tenant", "--tenant", "acme", "--cents", "300", "--json").document
    assert made["tenant"]["budget_micro_cents"] == 300 * CENT
    files = [Path(file) for file in made["files"].values()]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
    key = Path(made["files"]["key"]).read_bytes()
    again = ada("admin", "create-tenant", "--tenant", "acme", "--json").document
    assert again["tenant"]["budget_micro_cents"] == 300 * CENT
    assert Path(again["files"]["key"]).read_bytes() == key


def test_a_quota_changes_in_what_is_named_and_stays_in_the_rest(ada: Person) -> None:
    ada("admin", "create-tenant", "--tenant", "quoted")
    before = tenant(ada, "quoted")["quota"]
    answer = ada("admin", "set-quota", "--tenant", "quoted", "--cpu-cores", "3", "--mem", "1m", "--json")
    assert answer.document["tenant"]["quota"] == {**before, "cpu_cores": 3, "mem_bytes": 1024 * 1024}


def test_an_operator_sets_of_which_tier_a_tenants_runs_are_and_whether_they_are_signed(ada: Person) -> None:
    ada("admin", "create-tenant", "--tenant", "ruled")
    assert (tenant(ada, "ruled")["highest_tier"], tenant(ada, "ruled")["signed"]) == ("guaranteed", False)
    answer = ada("admin", "set-tenant-rules", "--tenant", "ruled", "--highest-tier", "standard")
    assert "of the tier standard at most" in answer.out
    ada("admin", "set-tenant-rules", "--tenant", "ruled", "--signed")
    assert (tenant(ada, "ruled")["highest_tier"], tenant(ada, "ruled")["signed"]) == ("standard", True)
    lifted = ada("admin", "set-tenant-rules", "--tenant", "ruled", "--unsigned", "--json").document["tenant"]
    assert (lifted["highest_tier"], lifted["signed"]) == ("standard", False)


def test_a_tenant_is_ended_and_only_that_one(ada: Person) -> None:
    ada("admin", "create-tenant", "--tenant", "a")
    beside = ada("admin", "create-tenant", "--tenant", "a-b", "--json").document["files"]
    unasked = ada("admin", "delete-tenant", "--tenant", "a")
    assert (unasked.code, unasked.error_code) == (3, "confirmation_needed")
    assert ada("admin", "delete-tenant", "--tenant", "a", "--end-all", "--yes").code == 0
    assert tenant(ada, "a") == {}
    assert tenant(ada, "a-b")
    assert all(Path(file).exists() for file in beside.values())
    again = ada("admin", "create-tenant", "--tenant", "a")
    assert (again.code, again.error_code) == (8, "tenant_in_use")


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (("set-quota", "--tenant", "nobody", "--cpu-cores", "1"), 4, "tenant_unknown"),
        (("set-tenant-budget", "--tenant", "nobody", "--cents", "1"), 4, "tenant_unknown"),
        (("delete-tenant", "--tenant", "nobody", "--yes"), 4, "tenant_unknown"),
        (("set-quota", "--tenant", "default"), 2, "usage"),
        (("set-tenant-budget", "--tenant", "default", "--cents", "-1"), 2, "usage"),
        (("set-tenant-rules", "--tenant", "nobody", "--signed"), 4, "tenant_unknown"),
        (("set-tenant-rules", "--tenant", "default"), 2, "usage"),
        (("set-tenant-rules", "--tenant", "default", "--highest-tier", "best"), 2, "usage"),
        (("create-tenant", "--tenant", "Not A Name"), 2, "name_invalid"),
    ],
)
def test_what_cannot_be_is_told_in_one_error(ada: Person, words: tuple[str, ...], code: int, kind: str) -> None:
    answer = ada("admin", *words)
    assert (answer.code, answer.error_code) == (code, kind)


# --- credentials --------------------------------------------------------------------------------------------------


def give_certificate(person: Person, began_s: float, life_s: float) -> Path:
    """The operator's certificate as if it had been issued so long ago."""
    folder, home = person.project / "orchestrator" / "trust", person.fabric_home / "orchestrator"
    ca_key = trust.key_from_pem((folder / "ca-key.pem").read_bytes())
    uri = trust.spiffe_id(person("fabric", "show", "--json").document["fabric"]["id"], "operator", "operator")
    request = (home / "operator-csr.pem").read_text()
    pem = trust.sign_csr((folder / "ca.pem").read_text(), ca_key, request, uri, time.time() - began_s, life_s)
    (home / "operator-cert.pem").write_text(pem)
    return home / "operator-cert.pem"


def test_credentials_are_renewed_by_use_in_the_second_half_of_their_life(ada: Person) -> None:
    file = give_certificate(ada, began_s=100.0, life_s=1000.0)
    young = file.read_text()
    assert ada("admin", "list-tenants").code == 0
    assert file.read_text() == young
    give_certificate(ada, began_s=600.0, life_s=1000.0)
    assert tenant(ada, "default")
    peer = trust.peer_of(trust.certificate_der(file.read_text()))
    assert peer.not_after - time.time() > 80 * 86400
    assert tenant(ada, "default")


def test_credentials_that_ran_out_are_told_with_the_way_on_and_the_fabrics_key_renews_them(ada: Person) -> None:
    url = json.loads((ada.fabric_home / "orchestrator.json").read_text())["url"]
    give_certificate(ada, began_s=1000.0, life_s=900.0)
    answer = ada("admin", "set-tenant-budget", "--tenant", "default", "--cents", "1")
    assert (answer.code, answer.error_code) == (4, "certificate_expired")
    assert "grafos fabric claim URL" in answer.err
    again = ada("fabric", "claim", url)
    assert again.code == 0, again.err
    assert tenant(ada, "default")


def test_a_damaged_record_is_an_error_to_who_asks_and_to_who_lists_what_only_it_could_have(ada: Person) -> None:
    good = (file := ada.fabric_home / "orchestrator.json").read_bytes()
    file.write_text("{")
    try:
        listed = ada("runs", "ls")
        assert (listed.code, listed.error_code) == (1, "fabric_invalid")
        assert "orchestrator.json" in listed.err
        answer = ada("admin", "create-tenant", "--tenant", "late")
        assert (answer.code, answer.error_code) == (1, "fabric_invalid")
    finally:
        file.write_bytes(good)


# --- certificates -------------------------------------------------------------------------------------------------


def test_a_ca_and_what_it_issues_hold_together_as_long_as_was_said(ada: Person, tmp_path: Path) -> None:
    ca, server, acme = tmp_path / "ca", tmp_path / "server", tmp_path / "acme"
    assert ada("admin", "init-ca", "--out", str(ca), "--days", "30").code == 0
    told = ada("admin", "issue-server-cert", "--ca", str(ca), "--address", "203.0.113.7", "--out", str(server))
    assert told.code == 0, told.err
    assert ada("admin", "issue-cert", "--ca", str(ca), "--tenant", "acme", "--out", str(acme), "--days", "7").code == 0
    ca_pem, now = (ca / "ca.pem").read_text(), time.time()
    pem = (server / "server.pem").read_text()
    assert trust.check_issued_by(pem, ca_pem, at=now).kind == "scheduler"
    assert trust.addresses_of(pem) == {"203.0.113.7"}
    peer = trust.check_issued_by((acme / "tenant-acme-cert.pem").read_text(), ca_pem, at=now)
    assert (peer.kind, peer.name) == ("tenant", "acme")
    assert 6.9 < (peer.not_after - now) / 86400 < 7.1
    assert {file.stat().st_mode & 0o777 for file in (*ca.iterdir(), *acme.iterdir())} == {0o600}
    ssl.create_default_context().load_cert_chain(server / "server.pem", server / "server-key.pem")


def test_nothing_is_replaced_and_no_ca_is_imagined(ada: Person, tmp_path: Path) -> None:
    ada("admin", "init-ca", "--out", str(tmp_path))
    before = (tmp_path / "ca-key.pem").read_bytes()
    again = ada("admin", "init-ca", "--out", str(tmp_path))
    assert (again.code, again.error_code) == (8, "folder_taken")
    assert (tmp_path / "ca-key.pem").read_bytes() == before
    none = ada("admin", "issue-cert", "--ca", str(tmp_path / "none"), "--tenant", "acme", "--out", str(tmp_path))
    assert (none.code, none.error_code) == (2, "config_invalid")
    wrong = ada("admin", "issue-server-cert", "--ca", str(tmp_path), "--address", "here", "--out", str(tmp_path))
    assert (wrong.code, wrong.error_code) == (2, "usage")


def test_an_orchestrator_takes_the_ca_that_it_finds(tmp_path: Path) -> None:
    person = Person(tmp_path)
    trust_folder = person.project / "orchestrator" / "trust"
    assert person("admin", "init-ca", "--out", str(trust_folder), "--days", "400").code == 0
    ca_pem = (trust_folder / "ca.pem").read_text()
    orchestrator = OwnOrchestrator(person)
    try:
        assert person("fabric", "claim", orchestrator.url).code == 0
        assert (person.fabric_home / "orchestrator" / "ca.pem").read_text() == ca_pem
    finally:
        orchestrator.discard()
