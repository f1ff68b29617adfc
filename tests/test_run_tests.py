"""What `make test` makes of tests that fail beside others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parent.parent / "tools" / "run_tests.py"
FINE = "def test_fine(): pass"
ONCE = """
from pathlib import Path
def test_once():
    seen = Path("seen")
    was_there = seen.exists()
    seen.touch()
    assert was_there
"""
ALWAYS = "def test_always(): assert False"
SIX = "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_many(n): assert False"


def run(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    for number, text in enumerate(files):
        (folder / f"test_{number}.py").write_text(text)
    command = [sys.executable, str(TOOL), "0"]
    quick = os.environ | {"PYTEST_ADDOPTS": "-p no:schemathesis"}  # which takes a second to load
    return subprocess.run(command, cwd=folder, env=quick, capture_output=True, text=True, timeout=120, check=False)


def test_one_that_failed_beside_others_and_passes_alone_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, FINE, ONCE)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "  test_1.py::test_once"
    assert "races" in done.stdout


def test_one_that_fails_alone_too_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, FINE, ONCE, ALWAYS)
    assert done.returncode == 1
    assert "2 of them once more, alone" in done.stdout
    assert "passed alone" not in done.stdout


def test_more_failures_than_chance_explains_are_not_tried_again(tmp_path: Path) -> None:
    done = run(tmp_path, FINE, SIX)
    assert done.returncode == 1
    assert "alone" not in done.stdout


def test_files_that_cannot_be_read_are_a_failure_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, FINE, "import nothing_of_that_name")
    assert done.returncode != 0
    assert "passed alone" not in done.stdout
