"""A second person on another laptop works with the fabric's orchestrator without being its operator."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import HELLO, Answer, Person
from invited import invited, refused, signed_in, with_acme
from own_orchestrator import OwnOrchestrator

from grafos_core import invitations, trust


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """The operator."""
    return Person(tmp_path_factory.mktemp("ada"))


@pytest.fixture(scope="module")
def orchestrator(ada: Person) -> Iterator[OwnOrchestrator]:
    """Hers, with one cell and the tenant `acme`."""
    begun = with_acme(ada)
    yield begun
    begun.discard()


@pytest.fixture(scope="module")
def bea(orchestrator: OwnOrchestrator, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody else, signed in on a laptop of her own."""
    person = signed_in(orchestrator, Person(tmp_path_factory.mktemp("bea")), "bea")
    person.write_program(HELLO, name="hello")
    return person


# --- signed in ----------------------------------------------------------------------------------------------------


def test_she_is_told_who_she_is_what_she_may_and_what_is_left(orchestrator: OwnOrchestrator, bea: Person) -> None:
    shown = bea("account", "show", "--json").document
    assert shown["account"] == {**shown["account"], "tenant": "acme", "name": "bea"}
    assert shown["account"]["fabric"] == orchestrator.init["fabric"]["id"]
    assert (shown["orchestrator"]["url"], shown["invited_by"]) == (orchestrator.url, "operator")
    assert "runs:write" in shown["rights"]
    assert shown["tenant"]["budget_micro_cents"] == 2_000 * 10**6
    assert shown["ends_at"].startswith("20")
    text = bea("account", "show").out
    assert "acme/bea" in text
    assert "renewed by use" in text


def test_her_home_has_no_fabric_key_and_only_files_that_she_alone_can_read(bea: Person) -> None:
    bea("runs", "ls")
    assert not (bea.fabric_home / "fabric-key.pem").exists()
    files = [file for file in (bea.fabric_home / "account").rglob("*") if file.is_file()]
    assert {"account.json", "orchestrator.json", "ca.pem", "tenant-acme-key.pem"} <= {file.name for file in files}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_she_runs_lists_shows_and_verifies_there(orchestrator: OwnOrchestrator, bea: Person) -> None:
    for provider in ("gcp", "any"):
        ran = bea("deploy", "run", "--provider", provider, "--json")
        assert ran.code == 0, ran.err
        assert (ran.document["cell_id"], ran.document["run"]["tenant"]) == ("gcp-1", "acme")
    run_id = ran.document["run_id"]
    assert bea.only_run()["run_id"] == run_id
    assert bea("runs", "show", run_id).code == 0
    checked = bea("artifacts", run_id, "--verify", "--json")
    assert checked.code == 0, checked.err
    assert {"signature", "module"} <= {one["name"] for one in checked.document["verified"]}
    assert bea("deploy", "plan", "--provider", "gcp").code == 0


def test_she_sees_cells_and_providers_and_what_her_runs_say(bea: Person) -> None:
    assert [cell["cell_id"] for cell in bea("fabric", "cells", "--json").document["cells"]] == ["gcp-1"]
    assert bea("provider", "status", "gcp").code == 0
    bea("deploy", "run", "--provider", "gcp")
    run_id = bea.only_run()["run_id"]
    for words in (("runs", "logs", run_id), ("runs", "cancel", run_id), ("events",), ("doctor",), ("about",)):
        answer = bea(*words)
        assert (answer.code, "note:" in answer.err) == (0, False), (words, answer.err)
    assert "acme/bea" in bea("doctor").out


def test_a_fabric_of_her_own_stays_beside_the_account(orchestrator: OwnOrchestrator, tmp_path: Path) -> None:
    eve = signed_in(orchestrator, Person(tmp_path), "eve")
    eve.write_program(HELLO, name="hello")
    assert eve("dev", "up").code == 0
    try:
        assert (eve.fabric_home / "fabric-key.pem").exists()
        for provider, cell in (("local", "local-"), ("gcp", "gcp-1")):
            ran = eve("deploy", "run", "--provider", provider, "--json")
            assert ran.code == 0, ran.err
            assert ran.document["cell_id"].startswith(cell)
            assert eve("artifacts", ran.document["run_id"], "--verify").code == 0
    finally:
        eve("dev", "down")


