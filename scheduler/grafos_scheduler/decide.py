"""The one front door of the scheduler's mind: an event in, a decision out. The rules stand in the modules below."""

from __future__ import annotations

import random
from typing import assert_never

import msgspec

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import (
    accounts,
    admission,
    audit,
    cancelling,
    cells,
    clearing,
    enrolment,
    events,
    expecting,
    fabric_ledger,
    fences,
    frames,
    image_demands,
    leases,
    outcomes,
    people,
    preempting,
    region_admission,
    region_events,
    regions,
    renewing,
    reservation_events,
    reservations,
    retention,
    revocation,
    revoking,
    rows,
    service_deciding,
    service_events,
    service_leases,
    services,
    standing,
    succession,
    tenant_events,
    tenants,
)
from grafos_scheduler.authorize import CELL, OPERATOR, TENANT, text_of
from grafos_scheduler.draft import Draft
from grafos_scheduler.effects import Decision
from grafos_scheduler.events import Event
from grafos_scheduler.image_messages import ImagesDemanded
from grafos_scheduler.state import State


def decide(  # noqa: C901  # one arm per event
    state: State, event: Event, now: float, chance: random.Random, by: str = ""
) -> Decision:
    """What ``event`` comes to in ``state`` at ``now`` (Unix seconds). ``by`` is who makes it happen, for the audit log,
    where the event does not say it itself.

    Reads the state and changes nothing. Raises the ``GrafosError`` that refuses the event.
    """
    draft = Draft(state, now, by or _by(event))
    if isinstance(event, tenant_events.OfTenants):
        return draft.decision(_of_tenants(draft, event, chance))
    if isinstance(event, region_events.OfRegions):
        return draft.decision(region_admission.decided(draft, event, chance))
    if isinstance(event, reservation_events.OfReservations):
        return draft.decision(reservations.decided(draft, event))
    if isinstance(event, service_events.OfServices):
        return draft.decision(service_deciding.decided(draft, event, chance))
    match event:
        case events.RunRequested():
            return admission.requested(draft, event, chance)
        case events.RunCancelAsked():
            return draft.decision(cancelling.asked(draft, event))
        case events.LeaseRevokeAsked():
            return draft.decision(revoking.asked(draft, event))
        case events.FenceClearAsked():
            return draft.decision(fences.clear_asked(draft, event))
        case events.CellSaid():
            _frame(draft, event)
        case events.RunReported():
            if _is_current(state, event.cell_id, event.link_id):
                outcomes.reported(draft, event.cell_id, event.ended, event.receipt)
        case events.Tick():
            _time_passed(draft, chance)
        case events.LinkOpened():
            cells.link_opened(draft, event)
        case events.LinkClosed():
            cells.link_closed(draft, event)
        case events.CellRegistered():
            return draft.decision(cells.registered(draft, event))
        case events.BootstrapAsked():
            return draft.decision(enrolment.bootstrap(draft, event, chance))
        case events.EnrolmentAsked():
            return draft.decision(enrolment.enrolled(draft, event))
        case events.ExpectedMachineNamed():
            return draft.decision(expecting.machine_named(draft, event))
        case events.AttestationRootsSet():
            return draft.decision(expecting.set_roots(draft, event))
        case events.CellRevokeAsked():
            return draft.decision(revocation.asked(draft, event))
        case events.ProviderMarked() | events.TrialOpened() | events.ConformanceReported() | ImagesDemanded():
            return draft.decision(_of_standing(draft, event))
        case events.CellFaulted():
            if _is_current(state, event.cell_id, event.link_id):
                standing.faulted(draft, event.cell_id, event.code, event.what)
        case events.LedgerTaken() | events.LedgerBooked() | events.LedgerClosed():
            return draft.decision(fabric_ledger.decided(draft, event))
        case events.DrainAsked():
            return draft.decision(cells.drain(draft, event))
        case events.ClaimAccepted():
            _claimed(draft, event)
        case events.OperatorReplaced():
            succession.replaced(draft, event)
        case events.TermsSet():
            _set_terms(draft, event)
        case events.Witnessed():
            _witnessed(draft, event)
        case _:
            assert_never(event)
    return draft.decision()


def _of_tenants(draft: Draft, event: tenant_events.OfTenants, chance: random.Random) -> msgspec.Struct:
    """What comes to pass with tenants, their people and their money."""
    match event:
        case tenant_events.TenantRegistered():
            return tenants.registered(draft, event)
        case tenant_events.TenantAdmitted():
            return accounts.admitted(draft, event)
        case tenant_events.TenantChanged():
            return accounts.changed(draft, event)
        case tenant_events.TenantDeleted() | tenant_events.TenantCleared():
            is_clearing = isinstance(event, tenant_events.TenantCleared)
            return (clearing.cleared if is_clearing else accounts.deleted)(draft, event.name)
        case tenant_events.SliceClosed():
            return tenants.close_slice(draft, event)
        case tenant_events.PersonInvited():
            return people.invited(draft, event, chance)
        case tenant_events.SignInAsked():
            return people.signed_in(draft, event)
        case tenant_events.PersonRemoved():
            return people.removed(draft, event)
        case tenant_events.SigningKeyRegistered():
            return people.signing_key_registered(draft, event)
        case _:
            assert_never(event)


