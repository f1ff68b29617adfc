"""What the REST routes about leases do; see ``handlers`` for the others."""

from __future__ import annotations

from collections.abc import Iterable

from grafos_scheduler import events, leases, rows, views
from grafos_scheduler.authorize import OPERATOR
from grafos_scheduler.handlers import Request, Services
from grafos_scheduler.lease_messages import LeaseList, LeaseRevocation, LeasesQuery, LeaseView


async def list_leases(services: Services, request: Request) -> LeaseList:
    query: LeasesQuery = request.query
    await services.shell.settled()
    tenant = _tenant(request)
    return _listed(
        lease
        for lease in services.shell.state.leases.values()
        if tenant in ("", lease.tenant) and query.run_id in ("", lease.run_id)
    )


async def list_fenced(services: Services, _: Request) -> LeaseList:
    await services.shell.settled()
    return _listed(lease for lease in services.shell.state.leases.values() if lease.state in leases.OUT_OF_USE)


async def revoke(services: Services, request: Request) -> LeaseView:
    asked: LeaseRevocation = request.body
    event = events.LeaseRevokeAsked(_tenant(request), request.path["lease_id"], asked.grace_s, asked.why)
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, LeaseView)
    return answer


async def unfence(services: Services, request: Request) -> LeaseView:
    event = events.FenceClearAsked(request.path["lease_id"])
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, LeaseView)
    return answer


def _tenant(request: Request) -> str:
    """Whose leases the caller may touch; empty for an operator, who may touch all."""
    return "" if request.who.kind == OPERATOR else request.who.name


def _listed(found: Iterable[rows.Lease]) -> LeaseList:
    """By their end, the next one first."""
    return LeaseList([views.lease_view(lease) for lease in sorted(found, key=lambda it: (it.expires_at, it.lease_id))])