@pytest.mark.parametrize(
    "words",
    [
        ("admin", "create-tenant", "--tenant", "mine"),
        ("admin", "invite", "--tenant", "acme", "--name", "carl"),
        ("admin", "list-accounts"),
        ("admin", "set-tenant-budget", "--tenant", "acme", "--cents", "1"),
        ("cloud", "bootstrap-cell", "--provider", "gcp", "--cell-id", "gcp-2"),
        ("cloud", "budget", "show"),
        ("fabric", "show"),
        ("fabric", "console"),
        ("fabric", "key", "export", "key.pem", "--yes"),
        ("provider", "revoke-cell", "gcp", "gcp-1", "--yes"),
        ("deploy", "run", "--provider", "gcp", "--tenant", "default"),
    ],
    ids=" ".join,
)
def test_what_the_operator_does_is_refused_with_the_next_step(bea: Person, words: tuple[str, ...]) -> None:
    refused(bea(*words), 5, "rights_missing", "acme/bea", "grafos dev up")
    assert not (bea.fabric_home / "fabric-key.pem").exists()


def test_the_operator_sees_her_and_puts_her_out_at_once(
    orchestrator: OwnOrchestrator, ada: Person, tmp_path: Path
) -> None:
    carl = signed_in(orchestrator, Person(tmp_path), "carl")
    invited(orchestrator, "dora")
    listed = ada("admin", "list-accounts", "--json").document["accounts"]
    found = {one["name"]: one for one in listed if one["tenant"] == "acme"}
    assert [bool(found[name]["since"]) for name in ("carl", "dora")] == [True, False]
    refused(ada("admin", "invite", "--tenant", "acme", "--name", "carl"), 8, "account_exists", "revoke-account")
    refused(ada("admin", "revoke-account", "--tenant", "acme", "--name", "carl"), 3, "confirmation_needed", "--yes")
    assert ada("admin", "revoke-account", "--tenant", "acme", "--name", "carl", "--yes").code == 0
    refused(carl("account", "show"), 4, "certificate_refused", "invitation")
    out = carl("account", "logout")
    assert (out.code, "worth nothing there before" in out.out) == (0, True)
    assert not (carl.fabric_home / "account").exists()
    for name in ("dora", "dora", "carl"):
        again = ada("admin", "revoke-account", "--tenant", "acme", "--name", name, "--yes")
        assert (again.code, "no invitation for that name counts" in again.out) == (0, True)
    refused(ada("admin", "revoke-account", "--tenant", "acme", "--name", "never-here", "--yes"), 2, "not_found")


def test_who_logs_out_leaves_nothing_here_and_no_key_there(
    orchestrator: OwnOrchestrator, ada: Person, tmp_path: Path
) -> None:
    finn = signed_in(orchestrator, Person(tmp_path), "finn")
    kept = {file.name: file.read_bytes() for file in (finn.fabric_home / "account" / "orchestrator").iterdir()}
    assert finn("account", "logout").code == 0
    refused(finn("account", "show"), 4, "credentials_missing", "grafos account login")
    names = [one["name"] for one in ada("admin", "list-accounts", "--json").document["accounts"]]
    assert "finn" not in names
    signed_in(orchestrator, finn, "finn")
    for name, data in kept.items():
        (finn.fabric_home / "account" / "orchestrator" / name).write_bytes(data)
    refused(finn("account", "show"), 4, "certificate_refused")
    assert finn("account", "logout", "--forget").code == 0


def test_her_credentials_are_renewed_by_use(orchestrator: OwnOrchestrator, bea: Person) -> None:
    file = old_certificate(orchestrator, bea, began_s=600.0, life_s=1000.0)
    assert bea("runs", "ls").code == 0
    assert trust.peer_of(trust.certificate_der(file.read_text())).not_after - time.time() > 80 * 86400


def test_credentials_that_ran_out_are_told_with_the_way_on(orchestrator: OwnOrchestrator, bea: Person) -> None:
    file = bea.fabric_home / "account" / "orchestrator" / "tenant-acme-cert.pem"
    good = file.read_bytes()
    old_certificate(orchestrator, bea, began_s=1000.0, life_s=900.0)
    try:
        refused(bea("account", "show"), 4, "certificate_expired", "logout --forget")
    finally:
        file.write_bytes(good)


