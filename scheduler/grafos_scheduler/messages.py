"""What goes over REST (JSON), checked once on entry; the cell link is in ``frames``.

Unknown fields are ignored, so that a newer peer may add some.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from grafos_core.errors import GrafosError, general_step
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_core.tiers import Tier

PROTOCOL_MIN = 1
PROTOCOL_MAX = 3
"""Version 2 brings ``frames.RevokeLease``, ``ClearFence`` and ``LeaseRevoked``; version 3 shared regions of memory,
and services."""
REVOKING_SINCE = 2
REGIONS_SINCE = 3
SERVICES_SINCE = 3
CODE_HEADER = "grafos-code"
"""Carries an error's code beside its body, since the answer to HEAD has no body."""

BLOB_BYTES_MAX = 8 * 1024 * 1024
"""A module or an input."""
BODY_BYTES_MAX = BLOB_BYTES_MAX
RUNS_PAGE_MAX = 1000
RUNS_BATCH_MAX = 32
"""Runs that one request may ask for: beyond this, what they share (a request, a sync) is next to nothing of each."""
WAIT_S_MAX = 30.0
"""How long a long poll may hold; below the idle time-outs of common middle boxes."""

END = r"$(?!\n)"
"""The end of a text. Python's ``$`` alone would let a line break follow."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern=f"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?{END}")]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
Pem = Annotated[str, msgspec.Meta(max_length=16384)]
Hex256 = Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{64}}{END}")]
Hex256OrNone = Annotated[str, msgspec.Meta(pattern=f"^([0-9a-f]{{64}})?{END}")]
"""Empty where there is none, as of a run whose input is its context."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
UnixTime = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class ErrorBody(msgspec.Struct, frozen=True):
    """Every answer that is not 2xx: ``GrafosError.to_wire`` (docs/reference/errors.md has the codes)."""

    code: str
    what: str
    where: str
    why: str
    next: str
    retryable: bool
    context: dict[str, Any]


class Health(msgspec.Struct, frozen=True):
    """Anybody who reaches the port may ask. ``claimed``: an operator has taken possession. ``mode`` is ``cell`` or
    ``orchestrator``; in mode ``cell`` the scheduler's name is that of its only cell. ``leader`` is the address of the
    replica that leads, empty at that one itself."""

    name: str
    version: str
    claimed: bool
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    mode: str = "cell"
    leader: str = ""


def error_body(error: GrafosError) -> ErrorBody:
    """The error as it is answered: with a next step, always."""
    wire = error.to_wire()
    return ErrorBody(**{**wire, "next": error.next or general_step(error.code)})


# --- claim: how an operator takes possession of a standalone cell -------------------------------------------------


class ClaimRequest(msgspec.Struct, frozen=True):
    """``mac`` is ``grafos_core.trust.claim_mac`` over the role, the server certificate, this CSR and the fabric's
    public key (which signs budget slices), keyed with the one-time secret. The secret itself is never sent."""

    fabric: Name
    operator: Name
    csr_pem: Pem
    fabric_key_pem: Pem
    mac: Hex256


class ClaimGrant(msgspec.Struct, frozen=True):
    """The scheduler's proof (``mac``), its CA to pin, and the operator's certificate and API token. ``cell_id`` is the
    scheduler's name, also where it is an orchestrator's."""

    cell_id: Name
    ca_pem: Pem
    certificate_pem: Pem
    api_token: Text
    mac: Hex256


class Terms(msgspec.Struct, frozen=True):
    """What the operator tells a claimed cell: what it costs and when it must be gone (Unix seconds; 0 = never).

    In the answer, ``ends_at`` is when the machine's own timer ends it by now; 0 where the machine has none. It follows
    within a second: ask again.
    """

    rate_micro_cents_per_hour: Count
    expires_at: UnixTime = 0.0
    ends_at: UnixTime = 0.0


# --- tenants ----------------------------------------------------------------------------------------------------


class TenantRequest(msgspec.Struct, frozen=True):
    """Registers a tenant, or renews its credentials: a CSR to sign, its quota, and its signed budget slice."""

    name: Name
    csr_pem: Pem
    budget_slice: Signed
    quota: Resources | None = None


