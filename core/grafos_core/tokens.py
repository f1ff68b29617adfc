"""Two kinds of bearer token, both checked by whoever issued them, so a shared-key MAC suffices.

*API tokens* go beside the client certificate on every REST call: they carry rights, and are bound to the certificate's
key, so a stolen one is worthless. Form: ``gat1.<claims>.<mac>``.

*Capability tokens* open one lease on one cell. They are macaroons (Birgisson et al., NDSS 2014): each caveat is hashed
into the MAC under the previous MAC as key, so any holder can narrow a token and nobody can widen one. Form:
``gct1.<claims>.<caveat>….<mac>``.

All parts are base64url without padding, so a token has one spelling; claims and caveats are msgpack. The form's name
goes into the MAC with the claims, so that a token of one kind is none of the other, even under one key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from grafos_core.errors import GrafosError

CAPABILITY_TTL_MAX_S = 300
"""The public design's longest life of a capability token; a lease is renewed faster than that."""
TOKEN_CHARACTERS_MAX = 4096
CAVEATS_MAX = 16

_API, _CAPABILITY = "gat1", "gct1"


class ApiClaims(msgspec.Struct, frozen=True):
    """``key_sha256`` is the fingerprint of the certificate's key that the token is bound to."""

    issuer: str
    kind: str
    name: str
    key_sha256: str
    rights: tuple[str, ...]
    expires_at: float


class CapabilityClaims(msgspec.Struct, frozen=True):
    """What a capability token opens: one lease in one generation, at one cell in one boot epoch, for one tenant."""

    audience: str
    tenant: str
    kind: str
    lease_id: str
    generation: int
    boot_epoch: int
    expires_at: float


class Caveat(msgspec.Struct, frozen=True):
    """A condition that must hold; ``CAVEATS`` has the kinds, docs/reference/capability-tokens.md what each means."""

    kind: str
    value: str


class Use(msgspec.Struct, frozen=True):
    """The use that a token is presented for; caveats are held against it. ``hardware`` is the processor of the cell,
    as its kernel names it (``x86_64``, ``aarch64``)."""

    operation: str
    run_id: str = ""
    tasklet: str = ""
    program: str = ""
    module_sha256: str = ""
    hardware: str = ""


def _is_before(value: str, _: Use, now: float) -> bool:
    return now < float(value)


CAVEATS: dict[str, Callable[[str, Use, float], bool]] = {
    "before": _is_before,
    "hardware": lambda value, use, _: value == use.hardware,
    "module": lambda value, use, _: value == use.module_sha256,
    "operation": lambda value, use, _: use.operation in value.split(","),
    "program": lambda value, use, _: value == use.program,
    "run": lambda value, use, _: value == use.run_id,
    "tasklet": lambda value, use, _: value == use.tasklet,
}
"""Every kind of caveat, and when it holds. Caveats only add conditions, so a token under more of them opens less."""


Claims = TypeVar("Claims", ApiClaims, CapabilityClaims)


def mint_api_token(key: bytes, claims: ApiClaims) -> str:
    """A token that says what ``claims`` say."""
    return _mint(key, _API, claims)


def check_api_token(key: bytes, token: str, key_sha256: str, now: float) -> ApiClaims:
    """The claims of a token of ours that is bound to this certificate key, or ``token_refused`` / ``token_expired``."""
    parts = _parts(token, _API)
    if len(parts) != 2 or not hmac.compare_digest(_first_mac(key, _API, parts[0]), parts[1]):
        raise _refused("the API token is not one that this scheduler issued")
    claims = _claims(parts[0], ApiClaims)
    if not hmac.compare_digest(claims.key_sha256, key_sha256):
        raise _refused("the API token belongs to another certificate")
    if claims.expires_at <= now:
        raise GrafosError("token_expired", f"the API token of {claims.name!r} ran out", next="renew the credentials")
    return claims


def mint_capability(key: bytes, claims: CapabilityClaims) -> str:
    """A token for one lease, without caveats."""
    return _mint(key, _CAPABILITY, claims)


