"""What the routes about conformance, production and offers do; see ``handlers`` for the others."""

from __future__ import annotations

import asyncio

from grafos_core.errors import GrafosError
from grafos_scheduler import events, messages, offers, providers, views
from grafos_scheduler.enrolment_messages import ProviderView
from grafos_scheduler.handlers import Request, Services
from grafos_scheduler.standing_messages import Offers, ProductionMark, TrialRequest

OFFERS_AT_ONCE = 100
"""Cells that are asked before others get their turn: a few milliseconds."""


async def mark_production(services: Services, request: Request) -> ProviderView:
    mark: ProductionMark = request.body
    provider, shell = request.path["provider"], services.shell
    if provider not in providers.known(shell.state):
        raise GrafosError("not_found", f"no provider {provider[:80]!r} is enabled here, and no cell of it enrolled")
    await shell.handle(events.ProviderMarked(provider, mark.production, request.who.name), by=request.who.text)
    return providers.view(shell.state, provider, shell.clock.now())


async def open_trial(services: Services, request: Request) -> messages.CellView:
    asked: TrialRequest = request.body
    cell_id, shell = request.path["cell_id"], services.shell
    await shell.handle(events.TrialOpened(cell_id, asked.tenant, asked.for_s), by=request.who.text)
    return views.cell_view(shell.state, shell.state.cells[cell_id], shell.clock.now())


async def report_conformance(services: Services, request: Request) -> messages.Conformance:
    event = events.ConformanceReported(request.path["cell_id"], request.body, request.who.name)
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, messages.Conformance)
    return answer


async def list_offers(services: Services, request: Request) -> Offers:
    shell, found = services.shell, []
    await shell.settled()
    for offer in offers.of_each(shell.state, request.who.name, request.body, shell.clock.now()):
        found.append(offer)
        if len(found) % OFFERS_AT_ONCE == 0:
            await asyncio.sleep(0)
    await shell.settled()  # what others decided meanwhile may be in the later ones
    return offers.best(found)
