"""The bytes of disks that were uploaded: sparse files without a name, which go with the emulator whatever ends it."""

from __future__ import annotations

import os
import tempfile


class DiskFile:
    """One disk of a fixed size; what was never written is zeros, and takes no room."""

    def __init__(self, size_bytes: int) -> None:
        self._file = tempfile.TemporaryFile(prefix="grafos-disk-")  # noqa: SIM115  lives as long as the disk
        self._file.truncate(size_bytes)
        self.size_bytes = size_bytes

    def write(self, offset: int, data: bytes) -> None:
        """Thread-safe, as ``read``."""
        assert offset + len(data) <= self.size_bytes, "whoever writes has checked the place"
        os.pwrite(self._file.fileno(), data, offset)

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there on, fewer at the end."""
        return os.pread(self._file.fileno(), min(length, self.size_bytes - offset), offset)

    def close(self) -> None:
        """Gives the room back."""
        self._file.close()
