"""The rows of a scheduler's state: what must survive a restart, and what may be forgotten.

Each row is immutable and stands under ``(kind, key)``. Times are Unix seconds, money is micro-cents. A field that a
later version adds gets a default, so that older rows still decode.
"""

from __future__ import annotations

import msgspec

from grafos_core import ledger
from grafos_core.audit_chain import GENESIS, AuditRecord
from grafos_core.ids import INSTANCE_PREFIX
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_core.revoking import RevokeState
from grafos_core.tiers import Tier
from grafos_scheduler import image_messages, region_rows, service_rows
from grafos_scheduler.ledger_messages import LedgerState
from grafos_scheduler.messages import Conformance, RunRequest

CLAIM, TERMS, TENANT, SLICE, RESERVATION = "claim", "terms", "tenant", "slice", "reservation"
CELL, DRAIN, LEASE, RUN, ARTIFACT = "cell", "drain", "lease", "run", "artifact"
PRODUCTION, CONFORMANCE, FAULT = "production", "conformance", "fault"
ENROLMENT, IDENTITY, REVOKED_KEY = "enrolment", "identity", "revoked_key"
ATTESTATION_ROOTS, FABRIC_LEDGER, LEDGER_BASIS = "attestation_roots", "fabric_ledger", "ledger_basis"
INVITATION, PERSON, ORDER = "invitation", "person", "order"
AUDIT, AUDIT_HEAD, AUDIT_MARK = "audit", "audit_head", "audit_mark"
PRESENCE, TOKEN, RENEWAL, FLOOD, TRIAL = "presence", "token", "renewal", "flood", "trial"

THE_CLAIM = "claim"
"""Key of the only claim."""
THE_LEDGER = "ledger"
"""Key of the only row that says how the fabric's ledger stands here."""
WHOLE_SCHEDULER = ""
"""Key of the drain that closes admission altogether; the others are cell ids."""
THE_HEAD = "head"
"""Key of the only head of the audit log."""


class Claim(msgspec.Struct, frozen=True):
    """Whose scheduler this is. ``regained_at`` is when another key of the fabric's operator last took the place of the
    one before (0: never), and ``put_out`` are the keys that went with it, of tenants too, the newest last."""

    fabric: str
    operator: str
    key_sha256: str
    claimed_at: float
    regained_at: float = 0.0
    put_out: tuple[str, ...] = ()


class Terms(msgspec.Struct, frozen=True):
    """What the operator recorded with a cell: its price and when it must be gone (0 = never)."""

    cell_id: str
    rate_micro_cents_per_hour: int
    expires_at: float


class Tenant(msgspec.Struct, frozen=True):
    """``keys`` are the fingerprints that may speak for it, the newest last; empty where nobody counted them, at a cell
    of before. The row of one that was deleted (``deleted_at`` is not 0) keeps its name from being given to somebody
    else. From ``signs_since`` on nothing is run at its cost that nobody signed: 0 where an operator lifted that, None
    where nobody has said, as in every row of before. Its runs are of no tier above ``highest_tier``. ``put_out`` are
    the names of those who were put out last, so that it can be said again."""

    name: str
    quota: Resources
    keys: tuple[str, ...] = ()
    deleted_at: float = 0.0
    signs_since: float | None = None
    highest_tier: Tier = Tier.GUARANTEED
    put_out: tuple[str, ...] = ()


class Slice(msgspec.Struct, frozen=True):
    """Money that a tenant may spend here until ``expires_at`` (0 = never: what one of an orchestrator has, of which
    there is no row). It has a ledger account of its own under the same name, so that each slice is settled to the
    micro-cent by itself."""

    slice_id: str
    tenant: str
    amount_micro_cents: int
    expires_at: float
    closed: bool = False


class Reservation(msgspec.Struct, frozen=True):
    """One hold for many runs of a tenant. ``account`` names the account that they are held on, and the hold of it on
    the tenant's; both are gone once that was settled, at ``settled_at``, for ``spent_micro_cents``. ``program`` is what
    its asker calls it."""

    account: str
    tenant: str
    key: str
    amount_micro_cents: int
    expires_at: float
    closed: bool = False
    settled_at: float = 0.0
    spent_micro_cents: int = 0
    program: str = ""


class FabricLedger(msgspec.Struct, frozen=True):
    """How the fabric's ledger stands here. ``generation`` and ``digest`` are those of the copy that came, and ``lost``
    what it said of generations that never came home; ``revision`` grows with every booking. ``fetch`` was drawn by the
    home that it goes to; empty until then, and where that home is of an older version."""

    state: LedgerState
    generation: int
    digest: str
    revision: int
    lost: tuple[int, ...] = ()
    fetch: str = ""


class LedgerBasis(msgspec.Struct, frozen=True):
    """What the newest copy that came said was spent on each account, beside what its holds came to; by it is known
    what was spent here since, see ``ledger_merge``. Written once for each copy that comes."""

    spent_micro_cents: dict[str, int]