def narrow(token: str, caveat: Caveat) -> str:
    """The same token under one more condition; needs no key."""
    *head, mac = token.split(".")
    body = msgspec.msgpack.encode(caveat)
    return ".".join((*head, _text(body), _text(_mac(_bytes(mac), body))))


class OpenedCapability(NamedTuple):
    """What a token says that is ours: true of that very text for as long as the key is."""

    claims: CapabilityClaims
    caveats: tuple[Caveat, ...]


def open_capability(key: bytes, token: str) -> OpenedCapability:
    """What a token of ours says; ``capability_refused``, or ``token_refused`` for a text that is no token at all."""
    parts = _parts(token, _CAPABILITY)
    if not 2 <= len(parts) <= CAVEATS_MAX + 2:
        raise GrafosError("capability_refused", "the capability token has no valid form")
    body, *caveats, seen = parts
    mac = _first_mac(key, _CAPABILITY, body)
    for caveat in caveats:
        mac = _mac(mac, caveat)
    if not hmac.compare_digest(mac, seen):
        raise GrafosError("capability_refused", "the capability token is not one that this cell issued")
    return OpenedCapability(_claims(body, CapabilityClaims), tuple(map(_caveat, caveats)))


def check_opened(opened: OpenedCapability, use: Use, now: float) -> CapabilityClaims:
    """The claims, if the token is not over and all its caveats hold for ``use``; ``token_expired`` or
    ``capability_refused``. The caller still checks lease, generation and boot epoch against what it has at the moment
    of the effect."""
    claims = opened.claims
    if claims.expires_at <= now:
        raise GrafosError("token_expired", f"the capability token of lease {claims.lease_id} ran out")
    for caveat in opened.caveats:
        _check_caveat(caveat, use, now)
    return claims


def check_capability(key: bytes, token: str, use: Use, now: float) -> CapabilityClaims:
    """The claims of a token of ours whose caveats all hold for ``use``: ``open_capability``, then ``check_opened``."""
    return check_opened(open_capability(key, token), use, now)


def _caveat(body: bytes) -> Caveat:
    try:
        return msgspec.msgpack.decode(body, type=Caveat)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unknown() from error


def _check_caveat(caveat: Caveat, use: Use, now: float) -> None:
    """Fails closed: a caveat of an unknown kind, or with a value that cannot be read, refuses every use."""
    try:
        holds = CAVEATS[caveat.kind](caveat.value, use, now)
    except (KeyError, ValueError) as error:
        raise _unknown() from error
    if not holds:
        raise GrafosError("capability_refused", f"the token's caveat {caveat.kind}={caveat.value[:60]!r} does not hold")


def _unknown() -> GrafosError:
    return GrafosError("capability_refused", "the token has a caveat that this cell does not know")


def _mint(key: bytes, form: str, claims: ApiClaims | CapabilityClaims) -> str:
    body = msgspec.msgpack.encode(claims)
    return ".".join((form, _text(body), _text(_first_mac(key, form, body))))


def _claims(body: bytes, claims_type: type[Claims]) -> Claims:
    """Claims that bear our MAC but are not of the form that this version writes are refused like any others."""
    try:
        return msgspec.msgpack.decode(body, type=claims_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused("the token's claims are not of a form that this version knows") from error


def _first_mac(key: bytes, form: str, body: bytes) -> bytes:
    return _mac(key, form.encode() + b"." + body)


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).digest()


def _parts(token: str, form: str) -> list[bytes]:
    head, *rest = token[: TOKEN_CHARACTERS_MAX + 1].split(".")
    if head != form or len(token) > TOKEN_CHARACTERS_MAX:
        raise _refused("the token has no valid form")
    return [_bytes(part) for part in rest]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused("the token has no valid form") from error
    if _text(data) != text:  # padding, or bits that base64 passes over: another spelling of the same bytes
        raise _refused("the token has no valid form")
    return data


def _refused(what: str) -> GrafosError:
    return GrafosError("token_refused", what, next="use the credentials that this scheduler issued")
