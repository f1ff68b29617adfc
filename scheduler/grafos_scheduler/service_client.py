"""A client's way to services: their topology by REST, and sessions with them over the scheduler's port.

    client = ServiceClient(door)                       # door: address, pinned CA, certificate, key, API token
    session = await client.open("web")                 # with an instance that is healthy
    await session.write(b"hello"); data = await session.read()
    await session.close()

A session is a stream of bytes in both directions, like a connection; it lives and dies with its instance. Whoever opens
the next one gets another instance, so a client survives a failover by opening anew.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from grafos_core import trust
from grafos_core.errors import CODES, GrafosError
from grafos_scheduler import framing
from grafos_scheduler.service_door import Door
from grafos_scheduler.service_frames import (
    SESSION_DATA_BYTES_MAX,
    SESSION_WINDOW_BYTES,
    SessionCredit,
    SessionData,
    SessionEnd,
)
from grafos_scheduler.service_messages import Policy, ServiceView
from grafos_scheduler.service_resolver import Endpoint, resolve
from grafos_scheduler.session_frames import SESSION_ALPN, SessionHello, SessionOpened, SessionRefused, ToClient

OPEN_S_MAX = 10.0
"""From dialling to the answer to the hello."""
CLOSE_S_MAX = 1.0
"""For TLS to say goodbye."""
CACHE_TTL_S = 5.0
"""How long a resolved topology is used; the public design's number."""
READ_BYTES = 64 * 1024
ACTIVE = "active"

_decoder = msgspec.msgpack.Decoder(ToClient)


class Cached(NamedTuple):
    generation: int
    endpoints: tuple[Endpoint, ...]
    until: float


class ResolvedEndpointCache:
    """The topologies that were seen in the last five seconds. What is of an older generation never takes the place of
    what is of a newer one, and a service that turned out to have moved on is forgotten at once."""

    def __init__(self, clock: Callable[[], float], ttl_s: float = CACHE_TTL_S) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._kept: dict[str, Cached] = {}

    def get(self, name: str) -> Cached | None:
        """What is known of the service and still fresh."""
        known = self._kept.get(name)
        return known if known is not None and self._clock() < known.until else None

    def put(self, name: str, generation: int, endpoints: tuple[Endpoint, ...]) -> Cached:
        """Keeps a topology; gives the newest that is known."""
        known = self.get(name)
        if known is not None and known.generation > generation:
            return known
        self._kept[name] = Cached(generation, endpoints, self._clock() + self._ttl_s)
        return self._kept[name]

    def forget(self, name: str) -> None:
        self._kept.pop(name, None)


class ServiceResolver:
    """Chooses an instance by a cached topology. ``look`` fetches one from the scheduler."""

    def __init__(self, look: Callable[[str], Awaitable[ServiceView]], cache: ResolvedEndpointCache) -> None:
        self._look = look
        self._cache = cache
        self._turns: dict[str, int] = {}

    async def resolve(self, name: str, policy: Policy = Policy.ROUND_ROBIN) -> tuple[Endpoint, int]:
        """An endpoint, and the generation by which it was chosen; ``no_healthy_replica``, ``sessions_exhausted``."""
        known = self._cache.get(name)
        if known is None:
            view = await self._look(name)
            known = self._cache.put(name, view.generation, endpoints_of(view))
        turn = self._turns.get(name, 0)
        self._turns[name] = turn + 1
        return resolve(name, known.endpoints, policy, turn), known.generation

    def moved_on(self, name: str) -> None:
        """The scheduler says that the topology is another by now."""
        self._cache.forget(name)


def endpoints_of(view: ServiceView) -> tuple[Endpoint, ...]:
    """The instances of a topology that can take sessions."""
    return tuple(
        Endpoint(each.instance_id, each.cell_id, each.listener_port, each.sessions, view.spec.max_sessions)
        for each in view.instances
        if each.state == ACTIVE and each.connected
    )


