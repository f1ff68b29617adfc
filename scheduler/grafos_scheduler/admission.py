"""Admission: whether a run may start, where, and at whose cost. All or nothing, in one decision.

In this order, each with its own refusal: the tenant exists (`tenant_unknown`), its run key is new or the same run
(`run_key_reused`), the scheduler admits at all (`draining`), the provider has a healthy cell (`runtime_not_ready`), one
of them meets all six signals (`no_eligible_provider_cells`), the tenant has quota left (`quota_exceeded`) and money for
the worst case (`budget_exceeded`), and one cell has no veto (`placement_failed`).

An admitted run has its worst case held (share of the cell x its recorded rate x the deadline, rounded up), its cell
chosen and its leases asked for. A refused one leaves a record (see ``runs``), so the refusal is given back in the
decision; the first two refusals have no run to record and are raised.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ids
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.resources import FIELD_OF_KIND, Resources
from grafos_scheduler import audit, cells, leases, messages, placement, rows, runs, tenants, views

if TYPE_CHECKING:
    from grafos_core.ledger import Account
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import Decision, RunRequested
    from grafos_scheduler.state import State


MONEY_OR_QUOTA = frozenset({"budget_exceeded", "quota_exceeded"})
"""The refusals that an auditor asks for; the others pass, and stand with the run alone."""
KINDS_NOT_EVERYWHERE = ("block", "gpu", "net")
"""Each cell has cores, and memory in one amount or another."""


def requested(draft: Draft, event: RunRequested, chance: random.Random) -> Decision:
    """Decides upon a run: admitted, refused, or the same as before."""
    state, asked = draft.state, event.request
    tenant = state.tenants.get(event.tenant)
    if tenant is None or tenant.deleted_at:
        raise GrafosError("tenant_unknown", f"there is no tenant {event.tenant!r}", next="register the tenant first")
    before = _same_run(state, event)
    if before is not None and before.state != runs.REFUSED:
        return draft.decision(answer=views.run_view(state, before))
    if before is not None and not before.retryable:
        return draft.decision(refusal=_refusal_of(before))
    planned = rows.Run(
        run_id=before.run_id if before else _new_run_id(state, chance),
        tenant=tenant.name,
        request=asked,
        state=before.state if before else runs.PLANNED,
        created_at=before.created_at if before else draft.now,
        attempt=before.attempt + 1 if before else 1,
    )
    try:
        run = _admit(draft, tenant, planned, chance)
    except GrafosError as refusal:
        _record_refusal(draft, planned, refusal)
        return draft.decision(refusal=refusal)
    return draft.decision(answer=views.run_view(state, run))


def wanted_resources(request: messages.RunRequest) -> Resources:
    """What a run leases: one core, since its worker runs on one, and what else it asks for."""
    return Resources(
        cpu_cores=1,
        mem_bytes=request.lease_mem_bytes,
        block_bytes=request.lease_block_bytes,
        gpu_count=request.lease_gpu_count,
        nic_count=request.lease_nic_count,
    )


def _admit(draft: Draft, tenant: rows.Tenant, planned: rows.Run, chance: random.Random) -> rows.Run:
    state, asked = draft.state, planned.request
    if rows.WHOLE_SCHEDULER in state.drains:
        raise GrafosError("draining", "this scheduler admits no new runs", next="deploy to another cell")
    wanted = wanted_resources(asked)
    until = draft.now + runs.GRANT_WITHIN_S + leases.needed_s(asked) + state.settings.clock_skew_max_s
    purse = tenants.purses(state, tenant, until + runs.REPORT_WITHIN_S)
    most = max((account.free_micro_cents for account in purse), default=-1)  # of no account, not even a free run
    demand = placement.Demand(asked.provider, wanted, until, most)
    chosen = by_index(draft, asked, demand)
    if chosen is None:
        chosen = by_scan(draft, tenant, asked, demand, purse)
    else:
        tenants.check_quota(state, tenant, wanted)
    cell = state.cells[chosen.cell_id]
    hold_id = f"{planned.run_id}/{planned.attempt}"
    tenants.hold(draft, purse, hold_id, chosen.worst_case_micro_cents, f"run {planned.run_id}")
    made = _leases(draft, planned, cell, wanted, chance)
    run = replace(
        runs.moved(planned, runs.ADMITTED),
        cell_id=cell.cell_id,
        region=cell.region,
        lease_ids=tuple(lease.lease_id for lease in made),
        hold_id=hold_id,
        rate_micro_cents_per_hour=state.terms[cell.cell_id].rate_micro_cents_per_hour,
        share=str(wanted.share_of(cell.total)),
        give_up_at=draft.now + runs.GRANT_WITHIN_S,
    )
    draft.put_run(run)
    for lease in made:
        leases.ask(draft, lease)
    _note_leases(draft, run, made)
    return run


def by_index(draft: Draft, asked: messages.RunRequest, demand: placement.Demand) -> placement.Candidate | None:
    """The best cell, without a look at each; that there is one settles all but the quota."""
    state = draft.state

    def judge(cell_id: str) -> placement.Candidate | None:
        cell = state.cells[cell_id]
        if not cells.is_ready(cells.readiness(state, cell, draft.now)):
            return None
        candidate = _candidate(state, cell, asked, demand.wanted)
        return None if placement.vetoes(candidate, demand) else candidate

    return state.placement.best(demand, asked.deadline_s, judge)


def by_scan(
    draft: Draft,
    tenant: rows.Tenant,
    asked: messages.RunRequest,
    demand: placement.Demand,
    purse: list[Account],
) -> placement.Candidate:
    """The best cell by a look at each one, or the refusal that says what each one lacks."""
    ready = _ready_cells(draft.state, asked.provider, draft.now)
    _check_supported(ready, asked.provider, demand.wanted)
    tenants.check_quota(draft.state, tenant, demand.wanted)
    offers = [_candidate(draft.state, cell, asked, demand.wanted) for cell in ready]
    tenants.check_affordable(tenant, purse, min(offer.worst_case_micro_cents for offer in offers))
    return placement.choose(offers, demand)


def _ready_cells(state: State, provider: str, now: float) -> list[rows.Cell]:
    """The provider's cells that meet all six signals, or the typed refusal with what each one lacks."""
    known = [state.cells[cell_id] for cell_id in state.cells_by_provider.get(provider, ())]
    judged = {cell.cell_id: cells.readiness(state, cell, now) for cell in known}
    ready = [cell for cell in known if cells.is_ready(judged[cell.cell_id])]
    if ready:
        return ready
    lacks = {cell_id: cells.unmet(signals) for cell_id, signals in judged.items()}
    said = "; ".join(f"{cell_id}: {', '.join(why.values())}" for cell_id, why in lacks.items())
    context = {"provider": provider, "unmet": lacks}
    if not any(signals["healthy_cell"].met for signals in judged.values()):
        raise GrafosError(
            "runtime_not_ready",
            f"provider {provider} has no healthy cell" + (f" ({said})" if said else ""),
            next=f"provision a cell of {provider}, or wait until it is healthy",
            context=context,
        )
    raise GrafosError(
        "no_eligible_provider_cells",
        f"no cell of {provider} meets all readiness requirements ({said})",
        next="see to the requirement that is not met",
        context=context,
    )


