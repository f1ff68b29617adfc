"""Modules and inputs that this cell has fetched: one file per SHA-256, bounded, and checked at every use.

A cache and nothing more: whatever is lost or damaged is fetched again, so nothing is synced.
"""

from __future__ import annotations

import os
from pathlib import Path

from grafos_core import paths
from grafos_core.ids import SHA256_PATTERN, sha256_of

CACHE_BYTES_MAX = 512 * 1024 * 1024
"""Some dozens of the largest modules, thousands of common ones."""


class BlobCache:
    """The cache in ``folder``."""

    def __init__(self, folder: Path, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._folder = paths.private_folder(folder)
        self._bytes_max = bytes_max

    def get(self, sha256: str) -> bytes | None:
        """The bytes with that hash, or None."""
        path = self._folder / sha256
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        if sha256_of(data) != sha256:
            path.unlink(missing_ok=True)
            return None
        return data

    def put(self, sha256: str, data: bytes) -> None:
        """Keeps the bytes, and lets go of what was used longest ago. A disk that refuses them is no harm."""
        draft = self._folder / f".{sha256}.{os.getpid()}"
        try:
            self._make_room(len(data))
            draft.write_bytes(data)
            draft.replace(self._folder / sha256)
        except OSError:
            draft.unlink(missing_ok=True)

    def _make_room(self, wanted_bytes: int) -> None:
        kept = [(file.stat(), file) for file in self._folder.iterdir() if SHA256_PATTERN.fullmatch(file.name)]
        excess = sum(facts.st_size for facts, _ in kept) + wanted_bytes - self._bytes_max
        for facts, file in sorted(kept, key=lambda entry: entry[0].st_mtime):
            if excess <= 0:
                return
            file.unlink(missing_ok=True)
            excess -= facts.st_size
