"""A `grafos` that tests fork is the one that a shell starts: same words, folder, variables and streams, same end."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from forked import GRAFOS, forks


@pytest.fixture
def variables(home: Path) -> dict[str, str]:
    found = {**os.environ, "COLUMNS": "80"}
    deadline = time.monotonic() + 60
    while not forks().fits(found):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def started(words: tuple[str, ...], cwd: Path, variables: dict[str, str], stdin: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [GRAFOS, *words], cwd=cwd, env=variables, input=stdin, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("nonsense",),
        ("help", "exit-codes"),
        ("runs", "ls", "--json"),
        ("fabric", "key", "import", "-"),
        ("validate",),
    ],
)
def test_both_do_and_say_the_same(words: tuple[str, ...], tmp_path: Path, variables: dict[str, str]) -> None:
    done = forks().run(words, tmp_path, variables, "no key", 60)
    assert (done.returncode, done.stdout, done.stderr) == started(words, tmp_path, variables, "no key")


def test_what_python_reads_first_is_not_for_a_fork(variables: dict[str, str]) -> None:
    assert not forks().fits({**variables, "PYTHONIOENCODING": "ascii"})


def test_in_a_shell_it_stands_for_the_program(tmp_path: Path, variables: dict[str, str]) -> None:
    shell = {**variables, "PATH": f"{forks().front()}{os.pathsep}{variables['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", "grafos nonsense; echo $?; grafos --version | cat"],
        cwd=tmp_path,
        env=shell,
        capture_output=True,
        text=True,
        check=True,
    )
    code, version = done.stdout.splitlines()
    assert (code, version.split()[0]) == ("2", "grafos")
    assert "error[usage]" in done.stderr
