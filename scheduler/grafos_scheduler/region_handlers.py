"""What the REST routes about shared regions do; see ``handlers`` for the others."""

from __future__ import annotations

from grafos_scheduler import region_events, regions
from grafos_scheduler.authorize import OPERATOR
from grafos_scheduler.handlers import Request, Services
from grafos_scheduler.region_messages import RegionList, RegionRenewal, RegionView


async def create(services: Services, request: Request) -> RegionView:
    return await _decided(services, request, region_events.RegionAsked(request.who.name, request.body))


async def renew(services: Services, request: Request) -> RegionView:
    asked: RegionRenewal = request.body
    event = region_events.RegionRenewalAsked(request.who.name, request.path["lease_id"], asked.ttl_s)
    return await _decided(services, request, event)


async def end(services: Services, request: Request) -> RegionView:
    event = region_events.RegionEndAsked(_tenant(request), request.path["lease_id"])
    return await _decided(services, request, event)


async def show(services: Services, request: Request) -> RegionView:
    await services.shell.settled()
    state = services.shell.state
    return regions.view(state, regions.known(state, _tenant(request), request.path["lease_id"]))


async def list_regions(services: Services, request: Request) -> RegionList:
    await services.shell.settled()
    state, tenant = services.shell.state, _tenant(request)
    found = [region for region in state.regions.values() if tenant in ("", region.tenant)]
    found.sort(key=lambda region: (region.since, region.lease_id), reverse=True)
    return RegionList([regions.view(state, region) for region in found])


async def _decided(services: Services, request: Request, event: region_events.OfRegions) -> RegionView:
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, RegionView)
    return answer


def _tenant(request: Request) -> str:
    """Whose regions the caller may touch; empty for an operator, who may touch all."""
    return "" if request.who.kind == OPERATOR else request.who.name
