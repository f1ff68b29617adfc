"""The people of an orchestrator's tenants: invited by an operator, signed in with a key of their own, put out again.

    invited --signs in, with a key--> a person of the tenant --leaves, or is put out--> nobody

A person is a key that may speak for the tenant, with a name within it. The tenant's money and quota are shared by all
of them. A name is free again when its person is gone; what she ran stays told under it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.invitations import INVITATION
from grafos_scheduler import rows, single_use, tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State
    from grafos_scheduler.tenant_events import PersonInvited, PersonRemoved, SignInAsked, SigningKeyRegistered

OPEN_MAX = 1000
"""Invitations that are kept at once."""
PUT_OUT_NAMES_MAX = tenants.KEYS_PER_TENANT_MAX
"""Names that are kept of those who were put out of a tenant."""
NAMELESS_DIGITS = 8
"""Of its key, in the name of credentials that an operator made."""


def text_of(tenant: str, name: str) -> str:
    """How a person is named to people."""
    return f"{tenant}/{name}"


def of_tenant(state: State, tenant: str) -> Iterator[rows.Person]:
    """The tenant's people, as they came."""
    known = state.tenants.get(tenant)
    return (state.people[key] for key in (known.keys if known else ()) if key in state.people)


def signing(state: State, tenant: str) -> dict[str, rows.Person]:
    """Those of the tenant who have registered a signing key, by the fingerprint of the key that they call with."""
    return {each.key_sha256: each for each in of_tenant(state, tenant) if each.signing_key_pem}


def invited(draft: Draft, event: PersonInvited, chance: random.Random) -> rows.Invitation:
    """The row of a fresh invitation; ``tenant_unknown``, or ``account_exists`` for a name that is taken."""
    tenants.living(draft.state, event.tenant)
    _check_free(draft.state, event.tenant, event.name)
    if len(draft.state.invitations) >= OPEN_MAX:
        raise GrafosError("limit_exceeded", f"{OPEN_MAX} invitations are kept, the most there may be at once")
    made = rows.Invitation(
        token_id=f"{chance.getrandbits(128):032x}",
        tenant=event.tenant,
        name=event.name,
        made_at=draft.now,
        valid_until=draft.now + event.valid_s,
        asked_by=event.operator,
    )
    draft.put(rows.INVITATION, made.token_id, made)
    draft.note(
        AuditKind.PERSON_INVITED,
        text_of(event.tenant, event.name),
        tenant=event.tenant,
        token_id=made.token_id,
        valid_until_ms=int(made.valid_until * 1000),
    )
    return made


def signed_in(draft: Draft, event: SignInAsked) -> rows.Person:
    """Lets the key speak for the tenant under the name that the invitation has."""
    state, key = draft.state, event.key_sha256
    invitation = state.invitations.get(event.token_id)
    whom = text_of(invitation.tenant, invitation.name) if invitation else ""
    single_use.check(invitation, INVITATION, whom, key, draft.now)
    assert invitation is not None, "checked above"
    known = state.people.get(key)
    if invitation.key_sha256:
        if known is None or (known.tenant, known.name) != (invitation.tenant, invitation.name):
            raise _refused(f"the account {whom} was put out since")
        return known  # the same invitation and key: the answer was lost
    if known is not None:
        raise _refused(
            f"the key is that of {text_of(known.tenant, known.name)}", "make a key of its own: log out first"
        )
    tenant = tenants.living(state, invitation.tenant)
    _check_free(state, tenant.name, invitation.name)
    if len(tenant.keys) >= tenants.KEYS_PER_TENANT_MAX:
        what = f"tenant {tenant.name} has {len(tenant.keys)} keys, which is the most it may"
        raise GrafosError("limit_exceeded", what, next="have the operator put somebody out: grafos admin list-accounts")
    person = rows.Person(key, tenant.name, invitation.name, since=draft.now, invited_by=invitation.asked_by)
    draft.put(rows.TENANT, tenant.name, replace(tenant, keys=(*tenant.keys, key)))
    draft.put(rows.PERSON, key, person)
    draft.put(rows.INVITATION, invitation.token_id, replace(invitation, key_sha256=key, used_at=draft.now))
    draft.note(AuditKind.SIGNED_IN, whom, tenant=tenant.name, token_id=invitation.token_id, key_sha256=key)
    return person


