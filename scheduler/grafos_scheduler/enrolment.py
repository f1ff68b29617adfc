"""How a machine becomes a cell of an orchestrator: a bootstrap token for one cell id, and the one key that uses it.

    token minted --enrol, with a key--> used --that key registers--> closed
    token minted --lapses--> forgotten, a while later

From the first use on the cell id stands for that key (its *identity*), and whatever the cell does is held against it.
The same token with the same key may be used again until the cell has registered, since the answer may have been lost;
any other second use is refused. A cell id whose key has registered is given to another key only after it was revoked
(see ``revocation``): else a token that leaked would be enough to take a living cell's place.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.bootstrap_tokens import FORM
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import expecting, leases, rows, single_use
from grafos_scheduler.enrolment_messages import ExpectedCell

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import BootstrapAsked, EnrolmentAsked
    from grafos_scheduler.state import State

OPEN_MAX = 20_000
"""Bootstrap tokens that are kept at once; twice the largest fleet that one orchestrator is meant for."""
TOTAL_MAX = Resources(cpu_cores=4096, mem_bytes=1 << 46, block_bytes=1 << 50, gpu_count=1024, nic_count=1024)
"""More than any machine that can be rented has; a cell that tells of more has a fault or lies."""


def bootstrap(draft: Draft, event: BootstrapAsked, chance: random.Random) -> rows.Enrolment:
    """The row of a fresh token for one cell, or why that cell may not enrol."""
    state, asked = draft.state, event.request
    if asked.provider not in state.settings.providers:
        raise _refused(
            f"provider {asked.provider} is not enabled at this orchestrator",
            next=f"use one of {', '.join(sorted(state.settings.providers))}, or start it with --provider for this one",
        )
    if asked.cell_id == state.settings.scheduler:
        raise _refused(f"{asked.cell_id} is the orchestrator's own name", next="choose another cell id")
    if asked.expires_at and asked.expires_at <= draft.now:
        raise GrafosError("request_invalid", "the cell's end has passed already", next="give it an end to come")
    if len(state.enrolments) >= OPEN_MAX:
        raise GrafosError("limit_exceeded", f"{OPEN_MAX} bootstrap tokens are kept, the most there may be at once")
    known = state.identities.get(asked.cell_id)
    if known is not None and known.provider != asked.provider and not known.revoked_at:
        raise _refused(f"cell {asked.cell_id} is one of {known.provider}", next="choose another cell id")
    made = rows.Enrolment(
        token_id=f"{chance.getrandbits(128):032x}",
        provider=asked.provider,
        cell_id=asked.cell_id,
        region=asked.region,
        rate_micro_cents_per_hour=asked.rate_micro_cents_per_hour,
        expires_at=asked.expires_at,
        made_at=draft.now,
        valid_until=draft.now + asked.valid_s,
        asked_by=event.operator,
        account=asked.account if isinstance(asked, ExpectedCell) else "",
        machine_id=asked.machine_id if isinstance(asked, ExpectedCell) else "",
    )
    draft.put(rows.ENROLMENT, made.token_id, made)
    draft.note(
        AuditKind.BOOTSTRAP_MINTED,
        made.token_id,
        cell_id=made.cell_id,
        provider=made.provider,
        region=made.region,
        rate_micro_cents_per_hour=made.rate_micro_cents_per_hour,
        valid_until_ms=int(made.valid_until * 1000),
        **({"account": made.account, "machine_id": made.machine_id} if made.account else {}),
    )
    return made


def enrolled(draft: Draft, event: EnrolmentAsked) -> rows.Identity:
    """Binds the cell id to the key, at the price and with the end that the token has."""
    state, key = draft.state, event.key_sha256
    token = state.enrolments.get(event.token_id)
    single_use.check(token, FORM, token.cell_id if token else "", key, draft.now)
    assert token is not None, "checked above"
    if token.closed:
        raise single_use.used(FORM, token.cell_id)
    expecting.check_word(state, token, event.attested)
    known = state.identities.get(token.cell_id)
    if token.key_sha256:
        if known is None or known.token_id != token.token_id or known.revoke_at:
            raise _refused(f"another machine has enrolled as cell {token.cell_id} since, or it was revoked")
        return known  # the same token and key: the answer was lost
    _check_free(state, token, known, key)
    identity = rows.Identity(
        cell_id=token.cell_id,
        provider=token.provider,
        region=token.region,
        key_sha256=key,
        token_id=token.token_id,
        enrolled_at=draft.now,
        registered=known is not None and known.registered and known.key_sha256 == key,
        machine_id=token.machine_id,
    )
    draft.put(rows.IDENTITY, identity.cell_id, identity)
    draft.put(rows.ENROLMENT, token.token_id, replace(token, key_sha256=key, used_at=draft.now))
    terms = rows.Terms(token.cell_id, token.rate_micro_cents_per_hour, token.expires_at)
    draft.put(rows.TERMS, token.cell_id, terms)
    draft.note(
        AuditKind.CELL_ENROLLED,
        token.cell_id,
        cell_id=token.cell_id,
        provider=token.provider,
        token_id=token.token_id,
        key_sha256=key,
    )
    if known is not None and known.revoked_at:
        draft.remove(rows.DRAIN, token.cell_id)
    return identity


def check_key(state: State, cell_id: str, key_sha256: str) -> None:
    """``cell_revoked`` or ``certificate_refused`` unless what a cell's certificate stands for still counts.

    Where no cell enrols, the certificate itself is enough.
    """
    if not state.settings.enrols:
        return
    identity = state.identities.get(cell_id)
    if key_sha256 in state.revoked_keys:
        raise GrafosError(
            "cell_revoked",
            f"the certificate of cell {cell_id} was revoked",
            next="enrol the machine again, with a new key and a fresh bootstrap token",
        )
    if identity is None or identity.key_sha256 != key_sha256:
        raise GrafosError(
            "certificate_refused",
            f"the certificate is not the one that cell {cell_id} enrolled with",
            next="give the machine a cell id of its own",
        )


def registered(draft: Draft, cell_id: str) -> None:
    """The cell has registered under its key, so the answer to its enrolment arrived: the token is closed."""
    identity = draft.state.identities.get(cell_id)
    if identity is None:
        return
    if not identity.registered:
        draft.put(rows.IDENTITY, cell_id, replace(identity, registered=True))
    token = draft.state.enrolments.get(identity.token_id)
    if token is not None and not token.closed:
        draft.put(rows.ENROLMENT, token.token_id, replace(token, closed=True))


def believed(state: State, cell_id: str, told: Resources) -> Resources:
    """What is believed of a cell's inventory. ``limit_exceeded`` for more than any machine has.

    While leases stand on it a cell does not grow: what it had is all that was ever backed by an answer for it.
    """
    too_much = told.lacking(TOTAL_MAX)
    if too_much:
        raise GrafosError(
            "limit_exceeded",
            f"cell {cell_id} tells of more than any machine has ({', '.join(too_much)})",
            next="look at what its agent reports",
        )
    known = state.cells.get(cell_id)
    if known is None or not any(leases.counts(lease) for lease in state.leases_at(cell_id)):
        return told
    return Resources(*map(min, told.amounts(), known.total.amounts()))


def collect_lapsed(draft: Draft) -> None:
    """Forgets tokens that lapsed long ago."""
    for token_id in single_use.lapsed(draft.state.enrolments.values(), draft.now):
        draft.remove(rows.ENROLMENT, token_id)


def _check_free(state: State, token: rows.Enrolment, known: rows.Identity | None, key: str) -> None:
    """Whether the cell id may be bound to this key."""
    if key in state.revoked_keys:
        raise _refused(f"the key was revoked, with cell {state.revoked_keys[key].cell_id}", next="make a new key")
    if state.cell_of_key.get(key, token.cell_id) != token.cell_id:
        raise _refused(f"the key is that of cell {state.cell_of_key[key]}", next="make a key for each machine")
    if known is None:
        return
    if known.revoke_at and not known.revoked_at:
        raise _refused(f"cell {token.cell_id} is being revoked", next="wait until that is done, then mint a token")
    if known.revoked_at and token.made_at < known.revoked_at:
        raise _refused(f"cell {token.cell_id} was revoked after the token was minted")
    if known.registered and not known.revoked_at and known.key_sha256 != key:
        raise _refused(
            f"cell {token.cell_id} has a key of its own, which has registered",
            next=f"revoke cell {token.cell_id} first, then mint a fresh token",
        )


def _refused(what: str, next: str = "mint a fresh bootstrap token for this cell") -> GrafosError:
    return GrafosError("enrolment_refused", what, next=next)