def old_certificate(orchestrator: OwnOrchestrator, person: Person, began_s: float, life_s: float) -> Path:
    """Her certificate as if it had been issued so long ago."""
    ca = orchestrator.person.project / "orchestrator" / "trust"
    ca_key = trust.key_from_pem((ca / "ca-key.pem").read_bytes())
    home = person.fabric_home / "account" / "orchestrator"
    uri = trust.spiffe_id(orchestrator.init["fabric"]["id"], "tenant", "acme")
    request = (home / "tenant-acme-csr.pem").read_text()
    pem = trust.sign_csr((ca / "ca.pem").read_text(), ca_key, request, uri, time.time() - began_s, life_s)
    (home / "tenant-acme-cert.pem").write_text(pem)
    return home / "tenant-acme-cert.pem"


# --- invitations --------------------------------------------------------------------------------------------------


def test_an_invitation_is_a_private_file_or_one_line_on_stdout(
    orchestrator: OwnOrchestrator, ada: Person, tmp_path: Path
) -> None:
    words = ("admin", "invite", "--tenant", "acme", "--name", "gus", "--out", str(tmp_path / "gus.txt"))
    told = ada(*words)
    assert "grafos account login gus.txt" in told.out
    assert (tmp_path / "gus.txt").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "gus.txt").read_text().strip() not in told.out
    refused(ada(*words), 2, "config_invalid", "already")
    line = invited(orchestrator, "gus")
    assert (line.count("\n"), line.startswith(invitations.MARK)) == (1, True)
    person = Person(tmp_path / "gus")
    assert person("account", "login", "-", stdin=line).code == 0


def test_the_line_itself_is_not_taken_where_others_could_see_it(orchestrator: OwnOrchestrator, tmp_path: Path) -> None:
    person = Person(tmp_path)
    refused(person("account", "login", invited(orchestrator, "hal").strip()), 2, "usage", "account login FILE")
    refused(person("account", "login", str(tmp_path / "none")), 2, "usage", "cannot be read")


def test_a_second_use_is_refused_and_in_the_audit_log(
    orchestrator: OwnOrchestrator, ada: Person, tmp_path: Path
) -> None:
    line = invited(orchestrator, "ida")
    first, thief = Person(tmp_path / "first"), Person(tmp_path / "thief")
    assert first("account", "login", "-", stdin=line).code == 0
    refused(patiently(thief, line), 4, "invitation_refused", "used already", "grafos admin invite")
    assert nothing_of(thief)
    words = ("admin", "audit-query", "--kind", "SignInRefused", "--tenant", "acme", "--json")
    assert any("acme/ida" in one["details"]["with"] for one in ada(*words).document["records"])


def patiently(person: Person, line: str, **more: Any) -> Answer:
    """Sign-ins that fail make the next ones from this address wait a little."""
    while True:
        answer = person("account", "login", "-", stdin=line, **more)
        if "too many" not in answer.err:
            return answer
        time.sleep(0.5)


def nothing_of(person: Person) -> bool:
    return not (person.fabric_home / "account").exists()


def rewritten(line: str, **changes: Any) -> str:
    """The invitation with something else in it, and undamaged."""
    given = invitations.read(line)
    return invitations.written(
        invitations.Invitation(**{**{name: getattr(given, name) for name in given.__struct_fields__}, **changes})
    )


def test_a_damaged_line_is_told_before_anybody_is_asked(orchestrator: OwnOrchestrator, tmp_path: Path) -> None:
    person, line = Person(tmp_path), invited(orchestrator, "jan").strip()
    middle = len(line) // 2
    for damaged in ("", "hello", line[:-5], line[:middle], line[:middle] + "xx" + line[middle + 2 :], line[1:]):
        refused(person("account", "login", "-", stdin=damaged), 4, "invitation_refused", "whole line")
    wrapped = line[:76] + "\n" + line[76:]
    refused(person("account", "login", "-", stdin=wrapped), 4, "invitation_refused")
    assert nothing_of(person)
    assert person("account", "login", "-", stdin=f"  {line}\r\n").code == 0


def test_an_invitation_that_lapsed_is_told(orchestrator: OwnOrchestrator, tmp_path: Path) -> None:
    line = invited(orchestrator, "kim", "--for", "1s")
    time.sleep(1.1)
    person = Person(tmp_path)
    refused(patiently(person, line), 4, "invitation_expired", "grafos admin invite")
    assert nothing_of(person)


