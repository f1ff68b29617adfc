"""The helper's routes, as a plain ASGI application.

    GET  /                 the Developer tab; without the bearer a page that asks for it
    GET  /read             the same, where no script may run: the browser asks for the bearer as a password
    POST /run              the page's form
    GET  /api/v1/tasklets  what the project can run, and whether the fabric is up: for another page's Developer tab
    GET  /api/v1/runs      the newest runs with their answers
    POST /api/v1/runs      {"tasklet": "...", "input_b64": "..."}: one run, to its end

Every answer forbids to be stored, framed or sniffed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from grafos_cell import abi
from grafos_cli.run_locally import page
from grafos_cli.run_locally.guard import Asker, Door, asker_of, check_bearer, check_place, cors_headers
from grafos_cli.run_locally.work import Project, run_document
from grafos_cli.terminal import silent_terminal
from grafos_core.errors import GrafosError

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BODY_BYTES_MAX = 4 * abi.INPUT_BYTES_MAX
"""A form writes some bytes as three."""
BODY_S_MAX = 60.0
FORM_FIELDS_MAX = 4
HTML, JSON = "text/html; charset=utf-8", "application/json"

log = logging.getLogger("grafos.helper")


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/v1/runs`. Without ``input_b64`` the input is the one that grafos.toml names."""

    tasklet: str = ""
    input_b64: str | None = None


class Answer(NamedTuple):
    status: int
    media_type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Application:
    """ASGI 3."""

    def __init__(self, door: Door, project: Project) -> None:
        self._door = door
        self._project = project

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], scope["headers"]
        more: Headers = []
        try:
            asker = asker_of(scope["method"], headers)
            check_place(self._door, asker)
            if path.startswith("/api/"):
                preflight = asker.method == "OPTIONS"
                private = any(name == b"access-control-request-private-network" for name, _ in headers)
                more = cors_headers(self._door, asker, preflight=preflight, private_network=private)
                answer = Answer(204, JSON, b"") if preflight else await self._api(asker, path, receive)
            else:
                answer = await self._page(asker, scope, receive)
        except GrafosError as error:
            answer = _refusal(error)
        except Exception:  # a bug of ours: the log has it whole, the page learns only that it is one
            log.exception("%s %s failed", scope["method"], path)
            answer = _refusal(
                GrafosError("internal", "the helper could not answer", next="read .grafos/dev/helper.log")
            )
        await _send(send, answer, more)

    # --- pages ---

    async def _page(self, asker: Asker, scope: Scope, receive: Receive) -> Answer:
        match asker.method, scope["path"]:
            case "GET", "/" | "/read":
                try:
                    check_bearer(self._door, asker)
                except GrafosError as error:
                    return self._challenge(error, by_password=scope["path"] == "/read")
                chosen = parse_qs(scope["query_string"].decode("latin-1")).get("run", [""])[0]
                return await self._tab(chosen)
            case "POST", "/run":
                check_bearer(self._door, asker)
                return await self._run_form(await _body(receive))
        raise GrafosError("not_found", f"there is no {asker.method} {scope['path'][:200]}", next=self._door.own_origin)

    def _challenge(self, error: GrafosError, *, by_password: bool) -> Answer:
        """The page that asks for the bearer; on the way for browsers without scripts, the browser's own question."""
        scheme = b'Basic realm="grafos: any name, and the bearer as the password"' if by_password else b"Bearer"
        return Answer(error.http_status, HTML, page.sign_in(self._door.own_origin), ((b"www-authenticate", scheme),))

    async def _tab(self, chosen: str = "", trouble: GrafosError | None = None) -> Answer:
        sight = page.Sight(self._door.own_origin, None, [], trouble=trouble, chosen=chosen)
        try:
            sight = sight._replace(program=self._project.program())
            runs = await asyncio.to_thread(self._project.runs)
            sight = sight._replace(runs=runs, cell_id=await asyncio.to_thread(self._project.cell_id))
        except GrafosError as error:
            sight = sight._replace(trouble=trouble or error)
        status = trouble.http_status if trouble else 200
        return Answer(status, HTML, page.developer_tab(sight))

    async def _run_form(self, body: bytes) -> Answer:
        try:
            form = parse_qs(body.decode("ascii"), max_num_fields=FORM_FIELDS_MAX)
        except (UnicodeDecodeError, ValueError) as error:
            raise GrafosError("request_invalid", "that is not the page's form", why=str(error)) from error
        text = form.get("input", [""])[0].replace("\r\n", "\n")
        try:
            ended = await asyncio.to_thread(
                self._project.run, form.get("tasklet", [""])[0], text.encode() if text else None
            )
        except GrafosError as error:
            return await self._tab(trouble=error)
        return Answer(303, HTML, b"", ((b"location", f"/?run={ended.view.run_id}".encode()),))

    # --- the same for programs ---

    async def _api(self, asker: Asker, path: str, receive: Receive) -> Answer:
        check_bearer(self._door, asker)
        match asker.method, path:
            case "GET", "/api/v1/tasklets":
                program = self._project.program()
                cell_id = await asyncio.to_thread(self._project.cell_id)
                tasklets = [{"name": tasklet.name} for tasklet in program.tasklets]
                return _json({"program": program.name, "cell_id": cell_id, "tasklets": tasklets})
            case "GET", "/api/v1/runs":
                runs = await asyncio.to_thread(self._project.runs)
                return _json({"runs": [run_document(one.view, one.response) for one in runs]})
            case "POST", "/api/v1/runs":
                wanted = _wanted(await _body(receive))
                data = _decoded(wanted.input_b64)
                ended = await asyncio.to_thread(self._project.run, wanted.tasklet, data)
                response = ended.artifacts.response_json if ended.artifacts else ""
                return _json({"run": run_document(ended.view, response)})
        raise GrafosError("not_found", f"there is no {asker.method} {path[:200]}", next=self._door.own_origin)


def _wanted(body: bytes) -> Wanted:
    try:
        return msgspec.json.decode(body, type=Wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise GrafosError("request_invalid", "the body does not have the documented shape", why=str(error)) from error


def _decoded(encoded: str | None) -> bytes | None:
    if encoded is None:
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise GrafosError("request_invalid", "input_b64 is not base64", why=str(error)) from error
    return data


async def _body(receive: Receive) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GrafosError("interrupted", "the client went away")
                data += message.get("body", b"")
                if len(data) > BODY_BYTES_MAX:
                    raise GrafosError("body_too_large", f"the helper takes a body of at most {BODY_BYTES_MAX} bytes")
                if not message.get("more_body"):
                    return bytes(data)
    except TimeoutError as error:
        raise GrafosError("request_invalid", f"the body did not arrive within {BODY_S_MAX:g} s") from error


def _json(document: dict[str, Any]) -> Answer:
    return Answer(200, JSON, silent_terminal().rendered(document).encode())


def _refusal(error: GrafosError) -> Answer:
    challenge = ((b"www-authenticate", b"Bearer"),) if error.http_status == 401 else ()
    ends = ((b"connection", b"close"),)  # its body may be unread
    return Answer(error.http_status, JSON, msgspec.json.encode({"error": error.to_wire()}), (*challenge, *ends))


async def _send(send: Send, answer: Answer, more: Headers) -> None:
    headers = [
        (b"content-type", answer.media_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", page.content_security_policy().encode()),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"same-origin"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        *answer.headers,
        *more,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
