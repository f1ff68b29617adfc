"""CPU time of `grafos --help`, beside an empty Python and the peers' command lines.

    python benchmarks/start_up.py [--quick] [--json]

User and system time of each whole process as the kernel accounts it. The peers, SkyPilot and dstack, are installed at
first use, each into an environment of its own under the cache home; with ``--quick`` nothing is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import peers
import table

NOTHING = [sys.executable, "-c", "pass"]


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one run of ``command``, children included."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows, as they are measured."""
    grafos = str(Path(sys.executable).with_name("grafos"))
    turns, goal = 1 if quick else 5, table.Goal(0.1, 0.12)

    def help_of(program: str) -> table.Measure:
        return lambda: cpu_seconds([program, "--help"])

    yield table.compare(
        "grafos --help, CPU", "an empty Python", "s", help_of(grafos), lambda: cpu_seconds(NOTHING), turns=turns
    )
    for name in ("sky", "dstack"):
        home = peers.find(name, may_install=not quick)
        peer = help_of(str(home / name)) if home else None
        note = "" if home else peers.missing(name)
        yield table.compare(
            "grafos --help, CPU", f"{name} --help", "s", help_of(grafos), peer, turns=turns, goal=goal, note=note
        )


if __name__ == "__main__":
    table.run(__doc__, table_rows)
