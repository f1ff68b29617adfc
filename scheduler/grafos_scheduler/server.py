"""The scheduler's HTTP side: one small ASGI application over the table of routes.

Every request goes the same way: find the row, let the caller prove itself, read at most the allowed bytes, check them
against the row's types, call the handler, encode. Whatever goes wrong is answered in the one shape of errors, and
nothing of a traceback leaves the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_scheduler import messages
from grafos_scheduler.authorize import OPERATOR, Caller, authorize
from grafos_scheduler.console import paths
from grafos_scheduler.credentials import Credentials
from grafos_scheduler.handlers import Request, Services, Stream, check_standing
from grafos_scheduler.route import Answer, Route
from grafos_scheduler.routes import ROUTES, find_route

QUERY_BYTES_MAX = 2048
QUERY_FIELDS_MAX = 16
AUTHORIZATION_BYTES_MAX = 5000
"""An API token has at most 4096 characters."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

DOCUMENTED = "send what /openapi.json says of this route"
BODY_READ = "grafos.body_read"
"""Set in the scope once the whole body was received."""

log = logging.getLogger("grafos.server")

_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in {route.body for route in ROUTES} if kind not in {None, bytes}
}


class Application:
    """ASGI 3. ``tls`` is the listener's context, which is tightened when the claim is closed."""

    def __init__(self, services: Services, tls: ssl.SSLContext) -> None:
        self._services = services
        self._tls = tls

    @functools.cached_property
    def _console(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """Made when somebody looks: until then its templates cost nothing."""
        from grafos_scheduler.console.app import Console

        return Console(self._services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"].startswith(paths.BELOW):
                await self._console(scope, receive, send)
                return
            route, answer = await self._answer(scope, receive)
            if isinstance(answer, Stream):
                await _send_stream(send, route.media_type, answer)
                return
            await send_answer(send, route.media_type, answer)
        except GrafosError as error:
            await send_error(scope, send, error)
        except Exception:  # a bug of ours: the log has it whole, the caller learns only that it is one
            log.exception("%s %s failed", scope["method"], scope["path"])
            await send_error(scope, send, GrafosError("internal", "the scheduler could not handle the request"))

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Route, Answer]:
        route, values = find_route(scope["method"], scope["path"])
        caller = await self._admit(route, scope)
        mode = self._services.settings.mode
        if route.only not in ("", mode):
            raise GrafosError(
                "unsupported",
                f"this is for a scheduler of mode {route.only}, and this one is a {mode}",
                next=f"ask the {route.only}",
            )
        query, body = _read_query(route, scope["query_string"]), await _read_body(route, scope, receive)
        if caller is not None:
            check_standing(self._services.shell.state, caller)  # who sends slowly may have been put out meanwhile
        client = scope["client"][0] if scope["client"] else ""
        request = Request(caller=caller, client=client, path=values, query=query, body=body)
        return route, await route.handler(self._services, request)

    async def _admit(self, route: Route, scope: Scope) -> Caller | None:
        """The caller, proved; the operator's first call closes the claim before anything else happens."""
        if route.gate is None:
            return None
        caller = authorize(
            route.gate,
            scope["extensions"]["grafos.peer"]["peer"],
            header(scope, b"authorization"),
            fabric=self._services.settings.fabric,
            token_key=self._services.credentials.token_key,
            now=self._services.shell.clock.now(),
        )
        check_standing(self._services.shell.state, caller)
        if caller.kind == OPERATOR and not self._services.desk.is_closed:
            await self._services.desk.close()
            demand_certificates(self._services, self._tls)
        return caller


def listener_context(services: Services, alpn: list[str]) -> ssl.SSLContext:
    """The port's TLS: while the scheduler is unclaimed it asks for a client certificate."""
    folder = services.credentials.folder
    context = trust.server_context(folder / "server.pem", folder / "server-key.pem", folder / "ca.pem", alpn)
    # Without tickets no session is resumed, and so every connection proves its certificate anew.
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    if services.desk.is_closed:
        demand_certificates(services, context)
    return context


def renew_certificate(credentials: Credentials, now: float, context: ssl.SSLContext) -> None:
    """Renews what clients see on the port if it is time to; holds for every connection made from now on."""
    if credentials.renew_server(now):
        folder = credentials.folder
        context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
        log.info("the server's certificate was renewed")


def demand_certificates(services: Services, context: ssl.SSLContext) -> None:
    """Holds for every connection made from now on: one of our CA, or of the fabric's key, whose holder may have lost
    the others. At an orchestrator a certificate stays a matter of the route: a cell that enrols has none yet."""
    if not services.settings.is_orchestrator:
        context.load_verify_locations(
            cadata=services.credentials.door(services.desk.fabric_key, services.shell.clock.now())
        )
        context.verify_mode = ssl.CERT_REQUIRED


def header(scope: Scope, name: bytes) -> str:
    """The header's value, or "" if it is missing; twice the same is nobody's honest request."""
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1 or any(len(value) > AUTHORIZATION_BYTES_MAX for value in values):
        raise GrafosError("request_invalid", f"the header {name.decode()} comes twice or is too long")
    return values[0].decode("latin-1") if values else ""


def _read_query(route: Route, text: bytes) -> msgspec.Struct | None:
    if not text and route.query is None:
        return None
    if len(text) > QUERY_BYTES_MAX:
        raise GrafosError("limit_exceeded", f"the query has over {QUERY_BYTES_MAX} bytes")
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, strict_parsing=bool(text), max_num_fields=QUERY_FIELDS_MAX
        )
        fields = dict(pairs)
        if len(fields) != len(pairs) or (fields and route.query is None):
            raise ValueError("a field comes twice, or the route takes none")
        return msgspec.convert(fields, route.query, strict=False) if route.query else None
    except (ValueError, msgspec.ValidationError) as error:
        what = "the query does not have the documented shape"
        raise GrafosError("request_invalid", what, why=str(error), next=DOCUMENTED) from error


