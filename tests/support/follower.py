"""A `grafos` command that follows something, with what it printed so far."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable

import documents_held
from command_line import Person

UNTIL_S = 60


class Follower:
    """Reads in a thread of its own, so that the command never waits for its reader."""

    def __init__(self, person: Person, *words: str) -> None:
        self._words = words
        self._process: subprocess.Popen[str] = person.starts(*words)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, wanted: Callable[[list[str]], object]) -> None:
        deadline = time.monotonic() + UNTIL_S
        while not wanted(self.lines):
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)

    def stop(self) -> tuple[int, str]:
        """Ctrl-C, if it has not ended; exit code and stderr. What it printed is held against its schema."""
        self._process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> tuple[int, str]:
        code = self._process.wait(UNTIL_S)
        self._reader.join(60)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        err = self._process.stderr.read()
        self._process.stdout.close()
        self._process.stderr.close()
        if "--json" in self._words:
            documents_held.hold(self._words, "\n".join(self.lines))
        return code, err
