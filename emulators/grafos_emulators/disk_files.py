"""The bytes of disks that were uploaded: sparse files without a name, which go with the emulator whatever ends it."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path


class DiskFile:
    """One disk of a fixed size; what was never written is zeros, and takes no room. It goes when nobody has it."""

    def __init__(self, size_bytes: int) -> None:
        self._file, path = tempfile.mkstemp(prefix="grafos-disk-")
        weakref.finalize(self, os.close, self._file)
        Path(path).unlink()
        os.truncate(self._file, size_bytes)
        self.size_bytes = size_bytes

    def fileno(self) -> int:
        """The open file, for a process that reads it whole."""
        return self._file

    def write(self, offset: int, data: bytes) -> None:
        """Thread-safe, as ``read``."""
        assert offset + len(data) <= self.size_bytes, "whoever writes has checked the place"
        os.pwrite(self._file, data, offset)

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there on, fewer at the end."""
        return os.pread(self._file, min(length, self.size_bytes - offset), offset)
