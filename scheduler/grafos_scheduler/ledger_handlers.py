"""What the routes of the fabric's ledger do; see ``handlers``."""

from __future__ import annotations

from grafos_scheduler import events, fabric_ledger
from grafos_scheduler.handlers import Request, Services
from grafos_scheduler.ledger_messages import (
    LedgerClosing,
    LedgerMove,
    LedgerPage,
    LedgerQuery,
    LedgerRows,
    LedgerView,
)


async def show(services: Services, request: Request) -> LedgerPage:
    await services.shell.settled()
    query: LedgerQuery = request.query
    state = services.shell.state
    left = [held for held in fabric_ledger.operators_holds(state) if held.hold_id > query.after]
    page = left[: query.limit]
    following = page[-1].hold_id if len(left) > len(page) else ""
    accounts, spent_here = fabric_ledger.fabrics_accounts(state.ledger), fabric_ledger.spent_here(state)
    return LedgerPage(fabric_ledger.view(state), accounts, page, following, spent_here)


async def book(services: Services, request: Request) -> LedgerRows:
    answer = await services.shell.handle(events.LedgerBooked(request.body), by=request.who.text)
    assert isinstance(answer, LedgerRows)
    return answer


async def take(services: Services, request: Request) -> LedgerView:
    asked: LedgerMove = request.body
    return await _view(services, request, events.LedgerTaken(asked.ledger, asked.digest))


async def close(services: Services, request: Request) -> LedgerView:
    asked: LedgerClosing = request.body
    event = events.LedgerClosed(asked.generation, asked.spend_running, asked.fetch, asked.take_over)
    return await _view(services, request, event)


async def _view(services: Services, request: Request, event: events.LedgerTaken | events.LedgerClosed) -> LedgerView:
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, LedgerView)
    return answer
