"""Leased blocks, on the cell's disk: one file a lease, of its full size from the first moment, all zero.

A block is read and written whole, by the daemon alone. It outlives the daemon, also one that was killed in the middle
of a write: what a process has handed to the kernel as one write within a page is there whole, or not at all. A run's
blocks are synced to the disk before its end is told.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from grafos_cell.abi import BLOCK_BYTES
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder

log = logging.getLogger("grafos.cell")


class BlockStore:
    """The files below ``folder``, by lease id. ``OSError`` comes through: the caller knows what it means there."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)

    def create(self, lease_id: str, size_bytes: int) -> None:
        """Makes the lease's blocks, zero and with their room on the disk taken; blocks that are there stay as they are.

        ``store_failed`` when there is no room for them.
        """
        try:
            with self._opened(lease_id, os.O_CREAT | os.O_RDWR) as file:
                os.posix_fallocate(file, 0, size_bytes)
        except OSError as error:
            why = error.strerror or str(error)
            raise GrafosError("store_failed", "the cell's disk has no room for the leased blocks", why=why) from error

    def read(self, lease_id: str, lba: int) -> bytes:
        with self._opened(lease_id, os.O_RDONLY) as file:
            return os.pread(file, BLOCK_BYTES, lba * BLOCK_BYTES)

    def write(self, lease_id: str, lba: int, data: bytes) -> None:
        with self._opened(lease_id, os.O_WRONLY) as file:
            os.pwrite(file, data, lba * BLOCK_BYTES)

    def sync(self, lease_id: str) -> None:
        """Returns when all that was written is on the disk."""
        with self._opened(lease_id, os.O_WRONLY) as file:
            os.fdatasync(file)

    def remove(self, lease_id: str) -> None:
        """The blocks are gone, with all that was in them; removing what is gone is harmless."""
        (self._folder / lease_id).unlink(missing_ok=True)

    def keep_only(self, lease_ids: Collection[str]) -> None:
        """Removes whatever else is there: the cell's rows were lost, or are those of an older copy of its disk."""
        for path in self._folder.iterdir():
            if path.name not in lease_ids:
                try:
                    path.unlink()
                except OSError as error:
                    log.error("%s belongs to no lease and cannot be removed: %s", path, error)

    @contextmanager
    def _opened(self, lease_id: str, flags: int) -> Iterator[int]:
        file = os.open(self._folder / lease_id, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            yield file
        finally:
            os.close(file)
