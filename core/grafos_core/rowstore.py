"""Where a process keeps its durable rows: one small seam, so that SQLite and PostgreSQL are alike.

    load(without)               every row, once, at the start, but for kinds that stay on disk
    await read(kind, key)       one durable row of those
    await read_from(kind, ...)  some of them, by key
    await commit(batch, epoch)  returns when the batch is durable, all or none, and never before

Batches become durable in the order in which ``commit`` was called, so an empty batch waits for all that were handed in
before it; a reader that must not show what a crash could take back awaits that. ``epoch`` is the fence: opening a store
takes a new one, and a commit in the name of an older one is refused with ``store_fenced``. After any failure the store
refuses everything (``store_failed``): memory is then ahead of the disk, and only a restart brings them together.

Rows are written by one thread that takes whatever has gathered while it wrote the batch before: group commit, so that
many waiters share one sync of the disk.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from grafos_core.changes import Batch, RowCodec
from grafos_core.errors import GrafosError
from grafos_core.rowfile import RowFile, RowMemory

GROUP_BATCHES_MAX = 512
"""Batches in one transaction: beyond this the gain is small (measured) and the waiting grows."""

StoredRow = tuple[str, str, Any]


class RowKeeper(Protocol):
    """Where a ``GroupStore`` keeps its rows, and what it asks there, each call until it is done. ``RowFile`` is one.

    One thread at a time uses it, and one more may ``read``; ``commit`` is as that of ``RowFile``.
    """

    def take(self) -> int: ...

    def load(self, without: Collection[str] = ()) -> Iterable[StoredRow]: ...

    def read(self, kind: str, key: str) -> Any: ...

    def read_from(self, kind: str, key: str, count: int) -> list[tuple[str, Any]]: ...

    def commit(self, changes: Batch, epoch: int) -> None: ...

    def close(self) -> None: ...


class Store(Protocol):
    """What a shell around a pure decider needs; a ``GroupStore``, or ``MemoryStore`` for tests."""

    @property
    def epoch(self) -> int:
        """The epoch that this opening took."""
        ...

    def load(self, without: Collection[str] = ()) -> Iterable[StoredRow]:
        """Every durable row as ``(kind, key, row)``, but for the kinds in ``without``; ``store_invalid`` if one
        cannot be read."""
        ...

    async def read(self, kind: str, key: str) -> Any:
        """One durable row, or None."""
        ...

    async def read_from(self, kind: str, key: str, count: int) -> list[tuple[str, Any]]:
        """At most ``count`` durable rows of one kind as ``(key, row)``, by key, the first at ``key`` or after it; None
        for one that does not decode."""
        ...

    async def commit(self, batch: Batch, epoch: int) -> None:
        """Returns when ``batch`` and all before it are durable; else ``store_fenced`` or ``store_failed``."""
        ...

    async def close(self) -> None:
        """Writes what was handed in and lets go. Closing twice is harmless."""
        ...


class MemoryStore:
    """The twin in memory. What it writes outlives it in ``memory``, which is its disk."""

    def __init__(self, memory: RowMemory) -> None:
        self._memory = memory
        self._failed: GrafosError | None = None
        self.epoch = memory.take()

    def load(self, without: Collection[str] = ()) -> Iterable[StoredRow]:
        return self._memory.load(without)

    async def read(self, kind: str, key: str) -> Any:
        return self._memory.read(kind, key)

    async def read_from(self, kind: str, key: str, count: int) -> list[tuple[str, Any]]:
        return self._memory.read_from(kind, key, count)

    async def commit(self, batch: Batch, epoch: int) -> None:
        if self._failed is not None:
            raise _refusing(self._failed)
        try:
            self._memory.commit(batch, epoch)
        except GrafosError as error:
            self._failed = error
            raise

    async def close(self) -> None:
        self._failed = _CLOSED


class GroupStore:
    """Rows that one thread writes in groups. Owns what keeps them, and takes its next epoch."""

    def __init__(self, keeper: RowKeeper) -> None:
        self._keeper = keeper
        self.epoch = keeper.take()
        self._waiting: queue.SimpleQueue[_Waiter | None] = queue.SimpleQueue()
        self._reading = threading.Lock()
        self._failed: GrafosError | None = None
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._writer.start()

    def load(self, without: Collection[str] = ()) -> Iterable[StoredRow]:
        return self._keeper.load(without)

    async def read(self, kind: str, key: str) -> Any:
        return await asyncio.to_thread(self._read, kind, key)

    async def read_from(self, kind: str, key: str, count: int) -> list[tuple[str, Any]]:
        return await asyncio.to_thread(self._read_from, kind, key, count)

    async def commit(self, batch: Batch, epoch: int) -> None:
        if epoch != self.epoch:
            raise GrafosError("store_fenced", f"epoch {epoch} is not that of this store ({self.epoch})")
        if self._failed is not None or self._closed:
            raise _refusing(self._failed or _CLOSED)
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.put(_Waiter(batch, loop, written))
        await written

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            await asyncio.to_thread(self._writer.join)
            self._keeper.close()

    def _read(self, kind: str, key: str) -> Any:
        with self._reading:
            return self._keeper.read(kind, key)

    def _read_from(self, kind: str, key: str, count: int) -> list[tuple[str, Any]]:
        with self._reading:
            return self._keeper.read_from(kind, key, count)

    def _write(self) -> None:
        """The writer thread: takes a group, writes it and tells its waiters together, until it is told to end."""
        ends = False
        while not ends:
            group, ends = self._next_group()
            error = _refusing(self._failed) if self._failed is not None else self._write_group(group)
            self._failed = self._failed or error
            for loop in {waiter.loop for waiter in group}:
                loop.call_soon_threadsafe(_tell, [waiter.written for waiter in group if waiter.loop is loop], error)

    def _next_group(self) -> tuple[list[_Waiter], bool]:
        """Waits for the first and takes what else is there already; the flag says that no more will come."""
        group: list[_Waiter] = []
        waiter = self._waiting.get()
        while waiter is not None:
            group.append(waiter)
            if len(group) == GROUP_BATCHES_MAX or self._waiting.empty():
                return group, False
            waiter = self._waiting.get()
        return group, True

    def _write_group(self, group: list[_Waiter]) -> GrafosError | None:
        try:
            self._keeper.commit(tuple(change for waiter in group for change in waiter.batch), self.epoch)
        except GrafosError as error:
            return error
        except Exception as bug:  # noqa: BLE001 - whatever it was, the waiters must hear of it and nothing more be taken
            return GrafosError("store_failed", "the state could not be written", why=repr(bug))
        return None


class _Waiter(NamedTuple):
    batch: Batch
    loop: asyncio.AbstractEventLoop
    written: asyncio.Future[None]


def open_sqlite(path: Path, codec: RowCodec, noun: str) -> GroupStore:
    """Opens or makes the store in ``path`` (0600) and takes the next epoch. ``store_invalid``, ``schema_newer``.

    ``noun`` names the file in messages ("scheduler's store").
    """
    file = RowFile(path, codec, noun=noun)
    try:
        return GroupStore(file)
    except BaseException:
        file.close()
        raise


def _tell(waiters: list[asyncio.Future[None]], error: GrafosError | None) -> None:
    for written in waiters:
        if written.cancelled():
            continue
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)


_CLOSED = GrafosError("store_failed", "the store is closed")


def _refusing(earlier: GrafosError) -> GrafosError:
    """Under the code of what went wrong first, whichever of those who wait hears of it first."""
    return GrafosError(
        earlier.code,
        "the store takes nothing more: an earlier write failed, or it is closed",
        why=earlier.what,
        next="start the program again; all that was acknowledged is there",
    )