class Cell(msgspec.Struct, frozen=True):
    """A cell that registered. ``key_sha256`` is the key that its identity is bound to; ``boot_epoch`` the newest
    start of its daemon that a link told of (0: none yet), ``instance`` what that start drew for itself.
    ``image_sha256`` is the digest that the image bears which it says to run (empty: none)."""

    cell_id: str
    provider: str
    region: str
    agent_version: str
    total: Resources
    key_sha256: str
    registered_at: float
    boot_epoch: int = 0
    instance: str = ""
    image_sha256: str = ""


class Drain(msgspec.Struct, frozen=True):
    since: float


class Enrolment(msgspec.Struct, frozen=True):
    """One bootstrap token, by its id: which cell may enrol with it, at what price and until when (``expires_at``, the
    cell's own end; 0 = never). ``key_sha256`` is the key that used it; ``closed`` once that key has registered. With an
    ``account`` there is no token: the cloud's word for the machine ``machine_id`` takes its place (empty: not known
    yet)."""

    token_id: str
    provider: str
    cell_id: str
    region: str
    rate_micro_cents_per_hour: int
    expires_at: float
    made_at: float
    valid_until: float
    asked_by: str
    key_sha256: str = ""
    used_at: float = 0.0
    closed: bool = False
    account: str = ""
    machine_id: str = ""


class Identity(msgspec.Struct, frozen=True):
    """Whom an enrolled cell id stands for: the key that used the bootstrap token ``token_id``. ``registered`` once
    that key has registered. While ``revoke_at`` is set the cell is on its way out (0: it is not): until ``drain_until``
    its runs go on, then they have ``grace_s``. From ``revoked_at`` on nothing that its key signs counts any more."""

    cell_id: str
    provider: str
    region: str
    key_sha256: str
    token_id: str
    enrolled_at: float
    registered: bool = False
    revoke_at: float = 0.0
    revoke_why: str = ""
    revoked_at: float = 0.0
    machine_id: str = ""
    drain_until: float = 0.0
    grace_s: float = 0.0


class Invitation(msgspec.Struct, frozen=True):
    """One invitation, by its id: which person of which tenant may sign in with it. ``key_sha256`` is the key that
    used it."""

    token_id: str
    tenant: str
    name: str
    made_at: float
    valid_until: float
    asked_by: str
    key_sha256: str = ""
    used_at: float = 0.0


class Person(msgspec.Struct, frozen=True):
    """Whom one key of a tenant stands for, under that key's fingerprint. ``invited_by`` is empty for credentials that
    an operator made. ``proof`` is how ``signing_key_pem`` was registered; both may be lacking."""

    key_sha256: str
    tenant: str
    name: str
    since: float
    invited_by: str = ""
    signing_key_pem: str = ""
    proof: Signed | None = None
    verified_at: float = 0.0


class Order(msgspec.Struct, frozen=True):
    """That a run was asked for by whoever has this signing key. Cold: stored with the run's admission."""

    run_id: str
    signing_key_pem: str
    order: Signed


class AttestationRoots(msgspec.Struct, frozen=True):
    """What an operator set for verifying a cloud's word, see ``attested.Roots``."""

    provider: str
    source: str
    dated: str
    pems: dict[str, str]
    set_by: str
    set_at: float


class RevokedKey(msgspec.Struct, frozen=True):
    """A key that was taken back, by its fingerprint: it never counts again, for whatever cell."""

    cell_id: str
    revoked_at: float
    why: str


class Production(msgspec.Struct, frozen=True):
    """A provider that an operator marked as one for production: its cells must have passed the conformance suite."""

    provider: str
    since: float
    by: str


class Conformed(msgspec.Struct, frozen=True):
    """What the conformance suite said of a cell, and of which key and software that is true."""

    cell_id: str
    key_sha256: str
    said: Conformance
    by: str


class Fault(msgspec.Struct, frozen=True):
    """What a cell did that no cell does which works as it should: an error code and words. Of its key alone."""

    cell_id: str
    key_sha256: str
    code: str
    what: str
    at: float


class Lease(msgspec.Struct, frozen=True):
    """One resource of one cell, for one run, or as a shared region for none (``run_id`` is empty). ``boot_epoch`` is
    the start of the cell's daemon that it was asked of.

    ``asked_at`` is when this generation was asked for, and ``until`` how long renewals may carry it (0: none).
    ``revoke`` is a label of ``RevokeState``; with it go the grace that was given, and why.
    """

    lease_id: str
    run_id: str
    tenant: str
    cell_id: str
    kind: str
    amount: int
    generation: int
    boot_epoch: int
    state: str
    expires_at: float
    asked_at: float = 0.0
    until: float = 0.0
    revoke: str = RevokeState.ACTIVE.value
    grace_s: float = 0.0
    revoke_why: str = ""

    @property
    def is_of_instance(self) -> bool:
        """Whether what has it is an instance of a service: then ``run_id`` is the id of that one."""
        return self.run_id.startswith(INSTANCE_PREFIX)

    @property
    def resources(self) -> Resources:
        """The lease as a vector over the resource kinds."""
        return Resources.of(self.kind, self.amount)


