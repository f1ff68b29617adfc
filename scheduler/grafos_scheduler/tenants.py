"""Tenants, and the money that they may spend at this scheduler.

A standalone scheduler has no money of its own: the operator's fabric hands it *slices*, signed and running out, each
held there in full. Here a slice is a ledger account of the same name, so that what was spent of it comes home to the
micro-cent. A run is held on one slice: of those that outlast the run and have enough left, the one that ends first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ledger
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.ledger import Account
from grafos_core.money import format_cents
from grafos_core.receipts import Settlement
from grafos_core.resources import Resources
from grafos_core.tiers import Tier
from grafos_scheduler import messages, regions, rows

if TYPE_CHECKING:
    from collections.abc import Collection

    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State
    from grafos_scheduler.tenant_events import SliceClosed, TenantRegistered

KEYS_PER_TENANT_MAX = 16
"""Keys that speak for one tenant. With one more of the operator's, the oldest that an operator made no longer does; a
person of an orchestrator's tenant is put out by nobody's coming."""
SLICES_PER_TENANT_MAX = 1000
"""Bounds what one tenant adds to memory; a slice a day lasts for years."""


def registered(draft: Draft, event: TenantRegistered) -> messages.TenantView:
    """Records the tenant, its quota, its key and its slice. Repeating it changes nothing."""
    state = draft.state
    tenant = state.tenants.get(event.name) or rows.Tenant(event.name, state.settings.default_quota)
    tenant = replace(tenant, quota=event.quota or tenant.quota, keys=_with_key(tenant.keys, event.key_sha256))
    if tenant != state.tenants.get(event.name):
        draft.put(rows.TENANT, tenant.name, tenant)
        note_tenant(draft, tenant)
    money = state.slices_of(event.name)
    wanted = rows.Slice(event.slice_id, event.name, event.slice_micro_cents, event.slice_expires_at)
    known = state.slices.get(event.slice_id)
    if known is None:
        _take_slice(draft, wanted, len(money))
        money.append(wanted)
    elif replace(known, closed=False) != wanted:
        raise GrafosError("slice_refused", f"slice {event.slice_id} is known with other contents")
    return _view(state, tenant, money, draft.ledger.accounts)


def _with_key(keys: tuple[str, ...], key_sha256: str) -> tuple[str, ...]:
    """All of them are of one operator's making; whoever takes that operator's place puts them out."""
    return keys if key_sha256 in keys else (*keys, key_sha256)[-KEYS_PER_TENANT_MAX:]


def without_keys(draft: Draft, tenant: rows.Tenant, gone: Collection[str]) -> rows.Tenant:
    """The tenant for which these keys speak no more, for the caller to put; their people are forgotten.

    Where people of it sign, it is put down with it that they do, unless somebody has said so already: it is to hold
    when the last of them has gone.
    """
    gone = [key for key in tenant.keys if key in gone]
    if not gone:
        return tenant
    signs_since = tenant.signs_since
    if signs_since is None and must_sign(draft.state, tenant):
        signs_since = draft.now
    for key in gone:
        if key in draft.state.people:
            draft.remove(rows.PERSON, key)
    return replace(tenant, keys=tuple(key for key in tenant.keys if key not in gone), signs_since=signs_since)


def view(state: State, tenant: rows.Tenant, accounts: dict[str, Account] | None = None) -> messages.TenantView:
    """The tenant's money and leases over all its slices; ``accounts`` are those of a decision in the making."""
    accounts = state.ledger.accounts if accounts is None else accounts
    return _view(state, tenant, state.slices_of(tenant.name, accounts), accounts)


def living(state: State, name: str) -> rows.Tenant:
    """The tenant, or ``tenant_unknown``."""
    tenant = state.tenants.get(name)
    if tenant is None or tenant.deleted_at:
        raise GrafosError("tenant_unknown", f"there is no tenant {name[:80]!r} here", next="create it first")
    return tenant


