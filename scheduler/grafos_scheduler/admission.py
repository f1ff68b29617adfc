"""Admission: whether a run may start, where, and at whose cost. All or nothing, in one decision.

In this order, each with its own refusal: the tenant exists (`tenant_unknown`), its run key is new or the same run
(`run_key_reused`), the scheduler admits at all (`draining`), the provider has a healthy cell (`runtime_not_ready`), one
of them meets all six signals (`no_eligible_provider_cells`), the tenant has quota left, and may ask for the tier
(`quota_exceeded`), it has money for the worst case (`budget_exceeded`), and one cell has no veto (`placement_failed`).

An admitted run has its worst case held (share of the cell x its recorded rate x the deadline, rounded up), its cell
chosen and its leases asked for. Where it fits nowhere, and only because runs of lower tiers are in the way, those give
way and it waits for their room (see ``preempting``). A refused one leaves a record (see ``runs``), so the refusal is
given back in the decision; the first two refusals have no run to record and are raised.
"""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ids
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.money import format_cents
from grafos_core.resources import FIELD_OF_KIND, Resources
from grafos_core.tiers import Tier
from grafos_scheduler import (
    audit,
    cells,
    leases,
    messages,
    placement,
    preempting,
    rows,
    runs,
    standing,
    tenants,
    views,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        signed_by=event.ordered.by if event.ordered else "",
    )
    if event.ordered is not None:
        order = rows.Order(planned.run_id, event.ordered.signing_key_pem, event.ordered.order)
        draft.put(rows.ORDER, planned.run_id, order)
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
    tenants.check_tier(tenant, asked.tier)
    demand, purse = demanded(state, tenant, asked, draft.now)
    wanted = demand.wanted
    chosen = _pinned(draft, tenant, asked, demand) if asked.cell_id else by_index(draft, asked, demand)
    room = None
    if chosen is not None:
        tenants.check_quota(state, tenant, wanted)
    else:
        try:
            chosen = by_scan(draft, tenant, asked, demand, purse)
        except GrafosError as refusal:
            later, purse = demanded(state, tenant, asked, draft.now + preempting.WAIT_S_MAX)
            room = room_for(state, tenant, asked, later, draft.now) if refusal.code == "placement_failed" else None
            if room is None:
                raise
            chosen = room.candidate
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
        give_up_at=draft.now + (preempting.WAIT_S_MAX if room else runs.GRANT_WITHIN_S),
        waits_for=room.waits_for if room else (),
    )
    if room is not None:
        preempting.give_way(draft, room, asked.tier)
    draft.put_run(run)
    for lease in made:
        leases.ask(draft, lease, held_back=room is not None)
    _note_leases(draft, run, made)
    return run


def demanded(
    state: State, tenant: rows.Tenant, asked: messages.RunRequest, begins_at: float
) -> tuple[placement.Demand, list[Account]]:
    """What the run needs if its leases are asked for at ``begins_at`` (Unix seconds), and the accounts that may pay."""
    until = begins_at + runs.GRANT_WITHIN_S + leases.needed_s(asked) + state.settings.clock_skew_max_s
    purse = tenants.purses(state, tenant, until + runs.REPORT_WITHIN_S)
    most = max((account.free_micro_cents for account in purse), default=-1)  # of no account, not even a free run
    if asked.max_micro_cents is not None:
        most = min(most, asked.max_micro_cents)
    return placement.Demand(asked.provider, wanted_resources(asked), until, most), purse


def room_for(
    state: State, tenant: rows.Tenant, asked: messages.RunRequest, demand: placement.Demand, now: float
) -> preempting.Room | None:
    """Where runs of lower tiers can give way to this one; None where that is of no use."""
    if asked.tier is Tier.SCAVENGER:
        return None

    def judge(cell: rows.Cell) -> placement.Candidate | None:
        is_ready = cells.is_ready(readiness(state, cell, asked, tenant.name, now))
        return candidate_of(state, cell, asked, demand.wanted) if is_ready else None

    return preempting.room_for(state, asked.tier, demand, known_cells(state, asked), judge)


def by_index(draft: Draft, asked: messages.RunRequest, demand: placement.Demand) -> placement.Candidate | None:
    """The best cell, without a look at each; that there is one settles all but the quota."""
    state = draft.state

    def judge(cell_id: str) -> placement.Candidate | None:
        cell = state.cells[cell_id]
        # What bars a cell stands in rows, so the index has no such cell; only the moment is judged here.
        if not cells.is_ready(cells.readiness(state, cell, draft.now, on_trial=True)):
            return None
        candidate = candidate_of(state, cell, asked, demand.wanted)
        return None if placement.vetoes(candidate, demand) else candidate

    return state.placement.best(demand, asked.deadline_s, judge)


