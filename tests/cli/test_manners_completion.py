"""Completion: what a shell gets for a half-written line, from this disk alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import GRAFOS, grafos
from imported import HEAVY, imported_by

from grafos_cli.completion import SHELLS


def asked(line: str, cwd: Path, shell: str = "bash", **env: str) -> tuple[int, list[str]]:
    """The exit code, and the lines that the shell's script gets for that line, which ends with the word begun."""
    variables = {"_GRAFOS_COMPLETE": f"complete_{shell}", **env}
    if shell == "bash":
        variables |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    else:
        variables |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        variables |= {"_TYPER_COMPLETE_WORD_TO_COMPLETE": line.rsplit(" ", maxsplit=1)[-1]}
    answer = grafos(cwd=cwd, env=variables)
    assert answer.err == ""
    return answer.code, answer.out.split()


@pytest.fixture
def known(home: Path) -> Path:
    """A home with two cells and a run."""
    for name in ("cells/blue", "cells/black", "runs/run-1"):
        (home / "data" / "grafos" / "default" / name).mkdir(parents=True)
    return home


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("grafos dep", ["deploy"]),
        ("grafos cloud prov", ["provision"]),
        ("grafos cloud provision --max-", ["--max-hourly", "--max-ttl"]),
        ("grafos --json cloud show --cell-id ", ["black", "blue"]),
        ("grafos cloud show --cell-id blu", ["blue"]),
        ("grafos cloud provision a", ["aws", "azure"]),
        ("grafos runs show ", ["run-1"]),
        ("grafos new x --lang z", ["zig"]),
        ("grafos runs ls --str", ["--stream"]),
        ("grafos --color n", ["never"]),
        ("grafos help ex", ["exit-codes"]),
        ("grafos completion p", ["powershell"]),
    ],
)
def test_what_may_come_next(line: str, words: list[str], tmp_path: Path, known: Path) -> None:
    assert asked(line, tmp_path) == (0, words)


def test_regions_come_from_the_price_tables_of_this_machine(tmp_path: Path, home: Path) -> None:
    assert "eu-central-1" in asked("grafos cloud provision aws --region eu-", tmp_path)[1]
    (home / "data" / "grafos").mkdir(parents=True)
    (home / "data" / "grafos" / "prices.json").write_text(json.dumps({"rows": [{"region": "moon-1"}]}))
    assert asked("grafos cloud provision aws --region moo", tmp_path) == (0, ["moon-1"])
    (home / "data" / "grafos" / "prices.json").write_text("[]")
    assert asked("grafos cloud provision aws --region moo", tmp_path) == (0, [])


def test_each_shell_gets_its_own_form(tmp_path: Path, known: Path) -> None:
    line = "grafos cloud show --cell-id blu"
    assert asked(line, tmp_path, "fish") == (0, ["blue"])
    assert asked(line, tmp_path, "powershell")[1][0] == "blue:::"
    assert '"blue"' in asked(line, tmp_path, "zsh")[1][-1]


def test_a_line_with_a_word_that_is_none_gets_nothing(tmp_path: Path) -> None:
    assert asked("grafos clod prov", tmp_path) == (1, [])


def test_completing_asks_no_network_and_imports_nothing_heavy(tmp_path: Path, known: Path) -> None:
    line = {"_GRAFOS_COMPLETE": "complete_bash", "COMP_CWORD": "4", "COMP_WORDS": "grafos cloud provision --region eu"}
    names = imported_by(cwd=tmp_path, **line)
    assert "grafos_cli.completion" in names
    assert not names & HEAVY


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_its_shell_reads(shell: str, tmp_path: Path) -> None:
    script = grafos("completion", shell, cwd=tmp_path).out
    assert "_GRAFOS_COMPLETE" in script
    if program := shutil.which("pwsh" if shell == "powershell" else shell):
        check = ["-n"] if shell in ("bash", "zsh", "fish") else ["-NoProfile", "-File"]
        (tmp_path / "script.ps1").write_text(script)
        done = subprocess.run(
            [program, *check, str(tmp_path / "script.ps1")], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_bash_itself_completes_a_cell(tmp_path: Path, known: Path) -> None:
    program = (
        f'PATH="{GRAFOS.parent}:$PATH"; eval "$(grafos completion bash)"; COMP_WORDS=(grafos cloud show --cell-id bl);'
        'COMP_CWORD=4; _grafos_completion grafos; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["black", "blue"]


def test_a_shell_that_does_not_exist_is_told_the_nearest(tmp_path: Path) -> None:
    answer = grafos("completion", "bsh", cwd=tmp_path)
    assert (answer.code, answer.error_code) == (2, "usage")
    assert "did you mean 'bash'?" in answer.err
    assert grafos(cwd=tmp_path, env={"_GRAFOS_COMPLETE": "nonsense"}).code == 2