def close_slice(draft: Draft, event: SliceClosed) -> Settlement:
    """Lets nothing more be held on the slice, and says what was spent of it; ``final`` once nothing is held either."""
    known, claim = draft.state.slices.get(event.slice_id), draft.state.claim
    if known is None or claim is None:
        raise GrafosError("not_found", f"there is no slice {event.slice_id!r} here")
    if not known.closed:
        draft.put(rows.SLICE, known.slice_id, replace(known, closed=True))
        draft.note(AuditKind.SLICE_CLOSED, known.slice_id, tenant=known.tenant)
        regions.let_go_of_slice(draft, known.slice_id)
    account = draft.ledger.account(known.slice_id)
    return Settlement(
        fabric=claim.fabric,
        slice_id=known.slice_id,
        scheduler=draft.state.settings.scheduler,
        tenant=known.tenant,
        spent_micro_cents=account.spent_micro_cents,
        final=account.held_micro_cents == 0,
        settled_at=draft.now,
    )


def note_tenant(draft: Draft, tenant: rows.Tenant, put_out_sha256: str = "") -> None:
    """A tenant that is new or has changed, for the audit log, and which of its keys made room for its newest."""
    kind = AuditKind.TENANT_CHANGED if tenant.name in draft.state.tenants else AuditKind.TENANT_CREATED
    quota = {f"quota_{name}": getattr(tenant.quota, name) for name in tenant.quota.__struct_fields__}
    newest = tenant.keys[-1] if tenant.keys else ""
    rules = {
        "signed": "yes" if must_sign(draft.state, tenant) else "no",
        "signed_rule": "unsaid" if tenant.signs_since is None else "set" if tenant.signs_since else "lifted",
        "highest_tier": tenant.highest_tier.value,
    }
    put_out = {"put_out_key_sha256": put_out_sha256} if put_out_sha256 else {}
    draft.note(
        kind,
        tenant.name,
        tenant=tenant.name,
        keys=len(tenant.keys),
        newest_key_sha256=newest,
        **quota,
        **rules,
        **put_out,
    )


def note_budget(draft: Draft, account: str, tenant: str, amount_micro_cents: int) -> None:
    """What a tenant may spend from now on, for the audit log."""
    draft.note(AuditKind.BUDGET_SET, account, tenant=tenant, amount_micro_cents=amount_micro_cents)


def check_key(state: State, name: str, key_sha256: str) -> None:
    """Whether a tenant's certificate still counts: ``tenant_unknown``, or ``certificate_refused`` for a key that the
    tenant does not have. The certificate itself is enough only at a cell of which nobody counted the tenant's keys,
    and there no longer once another home has got in, which lets nothing of the home before stand."""
    tenant = living(state, name)
    is_regained = state.claim is not None and state.claim.regained_at > 0
    if (tenant.keys or state.settings.enrols or is_regained) and key_sha256 not in tenant.keys:
        raise GrafosError(
            "certificate_refused",
            f"the certificate is not one that tenant {name!r} has",
            next="register the tenant again, or sign in with a fresh invitation of its operator",
        )


def must_sign(state: State, tenant: rows.Tenant) -> bool:
    """Whether what runs at the tenant's cost is signed by whoever asks for it."""
    people = state.people
    return bool(tenant.signs_since) or any(people[key].signing_key_pem for key in tenant.keys if key in people)


def check_tier(tenant: rows.Tenant, asked: Tier) -> None:
    """``quota_exceeded`` for a tier above the highest that the tenant's runs may be of."""
    if tenant.highest_tier.yields_to(asked):
        raise GrafosError(
            "quota_exceeded",
            f"the runs of tenant {tenant.name} are of the tier {tenant.highest_tier} at most, and not {asked}",
            next=f"ask for {tenant.highest_tier}, or have the operator raise it",
            context={"tenant": tenant.name, "highest_tier": tenant.highest_tier.value},
        )


