"""Tiers: who gives way to whom, how, and what becomes of both."""

from __future__ import annotations

from typing import Any

import pytest
from desk import MIB, Desk

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_core.tiers import Tier
from grafos_scheduler import events, frames, leases, messages, preempting, rows, runs

GUARANTEED, STANDARD, SCAVENGER = Tier.GUARANTEED, Tier.STANDARD, Tier.SCAVENGER


def started(desk: Desk, name: str, tier: Tier, **asked: Any) -> rows.Run:
    return desk.start(run_key=f"key-of-run-{name:>6}".replace(" ", "-"), tier=tier, **asked)


def asked(desk: Desk, name: str, tier: Tier, **more: Any) -> rows.Run:
    return desk.ask(run_key=f"key-of-run-{name:>6}".replace(" ", "-"), tier=tier, **more)


def ended(desk: Desk, run: rows.Run) -> rows.Run:
    """The run's cell stops it, as it does after the grace, and takes its leases down."""
    desk.report(run, "lease_revoked", seconds=4.0)
    desk.tear_down(run)
    return desk.state.runs[run.run_id]


def now(desk: Desk, run: rows.Run) -> rows.Run:
    return desk.state.runs[run.run_id]


@pytest.mark.parametrize(("lower", "higher"), [(SCAVENGER, STANDARD), (SCAVENGER, GUARANTEED), (STANDARD, GUARANTEED)])
def test_a_run_of_a_lower_tier_gives_way_and_the_other_one_gets_its_room(lower: Tier, higher: Tier) -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    first = started(desk, "first", lower)
    second = asked(desk, "second", higher)
    assert (second.state, second.waits_for) == (runs.ADMITTED, first.lease_ids)
    [warned] = desk.frames(frames.RevokeLease)
    assert (warned.lease_id, warned.grace_s) == (first.lease_ids[0], preempting.GRACE_S)
    assert not desk.frames(frames.GrantLease), "the room is not there yet"
    desk.wait(2, "cell-1")
    assert not desk.frames(frames.GrantLease)
    gone = ended(desk, first)
    assert (gone.state, gone.code, gone.what) == (
        runs.FAILED,
        "lease_revoked",
        f"its cpu lease was revoked: a run of the tier {higher} needs the room",
    )
    assert gone.cost_micro_cents == 4 * 1000, "it pays for what it used, and for no more"
    desk.wait(1, "cell-1")
    assert [frame.lease_id for frame in desk.frames(frames.GrantLease)] == list(second.lease_ids)
    desk.grant_all(second)
    assert now(desk, second).state == runs.PLACED


@pytest.mark.parametrize(
    ("there", "comes"),
    [(GUARANTEED, GUARANTEED), (STANDARD, STANDARD), (SCAVENGER, SCAVENGER), (GUARANTEED, STANDARD)],
)
def test_nobody_gives_way_to_its_own_tier_or_a_lower_one(there: Tier, comes: Tier) -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    first = started(desk, "first", there)
    with pytest.raises(GrafosError) as refusal:
        asked(desk, "second", comes)
    assert refusal.value.code == "placement_failed"
    assert now(desk, first).state == runs.RUNNING
    assert not desk.frames(frames.RevokeLease)


def test_nobody_gives_way_where_there_is_room_elsewhere() -> None:
    desk = Desk()
    desk.add_cell("cell-1", cores=1, mem=4 * MIB)
    first = started(desk, "first", SCAVENGER)
    desk.add_cell("cell-2", cores=1)
    second = asked(desk, "second", GUARANTEED)
    assert (second.cell_id, second.waits_for) == ("cell-2", ())
    assert not desk.frames(frames.RevokeLease)
    assert now(desk, first).state == runs.RUNNING


def test_the_lowest_tier_goes_first_and_of_it_the_youngest_and_no_more_than_needed() -> None:
    desk = Desk()
    desk.add_cell(cores=3)
    started(desk, "stand", STANDARD)
    started(desk, "older", SCAVENGER)
    desk.clock.advance(1.0)
    younger = started(desk, "young", SCAVENGER)
    second = asked(desk, "new", GUARANTEED)
    assert second.waits_for == younger.lease_ids


def test_a_run_whose_room_is_of_no_use_is_left_alone() -> None:
    desk = Desk()
    desk.add_cell(cores=3)
    small = started(desk, "small", SCAVENGER, lease_mem_bytes=1)
    big = started(desk, "big", SCAVENGER, lease_mem_bytes=2 * MIB - 1)
    desk.clock.advance(1.0)
    second = asked(desk, "new", STANDARD, lease_mem_bytes=2 * MIB - 1)
    assert set(second.waits_for) == set(big.lease_ids)
    assert now(desk, small).state == runs.RUNNING


def test_a_cell_with_scavengers_is_taken_before_one_with_standard_runs() -> None:
    desk = Desk()
    desk.add_cell("cell-1", cores=1, mem=64 * MIB)
    started(desk, "stand", STANDARD)
    desk.add_cell("cell-2", cores=1)
    started(desk, "scav", SCAVENGER)
    assert asked(desk, "new", GUARANTEED).cell_id == "cell-2"


def test_two_that_come_at_once_do_not_wait_for_the_same_room() -> None:
    desk = Desk()
    desk.add_cell(cores=2)
    first, second = started(desk, "one", SCAVENGER), started(desk, "two", SCAVENGER)
    waiting = [asked(desk, "third", GUARANTEED), asked(desk, "fourth", GUARANTEED)]
    taken = [{desk.state.leases[lease_id].run_id for lease_id in run.waits_for} for run in waiting]
    assert taken[1] - taken[0], "the second one has somebody else give way too"
    with pytest.raises(GrafosError):
        asked(desk, "fifth", GUARANTEED)
    for run in (first, second):
        ended(desk, run)
    desk.wait(1, "cell-1")
    for run in waiting:
        desk.grant_all(run)
        assert now(desk, run).state == runs.PLACED