class Session:
    """One session. Raises the code that it ended with: ``service_fenced``, ``cell_lost``, ``fuel_exhausted``, …"""

    def __init__(self, opened: SessionOpened, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.instance_id = opened.instance_id
        self.generation = opened.generation
        self._session_id = opened.session_id
        self._reader = reader
        self._writer = writer
        self._frames = framing.FrameReader()
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._credit = SESSION_WINDOW_BYTES
        self._has_credit = asyncio.Event()
        self._has_credit.set()
        self._over: GrafosError | None = None
        self._has_said_all = False
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def read(self) -> bytes:
        """The next bytes; empty at the end of what the service says."""
        data = await self._inbox.get()
        if data:
            self._send(SessionCredit(self._session_id, len(data)))
            return data
        self._inbox.put_nowait(b"")
        if self._over is not None and not self._has_said_all:
            raise self._over
        return b""

    async def write(self, data: bytes) -> None:
        """Sends the bytes; waits for room where the service does not read them."""
        view = memoryview(data)
        while view:
            await self._has_credit.wait()
            if self._over is not None:
                raise self._over
            piece = view[: min(SESSION_DATA_BYTES_MAX, self._credit)]
            self._credit -= len(piece)
            if not self._credit:
                self._has_credit.clear()
            self._send(SessionData(self._session_id, bytes(piece)))
            try:
                await self._writer.drain()
            except (OSError, ssl.SSLError) as error:
                raise self._broke(error) from error
            view = view[len(piece) :]

    def end_writing(self) -> None:
        """Tells the service that no more will come; what it says still arrives."""
        self._send(SessionEnd(self._session_id))

    async def close(self) -> None:
        """Ends the session, whatever is under way."""
        self._listening.cancel()
        await _closed(self._writer)

    def _send(self, frame: msgspec.Struct) -> None:
        if not self._writer.is_closing():
            self._writer.write(framing.encode_frame(frame))

    async def _listen(self) -> None:
        try:
            while self._over is None:
                data = await self._reader.read(READ_BYTES)
                if not data:
                    self._end(GrafosError("cell_lost", "the session broke: the scheduler closed the connection"))
                    return
                for body in self._frames.feed(data):
                    self._take(_decoder.decode(body))
        except GrafosError as error:
            self._end(error)
        except (OSError, ssl.SSLError, msgspec.MsgspecError) as error:
            self._broke(error)

    def _take(self, frame: ToClient) -> None:
        if isinstance(frame, SessionData):
            self._inbox.put_nowait(frame.data)
        elif isinstance(frame, SessionCredit):
            self._credit += frame.n_bytes
            self._has_credit.set()
        elif isinstance(frame, SessionEnd) and not frame.code:
            self._has_said_all = True
            self._inbox.put_nowait(b"")
        elif isinstance(frame, SessionEnd | SessionRefused):
            self._end(_error(frame.code, frame.what if isinstance(frame, SessionRefused) else "the session has ended"))

    def _broke(self, error: Exception) -> GrafosError:
        return self._end(GrafosError("scheduler_unreachable", "the session broke", why=str(error)))

    def _end(self, error: GrafosError) -> GrafosError:
        """Ends it so, if it has not ended before; gives what it ended with."""
        if self._over is None:
            # What the service has said to its end is whole, whatever becomes of the connection then.
            self._over = error
            self._inbox.put_nowait(b"")
            self._has_credit.set()
        return self._over


class ServiceClient:
    """Opens sessions with the services of one tenant at one scheduler."""

    def __init__(self, door: Door, resolver: ServiceResolver | None = None) -> None:
        parts = urlsplit(door.url)
        self._address, self._port = parts.hostname or "", parts.port or 443
        self._door = door
        self._resolver = resolver
        self._context = trust.client_context(door.ca_pem, door.certificate, door.key)
        self._context.set_alpn_protocols([SESSION_ALPN])

    async def open(self, name: str, policy: Policy = Policy.ROUND_ROBIN) -> Session:
        """A session with an instance of the service; the refusal of the scheduler, or ``scheduler_unreachable``.

        With a resolver the instance is chosen here; where its topology is too old, once more by a fresh one.
        """
        if self._resolver is None:
            return await self._open(SessionHello(name, self._door.api_token, policy))
        for attempt in (1, 2):
            endpoint, generation = await self._resolver.resolve(name, policy)
            try:
                return await self._open(
                    SessionHello(name, self._door.api_token, policy, endpoint.instance_id, generation)
                )
            except GrafosError as error:
                self._resolver.moved_on(name)
                if attempt == 2 or error.code not in ("generation_stale", "no_healthy_replica", "sessions_exhausted"):
                    raise
        raise AssertionError("the second attempt returns or raises")

    async def _open(self, hello: SessionHello) -> Session:
        try:
            async with asyncio.timeout(OPEN_S_MAX):
                reader, writer = await asyncio.open_connection(self._address, self._port, ssl=self._context)
                try:
                    writer.write(framing.encode_frame(hello))
                    answer = await _first_frame(reader)
                except BaseException:
                    writer.transport.abort()  # nobody else knows of it
                    raise
        except (TimeoutError, OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            raise GrafosError(
                "scheduler_unreachable",
                "the scheduler did not answer",
                where=self._door.url,
                why=str(error) or type(error).__name__,
                next="check that it runs, and that it is of a version that has services",
            ) from error
        if isinstance(answer, SessionOpened):
            return Session(answer, reader, writer)
        await _closed(writer)
        if isinstance(answer, SessionRefused):
            raise _error(answer.code, answer.what, answer.next)
        raise GrafosError("answer_invalid", "the scheduler's answer is none to a hello", where=self._door.url)


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Closes the connection; one that the other side has broken is gone either way."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_S_MAX):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except (OSError, ssl.SSLError):
        pass


async def _first_frame(reader: asyncio.StreamReader) -> ToClient:
    """The answer to the hello, alone: what follows it stays in the stream."""
    size = int.from_bytes(await reader.readexactly(framing.FRAME_HEAD_BYTES), "big")
    if size > SESSION_WINDOW_BYTES:
        raise GrafosError("answer_invalid", "the scheduler's answer is too long")
    try:
        answer: ToClient = _decoder.decode(await reader.readexactly(size))
        return answer
    except msgspec.MsgspecError as error:
        raise GrafosError("answer_invalid", "the scheduler's answer has no documented shape", why=str(error)) from error


def _error(code: str, what: str, next: str = "") -> GrafosError:
    if code not in CODES:
        return GrafosError("answer_invalid", f"the session ended with no code that there is: {code[:60]}")
    return GrafosError(code, what, next=next)
