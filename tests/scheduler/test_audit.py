"""What the audit log holds: durable with what it tells of, one chain, and bounded however often somebody knocks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from desk import ORCHESTRATOR, SETTINGS, Desk

from grafos_core.audit_chain import (
    GENESIS,
    AuditInput,
    AuditKind,
    AuditRecord,
    ChainCheck,
    assemble_record,
    canonical_bytes,
    let_go,
)
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import audit, events, frames, rows, tenant_events


def records(desk: Desk) -> list[AuditRecord]:
    """What is on the disk, in its order."""
    return [row for kind, _, row in desk.memory.load() if kind == rows.AUDIT]


def kinds(desk: Desk) -> list[str]:
    return [record.kind for record in records(desk)]


def follow(log: list[AuditRecord], check: ChainCheck | None = None) -> ChainCheck:
    check = check or ChainCheck()
    for record in log:
        check.take(record)
    return check


def test_the_canonical_bytes_are_what_any_language_writes() -> None:
    given = AuditInput("RunRefused", "tenant/ädä", 'a "subject"\n', details={"z": 1, "a": "→", "big": 2**60})
    record = assemble_record(given, 1, 1_700_000_000_123, GENESIS)
    plain = json.loads(msgspec.json.encode(record))
    claimed = plain.pop("current_event_hash")
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert text == canonical_bytes(record)
    assert claimed == hashlib.sha256(text).hexdigest()


def test_each_decision_is_noted_by_whom_it_was_and_all_of_it_is_one_chain() -> None:
    desk = Desk()
    desk.add_cell()
    run = desk.start(deadline_s=3600.0)
    desk.wait(300, "cell-1")
    [lease_id] = run.lease_ids
    desk.tell(events.LeaseRevokeAsked("ada", lease_id, 1.5, "enough"))
    desk.tear_down(run, fenced=True)
    desk.tell(events.FenceClearAsked(lease_id))
    desk.tear_down(run)
    desk.tell(events.DrainAsked("cell-1"))
    log = records(desk)
    assert [(record.kind, record.by) for record in log] == [
        ("Claimed", "operator/op"),
        ("TenantCreated", "scheduler"),
        ("BudgetSet", "scheduler"),
        ("CellRegistered", "cell/cell-1"),
        ("TermsSet", "scheduler"),
        ("LeaseAllocated", "tenant/ada"),
        ("LeaseRenewed", "scheduler"),
        ("LeaseRevoked", "tenant/ada"),
        ("LeaseFenced", "cell/cell-1"),
        ("UnfenceAsked", "scheduler"),
        ("LeaseUnfenced", "cell/cell-1"),
        ("DrainSet", "scheduler"),
    ]
    allocated = log[5]
    assert (allocated.subject, allocated.tenant, allocated.cell_id) == (run.run_id, "ada", "cell-1")
    what_for = {"program": "prog", "tier": "standard"}
    assert allocated.details == {"cpu_lease_id": lease_id, "cpu_amount": 1, **what_for}
    assert log[7].details["why"] == "enough"
    head = desk.state.audit_head
    assert (head.sequence, head.event_hash) == (12, follow(log).event_hash)
    desk.restart()
    assert desk.state.audit_head == head
    desk.tell(events.DrainAsked("cell-1", draining=False))
    follow(records(desk))


def test_what_asks_for_nothing_new_leaves_no_record() -> None:
    desk = Desk(ORCHESTRATOR)
    desk.tell(tenant_events.TenantAdmitted("joe", None, 5, "key"))
    desk.enrol(desk.mint("cell-1"))
    before = len(records(desk))
    desk.tell(events.ClaimAccepted("fab", "op", "operator-key"))
    desk.tell(tenant_events.TenantAdmitted("joe", None, 5, "key"))
    desk.tell(tenant_events.TenantChanged("joe", budget_cents=5))
    desk.set_terms()
    desk.set_terms()
    assert len(records(desk)) == before


def test_a_cell_of_an_orchestrator_is_told_from_its_token_to_its_end() -> None:
    desk = Desk(ORCHESTRATOR)
    desk.enrol(desk.mint("cell-1"))
    desk.add_cell()
    run = desk.start()
    desk.tell(events.CellRevokeAsked("cell-1", 0.0, "it is gone"))
    told = [(record.kind, record.cell_id) for record in records(desk)[3:]]
    assert told == [
        (kind, "cell-1")
        for kind in (
            "BootstrapMinted",
            "CellEnrolled",
            "CellRegistered",
            *("LeaseAllocated", "CellRevokeAsked", "CellRevoked", "LeaseRevoked"),
        )
    ]
    assert run.lease_ids[0] == records(desk)[-1].subject


def test_a_dry_decision_and_a_refusal_that_is_raised_leave_nothing() -> None:
    desk = Desk()
    before = desk.state.audit_head
    with pytest.raises(GrafosError):
        desk.tell(events.RunRequested("nobody", desk.request()))
    assert desk.state.audit_head == before


def refused_run(desk: Desk, number: int) -> None:
    with pytest.raises(GrafosError, match="may cost"):
        desk.ask(run_key=f"key-of-the-run-no-{number}", deadline_s=3600.0)


def test_runs_refused_for_money_are_noted_and_what_is_too_much_is_counted() -> None:
    desk = Desk(budget_micro_cents=10)
    desk.add_cell()
    surplus = 7
    for number in range(audit.NOTED_PER_WINDOW_MAX + surplus):
        refused_run(desk, number)
    noted = [record for record in records(desk) if record.kind == AuditKind.RUN_REFUSED]
    assert len(noted) == audit.NOTED_PER_WINDOW_MAX
    assert {(record.tenant, record.details["code"]) for record in noted} == {("ada", "budget_exceeded")}
    desk.clock.advance(audit.WINDOW_S)
    desk.tell(events.Tick())
    last = records(desk)[-1]
    assert (last.kind, last.details["kind"], last.details["count"]) == ("Withheld", "RunRefused", surplus)
    desk.say("cell-1", frames.Heartbeat(leased=Resources()))
    refused_run(desk, 1000)
    assert kinds(desk)[-1] == "RunRefused"


def test_refused_enrolments_share_one_bound_wherever_they_come_from() -> None:
    desk = Desk(ORCHESTRATOR)
    before = len(records(desk))
    for number in range(500):
        details = (("from", f"192.0.2.{number}"),)
        desk.tell(events.Witnessed(AuditKind.ENROLMENT_REFUSED, "anybody", f"cell-{number}", details=details))
    assert len(records(desk)) - before == audit.NOTED_PER_WINDOW_MAX
    for _ in range(3):
        desk.clock.advance(audit.WINDOW_S)
        desk.tell(events.Tick())
    assert len(records(desk)) - before == audit.NOTED_PER_WINDOW_MAX + 1
    assert not desk.state.floods


def drains(desk: Desk, count: int) -> None:
    """So many records, without a look at the whole state for each."""
    from grafos_scheduler.decide import decide

    for number in range(count):
        decision = decide(desk.state, events.DrainAsked("", number % 2 == 0), desk.now, desk.chance)
        desk.state.apply(decision.changes)
        desk.memory.commit(decision.batch, desk.epoch)


@pytest.mark.parametrize("why", ["too many", "too old"])
def test_old_records_go_up_to_a_mark_and_a_checkpoint_says_so(why: str) -> None:
    settings = replace(SETTINGS, audit_kept_max=500) if why == "too many" else SETTINGS
    desk = Desk(settings)
    drains(desk, 1600)
    if why == "too old":
        desk.tell(events.Tick())
        assert len(records(desk)) == 1603
        desk.clock.advance(SETTINGS.audit_kept_s + 1)
    desk.tell(events.Tick())
    desk.restart()
    head, log = desk.state.audit_head, records(desk)
    assert (head.kept_from, log[0].sequence, len(log)) == (1001, 1001, 604)
    check = follow(log, ChainCheck(head.kept_from - 1, head.let_go_event_hash))
    assert (check.sequence, check.event_hash) == (head.sequence, head.event_hash)
    assert let_go(log[-1], 1000, head.let_go_event_hash)
    assert not desk.state.audit_marks
    desk.tell(events.Tick())
    assert len(records(desk)) == 604


def test_time_in_the_log_never_goes_back() -> None:
    desk = Desk()
    desk.clock.jump(-1000.0)
    desk.tell(events.DrainAsked())
    times = [record.at_ms for record in records(desk)]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda log: log.__setitem__(1, msgspec.structs.replace(log[1], by="operator/eve")), 2),
        (lambda log: log.pop(1), 2),
        (lambda log: log.insert(2, log[0]), 3),
        (lambda log: log.__setitem__(1, assemble_record(AuditInput("TermsSet", "x", "y"), 2, 5, GENESIS)), 2),
    ],
)
def test_a_chain_that_was_changed_is_broken_at_its_place(change: Any, place: int) -> None:
    log = records(Desk())
    change(log)
    with pytest.raises(GrafosError) as caught:
        follow(log)
    assert (caught.value.code, caught.value.context) == ("audit_broken", {"sequence": place})