def test_nobody_else_gets_the_room_meanwhile() -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    first = started(desk, "first", SCAVENGER)
    asked(desk, "second", STANDARD)
    ended(desk, first)
    with pytest.raises(GrafosError) as refusal:
        asked(desk, "third", STANDARD)
    assert refusal.value.code == "placement_failed"


def test_who_has_no_quota_or_money_makes_nobody_give_way() -> None:
    for budget, quota in ((1_000_000_000, True), (15_000, False)):
        desk = Desk(budget_micro_cents=budget)
        desk.add_cell(cores=1)
        first = started(desk, "first", SCAVENGER)
        if quota:
            desk.give_slice("slice-2", 5, quota=desk.state.tenants["ada"].quota - desk.state.tenants["ada"].quota)
        with pytest.raises(GrafosError) as refusal:
            asked(desk, "second", GUARANTEED)
        assert refusal.value.code == ("quota_exceeded" if quota else "budget_exceeded")
        assert now(desk, first).state == runs.RUNNING
        assert desk.state.leases[first.lease_ids[0]].revoke == "active"


def test_a_waiting_run_keeps_waiting_over_restarts_and_cut_links() -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    first = started(desk, "first", SCAVENGER)
    second = asked(desk, "second", STANDARD)
    desk.restart()
    desk.dial()
    assert not desk.frames(frames.GrantLease), "its cell would refuse it"
    assert [frame.lease_id for frame in desk.frames(frames.RevokeLease)] == list(first.lease_ids)
    desk.report(now(desk, first), "lease_revoked")
    desk.tear_down(now(desk, first))
    desk.wait(1, "cell-1")
    assert [frame.lease_id for frame in desk.frames(frames.GrantLease)] == list(second.lease_ids)


def test_a_cell_that_restarts_meanwhile_is_asked_in_the_next_generation() -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    started(desk, "first", SCAVENGER)
    second = asked(desk, "second", STANDARD)
    desk.dial(boot_epoch=2)
    desk.wait(1, "cell-1")
    [grant] = desk.frames(frames.GrantLease)
    assert (grant.lease_id, grant.generation) == (second.lease_ids[0], 2)


def test_room_that_is_fenced_is_no_room() -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    first = started(desk, "first", SCAVENGER)
    second = asked(desk, "second", STANDARD)
    desk.report(first, "lease_revoked")
    desk.tear_down(first, fenced=True)
    desk.wait(1, "cell-1")
    refused = now(desk, second)
    assert (refused.state, refused.code, refused.retryable) == (runs.REFUSED, "placement_failed", True)
    assert "is fenced" in refused.what
    assert desk.state.ledger.account("slice-1").held_micro_cents == 0


def test_who_waits_too_long_is_refused_and_holds_nothing() -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    started(desk, "first", SCAVENGER, deadline_s=600.0)
    second = asked(desk, "second", STANDARD)
    desk.wait(preempting.WAIT_S_MAX + 1, "cell-1")
    assert (now(desk, second).state, now(desk, second).code) == (runs.REFUSED, "placement_failed")
    assert all(lease.state == leases.TEARING for lease in desk.state.leases_of(second))


def test_who_waits_may_be_cancelled_or_give_way_itself() -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    started(desk, "first", SCAVENGER)
    second = asked(desk, "second", STANDARD)
    third = asked(desk, "third", GUARANTEED)
    assert (now(desk, second).state, now(desk, second).code) == (runs.FAILED, "lease_revoked")
    assert now(desk, second).cost_micro_cents == 0
    desk.tell(events.RunCancelAsked("ada", third.run_id))
    assert now(desk, third).state == runs.CANCELLED
    assert not desk.state.waiting


def test_a_run_of_several_leases_that_waits_for_them_gives_way_once() -> None:
    desk = Desk()
    desk.add_cell(cores=1)
    waits = asked(desk, "first", SCAVENGER, lease_mem_bytes=4096)
    second = asked(desk, "second", STANDARD)
    assert (now(desk, waits).state, now(desk, waits).code) == (runs.FAILED, "lease_revoked")
    assert set(second.waits_for) == set(waits.lease_ids)
    noted = [row for _, _, row in desk.memory.load() if getattr(row, "kind", "") == AuditKind.LEASE_REVOKED]
    assert len(noted) == 1


def test_the_decision_that_would_be_made_tells_how_many_would_give_way() -> None:
    import random

    from grafos_scheduler import views
    from grafos_scheduler.decide import decide

    desk = Desk()
    desk.add_cell(cores=1)
    started(desk, "first", SCAVENGER)
    request = desk.request(run_key="key-of-another-run", tier=STANDARD)
    decision = decide(desk.state, events.RunRequested("ada", request), desk.now, random.Random(1))
    told = views.admission(decision)
    assert (told.admitted, told.giving_way, told.worst_case_micro_cents, told.leases) == (True, 1, 10_000, {"cpu": 1})


def test_a_run_shows_its_tier_and_one_of_an_older_database_is_standard() -> None:
    desk = Desk()
    desk.add_cell()
    run = asked(desk, "first", SCAVENGER)
    from grafos_scheduler import views

    assert views.run_view(desk.state, run).tier == "scavenger"
    import msgspec

    plain = {name: value for name, value in msgspec.to_builtins(run.request).items() if name not in ("tier", "cell_id")}
    assert msgspec.convert(plain, messages.RunRequest).tier is STANDARD
