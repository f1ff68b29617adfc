"""State as the wire shows it. Reading takes no decision: the shell calls these on the state as it stands."""

from __future__ import annotations

from grafos_core.ledger import Hold
from grafos_core.money import cents
from grafos_core.resources import Resources
from grafos_scheduler import cells, image_demands, lease_messages, messages, rows, runs, standing
from grafos_scheduler.effects import Decision
from grafos_scheduler.state import State


def run_view(state: State, run: rows.Run) -> messages.RunView:
    """A run with its cost as far as it is settled."""
    asked, cell = run.request, state.cells.get(run.cell_id)
    return messages.RunView(
        run_id=run.run_id,
        tenant=run.tenant,
        provider=asked.provider,
        cell_id=run.cell_id,
        region=run.region or (cell.region if cell else ""),
        program=asked.program,
        tasklet=asked.tasklet,
        module_sha256=asked.module_sha256,
        input_sha256=asked.input_sha256,
        state=run.state,
        code=run.code,
        what=run.what,
        created_at=run.created_at,
        ended_at=run.ended_at,
        fuel_used=run.fuel_used,
        cost=messages.Cost(
            micro_cents=run.cost_micro_cents,
            cents_per_run=cents(run.cost_micro_cents),
            rate_micro_cents_per_hour=run.rate_micro_cents_per_hour,
            lease_seconds=run.lease_seconds,
            share=run.share,
        ),
        tier=asked.tier.value,
        signed_by=run.signed_by,
    )


def admission(decision: Decision) -> messages.Admission:
    """What a decision to admit a run comes to, for somebody who only wanted to know."""
    changed = [change.row for change in decision.batch]
    [run] = [row for row in changed if isinstance(row, rows.Run) and row.state == runs.ADMITTED]
    warned = {row.run_id for row in changed if isinstance(row, rows.Lease) and row.run_id != run.run_id}
    return messages.Admission(
        admitted=True,
        cell_id=run.cell_id,
        region=run.region,
        rate_micro_cents_per_hour=run.rate_micro_cents_per_hour,
        share=run.share,
        worst_case_micro_cents=sum(
            row.amount_micro_cents for row in changed if isinstance(row, Hold) and row.hold_id == run.hold_id
        ),
        leases={row.kind: row.amount for row in changed if isinstance(row, rows.Lease) and row.run_id == run.run_id},
        giving_way=len(warned),
    )


def lease_view(lease: rows.Lease) -> lease_messages.LeaseView:
    """A lease with how far it is on its way out."""
    return lease_messages.LeaseView(
        lease_id=lease.lease_id,
        run_id=lease.run_id,
        tenant=lease.tenant,
        cell_id=lease.cell_id,
        kind=lease.kind,
        amount=lease.amount,
        generation=lease.generation,
        state=lease.state,
        revoke=lease.revoke,
        revoke_why=lease.revoke_why,
        expires_at=lease.expires_at,
    )


def cell_view(state: State, cell: rows.Cell, now: float) -> messages.CellView:
    """A cell with its six signals as of ``now``."""
    signals = cells.readiness(state, cell, now)
    terms, presence = state.terms.get(cell.cell_id), state.presences.get(cell.cell_id)
    return messages.CellView(
        cell_id=cell.cell_id,
        provider=cell.provider,
        region=cell.region,
        ready=cells.is_ready(signals),
        readiness=signals,
        total=cell.total,
        leased=state.leased_by_cell.get(cell.cell_id, Resources()),
        rate_micro_cents_per_hour=terms.rate_micro_cents_per_hour if terms else 0,
        expires_at=terms.expires_at if terms else 0.0,
        draining=state.draining(cell.cell_id),
        last_heartbeat_at=presence.last_heartbeat_at if presence else 0.0,
        conformance=known.said if (known := state.conformed.get(cell.cell_id)) else None,
        fault=standing.fault_of(state, cell),
        image_sha256=cell.image_sha256,
        image_veto=image_demands.veto(state, cell),
    )
