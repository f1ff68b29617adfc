"""Signed records: what a cell, a scheduler, the fabric or a person vouches for, verifiable after it is gone.

A record is signed in its canonical form: UTF-8 JSON with sorted keys and no spaces, as bytes inside ``Signed``, so
that a verifier never has to rebuild the very bytes. A cell and a standalone scheduler sign with the key of a
certificate that their CA issued, and the certificate travels along; the fabric signs with its own key, and so does a
person who orders runs.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError

RECEIPT_VERSION = 1


class Signed(msgspec.Struct, frozen=True):
    """``body`` is the canonical JSON of a record of this ``kind``; ``certificate_pem`` is empty for the fabric and
    for a person."""

    kind: str
    body: bytes
    signature: bytes
    certificate_pem: str = ""


class RunReceipt(msgspec.Struct, frozen=True):
    """What ran, where, on what, and what came of it; signed by the cell. Hashes are SHA-256 in hex, times Unix seconds.

    ``code`` is "finished" or the code of the failure.
    """

    fabric: str
    run_id: str
    tenant: str
    provider: str
    cell_id: str
    region: str
    tasklet: str
    module_sha256: str
    input_sha256: str
    code: str
    response_sha256: str
    output_sha256: str
    fuel_used: int
    started_at: float
    ended_at: float
    boot_epoch: int
    version: int = RECEIPT_VERSION


class InstanceReceipt(msgspec.Struct, frozen=True):
    """One instance of a service: what ran, where, for how long, and how it ended; signed by the cell. Hashes are
    SHA-256 in hex, times Unix seconds. ``code`` is "finished" or the code of the failure."""

    fabric: str
    instance_id: str
    service: str
    generation: int
    tenant: str
    provider: str
    cell_id: str
    region: str
    module_sha256: str
    code: str
    fuel_used: int
    sessions_served: int
    started_at: float
    ended_at: float
    boot_epoch: int
    version: int = RECEIPT_VERSION


class BudgetSlice(msgspec.Struct, frozen=True):
    """Leave for one scheduler to spend this much of a tenant's budget until it runs out; signed by the fabric."""

    fabric: str
    slice_id: str
    scheduler: str
    tenant: str
    amount_micro_cents: int
    expires_at: float
    version: int = RECEIPT_VERSION


class Settlement(msgspec.Struct, frozen=True):
    """What a scheduler spent of a slice so far; ``final`` when it admits no more. Signed by the scheduler."""

    fabric: str
    slice_id: str
    scheduler: str
    tenant: str
    spent_micro_cents: int
    final: bool
    settled_at: float
    version: int = RECEIPT_VERSION


class TornDown(msgspec.Struct, frozen=True):
    """One cloud resource of a stack; ``proof`` says which reads saw it gone, or why it stays or may be left."""

    kind: str
    id: str
    region: str
    gone: bool
    proof: str


class TeardownReceipt(msgspec.Struct, frozen=True):
    """Everything that a stack consisted of, and that nothing billable is left; signed by the fabric.

    ``left`` counts the resources that are not proved gone: 0 is the proof. Amounts are micro-cents; those of an
    ``emulated`` cloud are fictional, nobody is billed. ``identity`` is what became of a registered cell's identity at
    its orchestrator, in words; empty for any other.
    """

    fabric: str
    stack: str
    provider: str
    account: str
    region: str
    cell_id: str
    resources: tuple[TornDown, ...]
    left: int
    held_micro_cents: int
    cost_micro_cents: int
    machine_seconds: float
    runs_brought_home: int
    settlement: str  # "settled" | "unsettled: why"
    began_at: float
    ended_at: float
    emulated: bool = False
    version: int = RECEIPT_VERSION
    identity: str = ""


class Inventory(msgspec.Struct, frozen=True):
    """What an account holds of a fabric, or of one of its stacks; signed by the fabric. ``left`` 0 is the proof.

    ``stack`` empty means all of them, ``regions`` empty all that the account may use. ``listed_at`` are the times of
    the listings; the last one began a whole listing lag after the last change. ``unproved`` counts what bears the
    fabric's tags and is not proved to be its own.
    """

    fabric: str
    provider: str
    account: str
    stack: str
    regions: tuple[str, ...]
    kinds: tuple[str, ...]
    resources: tuple[TornDown, ...]
    left: int
    unproved: int
    listed_at: tuple[float, ...]
    version: int = RECEIPT_VERSION


