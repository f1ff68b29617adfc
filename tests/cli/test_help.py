from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import GOLDEN, Answer, grafos
from documents_held import BARE

from grafos_cli import catalog, taught

Golden = Callable[[Path, str], None]
UNWRAPPED = {"COLUMNS": ""}
"""Nothing says how wide the lines may be."""


def commands() -> list[tuple[str, ...]]:
    """Every command that exists, as the words after `grafos`."""
    root = taught.root_command()
    found: list[tuple[str, ...]] = []
    for entry in catalog.NOUNS:
        found += below((entry.name,), root.get_command(typer.Context(root), entry.name))
    return found


def below(words: tuple[str, ...], command: Any) -> list[tuple[str, ...]]:
    """A command and, if it is a noun, all that stands below it."""
    verbs = getattr(command, "commands", {})
    return [words, *(deeper for verb, leaf in verbs.items() for deeper in below((*words, verb), leaf))]


@functools.cache
def help_of(*words: str) -> Answer:
    """The help of a command as it is in a pipe, asked for once."""
    return grafos(*words, "--help", cwd=Path(__file__).parent, env=UNWRAPPED)


@pytest.mark.parametrize("words", [(), *commands()], ids=lambda words: "-".join(words) or "grafos")
def test_help_is_what_was_reviewed(words: tuple[str, ...], golden: Golden) -> None:
    answer = help_of(*words)
    assert (answer.code, answer.err) == (0, "")
    golden(GOLDEN / "help" / f"{'-'.join(words) or 'grafos'}.txt", answer.out)


@pytest.mark.parametrize("words", commands(), ids="-".join)
def test_help_begins_with_two_examples_or_three_and_ends_with_the_next_command(words: tuple[str, ...]) -> None:
    lines = help_of(*words).out.splitlines()
    assert lines[0] == "Examples:"
    examples = lines[1 : lines.index("")]
    assert 2 <= len(examples) <= 3
    assert all(example.startswith("  ") and "grafos " in example for example in examples)
    assert lines[-1].startswith("Next: ")
    assert "grafos " in lines[-1]


@pytest.mark.parametrize("words", commands(), ids="-".join)
def test_every_command_that_help_names_exists(words: tuple[str, ...]) -> None:
    known = {" ".join(command) for command in commands()}
    for line in help_of(*words).out.splitlines():
        named = line.removeprefix("Next: ").strip()
        if named.startswith("grafos "):
            said = named.split()[1:]
            longest = max((depth for depth in range(1, 5) if " ".join(said[:depth]) in known), default=0)
            path = " ".join(said[:longest])
            assert path in known
            is_noun = any(name.startswith(f"{path} ") for name in known)
            assert not is_noun or f"grafos {path}" in BARE, "a noun is named with one of its verbs"


def test_without_words_the_first_page_is_shown(tmp_path: Path) -> None:
    assert grafos(cwd=tmp_path).out == grafos("--help", cwd=tmp_path).out


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert grafos("--version", cwd=tmp_path).out == grafos("-V", cwd=tmp_path).out == "grafos 0.1.0\n"
    assert grafos("--version", "--json", cwd=tmp_path).document == {"schema_version": 1, "version": "0.1.0"}
