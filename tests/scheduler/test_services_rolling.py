"""A service that cannot have all its replicas: the others get a mended spec, room is looked for now and then."""

from __future__ import annotations

import pytest
from service_desk import KEY, ServiceDesk

from grafos_core.audit_chain import AuditKind
from grafos_scheduler import events, service_instances, service_shortages
from grafos_scheduler.service_rows import Instance
from grafos_scheduler.service_views import service_view
from grafos_scheduler.services import ROLL_ON_AFTER_S


def without_a_cell(desk: ServiceDesk) -> tuple[Instance, Instance]:
    """Of a service with two replicas the one that is left and the one whose cell has gone for good."""
    left, gone = sorted(desk.serve(2), key=lambda instance: instance.cell_id)
    desk.tell(events.LinkClosed(gone.cell_id, desk.state.link_of(gone.cell_id)))
    desk.pass_time(40, left.cell_id)
    assert desk.standing() == [desk.row(left)]
    return left, gone


def test_a_replica_that_no_cell_can_take_keeps_a_mended_spec_from_the_others_for_a_while_only() -> None:
    desk = ServiceDesk(2)
    left, gone = without_a_cell(desk)
    desk.deploy(2, version="2.0.0")
    desk.pass_time(1, left.cell_id)
    ended_at = desk.row(gone).ended_at
    while desk.row(left).state == service_instances.ACTIVE:
        desk.pass_time(1, left.cell_id)
    assert desk.row(left).state == service_instances.DRAINING
    assert desk.now >= ended_at + ROLL_ON_AFTER_S
    desk.report(left)
    desk.torn_down(left)
    desk.pass_time(2, left.cell_id)
    [new] = desk.standing()
    assert (new.spec.version, new.cell_id) == ("2.0.0", left.cell_id)


def test_only_one_replica_at_a_time_is_cut_over() -> None:
    desk = ServiceDesk(2)
    first, second = desk.serve(2)
    desk.deploy(2, version="2.0.0")
    desk.pass_time(1, "cell-1", "cell-2")
    desk.report(first)
    desk.torn_down(first)
    for _ in range(60):
        desk.pass_time(1, "cell-1", "cell-2")
        assert desk.row(second).state == service_instances.ACTIVE, "the first one's successor does not serve yet"


@pytest.mark.parametrize("state", ["planned", "starting"])
def test_an_instance_that_crashes_in_a_circle_gives_way_to_the_mended_spec(state: str) -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.report(old, "trapped")
    [again] = desk.standing()
    if state == "starting":
        desk.wait(2, "cell-1")
    assert desk.row(again).state == state
    desk.deploy(version="2.0.0")
    desk.tell(events.Tick())
    if state == "starting":
        desk.torn_down(again)
    assert desk.row(again).state == service_instances.ENDED
    for lease in desk.leases(again):
        desk.torn_down(again)
        assert lease.state == "tearing"
    desk.wait(2, "cell-1")
    [new] = desk.standing()
    assert (new.spec.version, new.why) == ("2.0.0", service_instances.CUTOVER)
    assert AuditKind.FAILOVER_STARTED not in desk.kinds()


def test_room_that_there_is_not_is_looked_for_less_and_less_often_and_why_is_told() -> None:
    desk = ServiceDesk(2)
    left, _ = without_a_cell(desk)
    short = desk.state.shortages[KEY]
    assert short.attempts > 1
    assert desk.now < short.again_at <= desk.now + service_shortages.AGAIN_MOST_S
    view = service_view(desk.state, desk.service(), desk.now, lambda _: 0)
    assert [why.partition(":")[0] for why in view.waiting.values()] == ["placement_failed"]
    desk.pass_time(60, left.cell_id)
    assert desk.state.shortages[KEY].attempts - short.attempts <= 60 / service_shortages.AGAIN_MOST_S + 1


def test_a_cell_that_comes_is_taken_at_once() -> None:
    desk = ServiceDesk(2)
    left, gone = without_a_cell(desk)
    desk.dial(gone.cell_id)
    assert not desk.state.shortages
    desk.torn_down(gone)
    desk.pass_time(2, left.cell_id, gone.cell_id)
    assert {instance.cell_id for instance in desk.standing()} == {left.cell_id, gone.cell_id}
    assert not desk.state.shortages


def test_a_clock_that_was_set_back_keeps_no_replica_waiting() -> None:
    desk = ServiceDesk(2)
    without_a_cell(desk)
    short = desk.state.shortages[KEY]
    assert service_shortages.holds(desk.state, desk.service(), desk.now)
    assert not service_shortages.holds(desk.state, desk.service(), short.again_at - 3600.0)
