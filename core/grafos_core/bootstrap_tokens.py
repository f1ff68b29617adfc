"""Bootstrap tokens: what lets one machine enrol as one cell, once and soon.

An orchestrator mints one for a cell that is being made, and is the only one that ever checks it. It is a JWT (RFC 7519)
signed with EdDSA (Ed25519, RFC 8037); the algorithm is fixed here and never taken from the token. Whether it was used
before is for whoever keeps state: here is only what the token says by itself, at a given time.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from grafos_core.errors import GrafosError

AccountKey = ed25519.Ed25519PrivateKey

AUDIENCE = "grafos-cell-enrolment"
TOKEN_CHARACTERS_MAX = 4096
_ALGORITHM = "EdDSA"


class BootstrapClaims(msgspec.Struct, frozen=True):
    """One cell that may enrol. Times are Unix seconds; ``expires`` is the cell's own end (0 = never), ``exp`` the
    token's. ``iss`` is the orchestrator: ``issuer`` makes it from fabric and name."""

    iss: str
    jti: str
    provider: str
    cell_id: str
    region: str
    rate_micro_cents_per_hour: int
    expires: float
    iat: float
    exp: float
    aud: str = AUDIENCE

    @property
    def sub(self) -> str:
        return self.cell_id


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


def mint(key: AccountKey, claims: BootstrapClaims) -> str:
    """The token that says what ``claims`` say."""
    import jwt  # only an orchestrator that enrols needs it: imported then, so that other programs start without it

    return jwt.encode({**msgspec.to_builtins(claims), "sub": claims.sub}, key, algorithm=_ALGORITHM)


def check(key: AccountKey, token: str, ours: str, now: float) -> BootstrapClaims:
    """What a token says that the orchestrator ``ours`` minted with ``key`` and that has not lapsed.

    Else ``enrolment_refused``, or ``enrolment_expired`` for one that holds but for its time.
    """
    import jwt

    if len(token) > TOKEN_CHARACTERS_MAX:
        raise _refused("the bootstrap token is too long to be one")
    try:
        said = jwt.decode(
            token,
            key.public_key(),
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            issuer=ours,
            # Times would be held against the machine's clock; here the time is an argument.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "require": ["sub"]},
        )
        claims = msgspec.convert(said, BootstrapClaims)
    except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeError, RecursionError) as error:
        what = "the bootstrap token is not one that this orchestrator minted"
        raise _refused(what, why=type(error).__name__) from error
    if said["sub"] != claims.cell_id:
        raise _refused("the bootstrap token names two cells")
    if claims.exp <= now:
        raise GrafosError(
            "enrolment_expired",
            f"the bootstrap token of cell {claims.cell_id} lapsed",
            next="mint a fresh one; it is for a machine that is made now",
            context={"cell_id": claims.cell_id, "provider": claims.provider, "token_id": claims.jti},
        )
    return claims


def _refused(what: str, why: str = "") -> GrafosError:
    return GrafosError("enrolment_refused", what, why=why, next="mint a bootstrap token for this cell here")
