"""A machine's console: what its processes print, bounded on disk."""

from __future__ import annotations

import os
from pathlib import Path

MAX_CONSOLE_BYTES = 1 << 20  # a machine that prints for days must not fill the disk of its host
READ_BYTES = 65536


class Console:
    """The pipe that all processes of a machine print to, and the file that keeps the newest of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def say(self, text: str) -> None:
        """A line of the machine's own."""
        self._keep(f"[machine] {text}\n".encode())

    def relay(self) -> bool:
        """Keeps what was printed so far; False when there was nothing."""
        try:
            printed = os.read(self.read_end, READ_BYTES)
        except BlockingIOError:
            return False
        self._keep(printed)
        return bool(printed)

    def drain(self) -> None:
        while self.relay():
            pass

    def _keep(self, printed: bytes) -> None:
        try:
            self._append(printed)
        except OSError:
            pass  # the host's disk is full: what was printed is lost, the machine runs on

    def _append(self, printed: bytes) -> None:
        size = os.fstat(self._file).st_size
        if size + len(printed) > MAX_CONSOLE_BYTES:
            newest = os.pread(self._file, MAX_CONSOLE_BYTES // 2, max(size - MAX_CONSOLE_BYTES // 2, 0))
            os.ftruncate(self._file, 0)
            os.write(self._file, newest)
        os.write(self._file, printed)


def newest(path: Path, most_bytes: int) -> bytes:
    """The last ``most_bytes`` of a console's file; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - most_bytes, 0))
            return file.read(most_bytes)
    except FileNotFoundError:
        return b""
