"""The blobs that a cell needs: from its own disk, or over the link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grafos_cell.blobcache import BlobCache
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_scheduler import frames


class Fetcher:
    """Fetches each blob once, however many ask for it. ``send`` puts a frame on the link, or drops it without one."""

    def __init__(self, cache: BlobCache, send: Callable[[frames.UpFrame], None]) -> None:
        self._cache = cache
        self._send = send
        self._wanted: dict[str, asyncio.Future[bytes]] = {}

    async def fetch(self, sha256: str) -> bytes:
        """The blob, from the cache or over the link; waits for a link as long as the caller may.

        ``blob_missing`` when the scheduler has none, ``blob_mismatch`` when what came is another.
        """
        found = self._cache.get(sha256)
        if found is not None:
            return found
        if sha256 not in self._wanted:
            self._wanted[sha256] = asyncio.get_running_loop().create_future()
            self._send(frames.BlobWanted(sha256))
        # Several may wait for the same bytes; that one of them is stopped must not stop the others.
        return await asyncio.shield(self._wanted[sha256])

    def came(self, frame: frames.BlobData) -> None:
        """What was asked for has come, or there is none."""
        waiting = self._wanted.pop(frame.sha256, None)
        if waiting is None or waiting.done():
            return
        if not frame.found:
            _fail(waiting, GrafosError("blob_missing", f"the scheduler has no blob {frame.sha256}"))
        elif sha256_of(frame.data) != frame.sha256:
            _fail(waiting, GrafosError("blob_mismatch", f"what came is not blob {frame.sha256}"))
        else:
            self._cache.put(frame.sha256, frame.data)
            waiting.set_result(frame.data)

    def ask_again(self) -> None:
        """A new link is up: what was asked for over the one before may never come."""
        for sha256 in self._wanted:
            self._send(frames.BlobWanted(sha256))


def _fail(waiting: asyncio.Future[bytes], error: GrafosError) -> None:
    waiting.set_exception(error)
    waiting.exception()  # looked at, in case everybody who waited for it was stopped meanwhile
