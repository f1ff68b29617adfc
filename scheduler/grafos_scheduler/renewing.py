"""Leases of runs that go on are renewed, each in its own moment, long before they end.

A renewal asks the cell for the next generation. It is asked for only while the cell is connected, again after a growing
pause while there is no answer, and never beyond the time that the run may need. When it does not come to pass, the
lease ends at the cell by the cell's own clock, and takes its run along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.renewal import POLICY, jitter_seed
from grafos_core.revoking import RevokeState
from grafos_scheduler import leases, rows, runs

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft


def renew_due(draft: Draft) -> None:
    """Asks for the next generation of every lease that is due, and again for those that got no answer."""
    for lease in draft.state.leases.values():
        if lease.state == leases.HELD:
            if _may_be_renewed(draft, lease) and _is_due(lease, draft.now):
                _renew(draft, lease)
        elif lease.state == leases.ASKED and _may_be_renewed(draft, lease):
            _ask_again(draft, lease)


def _is_due(lease: rows.Lease, now: float) -> bool:
    if lease.expires_at >= lease.until:
        return False
    seed = jitter_seed(lease.lease_id, lease.generation)
    return now >= POLICY.renewal_deadline(lease.asked_at, lease.expires_at, seed)


def _may_be_renewed(draft: Draft, lease: rows.Lease) -> bool:
    return (
        lease.revoke == RevokeState.ACTIVE
        and draft.state.link_of(lease.cell_id) != 0
        and draft.now < lease.expires_at
        and lease.run_id in draft.state.runs  # a region's lease is renewed by its tenant alone
        and not lease.is_of_instance  # see ``service_leases``
        and draft.state.runs[lease.run_id].state == runs.RUNNING
    )


def _renew(draft: Draft, lease: rows.Lease) -> None:
    """The longer life is durable here before it is asked for, so room is never given back too soon."""
    renewed = replace(
        leases.moved(lease, leases.ASKED),
        generation=lease.generation + 1,
        asked_at=draft.now,
        expires_at=min(draft.now + draft.state.settings.lease_ttl_s, lease.until),
    )
    leases.ask(draft, renewed)
    _note(draft, lease, 1)
    run = draft.state.runs[lease.run_id]
    draft.put_run(replace(run, give_up_at=max(run.give_up_at, leases.give_up_at(draft, renewed.expires_at))))


def _ask_again(draft: Draft, lease: rows.Lease) -> None:
    pending = draft.state.renewals.get(lease.lease_id)
    if pending is None or draft.now >= pending.again_at:
        leases.send_grant(draft, lease)
        _note(draft, lease, pending.attempts + 1 if pending else 1)


def _note(draft: Draft, lease: rows.Lease, attempts: int) -> None:
    again_at = draft.now + POLICY.pause_s(attempts)
    draft.remember(rows.RENEWAL, lease.lease_id, rows.Renewal(lease.lease_id, attempts, again_at))
