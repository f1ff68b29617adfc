"""Each benchmark runs and fills its rows. What it measures is never asserted here: this machine may be busy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("start_up", "dev_up", "invocation", "durable", "placement", "provisioning", "emulators")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_says_what_it_measured(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["measured"]["at"]
    assert told["rows"]
    assert not [row["note"] for row in told["rows"] if row["note"].startswith("broke")]
    measured = [row for row in told["rows"] if row["ours"] is not None]
    assert measured, "no row has a figure of ours"
    for row in told["rows"]:
        assert row["peer"] is not None or row["note"] or not row["beside"], "a missing peer is told"
