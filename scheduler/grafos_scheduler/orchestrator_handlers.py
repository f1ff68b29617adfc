"""What the routes of an orchestrator do; see ``handlers`` for those that it shares with a standalone cell."""

from __future__ import annotations

import msgspec

from grafos_core import trust
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.ids import check_sha256
from grafos_scheduler import bundles, events, messages, providers, rows, tenant_events
from grafos_scheduler.attested import Roots
from grafos_scheduler.enrolment_messages import (
    AccountCredentials,
    AttestationRoots,
    AttestationRootsView,
    BootstrapGrant,
    CellCredentials,
    CellRevocation,
    ExpectedCellView,
    ExpectedMachine,
    IdentityView,
    ProviderList,
    ProviderView,
)
from grafos_scheduler.expecting import roots_of
from grafos_scheduler.handlers import Request, Services, Stream, grant_tenant
from grafos_scheduler.tenant_messages import TenantAsked, TenantBudget, TenantRules


async def bootstrap(services: Services, request: Request) -> BootstrapGrant:
    return await services.enrolling.bootstrap(request.body, request.who, request.client)


async def enrol(services: Services, request: Request) -> CellCredentials:
    return await services.enrolling.enrol(request.body, request.client)


async def expect_cell(services: Services, request: Request) -> ExpectedCellView:
    return await services.enrolling.expect(request.body, request.who, request.client)


async def name_machine(services: Services, request: Request) -> ExpectedCellView:
    asked: ExpectedMachine = request.body
    event = events.ExpectedMachineNamed(request.path["expectation_id"], asked.machine_id)
    made = await services.shell.handle(event, by=request.who.text)
    assert isinstance(made, rows.Enrolment)
    return services.enrolling.expected(made)


async def set_attestation_roots(services: Services, request: Request) -> AttestationRootsView:
    asked: AttestationRoots = request.body
    given = Roots(request.path["provider"], asked.source, asked.dated, asked.pems)
    await services.shell.handle(events.AttestationRootsSet(given, request.who.name), by=request.who.text)
    return _roots(services, given.provider)


async def show_attestation_roots(services: Services, request: Request) -> AttestationRootsView:
    await services.shell.settled()
    return _roots(services, request.path["provider"])


def _roots(services: Services, provider: str) -> AttestationRootsView:
    state = services.shell.state
    known, told = state.attestation_roots.get(provider), roots_of(state, provider)
    by, at = (known.set_by, known.set_at) if known is not None else ("", 0.0)
    return AttestationRootsView(provider, told.source, told.dated, sorted(told.pems), told.why_empty, by, at)


async def renew(services: Services, request: Request) -> CellCredentials:
    granted = await services.enrolling.renew(request.who, request.body.csr_pem, request.client)
    goes_on = services.renew_link(request.who.name, request.who.key_sha256, granted.valid_until)
    return msgspec.structs.replace(granted, link_goes_on=goes_on)


async def renew_account(services: Services, request: Request) -> AccountCredentials:
    return await services.enrolling.renew_account(request.who, request.body.csr_pem, request.client)


async def revoke_cell(services: Services, request: Request) -> IdentityView:
    asked: CellRevocation = request.body
    cell_id = request.path["cell_id"]
    services.enrolling.note_revocation(cell_id, request.who, request.client, asked.why)
    event = events.CellRevokeAsked(cell_id, asked.grace_s, asked.why, asked.drain_s)
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, IdentityView)
    return answer


async def set_cell_terms(services: Services, request: Request) -> messages.Terms:
    asked: messages.Terms = request.body
    cell_id = request.path["cell_id"]
    if cell_id not in services.shell.state.identities:
        raise GrafosError("cell_unknown", f"no cell {cell_id[:80]!r} ever enrolled here")
    event = events.TermsSet(cell_id, asked.rate_micro_cents_per_hour, asked.expires_at)
    await services.shell.handle(event, by=request.who.text)
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


# --- bundles ------------------------------------------------------------------------------------------------------


async def put_bundle(services: Services, request: Request) -> messages.BlobStored:
    sha256 = check_sha256(request.path["sha256"])
    await services.bundles.put(sha256, request.body)
    who, details = request.who.text, (("size_bytes", len(request.body)),)
    await services.shell.handle(events.Witnessed(AuditKind.BUNDLE_STORED, who, sha256, details=details), by=who)
    return messages.BlobStored(sha256, len(request.body))


async def head_bundle(services: Services, request: Request) -> messages.BlobStored:
    sha256 = check_sha256(request.path["sha256"])
    return messages.BlobStored(sha256, services.bundles.size_of(sha256))


async def get_bundle(services: Services, request: Request) -> Stream:
    size_bytes, pieces = services.bundles.fetch(check_sha256(request.path["sha256"]))
    return Stream(size_bytes, pieces, bundles.FETCH_S_MAX)


# --- tenants ------------------------------------------------------------------------------------------------------


async def create_tenant(services: Services, request: Request) -> messages.TenantGrant:
    asked: TenantAsked = request.body
    key_sha256 = trust.key_sha256(trust.csr_key(asked.csr_pem))
    event = tenant_events.TenantAdmitted(asked.name, asked.quota, asked.budget_cents, key_sha256)
    await services.shell.handle(event, by=request.who.text)
    return grant_tenant(services, asked.name, asked.csr_pem, key_sha256)


async def delete_tenant(services: Services, request: Request) -> messages.TenantView:
    name = request.path["name"]
    answer = await services.shell.handle(tenant_events.TenantDeleted(name), by=request.who.text)
    await services.blobs.forget(name)
    return _tenant(answer)


async def clear_tenant(services: Services, request: Request) -> messages.TenantView:
    event = tenant_events.TenantCleared(request.path["name"])
    return _tenant(await services.shell.handle(event, by=request.who.text))


async def set_quota(services: Services, request: Request) -> messages.TenantView:
    event = tenant_events.TenantChanged(request.path["name"], quota=request.body)
    return _tenant(await services.shell.handle(event, by=request.who.text))


async def set_budget(services: Services, request: Request) -> messages.TenantView:
    asked: TenantBudget = request.body
    event = tenant_events.TenantChanged(request.path["name"], budget_cents=asked.budget_cents)
    return _tenant(await services.shell.handle(event, by=request.who.text))


async def set_rules(services: Services, request: Request) -> messages.TenantView:
    asked: TenantRules = request.body
    event = tenant_events.TenantChanged(request.path["name"], signed=asked.signed, highest_tier=asked.highest_tier)
    return _tenant(await services.shell.handle(event, by=request.who.text))


def _tenant(answer: msgspec.Struct | None) -> messages.TenantView:
    assert isinstance(answer, messages.TenantView)
    return answer
