"""How a lease is taken back before its time: by an operator, or by the tenant that has it.

What was asked for is durable here, and is told to the cell as soon as there is a link. The cell warns, waits for the
grace, and tears down; here its word for each step is noted (``grafos_core.revoking`` has the steps). The run of a lease
that is taken away fails with ``lease_revoked``, unless it ends by itself in time. A revoked lease is not renewed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.revoking import RevokeState, moved
from grafos_scheduler import frames, leases, rows, runs, service_leases, views

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import LeaseRevokeAsked
    from grafos_scheduler.lease_messages import LeaseView


def asked(draft: Draft, event: LeaseRevokeAsked) -> LeaseView:
    """The lease as it is now. What is on its way out already goes on, whatever the new grace."""
    lease = draft.state.leases.get(event.lease_id)
    if lease is None or (event.tenant and lease.tenant != event.tenant):
        raise GrafosError("lease_unknown", f"there is no lease {event.lease_id[:80]!r} here")
    if lease.is_of_instance:
        return views.lease_view(service_leases.revoke(draft, lease, event.why))
    return views.lease_view(take_back(draft, lease, event.grace_s, event.why))


def take_back(draft: Draft, lease: rows.Lease, grace_s: float, why: str) -> rows.Lease:
    """Begins to take the lease back, unless it is on its way out already; gives it as it is then."""
    if lease.state not in (leases.ASKED, leases.HELD) or lease.revoke != RevokeState.ACTIVE:
        return lease
    label = moved(lease.revoke, RevokeState.REVOKE_WARNING)
    lease = replace(lease, revoke=label, grace_s=grace_s, revoke_why=why)
    draft.note_lease(
        AuditKind.LEASE_REVOKED, lease, run_id=lease.run_id, grace_ms=int(lease.grace_s * 1000), why=lease.revoke_why
    )
    run = draft.state.runs.get(lease.run_id)
    if run is not None and run.state == runs.ADMITTED:
        runs.end(draft, run, runs.FAILED, "lease_revoked", words(lease))
        leases.tear_down_all(draft, run)
    else:
        draft.put_lease(lease)
        leases.send_revocation(draft, lease)
    return lease


def take_back_run(draft: Draft, run: rows.Run, grace_s: float, why: str) -> None:
    """Takes back every lease of a run that is under way; one that only waits for its leases ends with the first."""
    for lease in draft.state.leases_of(run):
        taken = take_back(draft, lease, grace_s, why)
        if run.state == runs.ADMITTED and taken is not lease:
            return


def told(draft: Draft, cell_id: str, frame: frames.LeaseRevoked) -> None:
    """The cell is a step further. Old news, and labels that nobody knows, change nothing."""
    lease = draft.state.leases.get(frame.lease_id)
    if lease is None or lease.cell_id != cell_id or frame.state not in set(RevokeState):
        return
    later = RevokeState(frame.state)
    if RevokeState(lease.revoke).leads_to(later):
        draft.put_lease(replace(lease, revoke=later.value))


def words(lease: rows.Lease) -> str:
    """Why the run of this lease was stopped."""
    return f"its {lease.kind} lease was revoked" + (f": {lease.revoke_why}" if lease.revoke_why else "")
