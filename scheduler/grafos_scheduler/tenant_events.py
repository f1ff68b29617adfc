"""What can happen to a scheduler's tenants, their people and their money; ``events`` has all else."""

from __future__ import annotations

from dataclasses import dataclass

from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_core.tiers import Tier


@dataclass(frozen=True, slots=True)
class TenantRegistered:
    """A tenant with a verified slice of its budget, and the key that speaks for it. The same slice again changes
    nothing. ``quota`` None leaves the quota as it is. Answer: ``messages.TenantView``."""

    name: str
    quota: Resources | None
    slice_id: str
    slice_micro_cents: int
    slice_expires_at: float
    key_sha256: str


@dataclass(frozen=True, slots=True)
class TenantAdmitted:
    """A tenant of an orchestrator, with a key that may speak for it. What is None stays as it is, or gets its default.
    Answer: ``messages.TenantView``."""

    name: str
    quota: Resources | None
    budget_cents: int | None
    key_sha256: str


@dataclass(frozen=True, slots=True)
class TenantChanged:
    """An operator sets a tenant's quota, its budget, its rules. What is None stays. Answer: ``messages.TenantView``."""

    name: str
    quota: Resources | None = None
    budget_cents: int | None = None
    signed: bool | None = None
    highest_tier: Tier | None = None


@dataclass(frozen=True, slots=True)
class TenantDeleted:
    """An operator ends a tenant. Answer: ``messages.TenantView``; ``tenant_in_use`` while it has leases, runs, services
    or programs."""

    name: str


@dataclass(frozen=True, slots=True)
class TenantCleared:
    """An operator ends all that a tenant has. Answer: ``messages.TenantView``."""

    name: str


@dataclass(frozen=True, slots=True)
class PersonInvited:
    """An operator lets one person work as one of a tenant's. Answer: ``rows.Invitation``, from which the token is
    minted."""

    tenant: str
    name: str
    valid_s: float
    operator: str


@dataclass(frozen=True, slots=True)
class SignInAsked:
    """Somebody holds an invitation whose signature and time were checked, and the key ``key_sha256``. Answer:
    ``rows.Person``, whom a certificate may be signed for. ``invitation_refused`` for a second use."""

    token_id: str
    key_sha256: str


@dataclass(frozen=True, slots=True)
class PersonRemoved:
    """A person leaves, or an operator puts her out, with whatever invitation there is for the name: her key is worth
    nothing from then on. Answer: ``rows.Person``; without a ``key_sha256`` for a name that nobody signed in under."""

    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class SigningKeyRegistered:
    """A person proved that she has a signing key. Answer: ``rows.Person``; ``signing_key_refused`` where she has
    another."""

    tenant: str
    key_sha256: str
    signing_key_pem: str
    proof: Signed


@dataclass(frozen=True, slots=True)
class SliceClosed:
    """The operator takes a slice home: nothing more is admitted on it. Answer: ``receipts.Settlement``, not yet
    signed; ``final`` once no run holds any of it, so ask again until it is."""

    slice_id: str


OfTenants = (
    TenantRegistered
    | TenantAdmitted
    | TenantChanged
    | TenantDeleted
    | TenantCleared
    | PersonInvited
    | SignInAsked
    | PersonRemoved
    | SigningKeyRegistered
    | SliceClosed
)
"""What comes to pass with tenants, their people and their money."""
