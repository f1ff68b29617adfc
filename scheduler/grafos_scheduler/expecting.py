"""Keyless enrolment: which machine of which account an operator expects as a cell, and whether it is the one that came.

An expectation is an ``Enrolment`` row with an account in it, made just before the machine is. When the cloud has told
the machine's id, the operator names it; until then nobody enrols against it. What the cloud signed (``attested``) must
say the very same machine, and one that was made after it was expected. Everything else is as with a bootstrap token:
one use, by one key, within a quarter of an hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import rows
from grafos_scheduler.attested import Attested, Roots, roots, shipped
from grafos_scheduler.attested.contract import SKEW_S_MAX, refused, utc

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import AttestationRootsSet, ExpectedMachineNamed
    from grafos_scheduler.state import State


def roots_of(state: State, provider: str) -> Roots:
    """What an operator set for this cloud, else what was shipped; ``not_found`` for one that signs nothing."""
    known = state.attestation_roots.get(provider)
    if known is None:
        return shipped(provider)
    return Roots(provider, known.source, known.dated, known.pems)


def set_roots(draft: Draft, event: AttestationRootsSet) -> rows.AttestationRoots:
    """Takes the place of all roots of a cloud."""
    given = event.roots
    roots.check(given.provider, given.pems)
    made = rows.AttestationRoots(
        given.provider, given.source, given.dated, given.pems, set_by=event.operator, set_at=draft.now
    )
    draft.put(rows.ATTESTATION_ROOTS, given.provider, made)
    draft.note(AuditKind.ATTESTATION_ROOTS_SET, made.provider, source=made.source, dated=made.dated)
    return made


def machine_named(draft: Draft, event: ExpectedMachineNamed) -> rows.Enrolment:
    """The cloud has told which machine it is; it may be said again, and not otherwise."""
    known = draft.state.enrolments.get(event.expectation_id)
    if known is None or not known.account:
        raise GrafosError("not_found", "no such cell is expected here (any more)", next="expect the cell again")
    if known.valid_until <= draft.now:
        raise GrafosError(
            "enrolment_expired", f"cell {known.cell_id} is expected no longer", next="expect the cell again"
        )
    if known.machine_id not in ("", event.machine_id):
        raise GrafosError(
            "enrolment_refused",
            f"cell {known.cell_id} is expected on machine {known.machine_id}",
            next="expect the cell again for another machine",
        )
    made = replace(known, machine_id=event.machine_id)
    if made != known:
        draft.put(rows.ENROLMENT, made.token_id, made)
        cell_id, machine_id = made.cell_id, made.machine_id
        draft.note(AuditKind.EXPECTED_MACHINE_NAMED, made.token_id, cell_id=cell_id, machine_id=machine_id)
    return made


def check_word(state: State, expected: rows.Enrolment, said: Attested | None) -> None:
    """Whether a cloud's word, or the lack of one, is what this enrolment asks for."""
    if said is None and not expected.account:
        return
    if said is None or not expected.account:
        way = "by its cloud's word" if expected.account else "with a bootstrap token"
        raise GrafosError("enrolment_refused", f"cell {expected.cell_id} enrols {way}", next="enrol it so")
    wrong = _differences(expected, said)
    if wrong:
        raise refused(f"the machine is not the one that is expected as cell {expected.cell_id}", why="; ".join(wrong))
    if not expected.machine_id:
        raise GrafosError(
            "attestation_refused",
            f"it is not known yet which machine cell {expected.cell_id} will be",
            next="ask again; whoever made the machine is to name it",
            retryable=True,
        )
    for other in state.identities.values():
        is_it = (other.provider, other.machine_id) == (said.provider, said.machine_id)
        if is_it and other.cell_id != expected.cell_id and not other.revoked_at:
            raise refused(f"machine {said.machine_id} is cell {other.cell_id}", next=f"revoke {other.cell_id} first")


def _differences(expected: rows.Enrolment, said: Attested) -> list[str]:
    wanted = {
        "provider": (expected.provider, said.provider),
        "account": (expected.account, said.account),
        "region": (expected.region, said.region or expected.region),
        "machine": (expected.machine_id or said.machine_id, said.machine_id),
    }
    wrong = [f"{name} {told[:80]!r} and not {want!r}" for name, (want, told) in wanted.items() if want != told]
    if said.made_at and said.made_at < expected.made_at - SKEW_S_MAX:
        wrong.append(f"made at {utc(said.made_at)}, before it was expected ({utc(expected.made_at)})")
    return wrong
