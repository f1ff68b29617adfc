"""The cell's end of the cell link: dials, says hello, beats, and dials again with growing, jittered pauses.

The link carries whatever the scheduler says to the agent, and whatever the agent reports to the scheduler while it is
up; what is said while it is down is dropped, since both sides compare what they have at every new link.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from grafos_core.errors import GrafosError
from grafos_scheduler import frames, framing

PAUSE_FIRST_S = 0.05
PAUSE_MOST_S = 15.0
"""Between two dials. Half of each pause is left to chance, so that many cells do not come back in one wave."""
STEADY_S = 1.0
"""A link that held for this long was a good one: the next pause is the first again."""
CONNECT_S_MAX = 10.0
"""For connecting, the handshake and the scheduler's first frame, each."""
CLOSE_S_MAX = 2.0
"""For the other side's word that it has seen the link's end."""
UNHEARD_BEATS_MAX = 3
"""A link whose bytes are not acknowledged by the other machine for so many heartbeats is dead."""
READ_BYTES = 256 * 1024
FAULTS_OF_THIS_CELL = frozenset(
    {"certificate_refused", "generation_stale", "token_expired", "token_refused", "version_unsupported"}
)
"""Codes of a goodbye that dialling again at once cannot change."""

log = logging.getLogger("grafos.link")

_decoder = msgspec.msgpack.Decoder(frames.DownFrame)


class Listener(Protocol):
    """Whom the link talks to: the agent."""

    async def prepare(self) -> None:
        """Whatever must be so before a link is dialled; a ``GrafosError`` counts as a failed dial."""

    def ended(self, fault: GrafosError) -> None:
        """A link, or the try to get one, ended so."""

    def hello(self) -> frames.Hello: ...

    def heartbeat(self) -> frames.Heartbeat: ...

    async def linked(self) -> None:
        """The scheduler said welcome."""

    async def told(self, frame: frames.DownFrame) -> None:
        """The scheduler said something else. May wait, to slow the scheduler down."""


