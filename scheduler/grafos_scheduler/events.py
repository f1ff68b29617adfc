"""What can happen to a scheduler.

An event is a frozen record that was checked once, where it entered: identities are those of verified certificates,
signatures hold, frames have their documented shape. What comes to pass with tenants stands in ``tenant_events``, what
an event comes to in ``effects``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from grafos_core.audit_chain import AuditKind
from grafos_core.booking import Booking, LedgerCopy
from grafos_core.receipts import RunReceipt, Signed
from grafos_scheduler import enrolment_messages, frames, messages
from grafos_scheduler.attested import Attested, Roots
from grafos_scheduler.image_messages import ImagesDemanded
from grafos_scheduler.region_events import OfRegions
from grafos_scheduler.reservation_events import OfReservations
from grafos_scheduler.service_events import OfServices
from grafos_scheduler.tenant_events import OfTenants


@dataclass(frozen=True, slots=True)
class ClaimAccepted:
    """An operator proved that it knows the claim's secret. Answer: none. A second operator is ``claim_refused``."""

    fabric: str
    operator: str
    key_sha256: str


@dataclass(frozen=True, slots=True)
class OperatorReplaced:
    """An operator proved to have the key of the fabric that claimed this scheduler, in a home that has no credentials
    for it. Answer: none. The same key again changes nothing."""

    operator: str
    key_sha256: str


@dataclass(frozen=True, slots=True)
class TermsSet:
    """The operator says what a cell costs and when it must be gone (0 = never). Answer: none."""

    cell_id: str
    rate_micro_cents_per_hour: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class LedgerTaken:
    """An operator moves the fabric's ledger here, with the digest that it had there. Answer: ``LedgerView``."""

    copy: LedgerCopy
    digest: str


@dataclass(frozen=True, slots=True)
class LedgerBooked:
    """An operator books in the fabric's ledger. Answer: ``LedgerRows``; ``ledger_conflict`` if it is to decide anew."""

    booking: Booking


@dataclass(frozen=True, slots=True)
class LedgerClosed:
    """The fabric's ledger goes to the home that drew ``fetch``. Answer: ``LedgerView``; ask until it is closed."""

    generation: int
    spend_running: bool = False
    fetch: str = ""
    take_over: bool = False


@dataclass(frozen=True, slots=True)
class CellRegistered:
    """A cell told who it is and what it has. ``key_sha256`` is the fingerprint of its verified certificate's key.
    Answer: ``messages.CellRegistered``."""

    registration: messages.CellRegistration
    key_sha256: str


@dataclass(frozen=True, slots=True)
class BootstrapAsked:
    """An operator lets one cell enrol. Answer: ``rows.Enrolment``, from which the token is minted."""

    request: enrolment_messages.BootstrapRequest
    operator: str


@dataclass(frozen=True, slots=True)
class EnrolmentAsked:
    """Somebody holds a bootstrap token whose signature and time were checked, and the key ``key_sha256``. Answer:
    ``rows.Identity``, which a certificate may be signed for. ``enrolment_refused`` for a second use. In place of the
    token there may be the word of a cloud for a machine that is expected, verified."""

    token_id: str
    key_sha256: str
    attested: Attested | None = None


@dataclass(frozen=True, slots=True)
class ExpectedMachineNamed:
    """An operator tells which machine an expected cell is. Answer: ``rows.Enrolment``."""

    expectation_id: str
    machine_id: str


@dataclass(frozen=True, slots=True)
class AttestationRootsSet:
    """An operator sets what a cloud's word is verified with. Answer: ``rows.AttestationRoots``."""

    roots: Roots
    operator: str


@dataclass(frozen=True, slots=True)
class CellRevokeAsked:
    """An operator takes a cell's identity back: for ``drain_s`` its runs go on unwarned, then they have a grace.
    Answer: ``enrolment_messages.IdentityView``."""

    cell_id: str
    grace_s: float
    why: str
    drain_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ProviderMarked:
    """An operator says whether a provider is one for production, whose cells must conform. Answer: none."""

    provider: str
    production: bool
    operator: str


@dataclass(frozen=True, slots=True)
class TrialOpened:
    """An operator lets a tenant try a cell that is barred from other runs. Answer: none."""

    cell_id: str
    tenant: str
    for_s: float


