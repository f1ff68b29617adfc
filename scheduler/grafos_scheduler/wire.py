"""One HTTP connection to a scheduler: what it answers, or why there is no answer, in our words.

On the standard library's ``http.client``, because a command line starts, asks and ends.
"""

from __future__ import annotations

import http.client
import ssl
from typing import Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from grafos_core.errors import CODES, GrafosError
from grafos_scheduler import framing, messages

TIMEOUT_S = 10.0
"""For connecting and for each wait on the socket; a long poll adds its own time."""
ANSWER_BYTES_MAX = 2 * framing.FRAME_BYTES_MAX
"""Artifacts in base64 are the largest answer."""
FELL_SILENT = "fell_silent"
"""In an error's context: a fresh connection was made and closed again without a byte of an answer."""
LEADERS_ASKED_MAX = 4
"""Replicas that send on from one to the next, while the lead changes, before the caller hears of it."""
ASK_ANOTHER = frozenset({"scheduler_unreachable", "store_fenced"})
"""Whoever was asked is not there, or leads no more and is about to end."""

WITH_FRESH_CREDENTIALS = "claim the scheduler, register the tenant, or sign in, again"
"""What is left where ours are not taken: the operator does the first, and others get theirs from it."""

Answer = TypeVar("Answer", bound=msgspec.Struct)


class Wire:
    """One HTTP connection that is made when needed, and its troubles told in our words.

    A replica that does not lead names the one that does, which is then asked, and again ``url`` once that one does not
    answer. ``follows`` is for a context that trusts the pinned CA alone, which every replica must show.
    """

    def __init__(self, url: str, context: ssl.SSLContext, timeout_s: float, *, follows: bool = True) -> None:
        self._home = url
        self._context = context
        self._timeout_s = timeout_s
        self._follows = follows
        self._turn_to(url)

    def _turn_to(self, url: str) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port or 443
        except ValueError:
            port = 0
        if parts.scheme != "https" or not parts.hostname or not port or parts.path not in ("", "/"):
            raise GrafosError("config_invalid", f"{url!r} is no scheduler's address", next="use https://ADDRESS:PORT")
        self._url = url
        self._is_fresh = False
        self._connection = http.client.HTTPSConnection(
            parts.hostname, port, timeout=self._timeout_s, context=self._context
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def server_certificate(self) -> bytes:
        """The certificate (DER) that the other side shows; connects if need be."""
        try:
            if self._connection.sock is None:
                self._connection.connect()
                self._is_fresh = True
        except (OSError, http.client.HTTPException) as error:
            raise self._translated(error, has_connected=False) from error
        der: bytes | None = self._connection.sock.getpeercert(binary_form=True)
        assert der is not None, "a TLS server shows a certificate"
        return der

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        wait_s: float = 0.0,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> bytes:
        """The body of a good answer, of at most ``bytes_max``; else the error that it carries, or why there is none."""
        asked = 0
        while True:
            asked += 1
            try:
                return self._exchange(method, path, body, headers, wait_s, bytes_max)
            except GrafosError as error:
                if error.code in ASK_ANOTHER and self._url != self._home:
                    self.close()
                    self._turn_to(self._home)
                if error.code != "not_leader" or not self._follows or asked == LEADERS_ASKED_MAX:
                    raise
                self.close()
                self._turn_to(str(error.context.get("leader", "")))

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], wait_s: float, bytes_max: int
    ) -> bytes:
        is_fresh, is_connected = self._is_fresh, False
        try:
            if self._connection.sock is None:
                self._connection.connect()
                is_fresh = True
            is_connected, self._is_fresh = True, False
            self._connection.sock.settimeout(self._timeout_s + wait_s)
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            data = response.read(bytes_max + 1)
            if not response.isclosed():
                self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._translated(error, has_connected=is_fresh and is_connected) from error
        if len(data) > bytes_max:
            raise GrafosError("answer_invalid", f"the answer has over {bytes_max} bytes", where=self._url)
        if response.status != http.HTTPStatus.OK:
            raise self._refusal(response, data)
        return data

    def _refusal(self, response: http.client.HTTPResponse, data: bytes) -> GrafosError:
        """The error in the body; an answer to HEAD has none, so there the header with its code must do."""
        try:
            if not data:
                code = response.headers.get(messages.CODE_HEADER, "")
                leader = urlsplit(response.headers.get("location", ""))
                context = {"leader": f"{leader.scheme}://{leader.netloc}"} if leader.netloc else {}
                return GrafosError.from_wire({"code": code, "what": CODES[code].meaning, "context": context})
            return GrafosError.from_wire(msgspec.to_builtins(msgspec.json.decode(data, type=messages.ErrorBody)))
        except (msgspec.MsgspecError, KeyError):
            what = f"the answer with status {response.status} is not one of a scheduler"
            return GrafosError("answer_invalid", what, where=self._url)

    def _translated(self, error: Exception, *, has_connected: bool) -> GrafosError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return GrafosError(
                "certificate_refused",
                "the server's certificate is not one that the pinned CA signed for this address",
                where=self._url,
                why=error.verify_message,
                next="check that the address belongs to this scheduler; another program may have taken the port",
            )
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return GrafosError(
                "certificate_refused",
                "the scheduler does not accept the certificate that it was shown",
                where=self._url,
                why=error.reason,
                next=WITH_FRESH_CREDENTIALS,
            )
        is_gone = isinstance(error, OSError)
        is_closed = isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
        return GrafosError(
            "scheduler_unreachable" if is_gone else "answer_invalid",
            "the scheduler did not answer" if is_gone else "what answers there does not speak HTTP",
            where=self._url,
            why=str(error) or type(error).__name__,
            next="check that it runs and that the address is right",
            context={FELL_SILENT: True} if has_connected and is_closed else None,
        )


def decode(data: bytes, answer: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(data, type=answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GrafosError("answer_invalid", "the scheduler's answer has no documented shape", why=str(error)) from error


def check_silence(first: GrafosError, second: GrafosError) -> None:
    """Two fresh connections that were made and then closed without a word: our certificate is not accepted.

    TLS 1.3 lets a client finish before the server has looked at its certificate, and the server's loop sends no alert
    when it does not like it (a known gap of asyncio), so silence is all that there is to see.
    """
    if first.context.get(FELL_SILENT) and second.context.get(FELL_SILENT):
        raise GrafosError(
            "certificate_refused",
            "the scheduler closes the connection once it has seen our certificate, or that there is none",
            where=second.where,
            next=WITH_FRESH_CREDENTIALS,
        )