class Link:
    """Holds a link to the scheduler at ``url`` for as long as ``hold`` runs. ``context`` is asked at each dial.

    A replica that does not lead names the one that does, which is dialled next; when that fails, ``url`` again.
    """

    def __init__(
        self, url: str, context: Callable[[], ssl.SSLContext], listener: Listener, chance: random.Random
    ) -> None:
        self._address = self._home = _address_of(url)
        self._context = context
        self._listener = listener
        self._chance = chance
        self._writer: asyncio.StreamWriter | None = None
        self.protocol = 0
        """What both sides of the newest link agreed on; 0 before the first."""
        self._speaks = False
        self._outgoing: list[bytes] = []
        self._is_redialling = False

    def send(self, frame: frames.UpFrame) -> None:
        """Queues the frame if the link is up and ``speak`` was said on it, else drops it."""
        if self._speaks:
            self._write(frame)

    def speak(self) -> None:
        """From here on frames go out. Said when the first of them catches up with what ended while no link was up: that
        a lease was torn down must not be heard before how its run ended, which would then count for nothing.
        """
        self._speaks = self._writer is not None

    def redial(self) -> None:
        """Ends the link in good order, if it is up, and dials at once: there is a newer certificate to show."""
        if self._writer is not None:
            self._is_redialling = True
            self._flush()
            self._writer.close()

    async def hold(self) -> None:
        """Dials until cancelled. Never returns, and never dials twice without a pause unless it was told to."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began_at, self._is_redialling = loop.time(), False
            fault = await self._one_link()
            if self._is_redialling:
                failures = 0
                continue
            if self._is_sent_on(fault):
                continue
            self._listener.ended(fault)
            failures = 0 if loop.time() - began_at > STEADY_S else failures + 1
            pause_s = PAUSE_MOST_S if fault.code in FAULTS_OF_THIS_CELL else PAUSE_FIRST_S * 1.5 ** min(failures, 20)
            pause_s = min(PAUSE_MOST_S, pause_s) * self._chance.uniform(0.5, 1.0)
            log.info("the link ended: %s; dialling again in %.2f s", fault, pause_s)
            await asyncio.sleep(pause_s)

    def _is_sent_on(self, fault: GrafosError) -> bool:
        """Whether the leader is to be dialled at once. Only ``url`` sends on, so that nobody goes in circles."""
        was_home, self._address = self._address == self._home, self._home
        if fault.code != "not_leader" or not was_home:
            return False
        with contextlib.suppress(GrafosError):  # an address that is none helps nobody; this one is dialled again
            self._address = _address_of(fault.context.get("leader", ""))
        return self._address != self._home

    async def _one_link(self) -> GrafosError:
        """One link from dialling to its end; gives why it ended."""
        try:
            await self._listener.prepare()
            reader, writer = await self._dial()
        except GrafosError as error:
            return error
        except (OSError, TimeoutError) as error:
            return GrafosError("scheduler_unreachable", "the scheduler cannot be dialled", why=str(error))
        try:
            return await self._talk(reader, writer)
        except (OSError, TimeoutError, EOFError) as error:
            return GrafosError("scheduler_unreachable", f"the link broke ({type(error).__name__})", why=str(error))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return GrafosError("answer_invalid", "a frame has no documented shape", why=str(error))
        except GrafosError as error:
            return error
        finally:
            self._writer, self._speaks = None, False
            writer.transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._address
        async with asyncio.timeout(CONNECT_S_MAX):
            return await asyncio.open_connection(
                host, port, ssl=self._context(), limit=READ_BYTES, ssl_shutdown_timeout=CLOSE_S_MAX
            )

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> GrafosError:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != frames.LINK_ALPN:
            return GrafosError("answer_invalid", "what answers there does not speak the cell link")
        incoming = _Frames(reader)
        writer.write(framing.encode_frame(self._listener.hello()))
        async with asyncio.timeout(CONNECT_S_MAX):
            first = await incoming.next()
        if isinstance(first, frames.Goodbye):
            return _error_of(first)
        if not isinstance(first, frames.Welcome):
            return GrafosError("answer_invalid", f"the scheduler began with {type(first).__name__}")
        _watch_for_silence(writer, first.heartbeat_every_s)
        self._writer, self.protocol = writer, first.protocol
        beating = asyncio.create_task(self._beat(first.heartbeat_every_s))
        try:
            await self._listener.linked()
            while True:
                frame = await incoming.next()
                if isinstance(frame, frames.Goodbye):
                    return _error_of(frame)
                await self._listener.told(frame)
        finally:
            beating.cancel()

    async def _beat(self, every_s: float) -> None:
        while True:
            self._write(self._listener.heartbeat())
            await asyncio.sleep(every_s)

    def _write(self, frame: frames.UpFrame) -> None:
        """Queues the frame; what is said in one turn of the loop leaves in one piece."""
        if self._writer is not None and not self._writer.is_closing():
            if not self._outgoing:
                asyncio.get_running_loop().call_soon(self._flush)
            self._outgoing.append(framing.encode_frame(frame))

    def _flush(self) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"".join(self._outgoing))
        self._outgoing.clear()


class _Frames:
    """The frames that come over a stream, one at a time."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._cutter = framing.FrameReader()
        self._ready: list[bytes] = []

    async def next(self) -> frames.DownFrame:
        """The next frame; ``EOFError`` at the end, ``MsgspecError`` or ``limit_exceeded`` for what is none."""
        while not self._ready:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise EOFError("the scheduler closed the link")
            self._ready.extend(self._cutter.feed(data))
        frame: frames.DownFrame = _decoder.decode(self._ready.pop(0))
        return frame


def _address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "https" or not parts.hostname or not port:
        raise GrafosError("config_invalid", f"{url!r} is no scheduler's address", next="use https://ADDRESS:PORT")
    return parts.hostname, port


def _error_of(goodbye: frames.Goodbye) -> GrafosError:
    context = {"leader": goodbye.leader} if goodbye.leader else {}
    return GrafosError.from_wire({"code": goodbye.code, "what": goodbye.what, "context": context})


def _watch_for_silence(writer: asyncio.StreamWriter, heartbeat_every_s: float) -> None:
    """Lets the kernel end a connection whose other machine is gone: a heartbeat is always on its way to tell."""
    endpoint: socket.socket | None = writer.get_extra_info("socket")
    if endpoint is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        limit_ms = int(max(1.0, UNHEARD_BEATS_MAX * heartbeat_every_s) * 1000)
        endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)
