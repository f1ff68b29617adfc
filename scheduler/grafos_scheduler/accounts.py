"""The tenants of an orchestrator, each with one account of the fabric's money.

The account is called ``tenant/<name>`` and has a cap. For admission it is a slice like those of a standalone cell, but
one that never runs out, so a run is held and settled in the same way in both modes, over all providers together. While
the fabric's ledger is at home nothing is held on it, and its cap stays what it was.

A tenant is gone at once when it is deleted, and its name is never given out again: what it ran and spent stays told,
and nobody else comes to own it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ledger
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.fabric import tenant_account
from grafos_core.money import MICRO_CENTS_PER_CENT
from grafos_scheduler import leases, rows, tenants
from grafos_scheduler.messages import TenantView
from grafos_scheduler.tenant_messages import BUDGET_CENTS_DEFAULT

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State
    from grafos_scheduler.tenant_events import TenantAdmitted, TenantChanged


def admitted(draft: Draft, event: TenantAdmitted) -> TenantView:
    """Records the tenant with its quota, budget and key. Repeating it changes nothing."""
    known = draft.state.tenants.get(event.name)
    if known is not None and known.deleted_at:
        raise GrafosError(
            "tenant_in_use",
            f"a tenant {event.name} was deleted, and what it ran is kept under that name",
            next="choose another name",
        )
    tenant = known or rows.Tenant(event.name, draft.state.settings.default_quota)
    put_out = _put_out_for(draft.state, tenant, event.key_sha256)
    tenant = tenants.without_keys(draft, tenant, (put_out,))
    keys = tenant.keys if event.key_sha256 in tenant.keys else (*tenant.keys, event.key_sha256)
    tenant = replace(tenant, quota=event.quota or tenant.quota, keys=keys)
    if tenant != known:
        draft.put(rows.TENANT, tenant.name, tenant)
        tenants.note_tenant(draft, tenant, put_out)
    if event.budget_cents is not None:
        _set_cap(draft, tenant.name, event.budget_cents)
    elif known is None:
        _set_cap(draft, tenant.name, BUDGET_CENTS_DEFAULT)
    return tenants.view(draft.state, tenant, draft.ledger.accounts)


def changed(draft: Draft, event: TenantChanged) -> TenantView:
    """Sets the tenant's quota, its rules, and the cap of its account. What is over either already stays."""
    known = tenants.living(draft.state, event.name)
    tenant = replace(known, quota=event.quota or known.quota, highest_tier=event.highest_tier or known.highest_tier)
    if event.signed is not None:
        tenant = replace(tenant, signs_since=(tenant.signs_since or draft.now) if event.signed else 0.0)
    if tenant != known:
        draft.put(rows.TENANT, tenant.name, tenant)
        tenants.note_tenant(draft, tenant)
    if event.budget_cents is not None:
        _set_cap(draft, tenant.name, event.budget_cents)
    return tenants.view(draft.state, tenant, draft.ledger.accounts)


def deleted(draft: Draft, name: str) -> TenantView:
    """Ends the tenant: ``tenant_in_use`` while it has leases, runs, services or programs that money is held for.
    Repeating it changes nothing."""
    state = draft.state
    known = state.tenants.get(name)
    if known is not None and known.deleted_at:
        return tenants.view(draft.state, known)
    tenant = tenants.living(state, name)
    standing = sum(lease.tenant == name and leases.counts(lease) for lease in state.leases.values())
    running = sum(run.tenant == name for run in state.runs_under_way())
    services = sum(service.tenant == name for service in state.services.values())
    programs = len(state.standing_reservations.get(name, ()))
    if standing or running or services or programs:
        raise GrafosError(
            "tenant_in_use",
            f"tenant {name} has {standing} active leases, {running} runs under way, {services} services and {programs} "
            "programs that money is held for",
            next=f"have it end them, or end all of them: grafos admin delete-tenant --tenant {name} --end-all",
            context={
                "tenant": name,
                "leases": standing,
                "runs": running,
                "services": services,
                "programs": programs,
            },
        )
    draft.put(rows.TENANT, name, replace(tenants.without_keys(draft, tenant, tenant.keys), deleted_at=draft.now))
    for invitation in state.invitations.values():
        if invitation.tenant == name:
            draft.remove(rows.INVITATION, invitation.token_id)
    draft.note(AuditKind.TENANT_DELETED, name, tenant=name)
    return tenants.view(draft.state, tenant)


def made_by_operator(state: State, tenant: rows.Tenant) -> list[str]:
    """The tenant's keys that no invited person brought, the oldest first."""
    people = state.people
    return [key for key in tenant.keys if key not in people or not people[key].invited_by]


def _put_out_for(state: State, tenant: rows.Tenant, key_sha256: str) -> str:
    """The key that makes room for this one, empty where there is room; ``limit_exceeded`` where all are people's."""
    if key_sha256 in tenant.keys or len(tenant.keys) < tenants.KEYS_PER_TENANT_MAX:
        return ""
    for oldest in made_by_operator(state, tenant):
        return oldest
    raise GrafosError(
        "limit_exceeded",
        f"tenant {tenant.name} has {len(tenant.keys)} people, as many as it may",
        next="put somebody out first: grafos admin list-accounts",
    )


def _set_cap(draft: Draft, name: str, budget_cents: int) -> None:
    account, amount = tenant_account(name), budget_cents * MICRO_CENTS_PER_CENT
    known = draft.ledger.accounts.get(account)
    if known is not None and known.cap_micro_cents == amount:
        return
    if known is not None and draft.state.lets_nothing_be_held:
        raise GrafosError(
            "ledger_elsewhere",
            f"the fabric's ledger went home from here, and the budget of tenant {name} with it",
            next="move it here again: grafos fabric claim URL",
        )
    tenants.note_budget(draft, account, name, amount)
    if known is None:
        draft.book(ledger.open_account(draft.ledger, account, amount))
    else:
        draft.book(ledger.set_cap(draft.ledger, account, amount))
