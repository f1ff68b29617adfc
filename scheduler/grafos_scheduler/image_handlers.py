"""What the routes about demanded images do; see ``handlers`` for the others."""

from __future__ import annotations

from grafos_scheduler import image_demands
from grafos_scheduler.handlers import Request, Services
from grafos_scheduler.image_messages import THE_DEMAND, ImageDemand, ImageDemandView, ImagesDemanded


async def demand_images(services: Services, request: Request) -> ImageDemandView:
    asked: ImageDemand = request.body
    event = ImagesDemanded(asked.digests, request.who.name)
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, ImageDemandView)
    return answer


async def show_demand(services: Services, _: Request) -> ImageDemandView:
    await services.shell.settled()
    state = services.shell.state
    return image_demands.view(state, state.image_demands.get(THE_DEMAND))
