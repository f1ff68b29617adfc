"""Runs the tests on several processes, then the few that failed once more, alone.

A test of real processes that shares a machine with others can lose a race that it wins alone, and what one test left
behind can come to light in the next. Both are faults, and both are told by name at the end; neither says that grafos
does not work. What fails alone as well does. So does a run in which more failed than chance explains.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FAILED = Path(".pytest_cache", "v", "cache", "lastfailed")
PYTEST = (sys.executable, "-m", "pytest", "--no-header")
TESTS_FAILED = 1  # pytest's exit code when tests ran and some failed; any other is about the run itself
AGAIN_MAX = 5  # of some 8,500: three of them raced on the worst day that was seen


def failed_tests() -> list[str]:
    """The node ids that pytest wrote down: of tests that failed, or whose fixtures did."""
    return sorted(json.loads(FAILED.read_text())) if FAILED.is_file() else []


def main(processes: str) -> int:
    beside = subprocess.run([*PYTEST, "--cache-clear", "-n", processes, "--dist", "worksteal"], check=False)
    failed = failed_tests()
    if beside.returncode != TESTS_FAILED or not 0 < len(failed) <= AGAIN_MAX:
        return beside.returncode
    print(f"\n{len(failed)} of them once more, alone:", flush=True)
    alone = subprocess.run([*PYTEST, *failed], check=False)
    if alone.returncode == 0:
        print("failed beside others and passed alone; each races, or was left something by another test:")
        print(*(f"  {test}" for test in failed), sep="\n", flush=True)
    return alone.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
