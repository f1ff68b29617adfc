"""What the routes of an orchestrator do; see ``handlers`` for those that it shares with a standalone cell."""

from __future__ import annotations

from grafos_core.errors import GrafosError
from grafos_scheduler import events, messages, providers
from grafos_scheduler.enrolment_messages import (
    BootstrapGrant,
    CellCredentials,
    CellRevocation,
    IdentityView,
    ProviderList,
    ProviderView,
)
from grafos_scheduler.handlers import Request, Services


async def bootstrap(services: Services, request: Request) -> BootstrapGrant:
    return await services.enrolling.bootstrap(request.body, request.who, request.client)


async def enrol(services: Services, request: Request) -> CellCredentials:
    return await services.enrolling.enrol(request.body, request.client)


async def renew(services: Services, request: Request) -> CellCredentials:
    return services.enrolling.renew(request.who, request.body.csr_pem, request.client)


async def revoke_cell(services: Services, request: Request) -> IdentityView:
    asked: CellRevocation = request.body
    cell_id = request.path["cell_id"]
    services.enrolling.note_revocation(cell_id, request.who, request.client, asked.why)
    answer = await services.shell.handle(events.CellRevokeAsked(cell_id, asked.grace_s, asked.why))
    assert isinstance(answer, IdentityView)
    return answer


async def set_cell_terms(services: Services, request: Request) -> messages.Terms:
    asked: messages.Terms = request.body
    cell_id = request.path["cell_id"]
    if cell_id not in services.shell.state.identities:
        raise GrafosError("cell_unknown", f"no cell {cell_id[:80]!r} ever enrolled here")
    await services.shell.handle(events.TermsSet(cell_id, asked.rate_micro_cents_per_hour, asked.expires_at))
    return messages.Terms(asked.rate_micro_cents_per_hour, asked.expires_at)


async def list_providers(services: Services, _: Request) -> ProviderList:
    await services.shell.settled()
    state, now = services.shell.state, services.shell.clock.now()
    return ProviderList([providers.view(state, name, now) for name in providers.known(state)])


async def show_provider(services: Services, request: Request) -> ProviderView:
    await services.shell.settled()
    state, name = services.shell.state, request.path["provider"]
    if name not in providers.known(state):
        raise GrafosError("not_found", f"no provider {name[:80]!r} is enabled here, and no cell of it enrolled")
    return providers.view(state, name, services.shell.clock.now())
