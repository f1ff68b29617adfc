"""What is fenced: a teardown failed at the cell, so nobody knows whether the resource is still in use.

Only an operator, who has looked, clears a fence. The wish is durable here and is told to the cell as soon as there is a
link, again at each new one, and again whenever the operator asks again; the cell then tries the teardown once more. Its
word that the binding is gone gives the room back. If it fails again the lease stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import leases, messages, views

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import FenceClearAsked
    from grafos_scheduler.lease_messages import LeaseView


def clear_asked(draft: Draft, event: FenceClearAsked) -> LeaseView:
    """The lease, being cleared. ``lease_unknown`` when nothing of that id is fenced; ``unsupported`` by an old cell."""
    lease = draft.state.leases.get(event.lease_id)
    if lease is None or lease.state not in leases.OUT_OF_USE:
        raise GrafosError(
            "lease_unknown",
            f"no lease {event.lease_id[:80]!r} is fenced here",
            next="see which are: grafos admin list-fenced-leases",
        )
    if 0 < draft.protocol_of(lease.cell_id) < messages.REVOKING_SINCE:
        raise GrafosError(
            "unsupported",
            f"cell {lease.cell_id} is of a version that clears no fences",
            next="update the cell, or provision a new one",
        )
    if lease.state == leases.FENCED:
        lease = leases.moved(lease, leases.CLEARING)
        draft.put_lease(lease)
        draft.note_lease(AuditKind.UNFENCE_ASKED, lease)
    leases.send_clear(draft, lease)
    return views.lease_view(lease)