async def _read_body(route: Route, scope: Scope, receive: Receive) -> Any:
    """The body as the row's type. A route without a body refuses one, and so does one that gets too much."""
    most = route.body_bytes_max if route.body is not None else 0
    declared = header(scope, b"content-length")
    if declared and (not declared.isdigit() or int(declared) > most):
        raise _too_large(most)
    try:
        async with asyncio.timeout(route.body_s_max):
            data = await receive_all(receive, most)
    except TimeoutError as error:
        raise GrafosError("request_invalid", f"the body did not arrive within {route.body_s_max:g} s") from error
    scope[BODY_READ] = True
    if route.body is None or route.body is bytes:
        return data
    try:
        return _decoders[route.body].decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what = "the body does not have the documented shape"
        raise GrafosError("request_invalid", what, why=str(error), next=DOCUMENTED) from error


async def receive_all(receive: Receive, most: int) -> bytes:
    """The whole body, or ``body_too_large`` as soon as it has over ``most`` bytes."""
    data = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GrafosError("interrupted", "the client went away")
        data += message.get("body", b"")
        if len(data) > most:
            raise _too_large(most)
        if not message.get("more_body"):
            return bytes(data)


def _too_large(most: int) -> GrafosError:
    return GrafosError("body_too_large", f"the route takes a body of at most {most} bytes")


async def send_answer(send: Send, media_type: str, answer: msgspec.Struct | bytes) -> None:
    body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
    await _send(send, 200, media_type, body)


async def send_error(scope: Scope, send: Send, error: GrafosError, more: Headers = ()) -> None:
    """Answers with the error in the one shape of errors, and further headers."""
    # A body that was refused unread is not worth receiving, so the connection ends with the answer.
    ends = () if scope.get(BODY_READ) else ((b"connection", b"close"),)
    headers = ((messages.CODE_HEADER.encode(), error.code.encode()), *more, *ends)
    await _send(send, error.http_status, "application/json", msgspec.json.encode(messages.error_body(error)), headers)


async def _send_stream(send: Send, media_type: str, stream: Stream) -> None:
    """Piece by piece, as fast as the other side takes them; one that takes too long finds the connection closed."""
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(stream.size_bytes).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async with contextlib.aclosing(stream.pieces) as pieces:
        try:
            async with asyncio.timeout(stream.seconds_max):
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (TimeoutError, OSError) as error:
            log.warning("an answer of %d bytes was not sent whole: %s", stream.size_bytes, str(error) or "too slow")
            return  # without an end, so that the connection ends with it
    await send({"type": "http.response.body", "body": b""})


async def _send(send: Send, status: int, media_type: str, body: bytes, more: Headers = ()) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
