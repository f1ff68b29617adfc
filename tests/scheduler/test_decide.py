"""What holds for every decision: it is a function, it changes nothing, and a restart is where it left off."""

from __future__ import annotations

import random
import typing

import pytest
from desk import SETTINGS, Desk, contents

from grafos_core import trust
from grafos_core.audit_chain import AuditKind
from grafos_core.booking import Booking, LedgerCopy, digest_of
from grafos_core.changes import RowCodec
from grafos_core.errors import GrafosError
from grafos_core.receipts import Signed
from grafos_scheduler import (
    events,
    frames,
    leases,
    messages,
    region_events,
    reservation_events,
    rows,
    service_events,
    service_rows,
    tenant_events,
)
from grafos_scheduler.attested import Roots
from grafos_scheduler.decide import decide
from grafos_scheduler.enrolment_messages import ExpectedCell
from grafos_scheduler.image_messages import IMAGE_DEMAND, ImagesDemanded
from grafos_scheduler.region_messages import RegionRequest
from grafos_scheduler.state import State

A_LEDGER = LedgerCopy(1, (), ())


def a_busy_desk() -> Desk:
    desk = Desk(budget_micro_cents=60_000)
    desk.add_cell("cell-1", cores=8)
    desk.add_cell("cell-2", cores=1)
    desk.report(desk.start())
    desk.start(run_key="key-of-the-second-run", lease_mem_bytes=4096)
    desk.ask(run_key="key-of-the-third-run")
    with pytest.raises(GrafosError):
        desk.ask(run_key="key-of-the-fourth-run", deadline_s=3600.0)
    fenced = desk.start(run_key="key-of-the-fenced-run")
    desk.report(fenced)
    desk.tear_down(fenced, fenced=True)
    desk.tell(region_events.RegionAsked("ada", RegionRequest("key-of-a-shared-region", "aws", 4096, 60.0)))
    [region] = desk.state.regions.values()
    desk.say(region.cell_id, frames.LeaseGranted(region.lease_id, 1, "a-token"))
    desk.tell(events.DrainAsked("cell-2"))
    desk.tell(tenant_events.TenantAdmitted("joe", None, None, "key-of-joe"))
    desk.tell(tenant_events.PersonInvited("joe", "bea", 60.0, "op"))
    invitation = next(iter(desk.state.invitations))
    desk.tell(tenant_events.SignInAsked(invitation, "key-of-bea"))
    ordered = events.Ordered("ada/bea", "a-key", Signed("order", b"", b""))
    desk.tell(events.RunRequested("ada", desk.request(run_key="key-of-an-ordered-run"), ordered))
    desk.enrol(desk.mint("cell-3"))
    desk.enrol(desk.mint("cell-4"))
    desk.tell(events.CellRevokeAsked("cell-4", 0.0, "it is gone"))
    desk.tell(events.AttestationRootsSet(a_root(), "op"))
    desk.tell(events.LedgerTaken(A_LEDGER, digest_of(A_LEDGER)))
    desk.tell(events.ProviderMarked("gcp", production=True, operator="op"))
    desk.tell(events.TrialOpened("cell-1", "ada", 60.0))
    desk.tell(events.TrialOpened("cell-2", "ada", 60.0))
    desk.tell(events.ConformanceReported("cell-2", messages.Conformance("1", 5, ("a-case",)), "op"))
    desk.tell(events.BootstrapAsked(ExpectedCell("aws", "cell-6", "here", 5, account="an-account"), "op"))
    return desk


def test_the_same_state_event_time_and_chance_give_the_same_decision() -> None:
    desk = a_busy_desk()
    event = events.RunRequested("ada", desk.request(run_key="key-of-another-run"))
    first, second = (decide(desk.state, event, desk.now, random.Random(3)) for _ in range(2))
    assert first == second
    assert first.batch
    assert first.effects


def test_a_refusal_that_is_raised_changes_nothing() -> None:
    desk = a_busy_desk()
    before = contents(desk.state)
    with pytest.raises(GrafosError):
        decide(desk.state, events.RunRequested("nobody", desk.request()), desk.now, random.Random(3))
    assert contents(desk.state) == before


def test_what_is_loaded_is_what_was_left() -> None:
    """Rows and everything derived from them, except what a restart may forget."""
    desk = a_busy_desk()
    before = contents(desk.state)
    desk.restart()
    after = contents(desk.state)
    for volatile in ("presences", "tokens", "renewals", "floods", "trials"):
        before.pop(volatile)
        after.pop(volatile)
    assert after == before


def test_every_row_survives_the_disk() -> None:
    desk = a_busy_desk()
    codec = RowCodec(rows.STORED_KINDS)
    kinds = set()
    for kind, _, row in desk.memory.load():
        assert codec.decode(kind, codec.encode(row)) == row
        kinds.add(kind)
    rare = {rows.AUDIT_MARK, rows.FAULT, rows.RESERVATION, IMAGE_DEMAND, *service_rows.STORED_KINDS}
    # A mark comes after a thousand records, a fault where cells enrol; the others have tests.
    assert kinds == set(rows.STORED_KINDS) - rare


