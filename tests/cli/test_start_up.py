"""What makes the command line slow is what it imports; so that is held, and no clock is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from imported import HEAVY, imported_by


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_the_first_page_needs_no_argument_parser(words: tuple[str, ...], tmp_path: Path) -> None:
    assert not imported_by(*words, cwd=tmp_path) & (HEAVY | {"typer", "click"})


@pytest.mark.parametrize(
    "noun",
    [
        "about",
        "artifacts",
        "cloud",
        "completion",
        "config",
        "demo",
        "deploy",
        "describe",
        "dev",
        "emulate",
        "fabric",
        "init",
        "runs",
        "tasklet",
    ],
)
def test_the_help_of_a_noun_imports_nothing_heavy_and_no_other_noun(noun: str, tmp_path: Path) -> None:
    names = imported_by(noun, "--help", cwd=tmp_path)
    assert not names & HEAVY
    rooms = {name for name in names if name.startswith("grafos_") and "." not in name}
    assert rooms <= {"grafos_cli", "grafos_core"}


def test_plain_text_on_the_command_line_needs_no_schema_library(tmp_path: Path) -> None:
    """Typer converts through pydantic, whose import costs more than all of a small command."""
    assert "pydantic" not in imported_by("tasklet", "build", "nowhere", cwd=tmp_path)


def test_a_mistyped_word_imports_nothing_heavy(tmp_path: Path) -> None:
    assert not imported_by("depoly", cwd=tmp_path) & HEAVY