def _check_supported(ready: list[rows.Cell], provider: str, wanted: Resources) -> None:
    """``unsupported`` for a kind of which no cell has any at all; of what is only taken, there will be some again."""
    for kind in KINDS_NOT_EVERYWHERE:
        if wanted.of_kind(kind) and not any(cell.total.of_kind(kind) for cell in ready):
            raise GrafosError(
                "unsupported",
                f"no cell of {provider} has any {kind} to lease",
                next=f"ask for a run without {kind}, or provision a cell that has some",
            )


def _candidate(state: State, cell: rows.Cell, asked: messages.RunRequest, wanted: Resources) -> placement.Candidate:
    terms = state.terms[cell.cell_id]
    rate = terms.rate_micro_cents_per_hour
    return placement.Candidate(
        cell_id=cell.cell_id,
        total=cell.total,
        leased=state.leased_by_cell.get(cell.cell_id, Resources()),
        ends_at=terms.expires_at,
        draining=state.draining(cell.cell_id),
        worst_case_micro_cents=placement.worst_case_micro_cents(cell.total, rate, wanted, asked.deadline_s),
    )


def _leases(draft: Draft, run: rows.Run, cell: rows.Cell, wanted: Resources, chance: random.Random) -> list[rows.Lease]:
    """One lease for each resource that the run takes."""
    amounts = {kind: wanted.of_kind(kind) for kind in FIELD_OF_KIND}
    return [
        rows.Lease(
            lease_id=ids.new_lease_id(kind, chance),
            run_id=run.run_id,
            tenant=run.tenant,
            cell_id=cell.cell_id,
            kind=kind,
            amount=amount,
            generation=1,
            boot_epoch=cell.boot_epoch,
            state=leases.ASKED,
            expires_at=draft.now + leases.ttl_s(draft, cell.cell_id, run.request),
            asked_at=draft.now,
            until=draft.now + leases.needed_s(run.request),
        )
        for kind, amount in amounts.items()
        if amount
    ]


def _note_leases(draft: Draft, run: rows.Run, made: list[rows.Lease]) -> None:
    """One record for all leases of the run: each costs about three hundredths of an admission."""
    details: dict[str, audit.Notable] = {}
    for lease in made:
        details[f"{lease.kind}_lease_id"], details[f"{lease.kind}_amount"] = lease.lease_id, lease.amount
    draft.note(AuditKind.LEASE_ALLOCATED, run.run_id, tenant=run.tenant, cell_id=run.cell_id, **details)


def _record_refusal(draft: Draft, planned: rows.Run, refusal: GrafosError) -> None:
    refused = replace(
        runs.moved(planned, runs.REFUSED),
        code=refusal.code,
        what=refusal.what[: runs.WHAT_CHARACTERS_MAX],
        next=refusal.next,
        retryable=refusal.retryable,
        ended_at=draft.now,
    )
    runs.put_refused(draft, refused)
    if refusal.code in MONEY_OR_QUOTA:
        details: dict[str, audit.Notable] = {"code": refusal.code, "what": refused.what[: audit.WORDS_CHARACTERS_MAX]}
        audit.note_bounded(
            draft, AuditKind.RUN_REFUSED, planned.tenant, planned.run_id, tenant=planned.tenant, details=details
        )


def _same_run(state: State, event: RunRequested) -> rows.Run | None:
    """The run that already has this key, or ``run_key_reused`` if it is not the one that is asked for."""
    run_id = state.run_by_key.get((event.tenant, event.request.run_key))
    if run_id is None:
        return None
    run = state.runs[run_id]
    if run.request != event.request:
        raise GrafosError(
            "run_key_reused",
            f"run key {event.request.run_key} belongs to run {run_id} with other contents",
            next="make a new run key for each run",
            context={"run_id": run_id},
        )
    return run


def _refusal_of(run: rows.Run) -> GrafosError:
    """The refusal as it was given, from the run's record."""
    return GrafosError(run.code, run.what, next=run.next, retryable=run.retryable, context={"run_id": run.run_id})


def _new_run_id(state: State, chance: random.Random) -> str:
    fabric = state.claim.fabric if state.claim else ""
    return ids.new_run_id(ids.FabricId(fabric), state.settings.scheduler, chance)
