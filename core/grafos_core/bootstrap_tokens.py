"""Bootstrap tokens: what lets one machine enrol as one cell, once and soon (see ``signed_claims``)."""

from __future__ import annotations

import msgspec

from grafos_core import signed_claims
from grafos_core.signed_claims import AccountKey, Form

AUDIENCE = "grafos-cell-enrolment"
FORM = Form(
    audience=AUDIENCE,
    noun="bootstrap token",
    whom="cell",
    refused="enrolment_refused",
    expired="enrolment_expired",
    next="mint a fresh one for this cell here; it is for a machine that is made now",
)


class BootstrapClaims(msgspec.Struct, frozen=True):
    """One cell that may enrol. Times are Unix seconds; ``expires`` is the cell's own end (0 = never), ``exp`` the
    token's. ``iss`` is the orchestrator: ``signed_claims.issuer`` makes it from fabric and name."""

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


def check(key: AccountKey, token: str, ours: str, now: float) -> BootstrapClaims:
    """What a token says that the orchestrator ``ours`` minted with ``key`` and that has not lapsed.

    Else ``enrolment_refused``, or ``enrolment_expired`` for one that holds but for its time.
    """
    return signed_claims.check(key, token, BootstrapClaims, FORM, ours, now)
