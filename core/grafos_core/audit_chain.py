"""The audit log as a chain: each record has the hash of the one before it, and its own over everything that it says.

    current_event_hash = SHA-256(canonical bytes);  prev_event_hash = current_event_hash of the record before

The canonical bytes are the record as UTF-8 JSON with sorted keys and no spaces, without ``current_event_hash``; all
numbers are integers, so that every language writes the same bytes. The first record follows ``GENESIS``. Whoever kept
the hash of one record (an *anchor*) can tell later that this record and all before it are as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from grafos_core.errors import GrafosError

GENESIS = "0" * 64
"""What the first record of a log follows."""


class AuditKind(StrEnum):
    """What a record tells of."""

    CLAIMED = "Claimed"
    OPERATOR_REPLACED = "OperatorReplaced"
    REGAIN_REFUSED = "RegainRefused"
    CLAIM_REFUSED = "ClaimRefused"
    TERMS_SET = "TermsSet"
    TENANT_CREATED = "TenantCreated"
    TENANT_CHANGED = "TenantChanged"
    TENANT_DELETED = "TenantDeleted"
    BUDGET_SET = "BudgetSet"
    SLICE_CLOSED = "SliceClosed"
    LEDGER_TAKEN = "LedgerTaken"
    LEDGER_CLOSED = "LedgerClosed"
    MONEY_BOOKED = "MoneyBooked"
    BOOTSTRAP_MINTED = "BootstrapMinted"
    EXPECTED_MACHINE_NAMED = "ExpectedMachineNamed"
    ATTESTATION_ROOTS_SET = "AttestationRootsSet"
    CELL_ENROLLED = "CellEnrolled"
    ENROLMENT_REFUSED = "EnrolmentRefused"
    CELL_REGISTERED = "CellRegistered"
    CREDENTIALS_RENEWED = "CredentialsRenewed"
    PERSON_INVITED = "PersonInvited"
    SIGNED_IN = "SignedIn"
    SIGN_IN_REFUSED = "SignInRefused"
    PERSON_REMOVED = "PersonRemoved"
    SIGNING_KEY_REGISTERED = "SigningKeyRegistered"
    CELL_REVOKE_ASKED = "CellRevokeAsked"
    CELL_REVOKED = "CellRevoked"
    CELL_FAULTED = "CellFaulted"
    PROVIDER_MARKED = "ProviderMarked"
    IMAGES_DEMANDED = "ImagesDemanded"
    TRIAL_OPENED = "TrialOpened"
    CONFORMANCE_RECORDED = "ConformanceRecorded"
    CONSOLE_LINK_MADE = "ConsoleLinkMade"
    CONSOLE_OPENED = "ConsoleOpened"
    CONSOLE_REFUSED = "ConsoleRefused"
    DRAIN_SET = "DrainSet"
    BUNDLE_STORED = "BundleStored"
    BACKUP_TAKEN = "BackupTaken"
    MACHINE_ORDERED = "MachineOrdered"
    RUN_REFUSED = "RunRefused"
    LEASE_ALLOCATED = "LeaseAllocated"
    LEASE_RENEWED = "LeaseRenewed"
    LEASE_REVOKED = "LeaseRevoked"
    LEASE_FENCED = "LeaseFenced"
    LEASE_REFUSED = "LeaseRefused"
    UNFENCE_ASKED = "UnfenceAsked"
    LEASE_UNFENCED = "LeaseUnfenced"
    SERVICE_DEPLOYED = "ServiceDeployed"
    SERVICE_SCALED = "ServiceScaled"
    SERVICE_REMOVED = "ServiceRemoved"
    INSTANCE_PROVISIONED = "InstanceProvisioned"
    INSTANCE_ENDED = "InstanceEnded"
    FAILOVER_STARTED = "FailoverStarted"
    CUTOVER_STARTED = "CutoverStarted"
    CUTOVER_COMPLETED = "CutoverCompleted"
    WITHHELD = "Withheld"
    CHECKPOINT = "Checkpoint"


class AuditInput(msgspec.Struct, frozen=True):
    """What happened, before it has its place in a chain. ``by`` is who made it happen ("operator/ada", "tenant/acme",
    "cell/cell-1", "scheduler"); ``subject`` what it happened to; ``tenant`` and ``cell_id`` whom it touches, if any."""

    kind: str
    by: str
    subject: str
    tenant: str = ""
    cell_id: str = ""
    details: Mapping[str, str | int] = {}


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record in its place; ``sequence`` counts from 1 without a gap, ``at_ms`` (Unix time) never goes back."""

    sequence: int
    at_ms: int
    kind: str
    by: str
    subject: str
    tenant: str
    cell_id: str
    details: dict[str, str | int]
    prev_event_hash: str
    current_event_hash: str = ""


_canonical = msgspec.json.Encoder(order="sorted")


def assemble_record(given: AuditInput, sequence: int, at_ms: int, prev_event_hash: str) -> AuditRecord:
    """The record of what happened, in its place."""
    record = AuditRecord(
        sequence,
        at_ms,
        given.kind,
        given.by,
        given.subject,
        given.tenant,
        given.cell_id,
        dict(given.details),
        prev_event_hash,
    )
    return replace(record, current_event_hash=event_hash(record))


def canonical_bytes(record: AuditRecord) -> bytes:
    """What the record's hash is over."""
    return _canonical.encode(replace(record, current_event_hash="") if record.current_event_hash else record)


def event_hash(record: AuditRecord) -> str:
    """The hash that the record must have, in hex."""
    return hashlib.sha256(canonical_bytes(record)).hexdigest()


class ChainCheck:
    """Follows a chain record by record. ``sequence`` and ``event_hash`` are those of the last one that held."""

    def __init__(self, sequence: int = 0, event_hash: str = GENESIS) -> None:
        self.sequence = sequence
        self.event_hash = event_hash

    def take(self, record: AuditRecord) -> None:
        """Goes on to the next record; ``audit_broken`` if it is not the one that must come, or was changed."""
        wanted = self.sequence + 1
        if record.sequence != wanted:
            raise broken(wanted, f"record {record.sequence} stands where record {wanted} must come")
        if record.current_event_hash != event_hash(record):
            raise broken(wanted, "its contents do not have the hash that it bears")
        if record.prev_event_hash != self.event_hash:
            raise broken(wanted, "it does not follow the record before it")
        self.sequence, self.event_hash = wanted, record.current_event_hash


def broken(sequence: int, why: str) -> GrafosError:
    """``audit_broken`` at this record."""
    return GrafosError(
        "audit_broken",
        f"the audit log was changed at record {sequence}",
        why=why,
        next="keep a copy of the scheduler's state as evidence, then see who may write to its disk",
        context={"sequence": sequence},
    )


def let_go(record: AuditRecord, sequence: int, event_hash: str) -> bool:
    """Whether this is the checkpoint that says that all records up to ``sequence`` were let go, the last of which had
    this hash."""
    return record.kind == AuditKind.CHECKPOINT and record.details == {
        "let_go_to": sequence,
        "let_go_event_hash": event_hash,
    }
