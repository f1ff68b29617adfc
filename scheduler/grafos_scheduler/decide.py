"""The one front door of the scheduler's mind: an event in, a decision out. The rules stand in the modules below."""

from __future__ import annotations

import random
from typing import assert_never

from grafos_core.errors import GrafosError
from grafos_scheduler import (
    accounts,
    admission,
    cancelling,
    cells,
    enrolment,
    events,
    expecting,
    fences,
    frames,
    leases,
    outcomes,
    renewing,
    retention,
    revocation,
    revoking,
    rows,
    tenants,
)
from grafos_scheduler.draft import Draft
from grafos_scheduler.events import Decision, Event
from grafos_scheduler.state import State


def decide(state: State, event: Event, now: float, chance: random.Random) -> Decision:  # noqa: C901  # one arm per event
    """What ``event`` comes to in ``state`` at ``now`` (Unix seconds).

    Reads the state and changes nothing. Raises the ``GrafosError`` that refuses the event.
    """
    draft = Draft(state, now)
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
            leases.lapse_overdue(draft)
            renewing.renew_due(draft)
            outcomes.give_up_overdue(draft)
            retention.collect(draft)
            revocation.carry_out_due(draft)
            enrolment.collect_lapsed(draft)
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
        case events.TenantRegistered():
            return draft.decision(tenants.registered(draft, event))
        case events.TenantAdmitted():
            return draft.decision(accounts.admitted(draft, event))
        case events.TenantChanged():
            return draft.decision(accounts.changed(draft, event))
        case events.TenantDeleted():
            return draft.decision(accounts.deleted(draft, event.name))
        case events.SliceClosed():
            return draft.decision(tenants.close_slice(draft, event))
        case events.DrainAsked():
            return draft.decision(cells.drain(draft, event))
        case events.ClaimAccepted():
            _claimed(draft, event)
        case events.TermsSet():
            terms = rows.Terms(event.cell_id, event.rate_micro_cents_per_hour, event.expires_at)
            draft.put(rows.TERMS, event.cell_id, terms)
        case _:
            assert_never(event)
    return draft.decision()


def _frame(draft: Draft, event: events.CellSaid) -> None:
    """A frame over the cell's current link; what still comes over an older one no longer counts."""
    if not _is_current(draft.state, event.cell_id, event.link_id):
        return
    match event.frame:
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


def _is_current(state: State, cell_id: str, link_id: int) -> bool:
    return link_id != 0 and state.link_of(cell_id) == link_id


def _claimed(draft: Draft, event: events.ClaimAccepted) -> None:
    """The first operator keeps the scheduler, and may repeat the claim, since the answer may have been lost."""
    known = draft.state.claim
    if known is None:
        claim = rows.Claim(event.fabric, event.operator, event.key_sha256, draft.now)
        draft.put(rows.CLAIM, rows.THE_CLAIM, claim)
    elif (known.fabric, known.key_sha256) != (event.fabric, event.key_sha256):
        raise GrafosError(
            "claim_refused",
            "this cell has been claimed already",
            where=f"fabric {known.fabric}",
            next="if it was not you, tear the cell down",
        )
