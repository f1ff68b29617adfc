"""The bodies of enrolment at an orchestrator: a bootstrap token for one cell, its exchange for a certificate, renewal
by possession, and revocation."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_scheduler.messages import END, Count, Name, Pem, Signal, Text, UnixTime

BOOTSTRAP_S_MAX = 900.0
"""A bootstrap token is for a machine that is made now; the public design gives it fifteen minutes at most."""

CloudName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
RootName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


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


class ExpectedCell(BootstrapRequest, frozen=True, kw_only=True):
    """``POST /api/v1/account/expected-cells``: a machine of the cloud's ``account`` that is made now may enrol as the
    cell, by its cloud's word in place of a token. ``machine_id`` is empty until the cloud has told it."""

    account: CloudName
    machine_id: Annotated[str, msgspec.Meta(max_length=128)] = ""


class ExpectedMachine(msgspec.Struct, frozen=True):
    """``PUT /api/v1/account/expected-cells/{expectation_id}/machine``: which machine it is, once the cloud told."""

    machine_id: CloudName


class ExpectedCellView(msgspec.Struct, frozen=True):
    """What is expected, until ``valid_until``. The machine is to be given ``expectation_id``, which is no secret, and
    ``ca_pem``."""

    expectation_id: str
    provider: str
    account: str
    cell_id: str
    machine_id: str
    valid_until: float
    ca_pem: str


class AttestationRoots(msgspec.Struct, frozen=True):
    """``PUT /api/v1/admin/attestation-roots/{provider}``: PEM by name (a region of AWS, a key id of Google, any of
    Azure), where they came from and when (YYYY-MM-DD). They take the place of all that was set before."""

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    dated: Annotated[str, msgspec.Meta(pattern=f"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{END}")]
    pems: Annotated[dict[RootName, Pem], msgspec.Meta(min_length=1, max_length=200)]


class AttestationRootsView(msgspec.Struct, frozen=True):
    """What a cloud's word is verified with here. ``set_by`` is empty for what was shipped, which may be nothing
    (``why_empty``)."""

    provider: str
    source: str
    dated: str
    names: list[str]
    why_empty: str
    set_by: str
    set_at: float


class Attestation(msgspec.Struct, frozen=True):
    """A cloud's word for a machine that is expected: AWS's ``rsa2048``, Google's identity token or Azure's
    ``signature``, as its metadata service gave it."""

    expectation_id: Text
    evidence: Pem


class EnrolmentRequest(msgspec.Struct, frozen=True):
    """``POST /api/v1/cells/enroll``: the bootstrap token and a request for the key that the cell made. The same
    request may be repeated until the cell has registered. With an ``attestation`` the token is empty."""

    token: Text
    csr_pem: Pem
    attestation: Attestation | None = None


class RenewalRequest(msgspec.Struct, frozen=True):
    """``POST /api/v1/cells/renew`` and ``/api/v1/account/renew``: a request for the key that the caller's certificate
    has."""

    csr_pem: Pem


class CellCredentials(msgspec.Struct, frozen=True):
    """What a cell shows from now on. ``certificate_pem`` and ``api_token`` both end at ``valid_until``. With
    ``link_goes_on`` so does the link that it holds, which need not be dialled anew."""

    cell_id: str
    provider: str
    certificate_pem: str
    api_token: str
    ca_pem: str
    valid_until: float
    link_goes_on: bool = False


class AccountCredentials(msgspec.Struct, frozen=True):
    """What an operator or a tenant shows from now on, until ``valid_until``."""

    name: str
    certificate_pem: str
    api_token: str
    valid_until: float


class CellRevocation(msgspec.Struct, frozen=True):
    """``POST /api/v1/cells/{cell_id}/revoke``: nothing new begins there, and for ``drain_s`` what runs goes on. Then
    its runs are warned and get ``grace_s`` to end, and then its identity is worth nothing."""

    why: Text
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30.0
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0


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
    """``ready`` when one of its cells is; ``unmet`` tells of each cell that is not which signals it lacks, and why.
    ``production``: its cells must have passed the conformance suite. ``runtime_readiness`` has the provider's six
    signals: those of the cell that is nearest to being ready."""

    provider: str
    enabled: bool
    ready: bool
    cells: int
    ready_cells: int
    unmet: dict[str, dict[str, str]]
    production: bool = False
    runtime_readiness: dict[str, Signal] = {}


class ProviderList(msgspec.Struct, frozen=True):
    providers: list[ProviderView]
