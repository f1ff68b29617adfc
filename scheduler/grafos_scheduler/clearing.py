"""An operator ends all that a tenant has, so that the tenant can be deleted though nobody of it does it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_scheduler import cancelling, events, regions, reservations, services, tenants
from grafos_scheduler.reservation_events import ReservationEnded
from grafos_scheduler.service_events import ServiceRemoved

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.messages import TenantView


def cleared(draft: Draft, name: str) -> TenantView:
    """Nothing of the tenant's goes on: programs are closed, runs cancelled, regions ended and services removed without
    waiting for their sessions. What has leases is gone once its cells have said so. Repeating it is harmless, also when
    the tenant is gone."""
    state, known = draft.state, draft.state.tenants.get(name)
    if known is not None and known.deleted_at:
        return tenants.view(state, known)
    tenant = tenants.living(state, name)
    for run in list(state.runs_under_way()):
        if run.tenant == name:
            cancelling.asked(draft, events.RunCancelAsked(name, run.run_id))
    for account in state.standing_reservations.get(name, ()):
        reservations.ended(draft, ReservationEnded(name, state.reservations[account].key))
    for lease_id in state.standing_regions.get(name, ()):
        regions.tear_down(draft, regions.end(draft, state.regions[lease_id], "", "an operator ended it"))
    for service in state.services.values():
        if service.tenant == name:
            services.removed(draft, ServiceRemoved(name, service.name, at_once=True))
    return tenants.view(state, tenant)
