"""What every cell would say to a run: where it fits and at what price, and why not elsewhere. Nothing is begun."""

from __future__ import annotations

from msgspec.structs import replace

from grafos_core.errors import GrafosError
from grafos_scheduler import admission, cells, messages, placement, preempting, rows, tenants
from grafos_scheduler.standing_messages import Offer, Offers
from grafos_scheduler.state import State

ANY = "any"
"""In place of a provider: every one that there are cells of."""
OFFERS_MAX = 1000
"""In one answer; of a larger fleet the cheapest that fit are told, and how many others there are."""


def offers(state: State, tenant_name: str, asked: messages.RunRequest, now: float) -> Offers:
    """One offer for each cell of the provider, or of all."""
    tenant = state.tenants.get(tenant_name)
    if tenant is None or tenant.deleted_at:
        raise GrafosError("tenant_unknown", f"there is no tenant {tenant_name!r}", next="register the tenant first")
    providers = state.cells_by_provider if asked.provider == ANY else (asked.provider,)
    found = [
        _offer(state, tenant, replace(asked, provider=cell.provider, cell_id=cell.cell_id), cell, now)
        for provider in providers
        for cell in admission.known_cells(state, replace(asked, provider=provider))
    ]
    found.sort(key=lambda offer: (not offer.fits, offer.worst_case_micro_cents if offer.fits else 0, offer.cell_id))
    return Offers(found[:OFFERS_MAX], max(0, len(found) - OFFERS_MAX))


def _offer(state: State, tenant: rows.Tenant, asked: messages.RunRequest, cell: rows.Cell, now: float) -> Offer:
    terms, wanted = state.terms.get(cell.cell_id), admission.wanted_resources(asked)
    rate = terms.rate_micro_cents_per_hour if terms else 0
    worst = placement.worst_case_micro_cents(cell.total, rate, wanted, asked.deadline_s)
    share = str(wanted.share_of(cell.total))
    offer = Offer(cell.cell_id, cell.provider, cell.region, True, worst, rate, share)
    try:
        giving_way = _giving_way(state, tenant, asked, cell, now)
    except GrafosError as refusal:
        return replace(offer, fits=False, code=refusal.code, why=refusal.what)
    return replace(offer, giving_way=giving_way)


def _giving_way(state: State, tenant: rows.Tenant, asked: messages.RunRequest, cell: rows.Cell, now: float) -> int:
    """How many runs would give way; raises the refusal of a run that names this cell."""
    if rows.WHOLE_SCHEDULER in state.drains:
        raise GrafosError("draining", "this scheduler admits no new runs")
    signals = admission.readiness(state, cell, asked, tenant.name, now)
    if not cells.is_ready(signals):
        raise admission.not_ready(asked, {cell.cell_id: signals})
    demand, purse = admission.demanded(state, tenant, asked, now)
    admission.check_supported([cell], asked.provider, demand.wanted)
    tenants.check_quota(state, tenant, demand.wanted)
    candidate = admission.candidate_of(state, cell, asked, demand.wanted)
    tenants.check_affordable(tenant, purse, candidate.worst_case_micro_cents)
    against = placement.vetoes(candidate, demand)
    if not against:
        return 0
    later, _ = admission.demanded(state, tenant, asked, now + preempting.WAIT_S_MAX)
    room = admission.room_for(state, tenant, asked, later, now)
    if room is None:
        raise GrafosError("placement_failed", "; ".join(against))
    return len(room.giving_way)
