"""A way over loopback that can be shut: nothing arrives then, and nobody is told; what was held back comes late."""

from __future__ import annotations

import asyncio
import contextlib
import threading

PIECE_BYTES = 64 * 1024
READY_S_MAX = 60.0


class Gate:
    """Carries connections to a port of this machine, in a thread of its own, until it is closed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="gate")
        self._under_way: set[asyncio.Task[None]] = set()
        self.port = 0
        self._loop: asyncio.AbstractEventLoop
        self._is_open: asyncio.Event
        self._over: asyncio.Event
        self._thread.start()
        assert self._ready.wait(READY_S_MAX), "the gate did not begin"

    def shut(self) -> None:
        self._do(self._is_open.clear)

    def open(self) -> None:
        self._do(self._is_open.set)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _do(self, what: object) -> None:
        """Returns once it is so."""
        done = threading.Event()

        def act() -> None:
            what()  # type: ignore[operator]
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(READY_S_MAX)

    async def _serve(self) -> None:
        self._loop, self._is_open, self._over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._is_open.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both ways of one connection; when one side has ended, so has the other."""
        with contextlib.suppress(OSError), contextlib.closing(writer):
            await self._is_open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            with contextlib.closing(far_writer):
                ways = [asyncio.create_task(self._copy(*way)) for way in ((reader, far_writer), (far_reader, writer))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE_BYTES):
                await self._is_open.wait()
                writer.write(data)
                await writer.drain()
            await self._is_open.wait()
