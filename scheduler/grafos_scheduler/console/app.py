"""The console's routes, as a plain ASGI application beside the REST API.

    GET  /admin/stats          the page; who may not look gets the one that says how to sign in
    GET  /admin/stats/stream   what changes on it, as server-sent events
    GET  /admin/sign-in        the page that a sign-in link leads to
    POST /admin/sign-in        its form: one code, for one session
    POST /admin/sign-out       ends the session

Nothing of the fleet can be changed here. Every answer forbids to be stored, framed or sniffed. A page that is open is
asked again at every beat whether its viewer may still look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from grafos_core import trust
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler.authorize import OPERATOR
from grafos_scheduler.console import linking, pages, paths
from grafos_scheduler.console.pages import Choice
from grafos_scheduler.console.sessions import Viewer, stands
from grafos_scheduler.console.watching import FRESH_FOR_S, Sight, Watch
from grafos_scheduler.handlers import Services
from grafos_scheduler.refusing import Refusals, Told
from grafos_scheduler.server import Headers, Receive, Scope, Send, header, receive_all

STREAMS_MAX = 32
"""Open pages that are kept fresh at once, well below the connections that strangers may have: a browser that signed in
by link shows no certificate."""
BEAT_EVERY_S = 5.0
"""A page that heard nothing for three of these takes the stream for lost."""
SEND_S_MAX = 20.0
FORM_BYTES_MAX = 4096
FORM_S_MAX = 10.0
HTML, EVENTS = "text/html; charset=utf-8", "text/event-stream"

log = logging.getLogger("grafos.security")


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Headers = ()


class Console:
    """ASGI 3."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions = services.sessions
        self._shell = services.shell
        self._watch = Watch(services.shell, services.settings)
        self._refusals = Refusals(services.shell, AuditKind.CONSOLE_REFUSED, "console sign-in", "token_refused")
        self._streams = 0
        self._rendered: tuple[Sight | None, dict[tuple[str, Choice], str]] = (None, {})
        self._cookie = f"__Host-grafos-{services.settings.fabric}-{services.settings.scheduler_id}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if (scope["method"], scope["path"]) == ("GET", paths.STREAM):
                await self._stream(scope, receive, send)
                return
            answer = await self._page(scope, receive)
        except GrafosError as error:
            answer = Answer(error.http_status, pages.refusal(error), ((b"connection", b"close"),))
        await _send(send, answer)

    async def _page(self, scope: Scope, receive: Receive) -> Answer:
        match scope["method"], scope["path"]:
            case "GET" | "HEAD", paths.STATS:
                viewer = self._viewer(scope)
                if viewer is None:
                    return Answer(401, self._sign_in_page())
                return Answer(200, pages.stats(await self._watch.sight(), viewer, _choice(scope)))
            case "GET" | "HEAD", paths.SIGN_IN:
                return Answer(200, self._sign_in_page())
            case "POST", paths.SIGN_IN:
                return await self._sign_in(scope, receive)
            case "POST", paths.SIGN_OUT:
                return await self._sign_out(scope, receive)
        raise GrafosError(
            "not_found", f"there is no {scope['method']} {scope['path'][:200]}", next=f"open {paths.STATS}"
        )

    def _sign_in_page(self, why: GrafosError | None = None) -> bytes:
        return pages.sign_in(why, by_link=self._services.settings.is_orchestrator)

    # --- who may look ---

    def _viewer(self, scope: Scope) -> Viewer | None:
        """The operator who asks: by the connection's certificate, else by the session's cookie. ``rights_missing`` for
        a certificate of somebody else."""
        peer: trust.Peer | None = scope["extensions"]["grafos.peer"]["peer"]
        state, now = self._shell.state, self._shell.clock.now()
        if peer is not None and peer.fabric == self._services.settings.fabric and peer.not_after > now:
            if peer.kind != OPERATOR:
                raise GrafosError(
                    "rights_missing",
                    f"the console is for operators, and this is the certificate of {peer.kind} {peer.name}",
                    next="a tenant sees its own by: grafos runs ls, grafos budget show",
                )
            if stands(state, peer.key_sha256):
                return Viewer(peer.name, peer.key_sha256, peer.not_after, by_certificate=True)
        return self._sessions.viewer_of(self._secret(scope), state, now)

    def _secret(self, scope: Scope) -> str:
        """What the session's cookie holds, or ""."""
        try:
            cookie = SimpleCookie(header(scope, b"cookie")).get(self._cookie)
        except CookieError:
            return ""
        return cookie.value if cookie else ""

    async def _sign_in(self, scope: Scope, receive: Receive) -> Answer:
        client = scope["client"][0] if scope["client"] else ""
        _check_own_form(scope)
        self._refusals.check(client)
        code = (await _form(receive)).get("code", [""])[0].strip().rpartition("#")[2]
        try:
            cookie, viewer = self._sessions.redeem(code, self._shell.state, self._shell.clock.now())
        except GrafosError as error:
            await self._refusals.note(error, client, Told("a link"))
            return Answer(error.http_status, self._sign_in_page(error))
        await linking.note_opened(self._services, viewer.name, client)
        life_s = int(viewer.ends_at - self._shell.clock.now())
        return _sent_on(paths.STATS, f"{self._cookie}={cookie}; Max-Age={life_s}")

    async def _sign_out(self, scope: Scope, receive: Receive) -> Answer:
        _check_own_form(scope)
        await _form(receive)
        if viewer := self._sessions.end(self._secret(scope)):
            log.info("operator %s signed out of the console", viewer.name)
        return _sent_on(paths.SIGN_IN, f"{self._cookie}=; Max-Age=0")

    # --- what changes ---

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends each part of the page when it has changed, until somebody goes or may not look any more."""
        viewer = self._viewer(scope)
        if viewer is None:
            await _send(send, Answer(401, b""))
            return
        if self._streams >= STREAMS_MAX:
            raise GrafosError("limit_exceeded", f"{STREAMS_MAX} pages are kept fresh already")
        gone = asyncio.create_task(_until_gone(receive))
        self._streams += 1
        try:
            await _begin(send, 200, EVENTS)
            await self._tell_changes(scope, send, gone)
            async with asyncio.timeout(SEND_S_MAX):
                await send({"type": "http.response.body", "body": b""})
        except (TimeoutError, OSError, GrafosError) as error:
            # Whoever takes so little is not looking; a store that failed ends the process. The page asks again.
            logging.getLogger("grafos.server").info("a page of the console is not kept fresh any more: %r", error)
        finally:
            self._streams -= 1
            gone.cancel()

    async def _tell_changes(self, scope: Scope, send: Send, gone: asyncio.Task[None]) -> None:
        choice, told, beat_at = _choice(scope), dict[str, str](), 0.0
        while not gone.done() and not self._shell.is_ending:
            if self._viewer(scope) is None:
                await _tell(send, "ended", {})
                return
            sight = await self._watch.sight()
            for name in pages.SECTIONS:
                html = self._section(name, sight, choice)
                if told.get(name) != html:
                    told[name] = html
                    await _tell(send, "section", {"id": name, "html": html})
                    beat_at = 0.0
            if time.monotonic() >= beat_at:
                await _tell(send, "beat", {"now": sight.now})
                beat_at = time.monotonic() + BEAT_EVERY_S
            await asyncio.wait({gone}, timeout=FRESH_FOR_S)

    def _section(self, name: str, sight: Sight, choice: Choice) -> str:
        """The part, rendered once for all who look at the same."""
        if self._rendered[0] is not sight:
            self._rendered = (sight, {})
        known = self._rendered[1]
        if (name, choice) not in known:
            known[name, choice] = pages.section(name, sight, choice)
        return known[name, choice]


def _choice(scope: Scope) -> Choice:
    """What the query asks for; what is no choice at all is none."""
    given = {name: values[-1][:80] for name, values in _fields(scope["query_string"]).items()}
    page = given.get("page", "")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1
    return Choice(given.get("provider", ""), given.get("state", ""), max(number, 1))


def _fields(data: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(data.decode("ascii"), max_num_fields=8)
    except (UnicodeDecodeError, ValueError) as error:
        raise GrafosError("request_invalid", "that is not what the page's form sends", why=str(error)) from error


async def _form(receive: Receive) -> dict[str, list[str]]:
    try:
        async with asyncio.timeout(FORM_S_MAX):
            return _fields(await receive_all(receive, FORM_BYTES_MAX))
    except TimeoutError as error:
        raise GrafosError("request_invalid", f"the form did not arrive within {FORM_S_MAX:g} s") from error


def _check_own_form(scope: Scope) -> None:
    """``rights_missing`` unless the form stood in a page of this very place: a browser says where it did."""
    host = header(scope, b"host")
    if not host or header(scope, b"origin") != f"https://{host}":
        raise GrafosError("rights_missing", "a form of elsewhere may not be sent here", next=f"open {paths.SIGN_IN}")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _tell(send: Send, event: str, data: dict[str, Any]) -> None:
    body = b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(data))
    async with asyncio.timeout(SEND_S_MAX):
        await send({"type": "http.response.body", "body": body, "more_body": True})


def _sent_on(path: str, cookie: str) -> Answer:
    """On to another page, with a cookie that no script can read and no other site's page can send."""
    whole = f"{cookie}; Path=/; Secure; HttpOnly; SameSite=Strict"
    return Answer(303, b"", ((b"location", path.encode()), (b"set-cookie", whole.encode())))


async def _send(send: Send, answer: Answer) -> None:
    await _begin(send, answer.status, HTML, ((b"content-length", str(len(answer.body)).encode()), *answer.headers))
    await send({"type": "http.response.body", "body": answer.body})


async def _begin(send: Send, status: int, media_type: str, more: Headers = ()) -> None:
    headers = [
        (b"content-type", media_type.encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", pages.content_security_policy().encode()),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"same-origin"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