class Run(msgspec.Struct, frozen=True):
    """A run from its admission (or refusal) on. ``share`` is "1/2"; ``attempt`` counts decisions under one run key.

    ``code``, ``what``, ``next`` and ``retryable`` tell why it did not finish; ``cost_micro_cents`` and
    ``lease_seconds`` are what was settled; ``give_up_at`` is when to stop waiting for the cell's next word;
    ``cancelled_at`` is when its tenant wanted it to end (0: never). ``waits_for`` are leases of others that must be
    gone before its own are asked for. ``signed_by`` is the person whose order it is; empty for one without an order.
    """

    run_id: str
    tenant: str
    request: RunRequest
    state: str
    created_at: float
    attempt: int = 1
    code: str = ""
    what: str = ""
    next: str = ""
    retryable: bool = False
    cell_id: str = ""
    region: str = ""
    lease_ids: tuple[str, ...] = ()
    hold_id: str = ""
    rate_micro_cents_per_hour: int = 0
    share: str = "0"
    give_up_at: float = 0.0
    ended_at: float = 0.0
    fuel_used: int = 0
    lease_seconds: float = 0.0
    cost_micro_cents: int = 0
    cancelled_at: float = 0.0
    waits_for: tuple[str, ...] = ()
    signed_by: str = ""


class Artifact(msgspec.Struct, frozen=True):
    """What a run left. Cold: stored with the run's end, read from the store when somebody asks, not kept in memory."""

    run_id: str
    response_json: str
    output: bytes
    log: str
    receipt: Signed


class AuditHead(msgspec.Struct, frozen=True):
    """Where the audit log ends, and what it begins with: all records before ``kept_from`` were let go, the last of
    which had the hash ``let_go_event_hash``. The records themselves are cold."""

    sequence: int = 0
    event_hash: str = GENESIS
    at_ms: int = 0
    kept_from: int = 1
    let_go_event_hash: str = GENESIS


class AuditMark(msgspec.Struct, frozen=True):
    """One record in many, so that old ones can be let go, and a time be found, without reading the log."""

    sequence: int
    event_hash: str
    at_ms: int


class Presence(msgspec.Struct, frozen=True):
    """Volatile: the link to a cell. ``link_id`` 0 means closed. ``steady_since`` is since when no beat was missed;
    ``protocol`` is what both sides agreed on."""

    cell_id: str
    link_id: int
    last_heartbeat_at: float
    steady_since: float
    protocol: int = 1


class LeaseToken(msgspec.Struct, frozen=True):
    """Volatile: the capability token of a granted lease. After a restart the cell is asked for a fresh one."""

    lease_id: str
    generation: int
    token: str


class Renewal(msgspec.Struct, frozen=True):
    """Volatile: a renewal that was asked for and not answered yet. After a restart it is asked for at once."""

    lease_id: str
    attempts: int
    again_at: float


class Trial(msgspec.Struct, frozen=True):
    """Volatile: until then the tenant may try the cell, though it lacks what the trial is to show. ``key_sha256`` and
    ``agent_version`` are the cell's when it was opened; ``caught``: it was at fault since."""

    cell_id: str
    tenant: str
    until: float
    key_sha256: str
    agent_version: str
    caught: bool = False


class Flood(msgspec.Struct, frozen=True):
    """Volatile: how often ``who`` brought about records of one kind since ``since``, and how many were withheld."""

    kind: str
    who: str
    since: float
    noted: int = 0
    withheld: int = 0


STORED_KINDS: dict[str, type[msgspec.Struct]] = {
    CLAIM: Claim,
    TERMS: Terms,
    TENANT: Tenant,
    SLICE: Slice,
    RESERVATION: Reservation,
    FABRIC_LEDGER: FabricLedger,
    LEDGER_BASIS: LedgerBasis,
    CELL: Cell,
    DRAIN: Drain,
    ENROLMENT: Enrolment,
    IDENTITY: Identity,
    REVOKED_KEY: RevokedKey,
    ATTESTATION_ROOTS: AttestationRoots,
    INVITATION: Invitation,
    PERSON: Person,
    ORDER: Order,
    PRODUCTION: Production,
    CONFORMANCE: Conformed,
    FAULT: Fault,
    LEASE: Lease,
    RUN: Run,
    ARTIFACT: Artifact,
    AUDIT: AuditRecord,
    AUDIT_HEAD: AuditHead,
    AUDIT_MARK: AuditMark,
    **ledger.KINDS,
    **image_messages.KINDS,
    **region_rows.KINDS,
    **service_rows.STORED_KINDS,
}
"""What the store holds, for its ``RowCodec``."""

COLD_KINDS = frozenset({ARTIFACT, AUDIT, ORDER, service_rows.INSTANCE_LOG})
"""Stored, but not loaded into memory."""
