"""Who the operator is, when another home of the fabric has got in again: one key, and no longer the one before.

What the operator before had made may lie in the home before, so it goes with its key: credentials for tenants,
invitations and bootstrap tokens that nobody used, trials of cells. Who came by one of those has a key of its own, in a
home of its own, and stays; so do the roots that were set. Whether those are to be there is the new operator's to judge.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import accounts, rows, tenants
from grafos_scheduler.authorize import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import OperatorReplaced
    from grafos_scheduler.single_use import Ticket
    from grafos_scheduler.state import State

PUT_OUT_KEYS_MAX = 512
"""Keys of which it is told what became of them; those before are refused in general words, since they are in no
tenant's row any more (``tenants.check_key``)."""
BACK_HERE = "if it was you, work where you did that; to work here again: "


def replaced(draft: Draft, event: OperatorReplaced) -> None:
    """Makes the key the operator's. ``claim_refused`` where nobody has claimed yet."""
    known = draft.state.claim
    if known is None:
        raise GrafosError("claim_refused", "nobody has claimed this scheduler yet", next="claim it with its secret")
    if known.key_sha256 == event.key_sha256:
        return  # the answer was lost
    dropped = [key for tenant in draft.state.tenants.values() for key in _drop_own(draft, tenant)]
    invitations = _drop_unused(draft, rows.INVITATION, draft.state.invitations.values())
    tokens = _drop_unused(draft, rows.ENROLMENT, draft.state.enrolments.values())
    for cell_id in draft.state.trials:
        draft.remember(rows.TRIAL, cell_id, None)
    gone = [key for key in (*known.put_out, *dropped, known.key_sha256) if key != event.key_sha256]
    claim = replace(
        known,
        operator=event.operator,
        key_sha256=event.key_sha256,
        regained_at=draft.now,
        put_out=tuple(gone[-PUT_OUT_KEYS_MAX:]),
    )
    draft.put(rows.CLAIM, rows.THE_CLAIM, claim)
    draft.note(
        AuditKind.OPERATOR_REPLACED,
        event.operator,
        key_sha256=event.key_sha256,
        before_sha256=known.key_sha256,
        tenant_keys=len(dropped),
        invitations=invitations,
        bootstrap_tokens=tokens,
    )


def check_key(state: State, kind: str, key_sha256: str) -> None:
    """``operator_replaced`` for a key of the operator before, or of a tenant that was made by it."""
    claim = state.claim
    if claim is None or (key_sha256 not in claim.put_out and (kind != OPERATOR or key_sha256 == claim.key_sha256)):
        return
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(claim.regained_at))
    happened = (
        f"another home of this fabric became the operator at {at} UTC, by the fabric's key"
        if claim.regained_at
        else f"this scheduler was claimed by another {OPERATOR}'s key"
    )
    raise GrafosError(
        "operator_replaced",
        f"{happened}; the credentials of this {kind} are worth nothing any more",
        next=BACK_HERE + ("grafos fabric claim URL" if state.settings.enrols else "grafos cloud claim CELL_ID"),
    )


def _drop_own(draft: Draft, tenant: rows.Tenant) -> list[str]:
    """The tenant's keys that an operator had made; they speak for nobody any more."""
    gone = accounts.made_by_operator(draft.state, tenant)
    if gone:
        draft.put(rows.TENANT, tenant.name, tenants.without_keys(draft, tenant, gone))
    return gone


def _drop_unused(draft: Draft, kind: str, tickets: Iterable[Ticket]) -> int:
    """Takes back what was handed out for one use and not used yet; how many those were."""
    unused = [each.token_id for each in tickets if not each.key_sha256]
    for token_id in unused:
        draft.remove(kind, token_id)
    return len(unused)
