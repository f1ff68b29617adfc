"""How a cell's identity is taken back: drain, grace, leases revoked, link closed, key worth nothing.

The operator's word is durable at once and drains the cell. While it drains its runs go on as if nothing were; then they
are warned, and may end within the grace. After that, or as soon as nothing runs there any more, the identity ends: what
still ran fails with ``cell_revoked``, the cell's leases are struck off (nothing that it says counts any more, so nobody
waits for its word), and its link is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.revoking import RevokeState
from grafos_scheduler import frames, leases, revoking, rows, runs
from grafos_scheduler.enrolment_messages import IdentityView

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import CellRevokeAsked
    from grafos_scheduler.state import State


def asked(draft: Draft, event: CellRevokeAsked) -> IdentityView:
    """The identity as it is now. Asked again, the end may come sooner, never later."""
    state = draft.state
    identity = state.identities.get(event.cell_id)
    if identity is None:
        raise GrafosError("cell_unknown", f"no cell {event.cell_id[:80]} ever enrolled here")
    if identity.revoked_at:
        return view(state, identity)
    drain_until = draft.now + event.drain_s
    ends_at = drain_until + event.grace_s
    if not identity.revoke_at or ends_at < identity.revoke_at:
        why = identity.revoke_why if identity.revoke_at else event.why
        identity = replace(identity, revoke_at=ends_at, revoke_why=why, drain_until=drain_until, grace_s=event.grace_s)
        draft.note(
            AuditKind.CELL_REVOKE_ASKED,
            event.cell_id,
            cell_id=event.cell_id,
            drain_ms=int(event.drain_s * 1000),
            grace_ms=int(event.grace_s * 1000),
            why=event.why,
        )
    if identity.cell_id not in state.drains:
        draft.put(rows.DRAIN, identity.cell_id, rows.Drain(draft.now))
    if _is_due(draft, identity):
        return view(state, _end(draft, identity))
    if identity.drain_until <= draft.now:
        _warn(draft, identity)
        identity = replace(identity, drain_until=0.0)
    draft.put(rows.IDENTITY, identity.cell_id, identity)
    return view(state, identity)


def carry_out_due(draft: Draft) -> None:
    """Ends every identity whose grace is over, or that nothing stands on any more; warns the runs of those that have
    drained long enough."""
    for cell_id in draft.state.leaving:
        identity = draft.state.identities[cell_id]
        if _is_due(draft, identity):
            _end(draft, identity)
        elif 0 < identity.drain_until <= draft.now:
            _warn(draft, identity)
            draft.put(rows.IDENTITY, cell_id, replace(identity, drain_until=0.0))


def view(state: State, identity: rows.Identity) -> IdentityView:
    """The identity as the wire shows it."""
    return IdentityView(
        cell_id=identity.cell_id,
        provider=identity.provider,
        why=identity.revoke_why,
        revoke_at=identity.revoke_at,
        revoked_at=identity.revoked_at,
        running=0 if identity.revoked_at else len(state.runs_at(identity.cell_id)),
    )


def _warn(draft: Draft, identity: rows.Identity) -> None:
    """Takes the leases of every run that still goes there back."""
    for run in draft.state.runs_at(identity.cell_id):
        revoking.take_back_run(draft, run, identity.grace_s, _words(identity))


def _is_due(draft: Draft, identity: rows.Identity) -> bool:
    is_idle = not draft.state.runs_at(identity.cell_id) and not any(draft.state.leases_at(identity.cell_id))
    return is_idle or identity.revoke_at <= draft.now


def _end(draft: Draft, identity: rows.Identity) -> rows.Identity:
    cell_id, state = identity.cell_id, draft.state
    ended = replace(identity, revoked_at=draft.now)
    draft.put(rows.IDENTITY, cell_id, ended)
    key = rows.RevokedKey(cell_id, draft.now, identity.revoke_why)
    draft.put(rows.REVOKED_KEY, identity.key_sha256, key)
    draft.note(AuditKind.CELL_REVOKED, cell_id, cell_id=cell_id, key_sha256=identity.key_sha256)
    for run in state.runs_at(cell_id):
        runs.end(draft, run, runs.FAILED, "cell_revoked", _words(identity))
    for lease in state.leases_at(cell_id):
        if lease.revoke == RevokeState.ACTIVE:
            draft.note_lease(AuditKind.LEASE_REVOKED, lease, run_id=lease.run_id, grace_ms=0, why=_words(identity))
        leases.strike(draft, lease)
    draft.send(cell_id, frames.Goodbye("cell_revoked", _words(identity)))
    presence = state.presences.get(cell_id)
    if presence is not None:
        draft.remember(rows.PRESENCE, cell_id, replace(presence, link_id=0))
    return ended


def _words(identity: rows.Identity) -> str:
    return f"cell {identity.cell_id} was revoked" + (f": {identity.revoke_why}" if identity.revoke_why else "")