class RunOrder(msgspec.Struct, frozen=True):
    """What a person asks for, and at whose cost; signed with the key that she registered. Seconds are wall time.

    ``scheduler`` is the one that was asked. The run costs at most ``max_micro_cents``; None: what the tenant may spend.
    ``signed_at`` is by her own clock. With a ``reservation`` it is paid from the money that is held under that key.
    """

    fabric: str
    scheduler: str
    tenant: str
    run_key: str
    provider: str
    cell_id: str
    program: str
    tasklet: str
    module_sha256: str
    input_sha256: str
    fuel: int
    memory_bytes: int
    lease_mem_bytes: int
    lease_block_bytes: int
    lease_gpu_count: int
    lease_nic_count: int
    deadline_s: float
    tier: str
    max_micro_cents: int | None
    signed_at: float
    version: int = RECEIPT_VERSION
    reservation: str = ""


class SigningKeyProof(msgspec.Struct, frozen=True):
    """That a person has the signing key that she registers; signed by it. ``key_sha256`` is the fingerprint of the key
    of the certificate that it is bound to, ``challenge`` what the scheduler gave out for that."""

    fabric: str
    scheduler: str
    tenant: str
    key_sha256: str
    signing_key_pem: str
    challenge: str
    version: int = RECEIPT_VERSION


class SchedulerVoucher(msgspec.Struct, frozen=True):
    """That the fabric claimed the scheduler of this name, whose CA (DER) has this hash; signed by the fabric. Its other
    homes know the scheduler by it."""

    fabric: str
    scheduler: str
    ca_sha256: str
    version: int = RECEIPT_VERSION


class RegainProof(msgspec.Struct, frozen=True):
    """That whoever asks to be a scheduler's operator has the fabric's key; signed by it. It holds for one certificate
    of the server (DER), one certificate request (PEM) and one ``challenge`` of the scheduler."""

    fabric: str
    scheduler: str
    operator: str
    server_sha256: str
    csr_sha256: str
    challenge: str
    version: int = RECEIPT_VERSION


Record = TypeVar("Record", bound=msgspec.Struct)

_KINDS: dict[str, type[msgspec.Struct]] = {
    "run": RunReceipt,
    "instance": InstanceReceipt,
    "slice": BudgetSlice,
    "settlement": Settlement,
    "teardown": TeardownReceipt,
    "inventory": Inventory,
    "order": RunOrder,
    "signing-key": SigningKeyProof,
    "voucher": SchedulerVoucher,
    "regain": RegainProof,
}
_NAMES = {struct: kind for kind, struct in _KINDS.items()}


def sign_record(record: msgspec.Struct, key: trust.PrivateKey, certificate_pem: str = "") -> Signed:
    """The record with ``key``'s signature over its kind and canonical form."""
    kind = _NAMES[type(record)]
    body = msgspec.json.encode(record, order="sorted")
    return Signed(kind, body, trust.sign(key, _message(kind, body)), certificate_pem)


def open_signed(signed: Signed, record_type: type[Record], key: trust.PublicKey) -> Record:
    """The record if ``key`` signed it as one of this type, else ``receipt_invalid``."""
    kind = _NAMES[record_type]
    if signed.kind != kind or not trust.signature_holds(key, _message(kind, signed.body), signed.signature):
        raise GrafosError("receipt_invalid", f"the signature of the {kind} record does not hold")
    return _decode(signed, record_type)


def open_signed_by_cell(signed: Signed, record_type: type[Record], pinned_ca_pems: str, at_field: str) -> Record:
    """The record if a key signed it whose certificate a pinned CA issued for that very cell or scheduler.

    The certificate must have been valid at the time that the record itself states in ``at_field``, and stand for
    whoever the record names as its signer: the cell of a receipt, the scheduler of a settlement. Else
    ``receipt_invalid``, ``identity_not_pinned``, or ``certificate_refused`` for what is no certificate at all.
    """
    record = open_signed(signed, record_type, trust.certificate_key(signed.certificate_pem))
    peer = trust.check_issued_by(signed.certificate_pem, pinned_ca_pems, at=getattr(record, at_field))
    signer = trust.spiffe_id(peer.fabric, peer.kind, peer.name, peer.provider)
    if signer != _signer_of(record):
        raise GrafosError("receipt_invalid", f"the {signed.kind} record was signed by another than it names: {signer}")
    return record


def _signer_of(record: msgspec.Struct) -> str:
    """Whose certificate must stand beside the record's signature."""
    if isinstance(record, RunReceipt | InstanceReceipt):
        return trust.spiffe_id(record.fabric, "cell", record.cell_id, record.provider)
    assert isinstance(record, Settlement), "the fabric signs all other records, without a certificate"
    return trust.spiffe_id(record.fabric, "scheduler", record.scheduler)


def _message(kind: str, body: bytes) -> bytes:
    """The kind is signed too, so that no record can be passed off as another."""
    return b"grafos-record-1:" + kind.encode() + b":" + body


def _decode(signed: Signed, record_type: type[Record]) -> Record:
    try:
        return msgspec.json.decode(signed.body, type=record_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GrafosError("receipt_invalid", f"the {signed.kind} record has no valid form", why=str(error)) from error
