"""What the REST routes about services do; see ``handlers`` for the others."""

from __future__ import annotations

from grafos_core.errors import GrafosError
from grafos_scheduler import service_events, service_rows, services
from grafos_scheduler.authorize import OPERATOR
from grafos_scheduler.handlers import Request, Services
from grafos_scheduler.service_messages import (
    InstanceLogView,
    OfInstance,
    Removal,
    Scale,
    ServiceList,
    ServiceLogs,
    ServiceSpec,
    ServiceView,
)
from grafos_scheduler.service_rows import Service
from grafos_scheduler.service_views import service_view

LOGS_SHOWN_MAX = 20


async def deploy(desk: Services, request: Request) -> ServiceView:
    spec: ServiceSpec = request.body
    if desk.blobs.size_of(request.who.name, spec.module_hash) is None:
        what = f"no blob {spec.module_hash} was uploaded"
        raise GrafosError("blob_missing", what, next="upload it, then ask again")
    return await _asked(desk, service_events.ServiceDeployed(request.who.name, spec))


async def list_services(desk: Services, request: Request) -> ServiceList:
    await desk.shell.settled()
    caller = request.who
    found = [
        service
        for service in desk.shell.state.services.values()
        if caller.kind == OPERATOR or service.tenant == caller.name
    ]
    return ServiceList([_view(desk, service) for service in sorted(found, key=lambda service: service.key)])


async def show(desk: Services, request: Request) -> ServiceView:
    await desk.shell.settled()
    return _view(desk, services.of_tenant(desk.shell.state, request.who.name, request.path["name"]))


async def scale(desk: Services, request: Request) -> ServiceView:
    asked: Scale = request.body
    return await _asked(desk, service_events.ServiceScaled(request.who.name, request.path["name"], asked.replica_count))


async def cut_over(desk: Services, request: Request) -> ServiceView:
    asked: OfInstance = request.body
    return await _asked(desk, service_events.ServiceCutOver(request.who.name, request.path["name"], asked.instance_id))


async def fail_over(desk: Services, request: Request) -> ServiceView:
    asked: OfInstance = request.body
    return await _asked(
        desk, service_events.ServiceFailedOver(request.who.name, request.path["name"], asked.instance_id)
    )


async def remove(desk: Services, request: Request) -> ServiceView:
    asked: Removal = request.body
    return await _asked(desk, service_events.ServiceRemoved(request.who.name, request.path["name"], asked.at_once))


async def logs(desk: Services, request: Request) -> ServiceLogs:
    await desk.shell.settled()
    state = desk.shell.state
    service = services.of_tenant(state, request.who.name, request.path["name"])
    found = []
    for instance_id in list(state.ended_instances.get(service.key, {}))[-LOGS_SHOWN_MAX:]:
        instance = state.instances[instance_id]
        kept: service_rows.InstanceLog | None = await desk.shell.store.read(service_rows.INSTANCE_LOG, instance_id)
        log = kept.log if kept is not None else ""
        found.append(InstanceLogView(instance_id, instance.cell_id, instance.code, instance.ended_at, log))
    return ServiceLogs(found)


async def _asked(desk: Services, event: service_events.OfServices) -> ServiceView:
    """The service as it is once what was asked of it is durable."""
    answer = await desk.shell.handle(event)
    assert isinstance(answer, Service)
    return _view(desk, desk.shell.state.services.get(answer.key, answer))


def _view(desk: Services, service: Service) -> ServiceView:
    return service_view(desk.shell.state, service, desk.shell.clock.now(), desk.sessions_of)
