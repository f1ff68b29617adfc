"""Services where several things come together: in one tick, at an end, for one tenant."""

from __future__ import annotations

import pytest
from desk import MIB, SETTINGS
from msgspec.structs import replace
from service_desk import ServiceDesk

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import service_events, service_instances, tenant_events
from grafos_scheduler.effects import SendToCell
from grafos_scheduler.frames import GrantLease, TearDownLease
from grafos_scheduler.service_frames import DrainInstance, InstanceLoad, StopInstance


@pytest.mark.parametrize("served_s", range(10, 18))
def test_a_cutover_that_begins_while_the_leases_are_renewed_knows_what_was_held_and_until_when(served_s: int) -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.wait(served_s, "cell-1")
    desk.deploy(version="2.0.0")
    desk.wait(1, "cell-1")
    row = desk.row(old)
    assert list(desk.state.ledger.holds) == [row.hold_id]
    assert row.serves_until == max(lease.expires_at for lease in desk.leases(old))


@pytest.mark.parametrize("served_s", range(10, 18))
def test_an_instance_that_is_dropped_while_its_leases_are_renewed_takes_them_along_as_they_are_then(
    served_s: int,
) -> None:
    desk = ServiceDesk(1)
    desk.deploy()
    [unborn] = desk.standing()
    desk.grant(unborn)
    desk.wait(served_s, "cell-1")
    desk.deploy(version="2.0.0")
    desk.wait(1, "cell-1")
    told = [effect.frame for effect in desk.effects if isinstance(effect, SendToCell)]
    granted = {frame.lease_id: frame.generation for frame in told if isinstance(frame, GrantLease)}
    ended = {frame.lease_id: frame.generation for frame in told if isinstance(frame, TearDownLease)}
    assert ended == {lease.lease_id: lease.generation for lease in desk.leases(unborn)}
    assert all(ended[lease_id] >= generation for lease_id, generation in granted.items() if lease_id in ended)


def test_an_instance_that_loses_a_lease_as_its_cutover_begins_is_fenced() -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.deploy(version="2.0.0")
    desk.state.leases.pop(desk.lease(old, "mem").lease_id)
    desk.wait(1, "cell-1")
    assert desk.row(old).state == service_instances.FENCED


def test_nothing_is_held_for_an_instance_that_could_not_be_started_again() -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.clock.advance(SETTINGS.service_lease_s)
    desk.report(old, "trap")
    assert not desk.standing()
    assert not desk.state.ledger.holds


def test_what_is_said_of_an_instance_that_has_ended_is_not_kept() -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.tell(service_events.ServiceRemoved("ada", "web"))
    desk.report(old)
    link_id = desk.state.link_of(old.cell_id)
    desk.tell(service_events.InstanceSaid(old.cell_id, link_id, InstanceLoad(old.instance_id, 1, 9)))
    assert not desk.state.instance_loads


def test_a_tenant_with_a_service_is_not_deleted() -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.tell(service_events.ServiceFailedOver("ada", "web"))
    desk.torn_down(old)
    assert not desk.standing()
    with pytest.raises(GrafosError) as refused:
        desk.tell(tenant_events.TenantDeleted("ada"))
    assert (refused.value.code, refused.value.context["services"]) == ("tenant_in_use", 1)


def test_several_slots_that_are_filled_anew_stay_within_the_quota() -> None:
    desk = ServiceDesk(2)
    desk.give_slice("slice-2", 1_000_000, quota=Resources(cpu_cores=2, mem_bytes=8 * MIB))
    desk.serve(2)
    for cell_id in ("cell-1", "cell-2"):
        desk.dial(cell_id, boot_epoch=2)
    assert not desk.standing()
    desk.start()
    desk.pass_time(5, "cell-1", "cell-2")
    assert len(desk.standing()) == 1
    assert desk.state.leased_by_tenant["ada"].cpu_cores == 2


def test_an_instance_that_has_not_begun_to_serve_does_not_drain_but_ends_at_once() -> None:
    desk = ServiceDesk(1)
    desk.deploy(drain_deadline_s=3600.0)
    [instance] = desk.standing()
    desk.tell(service_events.ServiceRemoved("ada", "web"))
    assert not desk.frames(DrainInstance), "a cell that was not told to start it has nothing to drain"
    assert [stop.instance_id for stop in desk.frames(StopInstance)] == [instance.instance_id]
    desk.torn_down(instance)
    desk.pass_time(1, "cell-1")
    assert not desk.state.services
    assert AuditKind.FAILOVER_STARTED not in desk.kinds()


def test_another_spec_with_fewer_replicas_drains_those_that_are_too_many() -> None:
    desk = ServiceDesk(2)
    desk.serve(2)
    desk.deploy(1, version="2.0.0")
    assert [instance.state for instance in desk.standing()] == ["active", "draining"]
    assert desk.standing()[1].code == service_instances.SCALED


def test_a_tenant_that_must_sign_gets_no_more_of_a_service_that_it_has() -> None:
    desk = ServiceDesk(2)
    [standing] = desk.serve()
    desk.state.tenants["ada"] = replace(desk.state.tenants["ada"], signs_since=1.0)
    for asked in (service_events.ServiceScaled("ada", "web", 2), service_events.ServiceDeployed("ada", desk.spec(2))):
        with pytest.raises(GrafosError) as refused:
            desk.tell(asked)
        assert refused.value.code == "order_refused"
    assert desk.standing() == [standing]
    desk.tell(service_events.ServiceCutOver("ada", "web", standing.instance_id))
    desk.tell(service_events.ServiceRemoved("ada", "web"))
