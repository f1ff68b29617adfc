"""The web console as whoever is at its door: a browser without scripts, over a TLS connection of its own."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from typing import Any
from urllib.parse import urlencode

from standalone import Identity, Standalone

from grafos_core import trust
from grafos_scheduler.console.paths import SIGN_IN, STATS, STREAM

WAIT_S = 20.0


def text_of(html: str) -> str:
    """What a person reads of it."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


@dataclass
class Page:
    status: int
    headers: dict[str, str]
    text: str = field(repr=False)


class Visitor:
    """Keeps the one cookie that it is given. ``identity``: the certificate that it shows, if any."""

    def __init__(self, at: Standalone, identity: Identity | None = None) -> None:
        self._at = at
        self._tls = trust.client_context(
            at.ca_pem, *((identity.certificate, identity.key) if identity is not None else ())
        )
        self.cookie = ""
        self.origin = f"https://127.0.0.1:{at.port}"

    def connection(self) -> HTTPSConnection:
        return HTTPSConnection("127.0.0.1", self._at.port, context=self._tls, timeout=WAIT_S)

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Page:
        """One request; forms come from the console's own page unless ``origin`` says otherwise."""
        given = {"cookie": self.cookie} if self.cookie else {}
        if form is not None:
            given |= {"content-type": "application/x-www-form-urlencoded", "origin": self.origin}
        connection = self.connection()
        try:
            connection.request(method, path, urlencode(form) if form is not None else None, {**given, **headers})
            answer = connection.getresponse()
            page = Page(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
            )
        finally:
            connection.close()
        if "set-cookie" in page.headers:
            self.cookie = page.headers["set-cookie"].partition(";")[0]
        return page

    def look(self, query: str = "") -> Page:
        return self.ask("GET", STATS + query)

    def sign_in(self, code: str, **headers: str) -> Page:
        return self.ask("POST", SIGN_IN, {"code": code}, **headers)

    def stream_to_its_end(self, begun: Callable[[], object]) -> bytes:
        """All that the console sends to a page that is open, byte by byte; ``begun`` is called after the first."""
        connection = self.connection()
        connection.request("GET", STREAM, headers={"cookie": self.cookie})
        raw = connection.getresponse().fp
        first = raw.read(1)
        begun()
        rest = raw.read()
        connection.close()
        return bytes(first + rest)

    def stream(self, query: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a page that is open, until the console ends them."""
        connection = self.connection()
        try:
            connection.request("GET", STREAM + query, headers={"cookie": self.cookie} if self.cookie else {})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            assert answer.headers["content-type"] == "text/event-stream"
            name = ""
            for line in answer:
                word, _, rest = line.decode().rstrip("\n").partition(": ")
                if word == "event":
                    name = rest
                elif word == "data":
                    yield name, json.loads(rest)
        finally:
            connection.close()


def refuses_the_handshake(visitor: Visitor) -> bool:
    """Whether nobody even answers without a certificate."""
    try:
        visitor.look()
    except (ssl.SSLError, OSError):
        return True
    return False
