"""`grafos` at a pseudo-terminal, with somebody who reads and types."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

from command_line import GRAFOS, Person

UNTIL_S = 60


class Screen:
    """`grafos` at a pseudo-terminal: what it wrote, and a keyboard."""

    def __init__(self, person: Person, *words: str, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            [str(GRAFOS), *words],
            cwd=person.project,
            env={**os.environ, **person.env, "TERM": "xterm", "COLUMNS": "100", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, wanted: str) -> None:
        """Reads until the text is there."""
        deadline = time.monotonic() + UNTIL_S
        while wanted not in self.text:
            assert self._read(), f"{wanted!r} never came:\n{self.text}"
            assert time.monotonic() < deadline, self.text

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Reads to the end; the exit code."""
        while self._read():
            pass
        os.close(self._ours)
        return self.process.wait(UNTIL_S)

    def _read(self) -> bool:
        select.select([self._ours], [], [], UNTIL_S)
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other side is closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)
