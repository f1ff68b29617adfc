"""What a live run starts: `grafos`, as a person would type it, and the claims; and what Ctrl-C does to them."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Self

from live_place import RunInfo

from grafos_core.errors import GrafosError

SUPPORT = Path(__file__).parent
COMMAND_LIMIT_S = 3600
PR_SET_PDEATHSIG = 1
STOPS_WITHIN_S = 300
"""A command that is stopped leaves what it made to the ending; the claims first take down what the last one made."""


class Interrupts:
    """Ctrl-C and SIGTERM. The first ends the run, which then takes down; while it does, only the second stops it."""

    def __init__(self) -> None:
        self.is_ending = False
        self._ignored = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._pressed)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pressed(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_ending and not self._ignored:
            self._ignored += 1
            print("still taking down; once more leaves the rest to the next `make live`", file=sys.stderr, flush=True)
            return
        self.is_ending = True
        raise KeyboardInterrupt


class Commands:
    """Starts programs in the run's own home, each in a session of its own, so that Ctrl-C reaches the run alone."""

    def __init__(self, info: RunInfo, interrupts: Interrupts) -> None:
        self._info = info
        folder = Path(info.folder)
        self.project = folder / "project"
        self.project.mkdir(parents=True, exist_ok=True)
        self._interrupts = interrupts
        self._env = {
            **os.environ,
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_STATE_HOME": str(folder / "state"),
            "GRAFOS_LIVE_FOLDER": info.folder,
            "GRAFOS_LIVE_RECORD": info.record_to,
        }

    @property
    def needs_orchestrator(self) -> bool:
        """A cell of AWS stands alone; those of other clouds join an orchestrator, which the run makes for itself."""
        return self._info.cloud != "aws"

    def provisioning(self, cell: str) -> tuple[str, ...]:
        """The words that make the run's cell."""
        return ("cloud", "provision", *self._there(), "--cell-id", cell)

    def planning(self) -> tuple[str, ...]:
        """The words that plan it, also while there is no orchestrator yet."""
        alone = ("--no-join",) if self.needs_orchestrator else ()
        return (*self.provisioning("live-plan"), *alone, "--dry-run")

    def raising(self) -> tuple[str, ...]:
        """The words that make the run's orchestrator."""
        return ("fabric", "up", "--on", *self._there())

    def _there(self) -> tuple[str, ...]:
        return (self._info.cloud, "--region", self._info.region, "--ttl", "1h")

    def grafos(self, *words: str) -> None:
        """Runs `grafos` before the person's eyes; raises when it fails."""
        if code := self.python(str(SUPPORT / "live_grafos.py"), *words):
            raise failure(words, code, "its words are above")

    def asked(self, *words: str) -> dict[str, Any]:
        """Runs `grafos --json`; gives its document, or raises the error that it tells."""
        code, out = self._run([sys.executable, str(SUPPORT / "live_grafos.py"), *words, "--json"], subprocess.PIPE)
        try:
            document: dict[str, Any] = json.loads(out)
        except json.JSONDecodeError:
            raise failure(words, code, out[-500:]) from None
        if code and "error" in document:
            raise GrafosError.from_wire(document["error"])
        return document

    def python(self, *words: str) -> int:
        """Runs a program of ours to its end; gives its exit code."""
        return self._run([sys.executable, *words], None)[0]

    def _run(self, command: list[str], stdout: int | None) -> tuple[int, str]:
        started = subprocess.Popen(
            command,
            cwd=self.project,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=stdout if stdout is not None else sys.stderr,
            start_new_session=True,
            preexec_fn=_end_with_the_run,  # noqa: PLW1509  the run has one thread
            text=True,
        )
        try:
            out, _ = started.communicate(timeout=COMMAND_LIMIT_S)
        except BaseException:
            self._stop(started)
            raise
        return started.returncode, out or ""

    @staticmethod
    def _stop(started: subprocess.Popen[str]) -> None:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(STOPS_WITHIN_S)
        except BaseException:
            started.kill()
            raise


def _end_with_the_run() -> None:
    """A command whose run was killed gets Ctrl-C from the kernel (prctl(2)), so that it stops where that is safe."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def failure(words: tuple[str, ...], code: int, why: str) -> GrafosError:
    """That a command failed."""
    return GrafosError("internal", f"`grafos {' '.join(words[:3])}` ended with {code}", why=why)
