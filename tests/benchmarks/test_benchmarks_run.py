"""Each benchmark runs and fills its rows. What it measures is never asserted here: this machine may be busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = (
    "start_up",
    "dev_up",
    "invocation",
    "durable",
    "placement",
    "provisioning",
    "emulators",
    "joining",
    "shared_memory",
    "services",
)
LONG = ("by_pulumi",)
"""Even a quick look at six runs of a real engine takes 20 s of processor time."""


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.deep) for name in LONG)])
def test_a_benchmark_runs_and_says_what_it_measured(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["measured"]["at"]
    assert told["rows"]
    assert not [row["note"] for row in told["rows"] if row["note"].startswith("broke")]
    measured = [row for row in told["rows"] if row["ours"] is not None]
    assert measured, "no row has a figure of ours"
    assert [row["goal"] for row in told["rows"] if row["goal"]], "no row has a goal"
    assert not [row["verdict"] for row in told["rows"] if row["verdict"]], "a quick look judges nothing"
    silent = [row for row in told["rows"] if row["beside"] and row["peer"] is None and not row["note"]]
    assert silent == [], "a missing peer is told"


def test_a_missing_peer_is_told_with_the_command_that_installs_it(tmp_path: Path) -> None:
    """In a fresh cache home there is none, and a quick look installs none."""
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--only", "start_up"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110, env=environment)
    notes = [row["note"] for row in json.loads(done.stdout.splitlines()[-1])["rows"] if row["note"]]
    commands = [note.partition(": ")[2].split() for note in notes]
    assert commands == [["python", "benchmarks/peers.py", name] for name in ("sky", "dstack")]
    for _, script, *words in commands:
        tried = [sys.executable, str(BENCHMARKS.parent / script), *words, "--help"]
        assert "Installs peers" in subprocess.run(tried, capture_output=True, text=True, check=True).stdout
