"""`grafos init` goes from nothing to an answer; `grafos about` tells what a report needs, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Person, grafos


@pytest.fixture
def newcomer(tmp_path: Path) -> Person:
    """Somebody with an empty home and an empty folder."""
    return Person(tmp_path)


def test_from_nothing_to_the_first_answer_without_an_account(newcomer: Person) -> None:
    answer = newcomer("init", "hello", "--lang", "wat")
    try:
        assert answer.code == 0, answer.err
        typed = [line for line in answer.err.splitlines() if line.startswith("$ ")]
        assert typed == [
            "$ grafos new hello --lang wat",
            "$ grafos dev up",
            "$ grafos tasklet build",
            "$ grafos deploy run --provider local",
        ]
        assert '"words":' in answer.out
        assert "cd hello && grafos dev watch" in answer.err
        assert newcomer("runs", "ls", "--json", cwd=newcomer.project / "hello").document["runs"]
        again = newcomer("init", "hello", "--json")
        assert (again.code, again.error_code, again.err) == (8, "folder_taken", "")
    finally:
        newcomer("dev", "down", cwd=newcomer.project / "hello")


def test_a_step_that_fails_ends_it_with_that_step_s_words(newcomer: Person) -> None:
    for flags in ((), ("--json",)):
        answer = newcomer("init", "hello", "--lang", "cobol", *flags)
        assert (answer.code, answer.error_code) == (2, "usage")
    assert list(newcomer.project.iterdir()) == []


def test_about_names_versions_endpoints_and_settings(tmp_path: Path) -> None:
    told = grafos("about", "--json", cwd=tmp_path).document
    assert told["versions"]["grafos"] == "0.1.0"
    assert told["endpoints"] == {"local fabric": "none"}
    assert {one["name"]: one["origin"] for one in told["settings"]}["color"] == "default"
    shown = grafos("about", cwd=tmp_path).out
    assert told["versions"]["wasmtime"] in shown
    assert told["system"]["os"] in shown


def test_about_keeps_logins_and_the_home_folder_to_itself(tmp_path: Path, home: Path) -> None:
    env = {"AWS_ENDPOINT_URL": "http://me:hunter2@127.0.0.1:4566/x?key=hunter3", "AWS_SECRET_ACCESS_KEY": "hunter4"}
    env |= {"GRAFOS_MY_IP_URL": "http://me:hunter5@127.0.0.1/"}
    for flags in ((), ("--json",)):
        told = grafos("about", *flags, cwd=tmp_path, env=env).out
        assert "hunter" not in told
        assert "http://127.0.0.1:4566/x" in told
        assert str(home) not in told
