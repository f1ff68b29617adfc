"""A laptop is lost, and somebody has the fabric's key and a new one: by the command line, over TLS, with two homes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import HELLO, Answer, Person
from own_orchestrator import OwnOrchestrator


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    """With a cell, a budget of its own, and the key exported."""
    orchestrator = OwnOrchestrator(Person(tmp_path_factory.mktemp("old")))
    old = orchestrator.person
    try:
        assert old("fabric", "claim", orchestrator.url).code == 0
        assert old("cloud", "budget", "set", "700").code == 0
        assert old("fabric", "key", "export", str(key_of(orchestrator)), "--yes").code == 0
        orchestrator.start_agent(orchestrator.bootstrap("gcp", "gcp-1"))
        old.write_program(HELLO)
        ran = old("deploy", "run", "--provider", "gcp")
        assert ran.code == 0, ran.err
        yield orchestrator
    finally:
        orchestrator.discard()


def key_of(orchestrator: OwnOrchestrator) -> Path:
    return orchestrator.person.home / "exported.pem"


def newcomer(lost: OwnOrchestrator, folder: Path) -> Person:
    """Somebody with nothing but the key."""
    somebody = Person(folder)
    answer = somebody("fabric", "key", "import", str(key_of(lost)), "--yes")
    assert answer.code == 0, answer.err
    return somebody


def claim(somebody: Person, lost: OwnOrchestrator, *more: str) -> Answer:
    return somebody("fabric", "claim", lost.url, *more)


@pytest.fixture(scope="module")
def new(lost: OwnOrchestrator, tmp_path_factory: pytest.TempPathFactory) -> Person:
    somebody = newcomer(lost, tmp_path_factory.mktemp("new"))
    answer = claim(somebody, lost, "--json")
    assert answer.code == 0, answer.err
    assert answer.document["ledger"]["standing"] == "moved"
    return somebody


def test_a_home_with_another_key_gets_nothing(lost: OwnOrchestrator, tmp_path: Path) -> None:
    stranger = Person(tmp_path)
    answer = claim(stranger, lost)
    assert answer.error_code == "claim_refused"
    assert "not signed by the key of the fabric" in answer.err
    assert lost.person("admin", "list-tenants").code == 0


def test_the_new_home_works_with_the_ledger_that_is_there(lost: OwnOrchestrator, new: Person) -> None:
    assert new("cloud", "budget", "show", "--json").document["budget"]["cap_micro_cents"] == 700_000_000
    assert [cell["cell_id"] for cell in new("fabric", "cells", "--json").document["cells"]] == ["gcp-1"]
    new.write_program(HELLO)
    ran = new("deploy", "run", "--provider", "gcp")
    assert ran.code == 0, ran.err
    assert len(new("runs", "ls", "--json").document["runs"]) == 2
    kinds = [record["kind"] for record in new("admin", "audit-query", "--json").document["records"]]
    assert "OperatorReplaced" in kinds


def test_the_old_home_is_told_what_happened_whatever_it_does(lost: OwnOrchestrator, new: Person) -> None:
    for words in (
        ("fabric", "bring-home", "--yes"),
        ("admin", "audit-query"),
        ("deploy", "run", "--provider", "gcp"),
    ):
        answer = lost.person(*words)
        assert answer.error_code == "operator_replaced", (words, answer)
        assert "another home of this fabric became the operator at" in answer.err
        assert "grafos fabric claim URL" in answer.err
    assert list((lost.person.project / ".grafos" / "runs").glob("pending-*.json")), (
        "it may have begun the run before: once this home is in again, the same run is asked for"
    )
    assert "became the operator at" in lost.person("admin", "list-tenants").err
    assert new("admin", "list-tenants").code == 0


def test_a_home_that_holds_money_of_its_own_is_not_moved_over_the_ledger_that_is_there(
    lost: OwnOrchestrator, new: Person, tmp_path: Path
) -> None:
    somebody = newcomer(lost, tmp_path / "third")
    hold(somebody)
    answer = claim(somebody, lost)
    assert answer.error_code == "ledger_elsewhere"
    assert "move this home's folder away" in answer.err
    assert claim(new, lost).code == 0  # who was put out by it gets back in
    assert new("cloud", "budget", "show", "--json").document["budget"]["cap_micro_cents"] == 700_000_000


def hold(somebody: Person) -> None:
    """As if it had provisioned something."""
    from grafos_core import ledger, trust
    from grafos_core.fabric import Fabric

    key = trust.key_from_pem((somebody.fabric_home / "fabric-key.pem").read_bytes())
    Fabric(somebody.fabric_home, "default", key).book(
        lambda known: ledger.hold(known, "aws-1", "operator", 5, "a cell", expires_at=0.0)
    )


def test_a_ledger_that_went_home_to_the_lost_laptop_is_begun_from_the_copy_that_stayed(
    lost: OwnOrchestrator, new: Person, tmp_path: Path
) -> None:
    assert new("fabric", "bring-home", "--yes").code == 0
    somebody = newcomer(lost, tmp_path / "fourth")
    answer = claim(somebody, lost)
    assert answer.error_code == "ledger_elsewhere", "nobody but the person knows that the home before is lost"
    assert "if that home is lost: grafos fabric bring-home --lost" in answer.err
    assert somebody("fabric", "bring-home", "--lost").error_code == "confirmation_needed"
    home = somebody("fabric", "bring-home", "--lost", "--yes", "--json")
    assert home.document["ledger"]["standing"] == "here", home.err
    answer = claim(somebody, lost, "--json")
    assert answer.document["ledger"]["standing"] == "moved", answer.err
    assert somebody("cloud", "budget", "show", "--json").document["budget"]["cap_micro_cents"] == 700_000_000
    record = json.loads((somebody.fabric_home / "orchestrator.json").read_text())
    assert record["url"] == lost.url


def test_the_old_home_gets_back_in_by_the_key_that_it_has_and_works_with_the_ledger_as_it_is_now(
    lost: OwnOrchestrator, new: Person
) -> None:
    """Meanwhile the ledger was fetched and moved again by others."""
    answer = claim(lost.person, lost)
    assert answer.code == 0, answer.err
    assert lost.person("cloud", "budget", "set", "800").code == 0
    home = lost.person("fabric", "bring-home", "--yes", "--json")
    assert home.document["ledger"]["standing"] == "here", home.err
    shown = lost.person("cloud", "budget", "show", "--json")
    assert shown.document["budget"]["cap_micro_cents"] == 800_000_000
    assert new("fabric", "console").error_code == "operator_replaced"
