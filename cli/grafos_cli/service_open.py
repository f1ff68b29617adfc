"""A local address for a service: each connection to it is a session with an instance that is healthy."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import TYPE_CHECKING

from grafos_core.errors import GrafosError
from grafos_scheduler.service_client import ServiceClient, Session
from grafos_scheduler.service_door import Door

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal

HERE = "127.0.0.1"
"""Only programs of this machine: whoever can connect speaks with our credentials."""
READ_BYTES = 64 * 1024
OPEN_TRIES = 3
"""A session that cannot be opened because an instance has just gone is asked for again at another."""
TRY_AGAIN_AFTER_S = 0.5


def serve(door: Door, name: str, port: int, terminal: Terminal) -> None:
    """Takes connections until it is stopped. ``port_taken``."""
    asyncio.run(_serve(door, name, port, terminal))


async def _serve(door: Door, name: str, port: int, terminal: Terminal) -> None:
    client = ServiceClient(door)
    under_way: set[asyncio.Task[None]] = set()

    async def carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _carry(client, name, reader, writer)
        except GrafosError as error:
            terminal.note(f"note: {error.code}: {error.what}")
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: asyncio tells of one of its own that Ctrl-C ends as if it had crashed.
        task = asyncio.create_task(carried(reader, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    try:
        server = await asyncio.start_server(connected, HERE, port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        what = f"another program listens on port {port}"
        if error.errno == errno.EACCES:
            what = f"port {port} is not for you to listen on"
        raise GrafosError("port_taken", what, where=f"{HERE}:{port}", next="choose another --port") from error
    taken = server.sockets[0].getsockname()[1]
    address = f"{HERE}:{taken}"
    url = f"http://{address}"
    terminal.emit({"url": url, "address": address, "service": name}, f"{url}\n")
    terminal.note(f"{name} is reached at {address} from this machine, by HTTP if it speaks that, until Ctrl-C")
    async with server:
        await server.serve_forever()


async def _carry(client: ServiceClient, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, from its session's opening to the end of both."""
    session = await _opened(client, name)
    upward = asyncio.create_task(_up(session, reader))
    try:
        while data := await session.read():
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
    except OSError:
        pass  # whoever connected has gone
    finally:
        upward.cancel()
        await session.close()


async def _opened(client: ServiceClient, name: str) -> Session:
    for _ in range(OPEN_TRIES - 1):
        try:
            return await client.open(name)
        except GrafosError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(TRY_AGAIN_AFTER_S)
    return await client.open(name)


async def _up(session: Session, reader: asyncio.StreamReader) -> None:
    """What the one who connected says; the end of it is told, what the service says goes on."""
    with contextlib.suppress(OSError, GrafosError):
        while data := await reader.read(READ_BYTES):
            await session.write(data)
        session.end_writing()
