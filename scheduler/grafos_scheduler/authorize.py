"""Who is calling, and may they: the client certificate, then the API token bound to its key, then the route's row.

TLS proves the certificate once, when the connection is made. A connection may outlive the certificate, so its expiry
is held against the clock again on every call; a token is checked on every call anyway.
"""

from __future__ import annotations

from typing import NamedTuple

from grafos_core import tokens, trust
from grafos_core.errors import GrafosError

BEARER = "Bearer "

OPERATOR, TENANT, CELL = "operator", "tenant", "cell"

OPERATOR_RIGHTS = (
    "account:renew",
    "account:write",
    "api:read",
    "artifacts:read",
    "audit:read",
    "backup:read",
    "bundles:write",
    "cells:read",
    "cells:revoke",
    "drain:write",
    "fences:read",
    "fences:write",
    "leases:read",
    "leases:write",
    "ledger:read",
    "ledger:write",
    "machine:write",
    "runs:read",
    "settlement:write",
    "tenants:read",
    "tenants:write",
    "terms:write",
)
TENANT_RIGHTS = (
    "account:own",
    "account:renew",
    "api:read",
    "artifacts:read",
    "blobs:read",
    "blobs:write",
    "cells:read",
    "leases:read",
    "leases:write",
    "runs:read",
    "runs:write",
)
CELL_RIGHTS = ("api:read", "cells:link", "cells:register", "cells:renew")
"""What the tokens carry that this version issues; routes.py says where each right is asked for."""


def text_of(kind: str, name: str) -> str:
    """An identity as the audit log names it."""
    return f"{kind}/{name}"


class Caller(NamedTuple):
    """An identity that was proved twice: ``kind`` is "operator", "tenant" or "cell". Its certificate ends at
    ``not_after``."""

    kind: str
    name: str
    provider: str
    key_sha256: str
    not_after: float

    @property
    def text(self) -> str:
        """As the audit log names it."""
        return text_of(self.kind, self.name)


class Gate(NamedTuple):
    """What a route asks of its caller: one of these identity kinds, with this right in its token."""

    kinds: frozenset[str]
    right: str


def authorize(
    gate: Gate, peer: trust.Peer | None, authorization: str, *, fabric: str, token_key: bytes, now: float
) -> Caller:
    """The caller, or the error that says what was lacking.

    ``certificate_refused``: none, expired, or of another fabric. ``token_refused`` or ``token_expired``: no token, not
    ours, or bound to another certificate. ``rights_missing``: a good identity that may not do this.
    """
    if peer is None:
        raise GrafosError(
            "certificate_refused",
            "the connection came without a client certificate",
            next="present the certificate that this scheduler issued",
        )
    if peer.not_after <= now:
        raise GrafosError("certificate_refused", f"the certificate of {peer.kind} {peer.name!r} ran out")
    if peer.fabric != fabric:
        raise GrafosError("certificate_refused", f"the certificate is for another fabric ({peer.fabric})")
    if not authorization.startswith(BEARER):
        raise GrafosError(
            "token_refused",
            "the call came without an API token",
            next="send 'authorization: Bearer TOKEN' beside the client certificate",
        )
    claims = tokens.check_api_token(token_key, authorization.removeprefix(BEARER), peer.key_sha256, now)
    if (claims.kind, claims.name) != (peer.kind, peer.name):
        raise GrafosError("token_refused", "the API token and the certificate name different identities")
    if peer.kind not in gate.kinds:
        others = " or ".join(sorted(gate.kinds))
        raise GrafosError("rights_missing", f"this is not for a {peer.kind}", next=f"ask as {others}")
    if gate.right not in claims.rights:
        raise GrafosError("rights_missing", f"the API token of {peer.name!r} does not carry the right {gate.right!r}")
    return Caller(peer.kind, peer.name, peer.provider, peer.key_sha256, peer.not_after)
