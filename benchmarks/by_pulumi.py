"""Cells by Pulumi's engine: the provider's start, and up, a second up and destroy of 1 and of 64 cells.

    python benchmarks/by_pulumi.py [--quick] [--json]

By the engine's own command line, with all its starts, on an emulated AWS whose machines are states only. The peer is a
provider that does nothing, for the same program: what it takes is the engine's, the program's and Python's. So what is
above it is ours with the SDK's and the emulated cloud's, which share the machine here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from pulumi_ground import QUICK, emulated_aws, fabric, lacks_engine, machines  # the path comes first
from pulumi_plain import PARTS_ONLY, Plain

from grafos_core import ledger as ledgers
from grafos_core.fabric import OPERATOR_ACCOUNT
from grafos_core.money import from_cents
from grafos_core.paths import cache_home

ROOT = Path(__file__).parents[1]
OURS, IDLE = ROOT / ".venv" / "bin", ROOT / "benchmarks" / "idle_provider"
NAME = "pulumi-resource-grafos"
PORT_GOAL_S = 1.5
CAP_CENTS = 10**6
SIDE_BY_SIDE = "64"


class Figures(NamedTuple):
    """Seconds of the three commands."""

    up: float
    again: float
    destroy: float


def port_s(folder: Path) -> float:
    """From the start of a provider to the line with its port."""
    began = time.perf_counter()
    with subprocess.Popen(
        [str(folder / NAME), "127.0.0.1:1"],
        env={**os.environ, "PATH": _path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as provider:
        assert provider.stdout
        assert provider.stdout.readline()
        took = time.perf_counter() - began
        provider.kill()
    return took


def life(count: int, provider: Path) -> Figures:
    """Of a fleet in a fabric and a project of their own."""
    with private_home() as home, emulated_aws(home, times=QUICK) as aws:
        fabric().book(lambda ledger: ledgers.set_cap(ledger, OPERATOR_ACCOUNT, from_cents(CAP_CENTS)))
        plain = Plain(home / "project", {"provider": "aws", "region": "us-east-1", "count": str(count)}, PARTS_ONLY)
        about = home / "project" / "Pulumi.yaml"
        about.write_text(about.read_text().replace("path: .venv/bin", f"path: {provider}"))
        up = _timed(lambda: plain.up("--parallel", SIDE_BY_SIDE))
        assert len(machines(aws)) == (count if provider == OURS else 0)
        again = _timed(lambda: plain.up("--parallel", SIDE_BY_SIDE, "--expect-no-changes"))
        destroy = _timed(lambda: plain.destroy("--parallel", SIDE_BY_SIDE))
        assert aws.world() == ()
    return Figures(up, again, destroy)


@contextmanager
def private_home() -> Iterator[Path]:
    """Nothing of the person's but the caches."""
    kept, before = cache_home().parent, dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update({"HOME": folder, "XDG_DATA_HOME": f"{folder}/data", "XDG_CACHE_HOME": str(kept)})
        os.environ["PATH"] = _path()
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _path() -> str:
    return f"{OURS}{os.pathsep}{os.environ['PATH']}"  # the idle provider is for whichever Python comes first


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows of the table of all benchmarks, as they are measured."""
    yield table.compare(
        "provider, start to port",
        "one that does nothing",
        "s",
        lambda: port_s(OURS),
        lambda: port_s(IDLE),
        turns=1 if quick else 9,
        goal=table.Goal(figure=PORT_GOAL_S),
        warms=not quick,
    )
    if missing := lacks_engine():
        yield table.Row("up, up again and destroy by Pulumi", note=missing)
        return
    for count in (1,) if quick else (1, 64):
        turns = [(life(count, OURS), life(count, IDLE)) for _ in range(1 if quick else 3)]
        for name in Figures._fields:
            pairs = [(getattr(ours, name), getattr(idle, name)) for ours, idle in turns]
            yield table.paired(f"{name} of {count} by Pulumi", "a provider that does nothing", "s", pairs)


if __name__ == "__main__":
    table.run(__doc__, table_rows)
