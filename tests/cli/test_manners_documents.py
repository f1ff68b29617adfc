"""The JSON documents: a published schema for each command, held by every test that asks for a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import documents_held
import jsonschema
import pytest
from command_line import HELLO, Person, grafos

from grafos_cli.describe import commands
from grafos_cli.documents import DOCUMENTS
from grafos_cli.schemas import document_of, of
from grafos_cli.terminal import is_money, silent_terminal
from grafos_core.money import CURRENCY
from grafos_scheduler.messages import RunView

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"
NAMES = [one["command"].removeprefix("grafos ") for one in commands()]


def test_every_command_has_a_schema_and_nothing_else_has() -> None:
    assert sorted(DOCUMENTS) == sorted(NAMES)
    assert {path.stem for path in SCHEMAS.glob("*.json")} == {name.replace(" ", "-") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_published_schema_is_the_one_that_is_held(name: str, golden: Callable[[Path, str], None]) -> None:
    schema = document_of(f"grafos {name}")
    jsonschema.Draft202012Validator.check_schema(schema)
    golden(SCHEMAS / f"{name.replace(' ', '-')}.json", json.dumps(schema, indent=1) + "\n")


def test_a_schema_is_printed_for_whoever_asks(tmp_path: Path) -> None:
    assert json.loads(grafos("describe", "--schema", "runs ls", cwd=tmp_path).out) == document_of("grafos runs ls")
    assert grafos("describe", "--schema", "grafos runs ls", "--json", cwd=tmp_path).document["schema"]
    wrong = grafos("describe", "--schema", "rins ls", cwd=tmp_path)
    assert (wrong.code, wrong.error_code) == (2, "usage")
    assert "did you mean 'runs ls'?" in wrong.err


@pytest.mark.parametrize("change", [{"more": 1}, {"settings": "none"}, {"settings": [{"name": "color"}]}])
def test_a_document_that_is_not_as_promised_fails_the_test_that_sees_it(
    change: dict[str, object], tmp_path: Path
) -> None:
    words = ("config", "show", "--json")
    document = grafos(*words, cwd=tmp_path).document
    for wrong in ({**document, **change}, {}, {"schema_version": 2, "settings": []}):
        with pytest.raises(jsonschema.ValidationError):
            documents_held.hold(words, json.dumps(wrong))


def test_which_command_a_document_is_of() -> None:
    assert documents_held.command_of(("--color", "never", "--json", "runs", "show", "RUN")) == "grafos runs show"
    assert documents_held.command_of(("doctor", "--json")) == "grafos doctor"
    assert not documents_held.command_of(("depoly", "--json"))


def test_a_record_s_moments_are_moments_and_all_its_fields_are_there() -> None:
    schema = of(RunView)
    assert schema["properties"]["created_at"]["format"] == "date-time"
    assert set(schema["required"]) == set(RunView.__struct_fields__)


def test_money_is_whole_micro_cents_everywhere() -> None:
    def walk(name: str, schema: object) -> None:
        if isinstance(schema, dict):
            if name.endswith("micro_cents") and "properties" not in schema:
                assert "number" not in json.dumps(schema), name
            for key, each in schema.get("properties", schema).items():
                walk(str(key), each)
        elif isinstance(schema, list):
            for each in schema:
                walk(name, each)

    for name in NAMES:
        walk("", document_of(f"grafos {name}"))


def test_beside_each_amount_stands_its_currency() -> None:
    """In every schema; and documents, which are held against theirs, get it where they are printed."""

    def walk(schema: object) -> None:
        if isinstance(schema, dict):
            properties = schema.get("properties", {})
            if any(map(is_money, properties)):
                assert properties["currency"] == {"const": CURRENCY}
                assert "currency" in schema["required"]
            for each in schema.values():
                walk(each)
        elif isinstance(schema, list):
            for each in schema:
                walk(each)

    for name in NAMES:
        walk(document_of(f"grafos {name}"))
    document = {"cost": {"micro_cents": 5}, "response": {"cents": 1}, "cells": [{"held_micro_cents": 0}], "rate": 2}
    assert json.loads(silent_terminal().rendered(document)) == {
        "schema_version": 1,
        "cost": {"micro_cents": 5, "currency": "USD"},
        "response": {"cents": 1},
        "cells": [{"held_micro_cents": 0, "currency": "USD"}],
        "rate": 2,
    }


def test_what_costs_nothing_to_ask_is_asked_and_is_as_promised(resident: Person) -> None:
    """Each answer is held against its schema by ``grafos`` itself, as in every other test."""
    resident.write_program(HELLO)
    ran = resident("deploy", "run", "--json")
    assert ran.code == 0, ran.out
    run_id = ran.document["run_id"]
    for words in (
        ("runs", "show", run_id),
        ("runs", "cancel", run_id),
        ("artifacts", run_id, "--verify"),
        ("dev", "doctor"),
        ("dev", "up"),
        ("fabric", "show"),
        ("fabric", "key", "export", str(resident.home / "key.pem"), "--yes"),
        ("fabric", "key", "import", str(resident.home / "key.pem"), "--yes"),
        ("admin", "list-fenced-leases"),
        ("cloud", "ls"),
        ("cloud", "cost"),
        ("cloud", "budget", "show"),
        ("completion", "bash"),
        ("config", "schema"),
        ("about",),
        ("describe",),
        ("describe", "--markdown"),
    ):
        answer = resident(*words, "--json")
        assert (answer.code, answer.err, "error" in answer.document) == (0, "", False), words
    for words in (("runs", "ls"), ("cloud", "ls"), ("config", "show"), ("admin", "list-fenced-leases")):
        assert resident(*words, "--stream").err == ""
    assert resident("doctor", "--stream").out


def test_the_emulator_s_documents_are_as_promised(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    try:
        for words in (
            ("up", "--clock", "stepped"),
            ("env",),
            ("status",),
            (
                "fault",
                "add",
                "--provider",
                "gcp",
                "--operation",
                "instances.insert",
                "--error",
                "capacity",
            ),
            ("fault", "ls"),
            ("fault", "clear"),
            ("advance", "1h"),
            ("journal",),
        ):
            answer = somebody("emulate", *words, "--json")
            assert (answer.code, answer.err) == (0, ""), (words, answer.out)
    finally:
        assert somebody("emulate", "down", "--json").document["ended"] is True
