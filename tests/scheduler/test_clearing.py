"""An operator ends all that a tenant has, and then the tenant."""

from __future__ import annotations

import pytest
from service_desk import ServiceDesk

from grafos_core.errors import GrafosError
from grafos_scheduler import leases, regions, reservations, runs
from grafos_scheduler.frames import LeaseGranted, LeaseTornDown
from grafos_scheduler.region_events import RegionAsked
from grafos_scheduler.region_messages import RegionRequest
from grafos_scheduler.reservation_events import ReservationAsked
from grafos_scheduler.service_frames import StopInstance
from grafos_scheduler.tenant_events import TenantCleared, TenantDeleted


def test_all_that_a_tenant_has_is_ended_and_then_it_can_be_deleted() -> None:
    desk = ServiceDesk(1)
    desk.add_cell("cell-2", cores=4)
    [instance] = desk.serve()
    desk.tell(ReservationAsked("ada", "a-key-of-the-program", 10_000_000, desk.now + 3600.0, "sums"))
    run = desk.start(deadline_s=10.0, reservation="a-key-of-the-program")
    desk.tell(RegionAsked("ada", RegionRequest("a-key-of-the-region", "aws", 8, 60.0)))
    [region] = desk.state.regions.values()
    desk.say(region.cell_id, LeaseGranted(region.lease_id, 1, "token"))
    with pytest.raises(GrafosError) as refused:
        desk.tell(TenantDeleted("ada"))
    assert (refused.value.context["programs"], refused.value.context["services"]) == (1, 1)
    desk.tell(TenantCleared("ada"))
    [told] = desk.frames(StopInstance)
    assert told.instance_id == instance.instance_id
    assert desk.state.regions[region.lease_id].state == regions.ENDED
    assert desk.state.runs[run.run_id].cancelled_at
    desk.report(instance, "revoked")
    desk.tell(TenantCleared("ada"))  # again, as whoever waits for it asks
    while torn := [lease for lease in desk.state.leases.values() if lease.state == leases.TEARING]:
        desk.say(torn[0].cell_id, LeaseTornDown(torn[0].lease_id, torn[0].generation, fenced=False))
    desk.pass_time(70, "cell-1", "cell-2")
    assert desk.state.runs[run.run_id].state in runs.ENDED
    assert {reservations.state_of(row) for row in desk.state.reservations.values()} == {reservations.SETTLED}
    assert not desk.state.ledger.holds
    desk.tell(TenantDeleted("ada"))
    assert desk.state.tenants["ada"].deleted_at
    desk.tell(TenantCleared("ada"))  # whoever did not hear of that asks again
