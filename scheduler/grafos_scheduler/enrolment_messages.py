"""The bodies of enrolment at an orchestrator: a bootstrap token for one cell, its exchange for a certificate, renewal
by possession, and revocation."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_scheduler.messages import Count, Name, Pem, Text, UnixTime

BOOTSTRAP_S_MAX = 900.0
"""A bootstrap token is for a machine that is made now; the public design gives it fifteen minutes at most."""


class BootstrapRequest(msgspec.Struct, frozen=True):
    """``POST /api/v1/account/provider-bootstrap``: which cell may enrol, what it costs and when it must be gone (Unix
    seconds; 0 = never)."""

    provider: Name
    cell_id: Name
    region: Text
    rate_micro_cents_per_hour: Count
    expires_at: UnixTime = 0.0
    valid_s: Annotated[float, msgspec.Meta(gt=0, le=BOOTSTRAP_S_MAX)] = BOOTSTRAP_S_MAX


class BootstrapGrant(msgspec.Struct, frozen=True):
    """``token`` is a JWT (EdDSA) for one use, until ``valid_until``; ``ca_pem`` is what the cell pins."""

    token: Text
    valid_until: float
    ca_pem: str


class EnrolmentRequest(msgspec.Struct, frozen=True):
    """``POST /api/v1/cells/enroll``: the bootstrap token and a request for the key that the cell made. The same
    request may be repeated until the cell has registered."""

    token: Text
    csr_pem: Pem


class RenewalRequest(msgspec.Struct, frozen=True):
    """``POST /api/v1/cells/renew`` and ``/api/v1/account/renew``: a request for the key that the caller's certificate
    has."""

    csr_pem: Pem


class CellCredentials(msgspec.Struct, frozen=True):
    """What a cell shows from now on. ``certificate_pem`` and ``api_token`` both end at ``valid_until``."""

    cell_id: str
    provider: str
    certificate_pem: str
    api_token: str
    ca_pem: str
    valid_until: float


class AccountCredentials(msgspec.Struct, frozen=True):
    """What an operator or a tenant shows from now on, until ``valid_until``."""

    name: str
    certificate_pem: str
    api_token: str
    valid_until: float


class CellRevocation(msgspec.Struct, frozen=True):
    """``POST /api/v1/cells/{cell_id}/revoke``: its runs get ``grace_s`` to end, then its identity is worth nothing."""

    why: Text
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30.0


class IdentityView(msgspec.Struct, frozen=True):
    """What stands behind a cell id. On its way out from the revocation on: ``revoke_at`` is when its identity ends at
    the latest, ``revoked_at`` when it did (0: not yet); ``running`` runs have not ended."""

    cell_id: str
    provider: str
    why: str
    revoke_at: float
    revoked_at: float
    running: int


class ProviderView(msgspec.Struct, frozen=True):
    """``ready`` when one of its cells is; ``unmet`` tells of each cell that is not which signals it lacks, and why."""

    provider: str
    enabled: bool
    ready: bool
    cells: int
    ready_cells: int
    unmet: dict[str, dict[str, str]]


class ProviderList(msgspec.Struct, frozen=True):
    providers: list[ProviderView]
