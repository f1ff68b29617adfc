"""What stands between a TLS connection and the application: who is at the other end, which protocol, and bounds.

uvicorn's HTTP protocol is used as it is, but for what it does not do by itself: the peer's certificate is read once
per connection, a connection that chose ``grafos-link/1`` by ALPN becomes a cell link, and a peer that sends endless
headers, or none, is cut off.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sized
from typing import Any, Protocol

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_scheduler.frames import LINK_ALPN
from grafos_scheduler.http_parts import Config, HttpToolsProtocol, RequestResponseCycle, ServerState
from grafos_scheduler.messages import CODE_HEADER, error_body
from grafos_scheduler.session_frames import SESSION_ALPN

HTTP_ALPN = "http/1.1"
CONNECTIONS_MAX = 1024
"""Open connections of all kinds; further ones are closed at once."""
ORCHESTRATOR_CONNECTIONS_MAX = 16_384
"""Of an orchestrator: a link for each of ten thousand cells, and room for whoever asks."""
STRANGERS_MAX = 128
"""Of these, connections without a certificate: whoever has none cannot keep those away who have one."""
HEAD_BYTES_MAX = 16 * 1024
"""Request line and headers together; the largest thing in them is an API token of at most 4 KiB."""
HEAD_S_MAX = 10.0
"""From the first byte of a request (or from the connection's start) to the end of its headers."""
KEEP_ALIVE_S = 75
"""An idle connection is kept a little longer than a client waits between two polls."""

Application = Callable[..., Any]


class LinkKeeper(Protocol):
    """Who takes the connections that chose the link: makes a protocol for each, and knows those that are open."""

    @property
    def links(self) -> Sized: ...

    def accept(self, transport: asyncio.Transport, peer: trust.Peer) -> asyncio.Protocol: ...


class Listener:
    """All connections of one port: makes a protocol for each, and ends them all."""

    def __init__(
        self,
        application: Application,
        keeper: LinkKeeper,
        connections_max: int = CONNECTIONS_MAX,
        sessions: LinkKeeper | None = None,
    ) -> None:
        self.keeper = keeper
        self.sessions = sessions
        self.strangers: set[GrafosProtocol] = set()
        self._connections_max = connections_max
        self.config = Config(
            application,
            http=GrafosProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self.config.load()
        self.server_state = ServerState()

    def protocol(self) -> asyncio.Protocol:
        return GrafosProtocol(self)

    def is_full(self) -> bool:
        sessions = len(self.sessions.links) if self.sessions is not None else 0
        return len(self.server_state.connections) + len(self.keeper.links) + sessions >= self._connections_max

    def has_room_for(self, peer: trust.Peer | None) -> bool:
        """Whether one more connection may be kept, of this peer or of one without a certificate."""
        return not self.is_full() and (peer is not None or len(self.strangers) < STRANGERS_MAX)

    def shut_down(self) -> None:
        """Closes idle connections; the others close after their answer."""
        for connection in list(self.server_state.connections):
            connection.shutdown()


class GrafosProtocol(HttpToolsProtocol):
    """One connection, until it is known to be a link."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener.config, listener.server_state, {}, asyncio.get_running_loop())
        self._listener = listener
        self._peer: trust.Peer | None = None
        self._is_http = False
        self._head_bytes = 0
        self._swallowed_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        try:
            der = tls.getpeercert(binary_form=True)
            self._peer = trust.peer_of(der) if der else None
        except GrafosError:
            # Signed by our CA, but for nobody we know: as good as no certificate.
            self._peer = None
        if not self._listener.has_room_for(self._peer):
            transport.abort()
        elif (keeper := self._keeper_of(tls.selected_alpn_protocol())) is None:
            self._is_http = True
            if self._peer is None:
                self._listener.strangers.add(self)
            super().connection_made(transport)
            self._expect_head()
        elif self._peer is None:
            transport.abort()
        else:
            transport.set_protocol(keeper.accept(transport, self._peer))

    def _keeper_of(self, chosen: str | None) -> LinkKeeper | None:
        """Who takes a connection that chose this by ALPN; None for HTTP."""
        if chosen == LINK_ALPN:
            return self._listener.keeper
        return self._listener.sessions if chosen == SESSION_ALPN else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        self._listener.strangers.discard(self)
        if self._is_http:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_http:
            return
        if not self._in_request():
            self._expect_head()
        # The parser keeps an unfinished header to itself, also one behind a body or behind a request that is still
        # under way; so what it has swallowed since it last told of anything is counted here.
        self._swallowed_bytes += len(data)
        super().data_received(data)
        if self._head_bytes + self._swallowed_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("the headers have no end")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self.scope["extensions"] = {"grafos.peer": {"peer": self._peer}}

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._head_arrived()
        self._swallowed_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._swallowed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._swallowed_bytes = self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser gave up; our shape of error, and the end of the connection."""
        over = self._head_bytes + self._swallowed_bytes > HEAD_BYTES_MAX
        error = (
            GrafosError("limit_exceeded", f"request line and headers have over {HEAD_BYTES_MAX} bytes")
            if over
            else GrafosError("request_invalid", "this is not HTTP/1.1", why=msg)
        )
        body = msgspec.json.encode(error_body(error))
        status = b"431 Request Header Fields Too Large" if over else b"400 Bad Request"
        headers = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        code = f"{CODE_HEADER}: {error.code}\r\n".encode()
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + headers + code + b"\r\n" + body)
        self.transport.close()

    def _in_request(self) -> bool:
        """Whether a request's headers are there and its answer is not yet complete."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _count_head(self, size: int) -> None:
        """Raising inside a callback makes the parser give up."""
        self._swallowed_bytes = 0
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("too many bytes of headers")

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S_MAX, self.transport.abort)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
