"""The roots by which a cloud's word is verified, set and shown by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from clouds_word import CloudsWord
from command_line import Person
from own_orchestrator import OwnOrchestrator

from grafos_core.clock import SystemClock

SOURCE = ("--source", "https://clouds.example/roots", "--dated", "2026-11-21")


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody who has claimed an orchestrator."""
    person = Person(tmp_path_factory.mktemp("ada"))
    orchestrator = OwnOrchestrator(person)
    claimed = person("fabric", "claim", orchestrator.url)
    assert claimed.code == 0, claimed.err
    yield person
    orchestrator.discard()


@pytest.fixture(scope="module")
def pems() -> dict[str, str]:
    return dict(CloudsWord(SystemClock()).roots("gcp").pems)


def written(person: Person, content: object, name: str = "roots.json") -> str:
    file = person.project / name
    file.write_text(json.dumps(content))
    return str(file)


def test_roots_are_set_from_a_file_with_their_source_and_day_and_listed(ada: Person, pems: dict[str, str]) -> None:
    empty = {one["provider"]: one for one in ada("admin", "attestation-roots", "list", "--json").document["roots"]}
    assert {name: one["names"] for name, one in empty.items()} == {"aws": [], "azure": [], "gcp": []}
    assert empty["gcp"]["why_empty"]
    made = ada("admin", "attestation-roots", "set", "gcp", "--file", written(ada, pems), *SOURCE, "--json")
    assert made.code == 0, made.err
    told = made.document["roots"]
    assert (told["names"], told["source"], told["dated"]) == (sorted(pems), SOURCE[1], SOURCE[3])
    whole = {"source": "a page", "dated": "2026-11-22", "pems": pems}
    again = ada("admin", "attestation-roots", "set", "gcp", "--file", written(ada, whole))
    assert "a page, 2026-11-22" in again.out
    shown = ada("admin", "attestation-roots", "list")
    assert "a page" in shown.out
    assert "operator" in shown.out


@pytest.mark.parametrize(
    ("content", "flags", "code"),
    [
        ({"a": "b"}, (), "usage"),
        ({"a": "b"}, SOURCE, "request_invalid"),
        ({"a": 1}, SOURCE, "config_invalid"),
        ({}, SOURCE, "config_invalid"),
        (["a"], SOURCE, "config_invalid"),
        ({"a": "b"}, (*SOURCE[:3], "yesterday"), "config_invalid"),
    ],
)
def test_what_are_no_roots_is_told_in_one_error(
    content: object, flags: tuple[str, ...], code: str, ada: Person
) -> None:
    before = ada("admin", "attestation-roots", "list", "--json").document
    answer = ada("admin", "attestation-roots", "set", "gcp", "--file", written(ada, content, "wrong.json"), *flags)
    assert answer.error_code == code, answer.err
    assert "next:" in answer.err
    assert ada("admin", "attestation-roots", "list", "--json").document == before


def test_a_file_that_is_not_there_and_a_cloud_that_is_none_are_told(ada: Person) -> None:
    missing = ada("admin", "attestation-roots", "set", "gcp", "--file", str(Path("nowhere.json")), *SOURCE)
    assert missing.error_code == "config_invalid"
    other = ada("admin", "attestation-roots", "set", "nebula", "--file", written(ada, {}), *SOURCE)
    assert other.code == 2


def test_without_an_orchestrator_there_is_nobody_to_set_them_at(tmp_path: Path) -> None:
    assert Person(tmp_path)("admin", "attestation-roots", "list").error_code == "not_found"
