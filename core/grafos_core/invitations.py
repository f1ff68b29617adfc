"""Invitations: what lets one person work with an orchestrator as one of a tenant's people, once and soon.

An operator hands her one line:

    grafos-invitation-1.<base64url of JSON>.<the first 16 hex digits of the SHA-256 of what is before it>

In it are the orchestrator's address, its CA to pin, and the token (a JWT, see ``signed_claims``). The digits only
tell that a line was damaged on its way; whether it is true, the token's own signature tells.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.signed_claims import Form

MARK = "grafos-invitation-1"
LINE_CHARACTERS_MAX = 16_384
"""A line has about fifteen hundred characters."""
SIGN_IN_AUDIENCE = "grafos-account-login"
INVITATION = Form(
    audience=SIGN_IN_AUDIENCE,
    noun="invitation",
    whom="person",
    refused="invitation_refused",
    expired="invitation_expired",
    next="ask the operator for a fresh one: grafos admin invite",
)


class InvitationClaims(msgspec.Struct, frozen=True):
    """One person of a tenant who may sign in."""

    iss: str
    jti: str
    tenant: str
    name: str
    iat: float
    exp: float
    aud: str = SIGN_IN_AUDIENCE

    @property
    def sub(self) -> str:
        return f"{self.tenant}/{self.name}"


class Invitation(msgspec.Struct, frozen=True):
    """What the line says. Times are Unix seconds by the orchestrator's clock; ``fabric`` and the names are for people,
    the orchestrator goes by the token."""

    url: str
    ca_pem: str
    token: str
    fabric: str
    tenant: str
    name: str
    made_at: float
    valid_until: float


def written(invitation: Invitation) -> str:
    """The line."""
    body = base64.urlsafe_b64encode(msgspec.json.encode(invitation)).rstrip(b"=").decode()
    return f"{MARK}.{body}.{_digits(body)}"


def read(line: str) -> Invitation:
    """What the line says, or ``invitation_refused`` for one that is damaged, cut short or none at all."""
    mark, _, rest = line.strip().partition(".")
    body, _, digits = rest.partition(".")
    if mark != MARK or len(line) > LINE_CHARACTERS_MAX:
        raise _damaged("this is no invitation")
    if digits != _digits(body):
        raise _damaged("the invitation was damaged on its way, or cut short")
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(data, type=Invitation)
    except (binascii.Error, ValueError) as error:
        raise _damaged("the invitation cannot be read", str(error)) from error


def _digits(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _damaged(what: str, why: str = "") -> GrafosError:
    return GrafosError(
        "invitation_refused", what, why=why, next="copy the whole line once more, or ask the operator for another one"
    )
