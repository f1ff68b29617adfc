"""What the routes of accounts do; see ``handlers`` for the others."""

from __future__ import annotations

from grafos_core.receipts import Signed
from grafos_scheduler import rows, tenant_events, tenants
from grafos_scheduler.account_messages import (
    AccountGrant,
    AccountList,
    AccountShown,
    AccountView,
    Challenge,
    InvitationAsked,
    InvitationGrant,
    SignIn,
)
from grafos_scheduler.authorize import TENANT_RIGHTS
from grafos_scheduler.handlers import Request, Services


async def invite(services: Services, request: Request) -> InvitationGrant:
    asked: InvitationAsked = request.body
    return await services.accounts.invite(asked, request.who, request.client)


async def sign_in(services: Services, request: Request) -> AccountGrant:
    asked: SignIn = request.body
    return await services.accounts.sign_in(asked, request.client)


async def list_accounts(services: Services, _: Request) -> AccountList:
    """Those who are signed in, and those who are invited and have not come yet."""
    await services.shell.settled()
    state, now = services.shell.state, services.shell.clock.now()
    waiting = [
        AccountView(each.tenant, each.name, "", 0.0, each.asked_by, lapses_at=each.valid_until)
        for each in state.invitations.values()
        if not each.key_sha256 and each.valid_until > now
    ]
    found = [_view(person) for person in state.people.values()] + waiting
    return AccountList(sorted(found, key=lambda view: (view.tenant, view.name, view.lapses_at)))


async def remove(services: Services, request: Request) -> AccountView:
    event = tenant_events.PersonRemoved(request.path["tenant"], request.path["name"])
    return _removed(await services.shell.handle(event, by=request.who.text))


async def show(services: Services, request: Request) -> AccountShown:
    await services.shell.settled()
    state = services.shell.state
    tenant = tenants.view(state, state.tenants[request.who.name])
    return AccountShown(_view(_person(services, request)), tenant, list(TENANT_RIGHTS), signs=tenant.signed)


async def leave(services: Services, request: Request) -> AccountView:
    person = _person(services, request)
    event = tenant_events.PersonRemoved(person.tenant, person.name)
    return _removed(await services.shell.handle(event, by=request.who.text))


async def challenge(services: Services, request: Request) -> Challenge:
    return services.accounts.challenge(request.who)


async def register(services: Services, request: Request) -> AccountView:
    signed: Signed = request.body
    return _view(await services.accounts.register(signed, request.who, request.client))


def _person(services: Services, request: Request) -> rows.Person:
    """The caller; one whom an operator gave credentials is nobody by name."""
    who = request.who
    return services.shell.state.people.get(who.key_sha256) or rows.Person(who.key_sha256, who.name, "", since=0.0)


def _removed(answer: object) -> AccountView:
    assert isinstance(answer, rows.Person)
    return _view(answer)


def _view(person: rows.Person) -> AccountView:
    return AccountView(
        tenant=person.tenant,
        name=person.name,
        key_sha256=person.key_sha256,
        since=person.since,
        invited_by=person.invited_by,
        signing_key_pem=person.signing_key_pem,
        verified_at=person.verified_at,
        proof=person.proof,
    )
