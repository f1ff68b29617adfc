"""A client's end of a session at the scheduler's port: one connection that chose ``grafos-session/1`` by ALPN."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError, general_step
from grafos_scheduler import framing
from grafos_scheduler.authorize import BEARER, TENANT, Caller, Gate, authorize
from grafos_scheduler.handlers import check_standing
from grafos_scheduler.link import LinkServices
from grafos_scheduler.service_frames import SESSION_DATA_BYTES_MAX
from grafos_scheduler.session_frames import (
    FromClient,
    SessionHello,
    SessionOpened,
    SessionRefused,
    ToClient,
)
from grafos_scheduler.session_relay import Relayed, Session

GATE = Gate(frozenset({TENANT}), "runs:write")
HELLO_S_MAX = 10.0
"""From the connection to the end of the hello: whoever says it slower is cut off."""
HELLO_BYTES_MAX = 64 * 1024
FRAME_BYTES_MAX = SESSION_DATA_BYTES_MAX + 4096
"""The most that a frame of a client needs: its data, and a head of some names. There may be thousands of clients."""
UNREAD_BYTES_MAX = 1024 * 1024
"""What may wait for a client that does not read: a window, and as much again thrice for the frames of small pieces."""
STANDING_EVERY_S = 5.0
"""How often it is looked at whether the one who has the session still counts."""
FAREWELL_S_MAX = 5.0
"""For the last frames to leave, to a client that may not read them."""
LINGER_S_MAX = 2.0
"""For a client that still sends to hear that nobody takes it: closing at once could lose what it has not read yet."""

log = logging.getLogger("grafos.sessions")
_decoder = msgspec.msgpack.Decoder(FromClient)


class SessionDoor:
    """Takes the connections of clients; ``links`` has what a scheduler's relay works with."""

    def __init__(self, links: LinkServices) -> None:
        self._services = links
        self.links: set[SessionConnection] = set()

    def accept(self, transport: asyncio.Transport, peer: trust.Peer) -> asyncio.Protocol:
        """The protocol of a connection that chose sessions by ALPN."""
        connection = SessionConnection(self._services, peer, self.links)
        connection.connection_made(transport)
        return connection


class SessionConnection(asyncio.Protocol):
    """One connection of one client: a hello, then one session."""

    def __init__(self, services: LinkServices, peer: trust.Peer, siblings: set[SessionConnection]) -> None:
        self._services = services
        self._peer = peer
        self._siblings = siblings
        self._reader = framing.FrameReader(FRAME_BYTES_MAX)
        self._session: Session | None = None
        self._hello_bytes = 0
        self._is_over = False
        self._transport: asyncio.Transport
        self._patience: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # as in ``link``
        self._siblings.add(self)
        self._patience = asyncio.get_running_loop().call_later(HELLO_S_MAX, transport.abort)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            if self._session is None:
                self._hello_bytes += len(data)
                if self._hello_bytes > HELLO_BYTES_MAX:
                    raise GrafosError("limit_exceeded", f"a hello has at most {HELLO_BYTES_MAX} bytes")
            for body in self._reader.feed(data):
                self._take(_decoder.decode(body))
        except GrafosError as error:
            self._refuse(error)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._refuse(GrafosError("request_invalid", "a frame has no documented shape", why=str(error)))

    def eof_received(self) -> None:
        return None

    def connection_lost(self, _: Exception | None) -> None:
        self._is_over = True
        self._patience.cancel()
        self._siblings.discard(self)
        if self._session is not None:
            self._services.sessions.client_gone(self._session)

    # --- what the relay calls ---

    def pass_on(self, frame: Relayed) -> None:
        """What the instance says. Who does not read while that comes in very small pieces loses the session."""
        self._send(frame)
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._refuse(GrafosError("limit_exceeded", "too much waits for a client that does not read"))

    def over(self, *, lingers: bool = False) -> None:
        """The session is at its end; what was written still leaves. ``lingers``: the client may be sending, and closes
        the connection itself when it has read to the end."""
        if self._is_over:
            return
        self._is_over = True
        self._patience.cancel()
        if lingers:
            self._patience = asyncio.get_running_loop().call_later(LINGER_S_MAX, self._close)
        else:
            self._close()

    def _close(self) -> None:
        self._transport.close()
        self._patience = asyncio.get_running_loop().call_later(FAREWELL_S_MAX, self._transport.abort)

    # --- frames ---

    def _take(self, frame: FromClient) -> None:
        if self._is_over:
            return
        if isinstance(frame, SessionHello) != (self._session is None):
            raise GrafosError("request_invalid", "a session begins with one hello")
        if isinstance(frame, SessionHello):
            self._open(frame)
        elif self._session is not None:
            self._services.sessions.from_client(self._session, frame)

    def _open(self, hello: SessionHello) -> None:
        services = self._services
        caller = authorize(
            GATE,
            self._peer,
            BEARER + hello.api_token,
            fabric=services.settings.fabric,
            token_key=services.credentials.token_key,
            now=services.shell.clock.now(),
        )
        check_standing(services.shell.state, caller)
        self._session, generation = services.sessions.open(caller.name, hello, self)
        self._send(SessionOpened(self._session.session_id, self._session.instance_id, generation))
        self._look_again_later(caller)

    def _look_again_later(self, caller: Caller) -> None:
        left_s = caller.not_after - self._services.shell.clock.now()
        self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(
            min(STANDING_EVERY_S, max(0.0, left_s)), self._look_again, caller
        )

    def _look_again(self, caller: Caller) -> None:
        """A session is as good as a call: who is put out, or whose certificate has run out, has it no longer."""
        try:
            check_standing(self._services.shell.state, caller)
            if caller.not_after <= self._services.shell.clock.now():
                raise GrafosError("certificate_refused", f"the certificate of {caller.name} ran out")
        except GrafosError as error:
            self._refuse(error)
        else:
            self._look_again_later(caller)

    def _refuse(self, error: GrafosError) -> None:
        if not self._is_over:
            log.info("no session for %s: %s", self._peer.name, error)
            self._send(SessionRefused(error.code, error.what, error.next or general_step(error.code)))
            if self._session is not None:
                self._services.sessions.client_gone(self._session)
            self.over()

    def _send(self, frame: ToClient) -> None:
        if not self._transport.is_closing():
            self._transport.write(framing.encode_frame(frame))
