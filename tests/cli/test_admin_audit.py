"""The audit log by the command line: listed, verified here, and proved against what a person kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Person
from own_orchestrator import OwnOrchestrator

from grafos_core.audit_chain import AuditRecord, ChainCheck


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody who has claimed an orchestrator and done three things to it."""
    person = Person(tmp_path_factory.mktemp("ada"))
    orchestrator = OwnOrchestrator(person)
    for words in (
        ("fabric", "claim", orchestrator.url),
        ("admin", "create-tenant", "--tenant", "acme", "--cents", "300"),
        ("admin", "set-tenant-budget", "--tenant", "acme", "--cents", "500"),
        ("admin", "delete-tenant", "--tenant", "acme", "--yes"),
    ):
        assert person(*words).code == 0
    yield person
    orchestrator.discard()


def test_who_did_what_to_what_is_listed_in_order(ada: Person) -> None:
    told = ada("admin", "audit-query", "--tenant", "acme", "--json").document
    assert [record["kind"] for record in told["records"]] == [
        "TenantCreated",
        "BudgetSet",
        "BudgetSet",
        "TenantDeleted",
    ]
    assert {record["by"].partition("/")[0] for record in told["records"]} == {"operator"}
    assert told["records"][2]["details"] == {"amount_micro_cents": 500_000_000}
    text = ada("admin", "audit-query").out
    assert "Claimed" in text.splitlines()[1]
    assert text.splitlines()[0].split()[:3] == ["RECORD", "TIME", "KIND"]


def test_a_stream_is_the_log_itself_and_anybody_can_follow_its_hashes(ada: Person) -> None:
    lines = ada("admin", "audit-query", "--after", "0", "--stream").out.splitlines()
    check = ChainCheck()
    for line in lines:
        record = json.loads(line)
        del record["schema_version"]
        check.take(AuditRecord(**record))
    assert check.event_hash == ada("admin", "audit-query", "--verify", "--json").document["head_event_hash"]


def test_filters_and_limits_are_flags(ada: Person) -> None:
    def places(*words: str) -> list[int]:
        told = ada("admin", "audit-query", *words, "--json").document
        return [record["sequence"] for record in told["records"]]

    assert places("--after", "0", "--limit", "2") == [1, 2]
    assert places("--after", "2", "--limit", "2") == [3, 4]
    assert places("--limit", "1")[0] > 4
    assert places("--kind", "claimed") == [1]
    assert places("--until", "2020-01-01") == places("--cell-id", "none") == []
    assert places("--since", "1h", "--limit", "3") == [1, 2, 3]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--kind", "LeaseAlocated"), "usage"),
        (("--since", "yester-day"), "usage"),
        (("--anchor", "abc"), "usage"),
        (("--scheduler", "nobody"), "cell_unknown"),
    ],
)
def test_what_cannot_be_meant_is_refused(ada: Person, words: tuple[str, ...], code: str) -> None:
    assert ada("admin", "audit-query", *words).error_code == code


def test_a_hash_that_was_kept_is_found_again_and_a_foreign_one_is_not(ada: Person) -> None:
    kept = ada("admin", "audit-query", "--verify", "--json").document
    assert kept["verified"] == kept["head_sequence"] > 5
    assert ada("admin", "set-quota", "--tenant", "default", "--cpu-cores", "3").code == 0
    answer = ada("admin", "audit-query", "--anchor", kept["head_event_hash"])
    assert f"it is the hash of record {kept['head_sequence']}" in answer.out
    foreign = ada("admin", "audit-query", "--anchor", "ab" * 32)
    assert (foreign.code, foreign.error_code) == (1, "audit_broken")


def test_a_record_that_was_changed_on_the_disk_is_named(ada: Person) -> None:
    [file] = Path(ada.project).rglob("scheduler.db")
    with sqlite3.connect(file) as connection:
        connection.execute(
            "UPDATE rows SET body = replace(body, 'operator', 'operatex') WHERE kind='audit' AND key LIKE '%3'"
        )
    connection.close()
    for words in ((), ("--verify",)):
        answer = ada("admin", "audit-query", *words)
        assert (answer.code, answer.error_code) == (1, "audit_broken")
        assert "record 3" in answer.err