def removed(draft: Draft, event: PersonRemoved) -> rows.Person:
    """Her key, and every invitation for that name, is worth nothing any more; ``not_found`` where there is neither, and
    nobody of that name was put out of late. Repeating it changes nothing."""
    state, whom = draft.state, text_of(event.tenant, event.name)
    person = next((each for each in of_tenant(state, event.tenant) if each.name == event.name), None)
    open_ones = [
        each
        for each in state.invitations.values()
        if (each.tenant, each.name) == (event.tenant, event.name) and each.valid_until > draft.now
    ]
    tenant = state.tenants.get(event.tenant)
    if tenant is None or (person is None and not any(not each.key_sha256 for each in open_ones)):
        if tenant is not None and event.name in tenant.put_out:
            return rows.Person("", event.tenant, event.name, since=0.0)
        raise GrafosError("not_found", f"there is no account {whom[:80]!r} here", next="grafos admin list-accounts")
    for each in open_ones:
        draft.remove(rows.INVITATION, each.token_id)
    if person is None:
        person = rows.Person("", event.tenant, event.name, since=0.0)
    tenant = tenants.without_keys(draft, tenant, (person.key_sha256,))
    before = tuple(name for name in tenant.put_out if name != event.name)
    tenant = replace(tenant, put_out=(*before, event.name)[-PUT_OUT_NAMES_MAX:])
    draft.put(rows.TENANT, tenant.name, tenant)
    draft.note(AuditKind.PERSON_REMOVED, whom, tenant=event.tenant, key_sha256=person.key_sha256)
    return person


def signing_key_registered(draft: Draft, event: SigningKeyRegistered) -> rows.Person:
    """Her signing key from now on; registering the same one again changes nothing. ``certificate_refused`` for a key
    that was put out, which may still be on its way through the door."""
    state = draft.state
    tenants.check_key(state, event.tenant, event.key_sha256)
    known = state.people.get(event.key_sha256)
    if known is not None and known.signing_key_pem == event.signing_key_pem:
        return known
    if known is not None and known.signing_key_pem:
        raise GrafosError(
            "signing_key_refused",
            f"account {text_of(known.tenant, known.name)} has another signing key, and keeps it as long as it lasts",
            next="if that key is lost, log out and sign in with a fresh invitation: grafos account logout",
        )
    if any(each.signing_key_pem == event.signing_key_pem for each in signing(state, event.tenant).values()):
        raise GrafosError("signing_key_refused", "somebody else of the tenant has that signing key")
    name = f"key-{event.key_sha256[:NAMELESS_DIGITS]}"
    person = known or rows.Person(event.key_sha256, event.tenant, name, since=draft.now)
    person = replace(person, signing_key_pem=event.signing_key_pem, proof=event.proof, verified_at=draft.now)
    draft.put(rows.PERSON, event.key_sha256, person)
    tenant = state.tenants[event.tenant]
    if not tenant.signs_since:
        draft.put(rows.TENANT, tenant.name, replace(tenant, signs_since=draft.now))
    draft.note(
        AuditKind.SIGNING_KEY_REGISTERED,
        text_of(person.tenant, person.name),
        tenant=person.tenant,
        key_sha256=person.key_sha256,
    )
    return person


def collect_lapsed(draft: Draft) -> None:
    """Forgets invitations that lapsed long ago."""
    for token_id in single_use.lapsed(draft.state.invitations.values(), draft.now):
        draft.remove(rows.INVITATION, token_id)


def _check_free(state: State, tenant: str, name: str) -> None:
    if any(each.name == name for each in of_tenant(state, tenant)):
        raise GrafosError(
            "account_exists",
            f"tenant {tenant} has a person called {name}",
            next="choose another name, or put that one out: grafos admin revoke-account",
        )


def _refused(what: str, next: str = INVITATION.next) -> GrafosError:
    return GrafosError("invitation_refused", what, next=next)