@dataclass(frozen=True, slots=True)
class ConformanceReported:
    """What the conformance suite said of a cell. Answer: ``messages.Conformance`` as it was recorded."""

    cell_id: str
    said: messages.Conformance
    operator: str


@dataclass(frozen=True, slots=True)
class CellFaulted:
    """A cell sent what no cell sends that works as it should, over this link. Answer: none."""

    cell_id: str
    link_id: int
    code: str
    what: str


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A cell dialled and said hello. ``link_id`` grows with every link that this process accepts.

    The ``Welcome`` and all frames that the cell may have missed are among the effects. A ``GrafosError`` is to be
    sent as ``Goodbye`` and the link closed.
    """

    link_id: int
    hello: frames.Hello
    key_sha256: str


@dataclass(frozen=True, slots=True)
class LinkClosed:
    cell_id: str
    link_id: int


@dataclass(frozen=True, slots=True)
class CellSaid:
    """A frame came over a link. A ``GrafosError`` is to be sent as ``Goodbye`` and the link closed."""

    cell_id: str
    link_id: int
    frame: (
        frames.Heartbeat
        | frames.LeaseGranted
        | frames.LeaseRefused
        | frames.LeaseTornDown
        | frames.LeaseRevoked
        | frames.RunStarted
    )


@dataclass(frozen=True, slots=True)
class RunReported:
    """A cell reports the end of a run. ``receipt`` is what ``ended.receipt`` says, its signature by this very cell's
    key already verified."""

    cell_id: str
    link_id: int
    ended: frames.RunEnded
    receipt: RunReceipt


class Ordered(NamedTuple):
    """An order of a run whose signature holds: by which person, and which key of hers verifies it."""

    by: str
    signing_key_pem: str
    order: Signed


@dataclass(frozen=True, slots=True)
class RunRequested:
    """A tenant asks for a run. Answer: ``messages.RunView``, or the decision's ``refusal``. The same run key with the
    same contents gives the same run. ``ordered`` is the order that was verified, if it came with one."""

    tenant: str
    request: messages.RunRequest
    ordered: Ordered | None = None


@dataclass(frozen=True, slots=True)
class RunCancelAsked:
    """A tenant wants its run to end. Answer: ``messages.RunView``; ``run_unknown`` for anybody else's."""

    tenant: str
    run_id: str


@dataclass(frozen=True, slots=True)
class LeaseRevokeAsked:
    """An operator (``tenant`` empty), or the tenant that has the lease, takes it back. Answer: ``LeaseView``;
    ``lease_unknown`` for anybody else's."""

    tenant: str
    lease_id: str
    grace_s: float
    why: str


@dataclass(frozen=True, slots=True)
class FenceClearAsked:
    """An operator has looked at what is fenced, and it may be used again. Answer: ``LeaseView``."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """Closes (or opens again) the admission of one cell, or of the whole scheduler when ``cell_id`` is empty. Runs
    that were admitted go on. Answer: ``messages.DrainView``."""

    cell_id: str = ""
    draining: bool = True


@dataclass(frozen=True, slots=True)
class Witnessed:
    """Something that changes no state and yet belongs into the audit log: a refused enrolment, credentials that were
    renewed, a bundle. ``who`` brings it about, and may do so too often for each time to be noted. Answer: none."""

    kind: AuditKind
    who: str
    subject: str
    tenant: str = ""
    cell_id: str = ""
    details: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; to be sent at least every second."""


Event = (
    ClaimAccepted
    | OperatorReplaced
    | TermsSet
    | OfTenants
    | OfReservations
    | OfRegions
    | OfServices
    | LedgerTaken
    | LedgerBooked
    | LedgerClosed
    | CellRegistered
    | BootstrapAsked
    | EnrolmentAsked
    | ExpectedMachineNamed
    | AttestationRootsSet
    | ImagesDemanded
    | CellRevokeAsked
    | ProviderMarked
    | TrialOpened
    | ConformanceReported
    | CellFaulted
    | LinkOpened
    | LinkClosed
    | CellSaid
    | RunReported
    | RunRequested
    | RunCancelAsked
    | LeaseRevokeAsked
    | FenceClearAsked
    | DrainAsked
    | Witnessed
    | Tick
)
