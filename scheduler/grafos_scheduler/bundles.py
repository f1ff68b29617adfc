"""Software bundles on an orchestrator's disk, one file per SHA-256, for the machines that its operator makes.

A bundle holds nothing secret, and whoever fetches one was born with its hash: so anybody may fetch, and only the
operator puts. What anybody may do is bounded: so many at once, each for so long, in pieces as they are taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from grafos_core import paths
from grafos_core.errors import GrafosError
from grafos_core.ids import SHA256_PATTERN, sha256_of

BUNDLE_BYTES_MAX = 64 * 1024 * 1024
"""Three times what a bundle has today."""
UPLOAD_S_MAX = 600.0
"""For a bundle over an operator's slow line."""
KEPT_MAX = 8
"""Bundles kept: a few versions on two processors; the one that was put longest ago goes first."""
FETCHES_MAX = 32
"""Fetches at once; a machine that is turned away tries again."""
FETCH_S_MAX = 600.0
PIECE_BYTES = 256 * 1024


class BundleStore:
    """All bundles. The folder is made when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fetches = 0

    def size_of(self, sha256: str) -> int:
        """The bundle's size in bytes, or ``not_found``."""
        try:
            return (self._folder / sha256).stat().st_size
        except FileNotFoundError as error:
            raise _missing(sha256) from error

    async def put(self, sha256: str, data: bytes) -> None:
        """Returns when the bytes are on disk; ``blob_mismatch``, ``store_failed``."""
        seen = await asyncio.to_thread(sha256_of, data)
        if seen != sha256:
            raise GrafosError(
                "blob_mismatch", f"the bytes have the SHA-256 {seen}", where=sha256, next="upload the bundle again"
            )
        try:
            await asyncio.to_thread(self._write, sha256, data)
        except OSError as error:
            raise GrafosError(
                "store_failed",
                "the bundle could not be written",
                where=str(self._folder),
                why=str(error),
                next="check that the orchestrator's disk has room and is writable, then upload again",
            ) from error

    def fetch(self, sha256: str) -> tuple[int, AsyncGenerator[bytes]]:
        """The bundle's size, and its pieces; ``not_found``, or ``bundle_unavailable`` while too many fetch."""
        if self._fetches >= FETCHES_MAX:
            raise GrafosError("bundle_unavailable", f"{FETCHES_MAX} machines fetch a bundle now", next="try again")
        return self.size_of(sha256), self._pieces(self._folder / sha256)

    async def _pieces(self, path: Path) -> AsyncGenerator[bytes]:
        self._fetches += 1
        try:
            with path.open("rb") as file:
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    yield piece
        finally:
            self._fetches -= 1

    def _write(self, sha256: str, data: bytes) -> None:
        paths.private_folder(self._folder)
        paths.write_private(self._folder / sha256, data)
        kept = [file for file in self._folder.iterdir() if SHA256_PATTERN.fullmatch(file.name)]
        by_age = sorted(kept, key=lambda file: file.stat().st_mtime, reverse=True)
        for file in by_age[KEPT_MAX:]:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()


def _missing(sha256: str) -> GrafosError:
    return GrafosError("not_found", f"there is no bundle {sha256}", next="have the operator upload it")
