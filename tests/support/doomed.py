"""Processes that work on a cloud and may be killed at any moment: forked from one that has imported everything.

Run as a program it reads lines of JSON ({"home", "act", "environment"}), forks a process for each, tells its number and
how it ended. ``Nursery`` is the side of the test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Self

ACTS = ("make", "undo", "sweep", "recover")
LAG_S = 0.2
"""What the emulated clouds are believed to lag: less than a person would notice, more than none."""


class Nursery:
    """Starts the processes, kills them, and waits for them."""

    def __init__(self, provider: str, environment: dict[str, str]) -> None:
        self._provider, self._environment = provider, environment
        self._process = subprocess.Popen(
            [sys.executable, __file__, provider],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((*_support(), os.environ.get("PYTHONPATH", "")))},
        )
        assert self._read() == "ready"

    def run(self, act: str, home: Path, kill_after_s: float | None = None) -> bool:
        """Runs the act to its end, or kills it after so long; whether it came to its end. Raises if it failed."""
        asked = {"home": str(home), "act": act, "environment": self._environment}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        number = int(self._read())
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(number, signal.SIGKILL)  # not reaped yet, so the number is still its own
        self._process.stdin.write("reap\n")
        self._process.stdin.flush()
        status = int(self._read())
        assert status in (0, -signal.SIGKILL), f"{act} ended with {status}"
        return status == 0

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the process that forks has ended"
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _support() -> tuple[str, ...]:
    return (str(Path(__file__).parent),)


def _serve(provider: str) -> None:
    """The process that forks. Nothing in it has a thread."""
    import crash_sweep

    from grafos_connectors.registry import open_connector

    import_connector(provider)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        number = os.fork()
        if number == 0:
            os._exit(_work(asked, provider, crash_sweep, open_connector))
        print(number, flush=True)
        assert sys.stdin.readline() == "reap\n"
        _, status = os.waitpid(number, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def import_connector(provider: str) -> None:
    """Its SDK takes a second or two."""
    import importlib

    importlib.import_module(f"grafos_connectors.{provider}.connector")


def _work(asked: dict[str, Any], provider: str, crash_sweep: Any, open_connector: Any) -> int:
    from grafos_core.clock import SystemClock
    from grafos_core.fabric import open_fabric
    from grafos_stacks.direct import Hands
    from grafos_stacks.journal import Journal

    os.environ["XDG_DATA_HOME"] = asked["home"]
    try:
        clock = SystemClock()
        region = crash_sweep.REGIONS[provider]
        connector = open_connector(provider, region, environment=asked["environment"], clock=clock, listing_lag_s=LAG_S)
        fabric = open_fabric(clock)
        hands = Hands(fabric, OneRegion(connector, region), Journal(fabric, clock), clock, time.sleep)  # type: ignore[arg-type]
        assert asked["act"] in ACTS
        getattr(crash_sweep, asked["act"])(hands)
    except BaseException:  # noqa: BLE001  whatever it was, the test is told by the exit code
        traceback.print_exc()
        return 1
    return 0


class OneRegion:
    """A connector whose account has one region switched on, so that a look at all of them is quick."""

    def __init__(self, connector: Any, region: str) -> None:
        self._connector, self._region = connector, region

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def list(self, scope: Any) -> Any:
        return self._connector.list(type(scope)(scope.fabric, scope.regions or (self._region,)))


if __name__ == "__main__":
    _serve(sys.argv[1])
