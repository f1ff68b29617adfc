"""What the command line promises everywhere: help on topics, global options, streams, moments, colour."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import GOLDEN, Person, grafos, seconds

from grafos_cli import catalog, help_topics
from grafos_cli.describe import commands
from grafos_cli.terminal import moment_text, wants_color
from grafos_core.errors import CODES

Golden = Callable[[Path, str], None]
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", sorted(help_topics.TOPICS))
def test_each_topic_of_help_is_what_was_reviewed(name: str, tmp_path: Path, golden: Golden) -> None:
    answer = grafos("help", name, cwd=tmp_path, env={"COLUMNS": ""})
    assert (answer.code, answer.err) == (0, "")
    assert grafos("help", name, "--json", cwd=tmp_path).document["help"] == answer.out
    golden(GOLDEN / "help" / f"topic-{name}.txt", answer.out)
    assert name in catalog.root_help()


def test_help_on_a_command_is_that_command_s_help(tmp_path: Path) -> None:
    assert grafos("help", "runs", "ls", cwd=tmp_path).out == grafos("runs", "ls", "-h", cwd=tmp_path).out


def test_help_on_nothing_that_exists_names_the_nearest(tmp_path: Path) -> None:
    for word, meant in (("enviroment", "environment"), ("depoly", "deploy")):
        answer = grafos("help", word, cwd=tmp_path)
        assert (answer.code, answer.error_code) == (2, "usage")
        assert f"did you mean '{meant}'?" in answer.err


def test_every_code_can_be_asked_for_and_every_error_says_how(tmp_path: Path) -> None:
    for code, facts in CODES.items():
        assert facts.meaning in help_topics.topic(["errors", code])
    docs = re.search(r"docs:  grafos (.*)", grafos("tasklet", "build", cwd=tmp_path).err)
    assert docs
    assert CODES["manifest_invalid"].meaning in grafos(*docs[1].split(), cwd=tmp_path).out
    assert grafos("help", "errors", "usge", cwd=tmp_path).code == 2


def test_the_exit_codes_of_help_are_those_of_the_page_and_of_the_errors() -> None:
    page = (REFERENCE / "cli.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == {code for code, _ in help_topics.EXIT_CODES}
    assert {facts.exit_code for facts in CODES.values()} <= documented


def test_the_page_of_commands_is_made_from_them_and_current(golden: Golden, tmp_path: Path) -> None:
    golden(REFERENCE / "commands.md", grafos("describe", "--markdown", cwd=tmp_path).out)


def test_where_help_points_to_is_on_that_page(tmp_path: Path) -> None:
    page = (REFERENCE / "commands.md").read_text()
    assert (REFERENCE.parents[1] / catalog.DOCS).is_file()
    for one in commands():
        assert f"### {one['command']}\n" in page
    assert f"Docs: {catalog.DOCS}#grafos-runs-ls\n" in grafos("runs", "ls", "--help", cwd=tmp_path).out


def test_describe_tells_a_program_every_command_and_option(tmp_path: Path) -> None:
    told = grafos("describe", "--json", cwd=tmp_path).document
    assert told["commands"] == list(commands())
    provision = next(one for one in told["commands"] if one["command"] == "grafos cloud provision")
    ttl = next(option for option in provision["options"] if option["name"] == "--ttl")
    assert (ttl["takes"], ttl["default"], ttl["required"]) == ("TIME", "8h", False)
    assert "--fabric HOST:PORT" in {one["option"] for one in told["global_options"]}


def test_a_list_streams_one_document_a_line(tmp_path: Path) -> None:
    streamed = grafos("describe", "--stream", cwd=tmp_path)
    entries = [json.loads(line) for line in streamed.out.splitlines()]
    assert {entry.pop("schema_version") for entry in entries} == {1}
    assert entries == grafos("describe", "--json", cwd=tmp_path).document["commands"]


def test_what_has_no_list_does_not_stream_and_does_nothing(tmp_path: Path) -> None:
    answer = grafos("new", "photos", "--stream", cwd=tmp_path)
    assert (answer.code, answer.error_code, len(answer.out.splitlines())) == (2, "usage", 1)
    assert not (tmp_path / "photos").exists()


def test_every_list_streams() -> None:
    lists = {one["command"] for one in commands() if re.search(r" (ls|list-\S+|journal|cost)$", one["command"])}
    assert lists <= {one["command"] for one in commands() if one["streams"]}


def test_moments_are_in_iso_8601_in_documents_and_none_for_never() -> None:
    assert moment_text(1.5) == "1970-01-01T00:00:01.500Z"
    assert moment_text(1999999999.9996) == "2033-05-18T03:33:20.000Z"
    assert seconds("2033-05-18T03:33:20.000Z") == 2000000000.0
    assert moment_text(0.0) is None


@pytest.mark.parametrize(
    ("choice", "environment", "colour"),
    [
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("auto", {}, False),
    ],
)
def test_who_decides_about_colour(choice: str, environment: dict[str, str], colour: bool, tmp_path: Path) -> None:  # noqa: FBT001
    with (tmp_path / "file").open("w") as stream:
        assert wants_color(stream, choice, environment) is colour
    answer = grafos("--color", choice, "depoly", cwd=tmp_path, env=environment)
    assert ("\x1b[" in answer.err) is colour


@pytest.mark.parametrize("words", [("--color",), ("--color=purple", "describe"), ("runs", "ls", "--fabric")])
def test_a_global_option_without_a_value_that_can_be_used_is_told(words: tuple[str, ...], tmp_path: Path) -> None:
    answer = grafos(*words, cwd=tmp_path)
    assert (answer.code, answer.error_code, answer.out) == (2, "usage", "")


def test_wide_shows_every_column_however_narrow_the_terminal_is(tmp_path: Path) -> None:
    narrow = {"COLUMNS": "60"}
    assert "VARIABLE" not in grafos("config", "schema", cwd=tmp_path, env=narrow).out
    assert "VARIABLE" in grafos("config", "schema", "--wide", cwd=tmp_path, env=narrow).out


def test_fabric_names_the_one_scheduler_to_ask(resident: Person) -> None:
    up = resident("dev", "up", "--json").document["local_fabric"]
    address = up["scheduler_url"].partition("//")[2].rstrip("/")
    assert resident("runs", "ls", "--fabric", address).code == 0
    elsewhere = resident("runs", "ls", env={"GRAFOS_FABRIC": "127.0.0.1:1"})
    assert (elsewhere.code, elsewhere.error_code) == (2, "cell_unknown")
    assert address in elsewhere.err
