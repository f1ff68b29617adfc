"""What makes the command line slow is what it imports; so that is held, and no clock is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "asyncio", "boto3", "botocore", "cryptography", "jinja2", "moto", "msgspec", "rich", "sqlite3", "ssl", "uvicorn",
    "uvloop", "wasmtime",
}  # fmt: skip


def imported_by(*words: str, cwd: Path) -> set[str]:
    """The top-level names and our own modules that a command line has imported when it is done."""
    program = (
        "import sys, json, io; from grafos_cli.main import main; sys.stdout = io.StringIO();"
        f"main({list(words)!r}); sys.stdout = sys.__stdout__; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=True, timeout=60
    )
    names = set(json.loads(done.stdout))
    return {name.split(".")[0] for name in names} | {name for name in names if name.startswith("grafos_")}


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_the_first_page_needs_no_argument_parser(words: tuple[str, ...], tmp_path: Path) -> None:
    assert not imported_by(*words, cwd=tmp_path) & (HEAVY | {"typer", "click"})


@pytest.mark.parametrize(
    "noun", ["artifacts", "cloud", "demo", "deploy", "dev", "emulate", "fabric", "runs", "tasklet"]
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
