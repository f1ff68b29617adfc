"""Asking for a shared region, renewing it, and ending it: what tenants want of ``regions``.

A region is judged like a run that takes memory alone and lasts as long: by the same readiness, quota, money and vetoes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from grafos_core import ids, ledger
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_core.revoking import RevokeState
from grafos_core.tiers import Tier
from grafos_scheduler import judging, leases, messages, placement, region_events, rows, runs, tenants
from grafos_scheduler.region_messages import RegionRequest, RegionView
from grafos_scheduler.region_rows import Region
from grafos_scheduler.regions import ASKED, ENDED, HELD, cost, end, known, tear_down, view

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

REGIONS_PER_TENANT_MAX = 256
"""Living ones; the bytes are bounded by the quota, this bounds the rows."""
ENDED_PER_TENANT_MAX = 1000
"""Ended ones; each is kept for an hour, whatever it cost."""
ANOTHER = "lease another one: grafos lease create"


def decided(draft: Draft, event: region_events.OfRegions, chance: random.Random) -> RegionView:
    """What is asked about a region comes to this."""
    match event:
        case region_events.RegionAsked():
            return _asked(draft, event, chance)
        case region_events.RegionRenewalAsked():
            return _renewal_asked(draft, event)
        case region_events.RegionEndAsked():
            return _end_asked(draft, event)
        case _:
            assert_never(event)


# --- asked for -----------------------------------------------------------------------------------------------------


def _asked(draft: Draft, event: region_events.RegionAsked, chance: random.Random) -> RegionView:
    state, asked = draft.state, event.request
    tenant = tenants.living(state, event.tenant)
    before = state.region_by_key.get((tenant.name, asked.key))
    if before is not None:
        return view(state, _same(state.regions[before], asked))
    _check_count(state, tenant.name)
    if tenant.highest_tier.yields_to(Tier.STANDARD):
        raise GrafosError(
            "quota_exceeded",
            f"a region gives way to nobody, and what tenant {tenant.name} has is of the tier {tenant.highest_tier}",
            next="use the leased memory of a run (grafos deploy run --mem), or have the operator raise the tier",
        )
    if tenants.must_sign(state, tenant):
        raise GrafosError(
            "order_refused",
            f"what tenant {tenant.name} spends is signed by whoever asks, and an order for a region cannot be signed",
            next="have the operator lift the rule, or use the leased memory of a run: grafos deploy run --mem",
        )
    return _admit(draft, tenant, asked, chance)


def _check_count(state: State, tenant: str) -> None:
    """``limit_exceeded`` for a tenant with too many regions, of those that stand or of those that it has ended."""
    if len(state.standing_regions.get(tenant, ())) >= REGIONS_PER_TENANT_MAX:
        raise GrafosError(
            "limit_exceeded",
            f"tenant {tenant} has {REGIONS_PER_TENANT_MAX} regions, which is the most it may",
            next="end one that is not needed: grafos lease rm LEASE_ID",
        )
    if len(state.ended_regions.get(tenant, ())) >= ENDED_PER_TENANT_MAX:
        raise GrafosError(
            "limit_exceeded",
            f"tenant {tenant} has ended {ENDED_PER_TENANT_MAX} regions within the hour, which is the most it may",
            next="keep a region for longer: grafos lease renew LEASE_ID",
        )


def _same(before: Region, asked: RegionRequest) -> Region:
    is_elsewhere = asked.cell_id and asked.cell_id != before.cell_id
    if is_elsewhere or (asked.provider, asked.size_bytes, asked.ttl_s) != (
        before.provider,
        before.size_bytes,
        before.ttl_s,
    ):
        raise GrafosError(
            "run_key_reused",
            f"key {asked.key} belongs to region {before.lease_id} with other contents",
            next="make a new key for each region",
            context={"lease_id": before.lease_id},
        )
    return before


def _admit(draft: Draft, tenant: rows.Tenant, asked: RegionRequest, chance: random.Random) -> RegionView:
    state = draft.state
    if rows.WHOLE_SCHEDULER in state.drains:
        raise GrafosError("draining", "this scheduler leases nothing new", next="ask another cell")
    wanted = Resources(mem_bytes=asked.size_bytes)
    purse = _purse(state, tenant, draft.now + asked.ttl_s)
    most = max((account.free_micro_cents for account in purse), default=-1)
    until = draft.now + runs.GRANT_WITHIN_S + asked.ttl_s + state.settings.clock_skew_max_s
    demand = placement.Demand(asked.provider, wanted, until, most)
    chosen = judging.by_scan(
        state, tenant, _like_a_run(asked), demand, purse, draft.now, protocol_min=messages.REGIONS_SINCE
    )
    lease_id = ids.new_lease_id("mem", chance)
    tenants.hold(draft, purse, lease_id, chosen.worst_case_micro_cents, f"region {lease_id}")
    cell = state.cells[chosen.cell_id]
    region = Region(
        lease_id=lease_id,
        tenant=tenant.name,
        key=asked.key,
        provider=asked.provider,
        cell_id=cell.cell_id,
        size_bytes=asked.size_bytes,
        ttl_s=asked.ttl_s,
        state=ASKED,
        since=draft.now,
        expires_at=draft.now + asked.ttl_s,
        rate_micro_cents_per_hour=state.terms[cell.cell_id].rate_micro_cents_per_hour,
        share=str(wanted.share_of(cell.total)),
    )
    draft.put_region(region)
    resource = ("mem", asked.size_bytes)
    lease = leases.first(draft, cell, lease_id, resource, region.expires_at, tenant=tenant.name)
    leases.ask(draft, lease)
    draft.note_lease(AuditKind.LEASE_ALLOCATED, lease, mem_amount=lease.amount)
    return view(state, region, lease, chosen.worst_case_micro_cents)


def _like_a_run(asked: RegionRequest) -> messages.RunRequest:
    """What a region is judged by: a run of that length and provider, whose demand is put in place of its own."""
    return messages.RunRequest(
        run_key=asked.key,
        provider=asked.provider,
        program="region",
        tasklet="region",
        module_sha256="",
        input_sha256="",
        deadline_s=asked.ttl_s,
        cell_id=asked.cell_id,
    )


def _purse(state: State, tenant: rows.Tenant, ends_at: float) -> list[ledger.Account]:
    """The accounts that a region ending then may be held on."""
    return tenants.purses(state, tenant, ends_at + state.settings.clock_skew_max_s + runs.REPORT_WITHIN_S)


def _renewal_asked(draft: Draft, event: region_events.RegionRenewalAsked) -> RegionView:
    """The next generation, for longer; what it may cost from its beginning to the new end is held first."""
    state, region = draft.state, known(draft.state, event.tenant, event.lease_id)
    lease = state.leases.get(region.lease_id)
    expires_at = draft.now + event.ttl_s
    if region.state != HELD or lease is None or lease.state not in (leases.ASKED, leases.HELD):
        what = f"region {region.lease_id} is {region.state}, and cannot be renewed"
        raise GrafosError("lease_expired", what, next=ANOTHER)
    if lease.revoke != RevokeState.ACTIVE:
        raise GrafosError("lease_revoked", f"region {region.lease_id} is being taken back", next=ANOTHER)
    if expires_at <= region.expires_at or lease.state == leases.ASKED:
        return view(state, region)
    held, tenant = draft.ledger.holds[region.lease_id], tenants.living(state, region.tenant)
    if held.account not in {account.name for account in _purse(state, tenant, expires_at)}:
        raise GrafosError(
            "budget_exceeded",
            "the budget slice that the region is held on does not outlast the renewal",
            next="renew for a shorter time, or make a new region",
        )
    _check_cell_outlasts(state, region, expires_at)
    worst_case = cost(region, expires_at - region.since)
    draft.book(ledger.enlarge(draft.ledger, region.lease_id, worst_case))
    region = replace(region, expires_at=expires_at)
    draft.put_region(region)
    renewed = replace(
        leases.moved(lease, leases.ASKED),
        generation=lease.generation + 1,
        asked_at=draft.now,
        expires_at=expires_at,
    )
    leases.ask(draft, renewed)
    return view(state, region, renewed, worst_case)


def _check_cell_outlasts(state: State, region: Region, expires_at: float) -> None:
    ends_at = state.terms[region.cell_id].expires_at
    if ends_at and ends_at < expires_at + state.settings.clock_skew_max_s:
        raise GrafosError(
            "placement_failed",
            f"cell {region.cell_id} ends before the region would",
            next="renew for a shorter time, or make a region on another cell",
        )


def _end_asked(draft: Draft, event: region_events.RegionEndAsked) -> RegionView:
    region = known(draft.state, event.tenant, event.lease_id)
    if region.state != ENDED:
        region = end(draft, region, "", "")
        tear_down(draft, region)
    return view(draft.state, region)