@pytest.mark.parametrize("lasts", ["0s", "2d", "soon"])
def test_an_invitation_lasts_a_day_at_most(ada: Person, orchestrator: OwnOrchestrator, lasts: str) -> None:
    refused(ada("admin", "invite", "--tenant", "acme", "--name", "lea", "--for", lasts), 2, "usage", "--for")


def test_nobody_is_invited_to_a_tenant_that_there_is_not(ada: Person, orchestrator: OwnOrchestrator) -> None:
    refused(ada("admin", "invite", "--tenant", "nobody", "--name", "lea"), 4, "tenant_unknown")
    refused(ada("admin", "invite", "--tenant", "acme", "--name", "Lea!"), 2, "name_invalid")


def test_an_orchestrator_with_another_ca_gets_no_word_of_the_token(
    orchestrator: OwnOrchestrator, tmp_path: Path
) -> None:
    line = invited(orchestrator, "max")
    other = trust.make_ca(trust.new_key(), "grafos orchestrator orchestrator", time.time())
    person = Person(tmp_path)
    answer = person("account", "login", "-", stdin=rewritten(line, ca_pem=other))
    refused(answer, 4, "certificate_refused", orchestrator.url)
    assert nothing_of(person)
    refused(patiently(person, rewritten(line, tenant="globex")), 4, "invitation_refused", "acme/max")
    assert nothing_of(person)


def test_an_orchestrator_that_does_not_answer_leaves_nobody_signed_in(
    orchestrator: OwnOrchestrator, tmp_path: Path
) -> None:
    line, person = invited(orchestrator, "ned"), Person(tmp_path)
    answer = person("account", "login", "-", stdin=rewritten(line, url="https://127.0.0.1:1"))
    refused(answer, 1, "scheduler_unreachable", "https://127.0.0.1:1")
    refused(person("account", "show"), 4, "credentials_missing")
    refused(person("admin", "list-accounts"), 2, "not_found")
    assert person("account", "login", "-", stdin=line).code == 0


def test_who_is_signed_in_already_logs_out_first(orchestrator: OwnOrchestrator, bea: Person) -> None:
    line = invited(orchestrator, "olga")
    before = {file: file.read_bytes() for file in (bea.fabric_home / "account").rglob("*") if file.is_file()}
    refused(bea("account", "login", "-", stdin=line), 8, "account_exists", "acme/bea", "grafos account logout")
    assert {file: file.read_bytes() for file in (bea.fabric_home / "account").rglob("*") if file.is_file()} == before


def test_a_clock_that_is_hours_behind_is_told_and_one_that_is_ahead_does_not_matter(
    orchestrator: OwnOrchestrator, tmp_path: Path
) -> None:
    line, person = invited(orchestrator, "pia"), Person(tmp_path)
    given = invitations.read(line)
    ahead = rewritten(line, made_at=given.made_at + 3 * 3600)
    refused(person("account", "login", "-", stdin=ahead), 4, "invitation_refused", "set this machine's clock")
    assert nothing_of(person)
    behind = rewritten(line, made_at=given.made_at - 3 * 3600, valid_until=given.valid_until - 3 * 3600)
    assert person("account", "login", "-", stdin=behind).code == 0


def test_a_damaged_record_of_the_account_is_told_with_the_way_on(orchestrator: OwnOrchestrator, tmp_path: Path) -> None:
    quin = signed_in(orchestrator, Person(tmp_path), "quin")
    (quin.fabric_home / "account" / "account.json").write_text("{")
    refused(quin("account", "show"), 1, "fabric_invalid", "logout --forget")
    assert quin("account", "logout", "--forget").code == 0
    assert nothing_of(quin)


def test_one_cannot_log_out_of_an_orchestrator_that_does_not_answer_unless_asked_to(
    orchestrator: OwnOrchestrator, tmp_path: Path
) -> None:
    rosa = signed_in(orchestrator, Person(tmp_path), "rosa")
    file = rosa.fabric_home / "account" / "orchestrator.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "url": "https://127.0.0.1:1"}))
    refused(rosa("account", "logout"), 1, "scheduler_unreachable", "--forget")
    assert not nothing_of(rosa)
    assert rosa("account", "logout", "--forget").code == 0
    assert nothing_of(rosa)
