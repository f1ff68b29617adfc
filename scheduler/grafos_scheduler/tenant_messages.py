"""The bodies of what an operator does with the tenants of an orchestrator."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_core.resources import Resources
from grafos_core.tiers import Tier
from grafos_scheduler.messages import Name, Pem

BUDGET_CENTS_DEFAULT = 2_000
"""What a tenant may spend who was given no budget: the public design's $20.00, over all providers together."""
BUDGET_CENTS_MAX = 100_000_000
"""A million dollars: more is a slip of the finger."""

Cents = Annotated[int, msgspec.Meta(ge=0, le=BUDGET_CENTS_MAX)]


class TenantAsked(msgspec.Struct, frozen=True):
    """``POST /api/v1/admin/tenants``: a tenant with a certificate request to sign. Of one that is known, what is given
    changes and a further key may speak for it. ``budget_cents`` is in all, spent money included."""

    name: Name
    csr_pem: Pem
    quota: Resources | None = None
    budget_cents: Cents | None = None


class TenantBudget(msgspec.Struct, frozen=True):
    """``PUT /api/v1/admin/tenants/{name}/budget``: the cap, spent money included. Below what is spent and held nothing
    more is admitted until it fits again."""

    budget_cents: Cents


class TenantRules(msgspec.Struct, frozen=True):
    """``PUT /api/v1/admin/tenants/{name}/rules``; what is null stays. ``signed``: the tenant's runs must be signed by
    whoever asks for them; false counts once none of its people has a signing key. ``highest_tier``: no run of the
    tenant is of a tier above it."""

    signed: bool | None = None
    highest_tier: Tier | None = None