def check_quota(state: State, tenant: rows.Tenant, wanted: Resources) -> None:
    """``quota_exceeded`` if the tenant's leases and ``wanted`` together are over its quota, in any resource."""
    leased = state.leased_by_tenant.get(tenant.name, Resources())
    lacking = wanted.lacking(tenant.quota - leased)
    if lacking:
        said = ", ".join(
            f"{kind}: {getattr(leased, kind)} of {getattr(tenant.quota, kind)} leased, {getattr(wanted, kind)} wanted"
            for kind in lacking
        )
        raise GrafosError(
            "quota_exceeded",
            f"tenant {tenant.name} is at its quota ({said})",
            next="wait for its runs to end, or have the operator raise the quota",
            context={"tenant": tenant.name, "resources": ", ".join(lacking)},
        )


def purses(state: State, tenant: rows.Tenant, until: float) -> list[Account]:
    """The accounts that a run lasting ``until`` may be held on, the one that ends first before the others."""
    usable = [money for money in state.slices_of(tenant.name) if not money.closed and _ends_at(money) >= until]
    usable.sort(key=lambda money: (_ends_at(money), money.slice_id))
    return [state.ledger.account(money.slice_id) for money in usable]


def check_affordable(tenant: rows.Tenant, purse: list[Account], cheapest_micro_cents: int) -> None:
    """``budget_exceeded`` if no account has room for the cheapest worst case."""
    most = max((account.free_micro_cents for account in purse), default=None)
    if most is not None and cheapest_micro_cents <= most:
        return
    raise GrafosError(
        "budget_exceeded",
        f"the run may cost {format_cents(cheapest_micro_cents)}, and tenant {tenant.name} has "
        f"{format_cents(max(0, most or 0))} left here",
        why="" if purse else "no budget slice outlasts the run",
        next="raise the tenant's budget, or ask for a shorter deadline",
        context={"tenant": tenant.name, "asked_micro_cents": cheapest_micro_cents, "free_micro_cents": most or 0},
    )


def hold(draft: Draft, purse: list[Account], hold_id: str, amount_micro_cents: int, purpose: str) -> None:
    """Holds the worst case of a run on the first account with room for it; that there is one was checked."""
    account = next(each for each in purse if each.free_micro_cents >= amount_micro_cents)
    draft.book(ledger.hold(draft.ledger, hold_id, account.name, amount_micro_cents, purpose))


def _ends_at(money: rows.Slice) -> float:
    return money.expires_at or math.inf


def _take_slice(draft: Draft, wanted: rows.Slice, owned: int) -> None:
    if wanted.expires_at <= draft.now:
        raise GrafosError("slice_refused", f"slice {wanted.slice_id} has run out", next="register with a fresh slice")
    if owned >= SLICES_PER_TENANT_MAX:
        raise GrafosError("limit_exceeded", f"tenant {wanted.tenant} has {owned} slices here, which is the most it may")
    draft.put(rows.SLICE, wanted.slice_id, wanted)
    note_budget(draft, wanted.slice_id, wanted.tenant, wanted.amount_micro_cents)
    draft.book(ledger.open_account(draft.ledger, wanted.slice_id, wanted.amount_micro_cents))


def _view(
    state: State, tenant: rows.Tenant, money: list[rows.Slice], accounts: dict[str, Account]
) -> messages.TenantView:
    return messages.TenantView(
        name=tenant.name,
        budget_micro_cents=sum(each.amount_micro_cents for each in money),
        held_micro_cents=sum(accounts[each.slice_id].held_micro_cents for each in money),
        spent_micro_cents=sum(accounts[each.slice_id].spent_micro_cents for each in money),
        quota=tenant.quota,
        leased=state.leased_by_tenant.get(tenant.name, Resources()),
        signed=must_sign(state, tenant),
        highest_tier=tenant.highest_tier,
    )
