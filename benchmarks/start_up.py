"""CPU time of `grafos --help`, beside an empty Python and, where they are installed, the peers' command lines.

    python benchmarks/start_up.py [--runs 15] [PEER ...]      a peer is a path to a program, e.g. /opt/sky/bin/sky

User and system time of each whole process as the kernel accounts it, taken in turn so that a busy machine hits all
alike; the median of the runs, the lowest, and the ratio to the empty Python. No figure is a promise: ratios are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one run of ``command``, children included."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("peers", nargs="*", help="programs whose --help is run beside ours")
    options = parser.parse_args()
    grafos = str(Path(sys.executable).with_name("grafos"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "grafos --help": [grafos, "--help"],
        "grafos --version": [grafos, "--version"],
    } | {f"{Path(peer).name} --help": [peer, "--help"] for peer in options.peers}
    for command in commands.values():
        cpu_seconds(command)  # writes byte code and warms the page cache
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.runs):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command))
    empty = statistics.median(seconds["python -c pass"])
    print(f"{'command':<18} {'median':>9} {'lowest':>9} {'x empty':>8}   ({options.runs} runs, CPU seconds)")
    for name, runs in seconds.items():
        median = statistics.median(runs)
        print(f"{name:<18} {median:>9.3f} {min(runs):>9.3f} {median / empty:>8.1f}")


if __name__ == "__main__":
    main()
