"""Who may ask the helper: three questions, each of which would do against another kind of stranger. Pure.

    Host      is it this address? A name that an attacker made point here (DNS rebinding) is not.
    Origin    does the page that asks belong here? A page of elsewhere in the same browser does not.
    bearer    does the asker know the secret? Another program or person on this machine does not.

A browser sends ``Origin`` with every request that changes something, and ``Sec-Fetch-Site`` with all; a program that
is no browser sends neither, and has the bearer or nothing. The bearer comes as ``Authorization: Bearer``, or as the
password of ``Basic``, which a browser asks a person for where no script may run.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from grafos_core.errors import GrafosError

HEADER_BYTES_MAX = 4096
"""Of each header that is looked at."""

Headers = Iterable[tuple[bytes, bytes]]


class Door(NamedTuple):
    """What the helper lets in. ``authority`` is its own ADDRESS:PORT; ``origins`` are pages beside its own."""

    authority: str
    bearer: str
    origins: tuple[str, ...] = ()

    @property
    def own_origin(self) -> str:
        return f"http://{self.authority}"


class Asker(NamedTuple):
    """A request as far as it says where it comes from; what is missing is empty."""

    method: str
    host: str
    origin: str
    fetch_site: str
    fetch_mode: str
    authorization: str


def asker_of(method: str, headers: Headers) -> Asker:
    """Reads the headers; one that comes twice, is too long or is no text is nobody's honest request."""
    kept: dict[str, str] = {}
    names = {b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"authorization"}
    for name, value in headers:
        if name in names:
            if name.decode() in kept or len(value) > HEADER_BYTES_MAX or not value.isascii():
                raise GrafosError("request_invalid", f"the header {name.decode()} comes twice or cannot be read")
            kept[name.decode()] = value.decode()
    return Asker(
        method,
        kept.get("host", ""),
        kept.get("origin", ""),
        kept.get("sec-fetch-site", ""),
        kept.get("sec-fetch-mode", ""),
        kept.get("authorization", ""),
    )


def check_place(door: Door, asker: Asker) -> None:
    """``rights_missing`` for a request that was not meant for this address, or comes from a page of elsewhere."""
    if asker.host != door.authority:
        raise GrafosError(
            "rights_missing", f"this is {door.authority}, and was asked for as another", next=f"open {door.own_origin}"
        )
    if asker.origin and asker.origin not in (door.own_origin, *door.origins):
        raise GrafosError(
            "rights_missing",
            f"pages of {asker.origin[:200]} may not ask this helper",
            next=f"grafos dev up --origin {asker.origin[:200]}  if that page is yours",
        )
    is_opened = asker.method == "GET" and asker.fetch_mode == "navigate"
    if not asker.origin and asker.fetch_site in ("cross-site", "same-site") and not is_opened:
        raise GrafosError("rights_missing", "a page of elsewhere may not use what is here", next=door.own_origin)


def check_bearer(door: Door, asker: Asker) -> None:
    """``token_refused`` unless the bearer was shown. A browser that shows it by itself must also name the page."""
    scheme, _, shown = asker.authorization.partition(" ")
    by_itself = scheme.lower() == "basic"
    bearer = _password(shown) if by_itself else shown.strip() if scheme.lower() == "bearer" else ""
    if not hmac.compare_digest(bearer.encode(), door.bearer.encode()):
        raise GrafosError(
            "token_refused",
            "the bearer is missing or not the one of this dev up" if bearer else "the bearer is missing",
            next="it is in .grafos/dev/bearer of the project; a new dev up makes a new one",
        )
    if by_itself and asker.method != "GET" and asker.origin != door.own_origin:
        raise GrafosError("rights_missing", "a form of elsewhere may not be sent here", next=door.own_origin)


def cors_headers(door: Door, asker: Asker, *, preflight: bool, private_network: bool) -> list[tuple[bytes, bytes]]:
    """What tells the browser of an allowed page that it may read the answer; nothing for any other."""
    headers = [(b"vary", b"Origin")]
    if asker.origin not in door.origins:
        return headers
    headers.append((b"access-control-allow-origin", asker.origin.encode()))
    if preflight:
        headers += [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"authorization, content-type"),
            (b"access-control-max-age", b"60"),
        ]
        if private_network:  # a page of a public address asks one of this machine
            headers.append((b"access-control-allow-private-network", b"true"))
    return headers


def check_origins(origins: Sequence[str]) -> tuple[str, ...]:
    """The origins as they were given, or ``usage``: scheme, host and perhaps a port, and nothing else."""
    for origin in origins:
        scheme, _, rest = origin.partition("://")
        is_plain = rest and not set(rest) & set("/?#@* ") and rest == rest.lower() and rest.isascii()
        if scheme not in ("https", "http") or not is_plain:
            raise GrafosError(
                "usage", f"{origin[:200]!r} is no origin", next="write it like https://grafos.example:8443"
            )
    return tuple(origins)


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
