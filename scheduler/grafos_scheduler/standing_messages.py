"""REST bodies about what cells are relied upon for, and what each would take for a run."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_scheduler.messages import Name


class ProductionMark(msgspec.Struct, frozen=True):
    """``PUT /api/v1/providers/{provider}/production``: with the mark, only cells that conform are given runs."""

    production: bool


class TrialRequest(msgspec.Struct, frozen=True):
    """``POST /api/v1/cells/{cell_id}/trial``: for a while this tenant's runs that name the cell are let on it, though
    a fault or the suite that it has not passed stands against it."""

    tenant: Name
    for_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 600.0


class Offer(msgspec.Struct, frozen=True):
    """One cell and a run. ``fits``: it would be admitted there, with at most ``worst_case_micro_cents`` held, and
    ``giving_way`` runs of lower tiers would lose their leases. If not, ``code`` and ``why`` are the refusal."""

    cell_id: str
    provider: str
    region: str
    fits: bool
    worst_case_micro_cents: int
    rate_micro_cents_per_hour: int
    share: str
    code: str = ""
    why: str = ""
    giving_way: int = 0


class Offers(msgspec.Struct, frozen=True):
    """Those that fit, the cheapest first, then the others by name; ``left_out`` are more than one answer takes."""

    offers: list[Offer]
    left_out: int = 0
