"""The client's end of a session, at a scheduler that the test plays: what becomes of it when that does not go well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_scheduler import framing
from grafos_scheduler.service_client import ServiceClient, Session
from grafos_scheduler.service_door import Door
from grafos_scheduler.service_frames import SESSION_WINDOW_BYTES, SessionCredit
from grafos_scheduler.session_frames import SESSION_ALPN, SessionOpened, ToClient

CREDITS = 200
"""Windows: more than what systems keep of a connection that nobody reads."""


class PlayedScheduler(asyncio.Protocol):
    """Takes one connection, reads its first bytes and no more."""

    def __init__(self) -> None:
        self.spoke: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, _: bytes) -> None:
        if not self.spoke.done():
            self.spoke.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        self.lost.set_result(None)

    def says(self, *frames: ToClient) -> None:
        self.transport.write(b"".join(map(framing.encode_frame, frames)))


class Place:
    """A scheduler that is played, and a client that trusts it."""

    def __init__(self, folder: Path) -> None:
        now, ca_key = time.time(), trust.new_key()
        self.folder, self.ca_pem = folder, trust.make_ca(ca_key, "the test", now)
        (folder / "ca.pem").write_text(self.ca_pem)
        for kind, name in (("scheduler", "cell-1"), ("tenant", "acme")):
            key = trust.new_key()
            uri, csr = trust.spiffe_id("fab", kind, name), trust.make_csr(key, name)
            pem = trust.sign_csr(self.ca_pem, ca_key, csr, uri, now, 3600.0, ("127.0.0.1",))
            (folder / f"{kind}.pem").write_text(pem)
            (folder / f"{kind}-key.pem").write_bytes(trust.key_to_pem(key))

    async def meet(self, story: Callable[[asyncio.Task[Session], PlayedScheduler], object]) -> None:
        """Plays the story with a session that is being opened."""
        server_files = (self.folder / name for name in ("scheduler.pem", "scheduler-key.pem", "ca.pem"))
        context = trust.server_context(*server_files, [SESSION_ALPN])
        played = PlayedScheduler()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: played, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        door = Door(url, self.ca_pem, self.folder / "tenant.pem", self.folder / "tenant-key.pem", "a token")
        try:
            opening = loop.create_task(ServiceClient(door).open("web"))
            await played.spoke
            await story(opening, played)  # type: ignore[misc]
        finally:
            played.transport.abort()
            server.close()
            await server.wait_closed()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_whoever_gives_up_opening_a_session_leaves_no_connection(place: Place) -> None:
    async def story(opening: asyncio.Task[Session], played: PlayedScheduler) -> None:
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        async with asyncio.timeout(60.0):
            await played.lost

    asyncio.run(place.meet(story))


def test_who_waits_to_write_when_the_connection_breaks_hears_it_as_the_sessions_end(place: Place) -> None:
    async def story(opening: asyncio.Task[Session], played: PlayedScheduler) -> None:
        played.transport.pause_reading()
        played.says(SessionOpened("sess-1", "inst-1", 1))
        session = await opening
        played.says(*[SessionCredit("sess-1", SESSION_WINDOW_BYTES)] * CREDITS)
        writing = asyncio.create_task(session.write(bytes(CREDITS * SESSION_WINDOW_BYTES)))
        while not session._writer.transport.get_write_buffer_size():  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(0.01)
        played.transport.abort()
        with pytest.raises(GrafosError) as ended:
            await writing
        assert ended.value.code in ("cell_lost", "scheduler_unreachable")
        await session.close()

    asyncio.run(place.meet(story))


def test_a_frame_that_is_too_long_ends_the_session_in_words(place: Place) -> None:
    async def story(opening: asyncio.Task[Session], played: PlayedScheduler) -> None:
        played.says(SessionOpened("sess-1", "inst-1", 1))
        session = await opening
        played.transport.write(b"\xff\xff\xff\xff")
        with pytest.raises(GrafosError) as ended:
            async with asyncio.timeout(60.0):
                await session.read()
        assert ended.value.code == "limit_exceeded"
        await session.close()

    asyncio.run(place.meet(story))