class TenantGrant(msgspec.Struct, frozen=True):
    name: Name
    certificate_pem: Pem
    api_token: Text


class TenantView(msgspec.Struct, frozen=True):
    """``signed``: nothing runs at its cost that none of its people signed. ``highest_tier``: what its runs may be."""

    name: str
    budget_micro_cents: int
    held_micro_cents: int
    spent_micro_cents: int
    quota: Resources
    leased: Resources
    signed: bool = False
    highest_tier: Tier = Tier.GUARANTEED


class TenantList(msgspec.Struct, frozen=True):
    tenants: list[TenantView]


# --- cells ------------------------------------------------------------------------------------------------------


class CellRegistration(msgspec.Struct, frozen=True):
    """``POST /api/v1/cells/register``: who the cell is, what it has, and the digest that its image bears (empty: it is
    on no baked image)."""

    cell_id: Name
    provider: Name
    region: Text
    agent_version: Text
    total: Resources
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    image_sha256: Hex256OrNone = ""


class CellRegistered(msgspec.Struct, frozen=True):
    protocol: int
    heartbeat_every_s: float


class Signal(msgspec.Struct, frozen=True):
    """One readiness signal; ``why`` is empty when it is met."""

    met: bool
    why: str = ""


class Conformance(msgspec.Struct, frozen=True):
    """What the conformance suite said of a cell, run on it end to end. ``suite`` is the version of the suite,
    ``agent_version`` that of the cell's software on that day; ``wrong`` names the cases that did not come to the
    expected end, and is empty when it passed."""

    suite: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    cases: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    wrong: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=100)], ...], msgspec.Meta(max_length=1000)] = ()
    agent_version: Text = ""
    judged_at: UnixTime = 0.0


class CellView(msgspec.Struct, frozen=True):
    """``readiness`` has the six signals by name. ``conformance`` is what was last recorded, if anything; ``fault`` says
    what the cell did for which it gets no runs any more. ``image_sha256`` is what it tells of its image, ``image_veto``
    why it gets no runs for that."""

    cell_id: str
    provider: str
    region: str
    ready: bool
    readiness: dict[str, Signal]
    total: Resources
    leased: Resources
    rate_micro_cents_per_hour: int
    expires_at: float
    draining: bool
    last_heartbeat_at: float
    conformance: Conformance | None = None
    fault: str = ""
    image_sha256: str = ""
    image_veto: str = ""


class CellList(msgspec.Struct, frozen=True):
    cells: list[CellView]


# --- blobs ------------------------------------------------------------------------------------------------------


class BlobStored(msgspec.Struct, frozen=True):
    """The bytes are on the scheduler's disk under their SHA-256."""

    sha256: str
    size_bytes: int


# --- runs -------------------------------------------------------------------------------------------------------


_KEY = "[A-Za-z0-9_-]{16,64}"
RunKey = Annotated[str, msgspec.Meta(pattern=f"^{_KEY}{END}")]


class RunRequest(msgspec.Struct, frozen=True):
    """``run_key`` was made and stored by the client before it asked: the same key never runs or charges twice.

    ``memory_bytes`` bounds the linear memory; what begins with ``lease_`` is leased from the cell. Seconds are wall
    time. With a ``cell_id`` it is to be that cell of the provider and no other. The run costs at most
    ``max_micro_cents``, where that is given, and is held on the reservation of the key ``reservation``, where one is
    named. ``order`` is a signed ``RunOrder`` that says the same; it is asked for where somebody of the tenant has
    registered a signing key.
    """

    run_key: RunKey
    provider: Name
    program: Name
    tasklet: Name
    module_sha256: Hex256
    input_sha256: Hex256OrNone
    fuel: Annotated[int, msgspec.Meta(ge=1, le=10**12)] = 500_000
    memory_bytes: Annotated[int, msgspec.Meta(ge=65536, le=4 * 1024**3)] = 32 * 1024 * 1024
    lease_mem_bytes: Count = 0
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0
    lease_block_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**53, multiple_of=512)] = 0
    lease_gpu_count: Count = 0
    lease_nic_count: Count = 0
    tier: Tier = Tier.STANDARD
    cell_id: Annotated[str, msgspec.Meta(max_length=40)] = ""
    max_micro_cents: Count | None = None
    reservation: Annotated[str, msgspec.Meta(pattern=f"^({_KEY})?{END}")] = ""
    order: Signed | None = None


