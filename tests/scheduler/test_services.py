"""Services at the scheduler: what a tenant asks, what cells say, and who serves then. Each row of the failure table."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from service_desk import MIB, ServiceDesk

from grafos_core.audit_chain import AuditKind
from grafos_core.changes import RowCodec
from grafos_core.errors import GrafosError
from grafos_core.resources import LISTENER
from grafos_scheduler import (
    events,
    frames,
    rows,
    service_events,
    service_instances,
    service_provisioning,
    service_rows,
)
from grafos_scheduler.service_frames import DrainInstance, InstanceEndedNoted, InstanceLoad, StartInstance, StopInstance
from grafos_scheduler.service_messages import NodeConstraint, ResourceRequirement
from grafos_scheduler.services import SERVICES_PER_TENANT_MAX

LEASE_S = 30
SURELY_OVER_S = LEASE_S + 5 + 1


def refused(desk: ServiceDesk, **asked: Any) -> GrafosError:
    before = dict(desk.state.services)
    with pytest.raises(GrafosError) as caught:
        desk.deploy(**asked)
    assert dict(desk.state.services) == before
    assert not desk.standing()
    return caught.value


# --- deploy -------------------------------------------------------------------------------------------------------


def test_each_replica_has_a_cell_of_its_own_with_a_listener_a_cpu_and_a_memory_lease() -> None:
    desk = ServiceDesk(2)
    desk.deploy(2)
    first, second = desk.standing()
    assert {first.cell_id, second.cell_id} == {"cell-1", "cell-2"}
    assert [(lease.kind, lease.amount) for lease in desk.leases(first)] == [(LISTENER, 8080), ("cpu", 1), ("mem", MIB)]
    assert first.state == second.state == service_instances.STARTING


def test_an_instance_is_started_with_the_last_of_its_leases_and_active_once_it_listens() -> None:
    desk = ServiceDesk(1)
    desk.deploy()
    [instance] = desk.standing()
    *others, last = desk.leases(instance)
    for lease in others:
        desk.say(lease.cell_id, frames.LeaseGranted(lease.lease_id, 1, f"t-{lease.kind}"))
        assert not desk.frames(StartInstance)
    desk.say(last.cell_id, frames.LeaseGranted(last.lease_id, 1, "t-mem"))
    [start] = desk.frames(StartInstance)
    assert (start.leases, start.tokens) == (instance.lease_ids, ("t-listener", "t-cpu", "t-mem"))
    assert desk.row(instance).state == service_instances.STARTING
    generation = desk.service().generation
    desk.listen(instance)
    assert desk.row(instance).state == service_instances.ACTIVE
    assert desk.service().generation == generation + 1


def test_the_same_spec_again_changes_nothing() -> None:
    desk = ServiceDesk(1)
    [before] = desk.serve()
    service = desk.service()
    assert desk.deploy() == service
    assert desk.standing() == [before]


def test_more_replicas_than_cells_are_refused_and_nothing_is_begun() -> None:
    assert refused(ServiceDesk(2), replicas=3).code == "placement_failed"


def test_without_a_cell_there_is_no_service() -> None:
    assert refused(ServiceDesk(0)).code == "no_eligible_provider_cells"


def test_a_port_that_another_service_has_on_every_cell_is_taken() -> None:
    desk = ServiceDesk(1)
    desk.serve(name="other")
    assert refused(desk).code == "port_taken"
    assert desk.deploy(listener_port=8081).name == "web"


def test_a_service_without_money_for_its_first_period_is_refused() -> None:
    assert refused(ServiceDesk(1, budget_micro_cents=10)).code == "budget_exceeded"


def test_a_service_needs_the_right_to_listen_and_no_other() -> None:
    assert refused(ServiceDesk(1), required_rights=()).code == "request_invalid"
    assert refused(ServiceDesk(1), required_rights=("RIGHTS_SVC_LISTEN", "RIGHTS_ROOT")).code == "request_invalid"


def test_a_tenant_has_so_many_services_at_most_and_is_told_what_helps() -> None:
    desk = ServiceDesk(1)
    desk.serve(name="first")
    row = desk.service("first")
    desk.state.services |= {f"ada/more-{number}": row for number in range(SERVICES_PER_TENANT_MAX - 1)}
    told = refused(desk, listener_port=8081)
    assert (told.code, told.next) == ("limit_exceeded", "remove one that is not needed: grafos service rm NAME")
    assert desk.deploy(name="first") == row


def test_what_no_cell_has_is_refused() -> None:
    too_much = (ResourceRequirement("mem", 99 * MIB),)
    assert refused(ServiceDesk(2), resources_per_instance=too_much).code == "placement_failed"


def test_a_cell_whose_software_is_too_old_gets_no_instance() -> None:
    desk = ServiceDesk(0)
    desk.register()
    desk.set_terms()
    desk.dial(protocol_max=2)
    assert refused(desk).code == "placement_failed"


def test_a_node_constraint_leaves_only_those_cells() -> None:
    desk = ServiceDesk(3)
    desk.deploy(node_constraint=NodeConstraint(cell_ids=("cell-3",)))
    assert [instance.cell_id for instance in desk.standing()] == ["cell-3"]
    assert refused_elsewhere(desk) == "no_eligible_provider_cells"


def refused_elsewhere(desk: ServiceDesk) -> str:
    with pytest.raises(GrafosError) as caught:
        desk.deploy(name="far", listener_port=1, node_constraint=NodeConstraint(provider="gcp"))
    return caught.value.code


@pytest.mark.parametrize("who_stays_away", ["the first", "the second"])
def test_services_that_stay_away_from_each_other_share_no_cell(who_stays_away: str) -> None:
    desk = ServiceDesk(2)
    firsts = ("other",) if who_stays_away == "the first" else ()
    seconds = ("web",) if who_stays_away == "the second" else ()
    desk.deploy(anti_affinity_services=firsts)
    desk.deploy(name="other", listener_port=81, anti_affinity_services=seconds)
    assert desk.standing()[0].cell_id != desk.standing("other")[0].cell_id


# --- the failure table --------------------------------------------------------------------------------------------


def test_a_dead_cells_instance_is_replaced_elsewhere_only_when_its_listener_lease_has_surely_ended() -> None:
    desk = ServiceDesk(2)
    [old] = desk.serve()
    other = next(cell_id for cell_id in ("cell-1", "cell-2") if cell_id != old.cell_id)
    desk.tell(events.LinkClosed(old.cell_id, desk.state.link_of(old.cell_id)))
    desk.pass_time(LEASE_S - 1, other)
    assert desk.row(old).state == service_instances.ACTIVE
    desk.pass_time(1, other)
    assert desk.row(old).state == service_instances.FENCED
    assert AuditKind.FAILOVER_STARTED in desk.kinds()
    desk.pass_time(SURELY_OVER_S - LEASE_S - 1, other)
    assert desk.standing() == [desk.row(old)]
    desk.pass_time(3, other)
    [new] = desk.standing()
    assert (new.cell_id, new.why, new.follows) == (other, service_instances.FAILOVER, old.instance_id)
    assert desk.row(old).state == service_instances.ENDED


def test_a_crashed_instance_starts_again_on_its_cell_under_the_same_leases_with_a_growing_pause() -> None:
    desk = ServiceDesk(2)
    [instance] = desk.serve()
    pauses = []
    for _ in range(3):
        desk.report(instance, "trap")
        assert desk.frames(InstanceEndedNoted)
        [again] = desk.standing()
        assert (again.state, again.cell_id, again.lease_ids) == ("planned", instance.cell_id, instance.lease_ids)
        pauses.append(again.again_at - desk.now)
        desk.pass_time(int(pauses[-1]) + 1, "cell-1", "cell-2")
        desk.grant(desk.row(again))
        desk.listen(again)
        assert desk.row(again).state == service_instances.ACTIVE
        instance = desk.row(again)
    assert pauses == [1.0, 2.0, 4.0]
    assert all(lease.state == "held" for lease in desk.leases(instance))


def test_after_too_many_crashes_in_a_row_the_leases_go_and_another_cell_is_tried() -> None:
    desk = ServiceDesk(2)
    [instance] = desk.serve()
    for _ in range(service_provisioning.RESTARTS_ON_ONE_CELL_MAX):
        desk.report(instance, "trap")
        [instance] = desk.standing()
        desk.pass_time(int(instance.again_at - desk.now) + 1, "cell-1", "cell-2")
        desk.grant(desk.row(instance))
        desk.listen(instance)
        instance = desk.row(instance)
    desk.report(instance, "trap")
    assert not desk.standing()
    assert all(lease.state == "tearing" for lease in desk.leases(instance))
    desk.pass_time(40, "cell-1", "cell-2")
    assert [new.cell_id for new in desk.standing()] != [instance.cell_id]


def test_a_revoked_listener_lease_fences_its_instance_at_once_and_its_sessions_are_told() -> None:
    desk = ServiceDesk(2)
    [instance] = desk.serve()
    generation = desk.service().generation
    desk.tell(events.LeaseRevokeAsked("", desk.lease(instance).lease_id, 60.0, "somebody says so"))
    assert [stop.code for stop in desk.frames(StopInstance)] == ["lease_revoked"]
    assert desk.row(instance).state == service_instances.FENCED
    assert desk.service().generation == generation + 1
    desk.torn_down(instance)
    assert desk.row(instance).state == service_instances.ENDED
    desk.pass_time(3, "cell-1", "cell-2")
    assert [new.why for new in desk.standing()] == [service_instances.FAILOVER]


def test_a_cell_that_comes_back_after_a_partition_is_heard_and_may_have_the_replacement() -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.tell(events.LinkClosed(old.cell_id, desk.state.link_of(old.cell_id)))
    desk.pass_time(SURELY_OVER_S + 5)
    assert not desk.standing(), "no cell is there for a replacement"
    desk.dial()
    desk.report(old, "lease_expired")
    assert desk.frames(InstanceEndedNoted), "an old end is noted, and changes nothing"
    desk.torn_down(old)
    desk.pass_time(20, "cell-1")
    [new] = desk.standing()
    assert (new.cell_id, new.slot) == (old.cell_id, old.slot)
    assert new.instance_id != old.instance_id


def test_a_short_partition_changes_nothing_but_renews_late() -> None:
    desk = ServiceDesk(1)
    [instance] = desk.serve()
    desk.tell(events.LinkClosed("cell-1", desk.state.link_of("cell-1")))
    desk.pass_time(20)
    desk.dial()
    desk.pass_time(20, "cell-1")
    assert desk.row(instance).state == service_instances.ACTIVE


def test_an_instance_dies_with_the_daemon_of_its_cell_and_is_replaced_without_waiting() -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.dial(boot_epoch=2)
    assert (desk.row(old).state, desk.row(old).code) == (service_instances.ENDED, "cell_lost")
    desk.pass_time(2, "cell-1")
    assert len(desk.standing()) == 1


def test_an_instance_whose_end_a_restarted_cell_still_keeps_is_fenced_until_that_is_reported() -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.dial(boot_epoch=2, unacknowledged=(old.instance_id,))
    assert desk.row(old).state == service_instances.FENCED
    desk.report(old, "cell_lost")
    assert desk.row(old).state == service_instances.ENDED
    assert desk.row(old).cost_micro_cents > 0
    desk.pass_time(3, "cell-1")
    assert len(desk.standing()) == 1


# --- renewing, and money ------------------------------------------------------------------------------------------


def test_leases_are_renewed_together_while_the_cell_is_there() -> None:
    desk = ServiceDesk(1)
    [instance] = desk.serve()
    desk.pass_time(200, "cell-1")
    assert desk.row(instance).state == service_instances.ACTIVE
    generations = {lease.generation for lease in desk.leases(instance)}
    assert len(generations) == 1
    assert generations.pop() > 5
    assert desk.row(instance).cost_micro_cents > 0


def test_without_money_for_the_next_period_an_instance_drains_and_says_budget_exceeded() -> None:
    desk = ServiceDesk(1, budget_micro_cents=80_000)
    [instance] = desk.serve()
    desk.pass_time(200, "cell-1")
    assert (desk.row(instance).code, desk.row(instance).state) == ("budget_exceeded", service_instances.ENDED)
    account = desk.state.ledger.account("slice-1")
    assert account.spent_micro_cents <= 80_000


def test_nothing_is_held_once_a_service_is_gone_and_what_it_cost_is_what_was_seen() -> None:
    desk = ServiceDesk(1)
    [instance] = desk.serve()
    desk.pass_time(10, "cell-1")
    desk.tell(service_events.ServiceRemoved("ada", "web"))
    assert desk.frames(DrainInstance)
    desk.report(instance, seconds=0.0)
    desk.pass_time(1, "cell-1")
    account = desk.state.ledger.account("slice-1")
    assert (account.held_micro_cents, account.spent_micro_cents) == (0, 10 * 1000 // 2)
    assert not desk.state.services
    assert not desk.state.instances


# --- scale, cutover, failover, rm ---------------------------------------------------------------------------------


def test_scaling_up_adds_a_replica_and_down_drains_the_last() -> None:
    desk = ServiceDesk(2)
    desk.serve()
    desk.tell(service_events.ServiceScaled("ada", "web", 2))
    desk.pass_time(1, "cell-1", "cell-2")
    desk.bring_up()
    assert len(desk.standing()) == 2
    desk.tell(service_events.ServiceScaled("ada", "web", 1))
    assert [instance.state for instance in desk.standing()] == ["active", "draining"]
    desk.report(desk.standing()[1])
    desk.pass_time(5, "cell-1", "cell-2")
    assert [instance.slot for instance in desk.standing()] == [0]


def test_scaling_beyond_the_cells_is_refused() -> None:
    desk = ServiceDesk(2)
    desk.serve()
    with pytest.raises(GrafosError) as caught:
        desk.tell(service_events.ServiceScaled("ada", "web", 4))
    assert caught.value.code == "placement_failed"
    assert "it has an instance of this service" in caught.value.what
    assert "another service" not in caught.value.what, "the port is its own"
    assert desk.service().spec.replica_count == 1


def test_a_cutover_drains_then_ends_then_replaces_and_tells_when_it_is_complete() -> None:
    desk = ServiceDesk(2)
    old, _ = desk.serve(2)
    desk.tell(service_events.ServiceCutOver("ada", "web", old.instance_id))
    assert desk.row(old).state == service_instances.DRAINING
    desk.pass_time(2, "cell-1", "cell-2")
    assert len(desk.standing()) == 2, "nothing comes in its place while it drains"
    desk.report(old)
    desk.torn_down(old)
    desk.pass_time(1, "cell-1", "cell-2")
    new = desk.standing()[0]
    assert (new.slot, new.why) == (old.slot, service_instances.CUTOVER)
    assert AuditKind.CUTOVER_COMPLETED not in desk.kinds()
    desk.bring_up()
    kinds = [kind for kind in desk.kinds() if kind.startswith("Cutover")]
    assert kinds == [AuditKind.CUTOVER_STARTED, AuditKind.CUTOVER_COMPLETED]
    assert AuditKind.FAILOVER_STARTED not in desk.kinds()


def test_another_spec_cuts_one_instance_over_after_the_other() -> None:
    desk = ServiceDesk(2)
    desk.serve(2)
    desk.deploy(2, version="2.0.0")
    for slot in (0, 1):
        desk.pass_time(1, "cell-1", "cell-2")
        old = desk.standing()[slot]
        assert [instance.state for instance in desk.standing()].count("draining") == 1
        assert old.state == "draining"
        desk.report(old)
        desk.torn_down(old)
        desk.pass_time(1, "cell-1", "cell-2")
        desk.bring_up()
    desk.pass_time(3, "cell-1", "cell-2")
    assert [(instance.state, instance.spec.version) for instance in desk.standing()] == [("active", "2.0.0")] * 2


def test_a_drain_that_outlasts_its_deadline_is_fenced() -> None:
    desk = ServiceDesk(1)
    [instance] = desk.serve(drain_deadline_s=10.0)
    desk.tell(service_events.ServiceCutOver("ada", "web", instance.instance_id))
    desk.pass_time(16, "cell-1")
    assert desk.row(instance).state == service_instances.FENCED


def test_a_failover_that_is_asked_for_fences_at_once_and_replaces_when_the_end_is_sure() -> None:
    desk = ServiceDesk(2)
    [old] = desk.serve()
    desk.tell(service_events.ServiceFailedOver("ada", "web"))
    assert [stop.code for stop in desk.frames(StopInstance)] == ["service_fenced"]
    desk.pass_time(3, "cell-1", "cell-2")
    assert desk.standing() == [desk.row(old)]
    desk.report(old, "service_fenced")
    desk.pass_time(1, "cell-1", "cell-2")
    assert [instance.why for instance in desk.standing()] == [service_instances.FAILOVER]


def test_a_service_of_another_tenant_is_unknown() -> None:
    desk = ServiceDesk(1)
    desk.serve()
    for asked in (
        service_events.ServiceScaled("eve", "web", 1),
        service_events.ServiceCutOver("eve", "web"),
        service_events.ServiceFailedOver("eve", "web"),
        service_events.ServiceRemoved("eve", "web"),
    ):
        with pytest.raises(GrafosError) as caught:
            desk.tell(asked)
        assert caught.value.code == "service_unknown"


def test_every_row_and_every_event_of_services_comes_by_here() -> None:
    desk = ServiceDesk(2)
    told: set[type] = set()
    tell = desk.tell

    def watched(event: Any) -> Any:
        told.add(type(event))
        return tell(event)

    desk.tell = watched  # type: ignore[method-assign]
    first, second = desk.serve(2)
    link_id = desk.state.link_of(first.cell_id)
    desk.tell(service_events.InstanceSaid(first.cell_id, link_id, InstanceLoad(first.instance_id, 3, 9)))
    assert desk.state.instance_loads[first.instance_id].sessions == 3
    desk.tell(service_events.ServiceCutOver("ada", "web", first.instance_id))
    desk.report(first)
    desk.tell(service_events.ServiceFailedOver("ada", "web", second.instance_id))
    desk.tell(service_events.ServiceScaled("ada", "web", 1))
    codec = RowCodec(rows.STORED_KINDS)
    stored = {kind for kind, _, row in desk.memory.load() if codec.decode(kind, codec.encode(row)) == row}
    assert stored >= set(service_rows.STORED_KINDS)
    desk.tell(service_events.ServiceRemoved("ada", "web", at_once=True))
    assert told >= set(get_args(service_events.OfServices))


def test_a_step_that_is_not_in_the_table_cannot_be_written() -> None:
    desk = ServiceDesk(1)
    [instance] = desk.serve()
    for state in set(service_instances.NEXT) - service_instances.NEXT[instance.state]:
        with pytest.raises(AssertionError):
            service_instances.moved(instance, state)


# --- what else may come -------------------------------------------------------------------------------------------


def test_a_refused_first_lease_fences_its_instance_and_another_cell_is_tried() -> None:
    desk = ServiceDesk(2)
    desk.deploy()
    [old] = desk.standing()
    desk.say(old.cell_id, frames.LeaseRefused(desk.lease(old).lease_id, 1, "port_taken", "a program has it"))
    assert desk.row(old).state == service_instances.FENCED
    desk.torn_down(old)
    desk.pass_time(3, "cell-1", "cell-2")
    assert len(desk.standing()) == 1


def test_a_receipt_for_another_instance_is_a_fault_of_its_cell_and_pays_nothing() -> None:
    desk = ServiceDesk(1)
    [instance] = desk.serve()
    desk.report(instance, instance_id="inst-of-somebody-else")
    assert (desk.row(instance).state, desk.row(instance).cost_micro_cents) == (service_instances.ENDED, 0)


def test_a_restarted_scheduler_goes_on_with_the_same_instances() -> None:
    desk = ServiceDesk(2)
    standing = desk.serve(2)
    desk.restart()
    for cell_id in ("cell-1", "cell-2"):
        desk.dial(cell_id)
    desk.pass_time(60, "cell-1", "cell-2")
    assert [(i.instance_id, i.state) for i in desk.standing()] == [(i.instance_id, "active") for i in standing]


def test_a_starting_instance_is_started_again_over_a_new_link() -> None:
    desk = ServiceDesk(1)
    desk.deploy()
    [instance] = desk.standing()
    desk.grant(instance)
    desk.dial()
    desk.grant(instance)
    assert [start.instance_id for start in desk.frames(StartInstance)] == [instance.instance_id]
