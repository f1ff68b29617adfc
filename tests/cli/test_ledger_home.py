"""The fabric's ledger at an orchestrator, and home again, by the command line."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Answer, Person
from own_orchestrator import OwnOrchestrator


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnOrchestrator]:
    orchestrator = OwnOrchestrator(Person(tmp_path_factory.mktemp("ada")))
    try:
        answer = orchestrator.person("fabric", "claim", orchestrator.url)
        assert answer.code == 0, answer.err
        assert f"kept by orchestrator at {orchestrator.url}" in answer.out
        yield orchestrator
    finally:
        orchestrator.discard()


def finding(answer: Answer, name: str) -> tuple[str, str]:
    [one] = [one for one in answer.document["findings"] if (one["area"], one["name"]) == ("fabric", name)]
    return one["status"], one["what"]


def test_the_budget_is_the_orchestrators_from_the_claim_on_and_says_so(claimed: OwnOrchestrator) -> None:
    person = claimed.person
    told = person("cloud", "budget", "set", "700", "--json").document
    assert told["budget"]["cap_micro_cents"] == 700_000_000
    assert told["ledger"] == {"standing": "moved", "keeper": "orchestrator", "url": claimed.url}
    assert f"kept by orchestrator at {claimed.url}" in person("cloud", "budget", "show").out
    assert person("fabric", "show", "--json").document["ledger"]["standing"] == "moved"
    assert "$7.00" in finding(person("doctor", "--json"), "ledger")[1]
    kinds = [record["kind"] for record in person("admin", "audit-query", "--json").document["records"]]
    assert "LedgerTaken" in kinds


def test_without_the_orchestrator_what_asks_for_money_is_refused_in_plain_words(claimed: OwnOrchestrator) -> None:
    person = claimed.person
    claimed.process.popen.send_signal(signal.SIGKILL)
    claimed.process.popen.wait()
    try:
        for words in (("cloud", "budget", "show"), ("cloud", "budget", "set", "5"), ("cloud", "cost")):
            answer = person(*words)
            assert answer.error_code == "scheduler_unreachable"
            assert "which keeps the fabric's ledger, did not answer" in answer.err
        assert person("fabric", "show").code == 0
        assert finding(person("doctor", "--json"), "ledger")[0] == "fail"
    finally:
        claimed.process = claimed.again()


def test_the_ledger_comes_home_when_it_is_asked_for_and_agreed_to(claimed: OwnOrchestrator) -> None:
    person = claimed.person
    assert person("fabric", "bring-home").error_code == "confirmation_needed"
    home = person("fabric", "bring-home", "--yes", "--json")
    assert home.code == 0, home.err
    assert home.document["ledger"]["standing"] == "here"
    again = person("fabric", "bring-home")
    assert (again.code, again.out) == (0, "The fabric's ledger is here.\n")
    assert person("cloud", "budget", "show", "--json").document["budget"]["cap_micro_cents"] == 700_000_000
    assert person("fabric", "claim", claimed.url, "--json").document["ledger"]["standing"] == "moved"


def test_without_the_orchestrator_the_copy_is_opened_and_what_is_not_in_it_is_said(tmp_path: Path) -> None:
    orchestrator = OwnOrchestrator(Person(tmp_path))
    person = orchestrator.person
    try:
        person("fabric", "claim", orchestrator.url)
    finally:
        orchestrator.discard()
    assert person("fabric", "bring-home", "--yes").error_code == "scheduler_unreachable"
    status, what = finding(person("doctor", "--json"), "ledger move")
    assert (status, "on its way home" in what) == ("warn", True)
    reopened = person("fabric", "bring-home", "--lost", "--yes")
    assert reopened.code == 0, reopened.err
    assert "What tenants spent at orchestrator since" in reopened.out
    assert json.loads(person("cloud", "budget", "set", "5", "--json").out)["ledger"]["standing"] == "here"