class Cost(msgspec.Struct, frozen=True):
    """``cents_per_run`` is for reading; ``micro_cents`` is exact."""

    micro_cents: int
    cents_per_run: float
    rate_micro_cents_per_hour: int
    lease_seconds: float
    share: str  # "1/2"


class RunView(msgspec.Struct, frozen=True):
    """A run as anybody sees it. ``state``: planned, admitted, placed, running, finished, failed, refused, expired or
    cancelled. ``code`` and ``what`` tell why it did not finish. ``signed_by`` is the person who ordered it, as
    "tenant/name"; empty where it came without an order.
    """

    run_id: str
    tenant: str
    provider: str
    cell_id: str
    region: str
    program: str
    tasklet: str
    module_sha256: str
    input_sha256: str
    state: str
    code: str
    what: str
    created_at: float
    ended_at: float
    fuel_used: int
    cost: Cost
    tier: str = Tier.STANDARD.value
    signed_by: str = ""


class RunBatch(msgspec.Struct, frozen=True):
    """Several runs in one request; each is admitted or refused by itself, in this order."""

    runs: Annotated[tuple[RunRequest, ...], msgspec.Meta(min_length=1, max_length=RUNS_BATCH_MAX)]


class BatchedRun(msgspec.Struct, frozen=True):
    """What became of one run of a batch: either ``run``, or ``error`` as it would be answered for that run alone."""

    run: RunView | None = None
    error: ErrorBody | None = None


class BatchedRuns(msgspec.Struct, frozen=True):
    """In the order of the requests. All that it says was made durable together."""

    runs: list[BatchedRun]


class Admission(msgspec.Struct, frozen=True):
    """What would become of a run that was asked for now; nothing was begun, held or kept.

    ``admitted`` true: it would go to ``cell_id``, with at most ``worst_case_micro_cents`` held for ``leases`` by kind.
    ``giving_way`` runs of lower tiers would lose their leases for it. False: ``code``, ``what`` and ``next`` are the
    refusal.
    """

    admitted: bool
    code: str = ""
    what: str = ""
    next: str = ""
    cell_id: str = ""
    region: str = ""
    rate_micro_cents_per_hour: int = 0
    share: str = "0"
    worst_case_micro_cents: int = 0
    leases: dict[str, int] = {}
    giving_way: int = 0


class RunsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``after`` is the ``next`` of the page before."""

    after: Annotated[str, msgspec.Meta(max_length=128)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=RUNS_PAGE_MAX)] = 100


class RunQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``wait_s``: hold the answer until the run has ended, at most this long."""

    wait_s: Annotated[float, msgspec.Meta(ge=0, le=WAIT_S_MAX)] = 0.0


class RunPage(msgspec.Struct, frozen=True):
    """Newest first; ``next`` is the cursor for older ones, empty at the end."""

    runs: list[RunView]
    next: str = ""


class Artifacts(msgspec.Struct, frozen=True):
    """What a run left. ``response_json`` is the tasklet's JSON text or empty; ``output_b64`` its output bytes.
    ``order`` is the signed ``RunOrder`` of whoever asked for it, if there is one; ``signing_key_pem`` verifies it."""

    run: RunView
    response_json: str
    output_b64: str
    log: str
    receipt: Signed
    chain_pem: str
    order: Signed | None = None
    signing_key_pem: str = ""


class DrainRequest(msgspec.Struct, frozen=True):
    """``cell_id`` empty: all cells of this scheduler. ``draining`` false opens admission again."""

    cell_id: Annotated[str, msgspec.Meta(max_length=40)] = ""
    draining: bool = True


class DrainView(msgspec.Struct, frozen=True):
    """Admission is closed; ``running`` runs have not ended yet."""

    draining: bool
    running: int


class Settlements(msgspec.Struct, frozen=True):
    """A signed ``Settlement`` for each slice of budget; one is final once its slice is closed and no run holds any."""

    settlements: list[Signed]