def _of_standing(
    draft: Draft,
    event: events.ProviderMarked | events.TrialOpened | events.ConformanceReported | ImagesDemanded,
) -> msgspec.Struct | None:
    """What operators say of which cells are relied upon."""
    match event:
        case events.ProviderMarked():
            standing.marked(draft, event)
        case events.TrialOpened():
            standing.trial_opened(draft, event)
        case events.ConformanceReported():
            return standing.conformance_reported(draft, event)
        case ImagesDemanded():
            return image_demands.demanded(draft, event)
    return None


def _time_passed(draft: Draft, chance: random.Random) -> None:
    leases.lapse_overdue(draft)
    regions.time_passed(draft)
    renewing.renew_due(draft)
    services.time_passed(draft, chance)
    preempting.ask_where_there_is_room(draft)
    outcomes.give_up_overdue(draft)
    reservations.time_passed(draft)
    retention.collect(draft)
    revocation.carry_out_due(draft)
    enrolment.collect_lapsed(draft)
    people.collect_lapsed(draft)
    audit.tell_withheld(draft)
    audit.let_go_old(draft)


def _witnessed(draft: Draft, event: events.Witnessed) -> None:
    details = dict(event.details)
    audit.note_bounded(
        draft,
        event.kind,
        event.who,
        event.subject,
        tenant=event.tenant,
        cell_id=event.cell_id,
        details=details,
    )


def _frame(draft: Draft, event: events.CellSaid) -> None:
    """A frame over the cell's current link; what still comes over an older one no longer counts."""
    if not _is_current(draft.state, event.cell_id, event.link_id):
        return
    match event.frame:
        case frames.LeaseGranted() | frames.LeaseRefused() | frames.LeaseTornDown() if service_leases.is_of_instance(
            draft.state, event.frame
        ):
            service_leases.heard(draft, event.cell_id, event.frame)
        case frames.Heartbeat():
            cells.heartbeat(draft, event.cell_id, event.frame)
        case frames.LeaseGranted():
            leases.granted(draft, event.cell_id, event.frame)
        case frames.LeaseRefused():
            leases.refused(draft, event.cell_id, event.frame)
        case frames.LeaseTornDown():
            outcomes.never_began(draft, event.cell_id, event.frame)
            leases.torn_down(draft, event.cell_id, event.frame)
        case frames.LeaseRevoked():
            revoking.told(draft, event.cell_id, event.frame)
        case frames.RunStarted():
            outcomes.started(draft, event.cell_id, event.frame)
        case _:
            assert_never(event.frame)


def _by(event: Event) -> str:
    """Who makes the event happen, as far as it says so."""
    match event:
        case events.CellSaid() | events.RunReported() | events.LinkClosed():
            return text_of(CELL, event.cell_id)
        case service_events.InstanceSaid() | service_events.InstanceReported():
            return text_of(CELL, event.cell_id)
        case service_events.Asked():
            return text_of(TENANT, event.tenant)
        case events.LinkOpened():
            return text_of(CELL, event.hello.cell_id)
        case events.CellRegistered():
            return text_of(CELL, event.registration.cell_id)
        case (
            events.RunRequested()
            | events.RunCancelAsked()
            | reservation_events.ReservationAsked()
            | reservation_events.ReservationEnded()
        ):
            return text_of(TENANT, event.tenant)
        case events.LeaseRevokeAsked() if event.tenant:
            return text_of(TENANT, event.tenant)
        case events.BootstrapAsked() | events.ProviderMarked() | events.ConformanceReported() | ImagesDemanded():
            return text_of(OPERATOR, event.operator)
        case events.ClaimAccepted() | events.OperatorReplaced():
            return text_of(OPERATOR, event.operator)
        case _:
            return audit.SCHEDULER


def _set_terms(draft: Draft, event: events.TermsSet) -> None:
    terms = rows.Terms(event.cell_id, event.rate_micro_cents_per_hour, event.expires_at)
    draft.put(rows.TERMS, event.cell_id, terms)
    if terms == draft.state.terms.get(event.cell_id):
        return
    rate, ends_at_ms = terms.rate_micro_cents_per_hour, int(terms.expires_at * 1000)
    draft.note(
        AuditKind.TERMS_SET,
        event.cell_id,
        cell_id=event.cell_id,
        rate_micro_cents_per_hour=rate,
        expires_at_ms=ends_at_ms,
    )


def _is_current(state: State, cell_id: str, link_id: int) -> bool:
    return link_id != 0 and state.link_of(cell_id) == link_id


def _claimed(draft: Draft, event: events.ClaimAccepted) -> None:
    """The first operator keeps the scheduler, and may repeat the claim, since the answer may have been lost."""
    known = draft.state.claim
    if known is None:
        claim = rows.Claim(event.fabric, event.operator, event.key_sha256, draft.now)
        draft.put(rows.CLAIM, rows.THE_CLAIM, claim)
        draft.note(AuditKind.CLAIMED, event.operator, fabric=event.fabric, key_sha256=event.key_sha256)
    elif (known.fabric, known.key_sha256) != (event.fabric, event.key_sha256):
        raise GrafosError(
            "claim_refused",
            "this scheduler has been claimed already",
            where=f"fabric {known.fabric}",
            next="if it was not you, tear it down",
        )
