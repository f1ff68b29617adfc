"""What `grafos events` tells of a service is what the scheduler decided, in the words of the audit log."""

from __future__ import annotations

from service_desk import KEY, ServiceDesk

from grafos_cli.events import events_of_service
from grafos_core.audit_chain import AuditKind
from grafos_scheduler import events, service_events
from grafos_scheduler.service_views import service_view

OURS = ("InstanceActive", "InstanceDraining")
"""What the audit log does not keep."""


def told(desk: ServiceDesk) -> list[str]:
    view = service_view(desk.state, desk.state.services[KEY], desk.now, lambda _: 0)
    return [one.what for one in sorted(events_of_service(view), key=lambda one: one.at)]


def of_audit(desk: ServiceDesk) -> list[str]:
    kept = {AuditKind.SERVICE_DEPLOYED, AuditKind.INSTANCE_PROVISIONED, AuditKind.INSTANCE_ENDED}
    kept |= {AuditKind.FAILOVER_STARTED, AuditKind.CUTOVER_STARTED, AuditKind.CUTOVER_COMPLETED}
    return sorted(kind for kind in desk.kinds() if kind in kept)


def check(desk: ServiceDesk) -> None:
    assert sorted(what for what in told(desk) if what not in OURS) == of_audit(desk)


def test_a_deploy_is_told_with_each_instance() -> None:
    desk = ServiceDesk(2)
    desk.serve(2)
    check(desk)
    assert told(desk).count("InstanceActive") == 2


def test_a_cutover_is_told_from_its_start_to_its_end() -> None:
    desk = ServiceDesk(2)
    [old] = desk.serve()
    desk.wait(1, "cell-1", "cell-2")
    desk.tell(service_events.ServiceCutOver("ada", "web", old.instance_id))
    desk.wait(1, "cell-1", "cell-2")
    desk.report(old)
    desk.torn_down(old)
    desk.wait(1, "cell-1", "cell-2")
    desk.bring_up()
    check(desk)
    steps = [what for what in told(desk) if what.startswith("Cutover")]
    assert steps == ["CutoverStarted", "CutoverCompleted"]


def test_a_failover_is_told_and_a_restart_on_its_cell_is_none() -> None:
    desk = ServiceDesk(1)
    [old] = desk.serve()
    desk.report(old, "trapped")
    desk.wait(3, "cell-1")
    desk.bring_up()
    check(desk)
    assert "FailoverStarted" not in told(desk)
    desk.tell(events.LinkClosed("cell-1", desk.state.link_of("cell-1")))
    desk.wait(40)
    check(desk)
    assert told(desk).count("FailoverStarted") == 1


def test_what_is_scaled_away_drains_and_is_no_failover() -> None:
    desk = ServiceDesk(2)
    desk.serve(2)
    desk.tell(service_events.ServiceScaled("ada", "web", 1))
    desk.report(desk.standing()[1])
    check(desk)
    assert told(desk).count("InstanceDraining") == 1
