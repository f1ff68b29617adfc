"""Claims that an orchestrator signs for itself, and is the only one that ever checks: what lets a cell or a person in.

They travel as a JWT (RFC 7519) signed with EdDSA (Ed25519, RFC 8037); the algorithm is fixed here and never taken from
the token. Whether one was used before is for whoever keeps state: here is only what it says by itself, at a given time.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from grafos_core.errors import GrafosError

AccountKey = ed25519.Ed25519PrivateKey

TOKEN_CHARACTERS_MAX = 4096
_ALGORITHM = "EdDSA"


class Form(NamedTuple):
    """One kind of claims: for whom (``audience``), how a person calls them (``noun``) and what they let in (``whom``),
    and how they are refused."""

    audience: str
    noun: str
    whom: str
    refused: str
    expired: str
    next: str


class Claims(Protocol):
    """What all claims say. Times are Unix seconds; ``iss`` is the orchestrator, ``jti`` names this one token."""

    @property
    def iss(self) -> str: ...
    @property
    def jti(self) -> str: ...
    @property
    def aud(self) -> str: ...
    @property
    def exp(self) -> float: ...
    @property
    def sub(self) -> str: ...


Said = TypeVar("Said", bound=Claims)


def issuer(fabric: str, scheduler: str) -> str:
    """The name of an orchestrator in its tokens."""
    return f"{fabric}/{scheduler}"


def new_key() -> AccountKey:
    """A fresh Ed25519 key."""
    return AccountKey.generate()


def key_to_pem(key: AccountKey) -> bytes:
    """Unencrypted PKCS #8; for files of mode 0600 only."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_pem(pem: bytes) -> AccountKey:
    """The Ed25519 key, or ``ValueError``."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, AccountKey):
        raise ValueError("not an Ed25519 key")
    return key


def mint(key: AccountKey, claims: Claims) -> str:
    """The token that says what ``claims`` say."""
    import jwt  # only an orchestrator that lets somebody in needs it: imported then, so that others start without it

    return jwt.encode({**msgspec.to_builtins(claims), "sub": claims.sub}, key, algorithm=_ALGORITHM)


def check(key: AccountKey, token: str, kind: type[Said], form: Form, ours: str, now: float) -> Said:
    """What a token of this form says that the orchestrator ``ours`` minted with ``key`` and that has not lapsed.

    Else the form's code for what is refused, or the one for what holds but for its time.
    """
    import jwt

    if len(token) > TOKEN_CHARACTERS_MAX:
        raise GrafosError(form.refused, f"the {form.noun} is too long to be one", next=form.next)
    try:
        said = jwt.decode(
            token,
            key.public_key(),
            algorithms=[_ALGORITHM],
            audience=form.audience,
            issuer=ours,
            # Times would be held against the machine's clock; here the time is an argument.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "require": ["sub"]},
        )
        claims = msgspec.convert(said, kind)
    except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeError, RecursionError) as error:
        what = f"the {form.noun} is not one that this orchestrator minted"
        raise GrafosError(form.refused, what, why=type(error).__name__, next=form.next) from error
    if said["sub"] != claims.sub:
        raise GrafosError(form.refused, f"the {form.noun} is for two at once", next=form.next)
    if claims.exp <= now:
        what = f"the {form.noun} of {form.whom} {claims.sub} lapsed"
        raise GrafosError(form.expired, what, next=form.next, context={"token_id": claims.jti})
    return claims