def _pinned(
    draft: Draft, tenant: rows.Tenant, asked: messages.RunRequest, demand: placement.Demand
) -> placement.Candidate | None:
    """The one cell that was named, if it may take the run."""
    state = draft.state
    for cell in known_cells(state, asked):
        if cells.is_ready(readiness(state, cell, asked, tenant.name, draft.now)):
            candidate = candidate_of(state, cell, asked, demand.wanted)
            return None if placement.vetoes(candidate, demand) else candidate
    return None


def readiness(
    state: State, cell: rows.Cell, asked: messages.RunRequest, tenant: str, now: float
) -> dict[str, messages.Signal]:
    """The cell's six signals for this run: who was let try the cell names it."""
    on_trial = bool(asked.cell_id) and standing.is_on_trial(state, cell.cell_id, tenant, now)
    return cells.readiness(state, cell, now, on_trial=on_trial)


def by_scan(
    draft: Draft,
    tenant: rows.Tenant,
    asked: messages.RunRequest,
    demand: placement.Demand,
    purse: list[Account],
) -> placement.Candidate:
    """The best cell by a look at each one, or the refusal that says what each one lacks."""
    state = draft.state
    judged = {cell.cell_id: readiness(state, cell, asked, tenant.name, draft.now) for cell in known_cells(state, asked)}
    ready = [state.cells[cell_id] for cell_id, signals in judged.items() if cells.is_ready(signals)]
    if not ready:
        raise not_ready(asked, judged)
    check_supported(ready, asked.provider, demand.wanted)
    tenants.check_quota(state, tenant, demand.wanted)
    offers = [candidate_of(state, cell, asked, demand.wanted) for cell in ready]
    cheapest = min(offer.worst_case_micro_cents for offer in offers)
    _check_allowed(asked, cheapest)
    tenants.check_affordable(tenant, purse, cheapest)
    lacking = {cell_id: cells.unmet(signals) for cell_id, signals in judged.items() if not cells.is_ready(signals)}
    return placement.choose(offers, demand, {cell_id: ", ".join(why.values()) for cell_id, why in lacking.items()})


def _check_allowed(asked: messages.RunRequest, cheapest_micro_cents: int) -> None:
    """``budget_exceeded`` where even the cheapest worst case is more than the run may cost."""
    most = asked.max_micro_cents
    if most is not None and cheapest_micro_cents > most:
        raise GrafosError(
            "budget_exceeded",
            f"the run may cost {format_cents(cheapest_micro_cents)}, and was asked for at {format_cents(most)} at most",
            next="allow more for it, or ask for a shorter deadline",
            context={"asked_micro_cents": cheapest_micro_cents, "most_micro_cents": most},
        )


def known_cells(state: State, asked: messages.RunRequest) -> list[rows.Cell]:
    """The provider's cells, or of them the one that was named."""
    known = state.cells_by_provider.get(asked.provider, {})
    if asked.cell_id:
        return [state.cells[asked.cell_id]] if asked.cell_id in known else []
    return [state.cells[cell_id] for cell_id in known]


def not_ready(asked: messages.RunRequest, judged: Mapping[str, dict[str, messages.Signal]]) -> GrafosError:
    """The refusal where no cell meets all six signals, with what each one lacks."""
    lacks = {cell_id: cells.unmet(signals) for cell_id, signals in judged.items()}
    said = placement.told({cell_id: ", ".join(why.values()) for cell_id, why in lacks.items()})
    kept = dict(islice(lacks.items(), placement.VETOES_KEPT_MAX))
    provider, context = asked.provider, {"provider": asked.provider, "unmet": kept}
    if not any(signals["healthy_cell"].met for signals in judged.values()):
        what = f"provider {provider} has no healthy cell"
        if asked.cell_id:
            what = f"cell {asked.cell_id} of {provider} is not healthy" if judged else _no_such(asked)
        return GrafosError(
            "runtime_not_ready",
            f"{what}: {said}" if said else what,
            next=f"provision a cell of {provider}, or wait until it is healthy",
            context=context,
        )
    return GrafosError(
        "no_eligible_provider_cells",
        f"no cell of {provider} meets all readiness requirements: {said}",
        next="see to the requirement that is not met",
        context=context,
    )


def _no_such(asked: messages.RunRequest) -> str:
    return f"there is no cell {asked.cell_id} of {asked.provider} here"


def check_supported(ready: list[rows.Cell], provider: str, wanted: Resources) -> None:
    """``unsupported`` for a kind of which no cell has any at all; of what is only taken, there will be some again."""
    for kind in KINDS_NOT_EVERYWHERE:
        if wanted.of_kind(kind) and not any(cell.total.of_kind(kind) for cell in ready):
            raise GrafosError(
                "unsupported",
                f"no cell of {provider} has any {kind} to lease",
                next=f"ask for a run without {kind}, or provision a cell that has some",
            )


def candidate_of(state: State, cell: rows.Cell, asked: messages.RunRequest, wanted: Resources) -> placement.Candidate:
    """The cell as it stands now, and what this run could cost there."""
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
