"""What every cell would say to a run: where it fits and at what price, and why not elsewhere. Nothing is begun."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from grafos_core.errors import GrafosError
from grafos_scheduler import judging, messages, placement, rows, tenants
from grafos_scheduler.standing_messages import Offer, Offers
from grafos_scheduler.state import State

ANY = "any"
"""In place of a provider: every one that there are cells of."""
OFFERS_MAX = 1000
"""In one answer; of a larger fleet the cheapest that fit are told, and how many others there are."""


def of_each(state: State, tenant_name: str, asked: messages.RunRequest, now: float) -> Iterator[Offer]:
    """One offer for each cell of the provider, or of all, one after the other: of a large fleet they take their time,
    and the state may change between two of them."""
    tenant = tenants.living(state, tenant_name)
    providers = list(state.cells_by_provider) if asked.provider == ANY else [asked.provider]
    for cell in [
        cell for provider in providers for cell in judging.known_cells(state, replace(asked, provider=provider))
    ]:
        yield _offer(state, tenant, replace(asked, provider=cell.provider, cell_id=cell.cell_id), cell, now)


def best(found: list[Offer]) -> Offers:
    """Those that are told, of all."""
    found.sort(key=lambda offer: (not offer.fits, offer.worst_case_micro_cents if offer.fits else 0, offer.cell_id))
    return Offers(found[:OFFERS_MAX], max(0, len(found) - OFFERS_MAX))


def _offer(state: State, tenant: rows.Tenant, asked: messages.RunRequest, cell: rows.Cell, now: float) -> Offer:
    terms, wanted = state.terms.get(cell.cell_id), judging.wanted_resources(asked)
    rate = terms.rate_micro_cents_per_hour if terms else 0
    worst = placement.worst_case_micro_cents(cell.total, rate, wanted, asked.deadline_s)
    offer = Offer(cell.cell_id, cell.provider, cell.region, True, worst, rate, str(wanted.share_of(cell.total)))
    try:
        room = judging.judge(state, tenant, asked, now).room
    except GrafosError as refusal:
        why = refusal.context.get("vetoes", {}).get(cell.cell_id, refusal.what)
        return replace(offer, fits=False, code=refusal.code, why=why)
    return replace(offer, giving_way=len(room.giving_way) if room else 0)
