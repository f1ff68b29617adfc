"""`grafos dev up` to both daemons healthy over mutual TLS, and to the first tasklet's result.

    python benchmarks/dev_up.py [--quick] [--json]

Wall time of whole commands, interpreter included, each in a fresh project of a person who never ran grafos: keys are
made, the cell is claimed, a tenant is registered, and all six readiness signals are met when `dev up` ends. The first
result is `dev up` and then `deploy run` of a tasklet that is built and does nothing. The peer: two Python daemons that
import asyncio and ssl and listen, started one after the other, each when the one before says that it is ready.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import table

GRAFOS = str(Path(sys.executable).with_name("grafos"))
WAT = """(module
  (memory (export "memory") 1)
  (func (export "_grafos_tasklet_init") (param i32 i32))
  (func (export "_grafos_tasklet_run") (param i32 i32) (result i32) i32.const 0)
  (func (export "_grafos_tasklet_finalize")))
"""
MANIFEST = '[program]\nname = "bench"\nlanguage = "wat"\n[[tasklets]]\nname = "one"\nsource = "src/one.wat"\n'
MINIMAL = """
import asyncio, ssl, sys
async def main():
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""
HOMES = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")


def first_day(folder: Path) -> tuple[float, float]:
    """Seconds of `dev up`, and until the first run's answer, in a fresh project under ``folder``."""
    project = folder / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "one.wat").write_text(WAT)
    (project / "input").write_text("input")
    (project / "grafos.toml").write_text(MANIFEST)
    environment = os.environ | {name: str(folder / name) for name in HOMES}

    def grafos(*words: str) -> float:
        began = time.perf_counter()
        done = subprocess.run(
            [GRAFOS, *words], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"grafos {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
        return time.perf_counter() - began

    grafos("tasklet", "build")
    try:
        up = grafos("dev", "up")
        return up, up + grafos("deploy", "run", "--provider", "local", "--input", "input")
    finally:
        subprocess.run([GRAFOS, "dev", "down"], cwd=project, env=environment, capture_output=True, check=False)


def two_minimal_daemons() -> float:
    """Seconds until the second of two says that it is ready, the first having done so before."""
    children = []
    began = time.perf_counter()
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", MINIMAL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    took = time.perf_counter() - began
    for child in children:
        child.communicate()
    return took


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows, as they are measured."""
    until_result: list[float] = []
    turns = 1 if quick else 7

    def up() -> float:
        with tempfile.TemporaryDirectory() as folder:
            seconds, result = first_day(Path(folder))
        until_result.append(result)
        return seconds

    yield table.compare(
        "dev up, both daemons healthy",
        "two minimal daemons, one by one",
        "s",
        up,
        two_minimal_daemons,
        turns=turns,
        goal=table.Goal(3.0, 0.5),
        warms=not quick,
    )
    figure = statistics.median(until_result[-turns:])
    yield table.alone("dev up to the first result", "s", figure, goal=table.Goal(figure=1.5))


if __name__ == "__main__":
    table.run(__doc__, table_rows)