def test_volatile_state_is_never_in_a_batch() -> None:
    assert not {rows.PRESENCE, rows.TOKEN, rows.RENEWAL, rows.FLOOD, rows.TRIAL} & set(rows.STORED_KINDS)


def test_every_event_has_a_rule() -> None:
    """An event that no arm takes would be an assertion of the type checker only; here each one is told once."""
    desk = a_busy_desk()
    told = {type(event) for event in one_of_each(desk)}
    of_services = set(typing.get_args(service_events.OfServices))  # which have a desk of their own
    elsewhere = {*typing.get_args(reservation_events.OfReservations), ImagesDemanded}  # told in their own tests
    assert told == set(typing.get_args(events.Event)) - of_services - elsewhere
    for event in one_of_each(desk):
        decide(desk.state, event, desk.now, random.Random(3))


def a_root() -> Roots:
    return Roots("gcp", "this test", "2026-11-21", {"a-key": trust.make_ca(trust.new_key(), "a root", 0.0)})


def one_of_each(desk: Desk) -> list[events.Event]:
    from grafos_core.receipts import RunReceipt
    from grafos_core.resources import Resources
    from grafos_scheduler.enrolment_messages import BootstrapRequest

    hello = frames.Hello("cell-1", 1, "1")
    registration = messages.CellRegistration("cell-1", "aws", "here", "1", Resources(cpu_cores=2))
    receipt = RunReceipt("", "", "", "", "", "", "", "", "", "", "", "", 0, 0.0, 0.0, 1)
    ended = frames.RunEnded("run-x", "finished", "", 0, "", b"", "", Signed("run", b"", b""))
    [fenced] = [lease.lease_id for lease in desk.state.leases.values() if lease.state == leases.FENCED]
    return [
        events.ClaimAccepted("fab", "op", "operator-key"),
        events.OperatorReplaced("op", "another-operator-key"),
        events.TermsSet("cell-1", 5, 0.0),
        tenant_events.TenantRegistered("eve", None, "slice-eve", 5, desk.now + 5.0, "key-of-eve"),
        tenant_events.TenantAdmitted("bob", None, 5, "key-of-bob"),
        tenant_events.TenantChanged("joe", budget_cents=5),
        tenant_events.TenantDeleted("joe"),
        tenant_events.TenantCleared("ada"),
        tenant_events.PersonInvited("joe", "carl", 60.0, "op"),
        tenant_events.SignInAsked(next(iter(desk.state.invitations)), "key-of-bea"),
        tenant_events.PersonRemoved("joe", "bea"),
        tenant_events.SigningKeyRegistered("joe", "key-of-bea", "a-key", Signed("signing-key", b"", b"")),
        tenant_events.SliceClosed("slice-1"),
        events.CellRegistered(registration, "key-of-cell-1"),
        events.BootstrapAsked(BootstrapRequest("aws", "cell-5", "here", 5), "op"),
        events.EnrolmentAsked(next(iter(desk.state.enrolments)), "key-of-cell-3"),
        events.ExpectedMachineNamed(list(desk.state.enrolments)[-1], "a-machine"),
        events.AttestationRootsSet(a_root(), "op"),
        events.CellRevokeAsked("cell-3", 10.0, "the machine is needed"),
        events.LedgerTaken(A_LEDGER, digest_of(A_LEDGER)),
        events.LedgerBooked(Booking()),
        events.LedgerClosed(1),
        events.ProviderMarked("aws", production=True, operator="op"),
        events.TrialOpened("cell-1", "ada", 60.0),
        events.ConformanceReported("cell-1", messages.Conformance("1", 5), "op"),
        events.CellFaulted("cell-1", desk.state.link_of("cell-1"), "request_invalid", "no frame"),
        events.LinkOpened(7, hello, "key-of-cell-1"),
        events.LinkClosed("cell-1", 1),
        events.CellSaid("cell-1", desk.state.link_of("cell-1"), frames.Heartbeat(Resources())),
        events.RunReported("cell-1", desk.state.link_of("cell-1"), ended, receipt),
        events.RunCancelAsked("ada", next(iter(desk.state.runs))),
        events.RunRequested("ada", desk.request(run_key="key-of-another-run")),
        events.LeaseRevokeAsked("ada", next(iter(desk.state.leases)), 10.0, "the machine is needed"),
        events.FenceClearAsked(fenced),
        region_events.RegionAsked("ada", RegionRequest("key-of-another-region", "aws", 4096, 60.0)),
        region_events.RegionRenewalAsked("ada", next(iter(desk.state.regions)), 90.0),
        region_events.RegionEndAsked("ada", next(iter(desk.state.regions))),
        events.DrainAsked(),
        events.Witnessed(AuditKind.ENROLMENT_REFUSED, "anybody", "cell-1"),
        events.Tick(),
    ]


def test_an_empty_state_is_a_state() -> None:
    state = State(SETTINGS, 0.0)
    assert not decide(state, events.Tick(), 1.0, random.Random(1)).changes
