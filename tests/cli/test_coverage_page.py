"""docs/reference/coverage.md names every command and flag, and only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer

from grafos_cli import catalog, taught

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "coverage.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)


def leaves() -> dict[str, Any]:
    """Every command that does something, by its words after `grafos`."""
    root = taught.root_command()
    found: dict[str, Any] = {}
    for entry in catalog.NOUNS:
        found |= below(entry.name, root.get_command(typer.Context(root), entry.name))
    return found


def below(words: str, command: Any) -> dict[str, Any]:
    """The command itself, or all that stands below a noun."""
    verbs = getattr(command, "commands", None)
    if not verbs:
        return {words: command}
    return {path: leaf for verb, child in verbs.items() for path, leaf in below(f"{words} {verb}", child).items()}


def test_every_command_has_a_row() -> None:
    assert [words for words in leaves() if f"`grafos {words}`" not in PAGE] == []


def test_every_flag_of_every_command_has_a_row() -> None:
    rows = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| `")]
    missing = [
        f"{words} {flag}"
        for words, command in leaves().items()
        for parameter in command.params
        for flag in parameter.opts
        if flag.startswith("--") and not any(f"{words} " in row and flag in row for row in rows)
    ]
    assert missing == []


def test_every_test_that_the_page_names_exists() -> None:
    assert NAMED
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text())
    ]
    assert missing == []
