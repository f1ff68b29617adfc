"""Admission: a run that is asked for is admitted, refused, or the same as before. All or nothing, in one decision.

Its tenant exists (`tenant_unknown`), and its run key is new or that of the same run (`run_key_reused`): these two
refusals have no run to record and are raised. Every other one (see ``judging``) leaves a record (see ``runs``), so the
refusal is given back in the decision.

An admitted run has its worst case held (share of the cell x its recorded rate x the deadline, rounded up), its cell
chosen and its leases asked for, at once or when those who give way to it are gone.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ids
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.resources import FIELD_OF_KIND, Resources
from grafos_scheduler import audit, judging, leases, preempting, rows, runs, tenants, views

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.effects import Decision
    from grafos_scheduler.events import RunRequested
    from grafos_scheduler.state import State


MONEY_OR_QUOTA = frozenset({"budget_exceeded", "quota_exceeded"})
"""The refusals that an auditor asks for; the others pass, and stand with the run alone."""


def requested(draft: Draft, event: RunRequested, chance: random.Random) -> Decision:
    """Decides upon a run: admitted, refused, or the same as before."""
    state, asked = draft.state, event.request
    tenant = tenants.living(state, event.tenant)
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


def _admit(draft: Draft, tenant: rows.Tenant, planned: rows.Run, chance: random.Random) -> rows.Run:
    state, asked = draft.state, planned.request
    chosen, purse, room = judging.judge(state, tenant, asked, draft.now)
    wanted = judging.wanted_resources(asked)
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


def _leases(draft: Draft, run: rows.Run, cell: rows.Cell, wanted: Resources, chance: random.Random) -> list[rows.Lease]:
    """One lease for each resource that the run takes."""
    amounts = {kind: wanted.of_kind(kind) for kind in FIELD_OF_KIND}
    expires_at = draft.now + leases.ttl_s(draft, cell.cell_id, run.request)
    until = draft.now + leases.needed_s(run.request)
    return [
        leases.first(
            draft,
            cell,
            ids.new_lease_id(kind, chance),
            (kind, amount),
            expires_at,
            tenant=run.tenant,
            run_id=run.run_id,
            until=until,
        )
        for kind, amount in amounts.items()
        if amount
    ]


def _note_leases(draft: Draft, run: rows.Run, made: list[rows.Lease]) -> None:
    """One record for all leases of the run, with what they are for: each costs about three hundredths of an
    admission."""
    details: dict[str, audit.Notable] = {"program": run.request.program, "tier": run.request.tier.value}
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
