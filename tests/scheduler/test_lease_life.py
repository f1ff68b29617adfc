"""Leases that are renewed, taken back, fenced and cleared: the scheduler's side."""

from __future__ import annotations

from typing import Any

import pytest
from desk import MIB, Desk

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_core.revoking import RevokeState
from grafos_scheduler import events, frames, leases, messages, rows, runs
from grafos_scheduler.lease_messages import LeaseView

LONG_S = 3600.0


def ready(**hello: Any) -> Desk:
    desk = Desk()
    desk.register()
    desk.set_terms()
    desk.dial(**hello)
    return desk


def the_lease(desk: Desk, run: rows.Run) -> rows.Lease:
    [lease] = desk.state.leases_of(run)
    return lease


def grants(desk: Desk) -> list[frames.GrantLease]:
    return desk.frames(frames.GrantLease)


def wait_for_grant(desk: Desk, seconds: int = 400) -> frames.GrantLease:
    for _ in range(seconds):
        desk.wait(1, "cell-1")
        if grants(desk):
            return grants(desk)[0]
    raise AssertionError("nothing was renewed")


# --- renewing -----------------------------------------------------------------------------------------------------


def test_a_lease_lasts_no_longer_than_a_token_and_a_short_one_as_long_as_its_run() -> None:
    desk = ready()
    short, long = desk.ask(), desk.ask(run_key="key-of-a-long-run", deadline_s=LONG_S)
    assert the_lease(desk, short).expires_at == desk.now + 10.0 + leases.MARGIN_S
    assert the_lease(desk, long).expires_at == desk.now + 300.0


def test_a_lease_of_a_long_run_is_renewed_around_three_quarters_of_its_life() -> None:
    desk = ready()
    run = desk.start(deadline_s=LONG_S)
    began = desk.now
    grant = wait_for_grant(desk)
    assert 0.65 * 300 <= desk.now - began <= 0.85 * 300 + 1
    assert (grant.lease_id, grant.generation, grant.expires_at) == (run.lease_ids[0], 2, desk.now + 300.0)
    assert the_lease(desk, run).expires_at == grant.expires_at, "durable before it was asked for"
    assert desk.state.runs[run.run_id].give_up_at > grant.expires_at


def test_a_run_of_an_hour_keeps_its_lease_to_its_end_and_not_longer() -> None:
    desk = ready()
    run = desk.start(deadline_s=LONG_S)
    until = desk.now + LONG_S + leases.MARGIN_S
    while the_lease(desk, run).expires_at < until:
        grant = wait_for_grant(desk)
        desk.say("cell-1", frames.LeaseGranted(grant.lease_id, grant.generation, "token"))
        assert the_lease(desk, run).state == leases.HELD
        assert the_lease(desk, run).expires_at - desk.now <= 300.0
    assert the_lease(desk, run).expires_at == until
    assert 12 <= the_lease(desk, run).generation <= 20
    assert desk.state.runs[run.run_id].state == runs.RUNNING
    assert not desk.state.renewals


def test_a_renewal_without_an_answer_is_asked_for_again_after_growing_pauses() -> None:
    desk = ready()
    desk.start(deadline_s=LONG_S)
    wait_for_grant(desk)
    asked = []
    for second in range(1, 25):
        desk.wait(1, "cell-1")
        asked += [second for grant in grants(desk) if grant.generation == 2]
    assert asked == [1, 3, 7, 12, 17, 22]


def test_nothing_is_renewed_while_the_cell_is_away_and_at_once_when_it_is_back() -> None:
    desk = ready()
    run = desk.start(deadline_s=LONG_S)
    desk.tell(events.LinkClosed("cell-1", 1))
    desk.wait(290)
    assert the_lease(desk, run).generation == 1
    desk.dial()
    desk.wait(1, "cell-1")
    assert the_lease(desk, run).generation == 2


def test_a_lost_renewal_ends_the_run_with_its_lease() -> None:
    desk = ready()
    run = desk.start(deadline_s=LONG_S)
    desk.tell(events.LinkClosed("cell-1", 1))
    desk.wait(300 + 5 + 15 + 1)
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code) == (runs.EXPIRED, "lease_expired")
    assert desk.state.leased_by_cell["cell-1"] == Resources()


def test_a_renewal_that_the_cell_refuses_is_not_asked_for_again_and_the_run_goes_on_to_the_end_of_its_lease() -> None:
    desk = ready()
    run = desk.start(deadline_s=LONG_S)
    grant = wait_for_grant(desk)
    desk.say("cell-1", frames.LeaseRefused(grant.lease_id, 2, "generation_stale", "no"))
    desk.wait(60, "cell-1")
    assert grants(desk) == []
    assert desk.state.runs[run.run_id].state == runs.RUNNING


def test_a_restarted_scheduler_renews_when_the_one_before_would_have() -> None:
    desk, other = ready(), ready()
    for each in (desk, other):
        each.start(deadline_s=LONG_S)
    other.restart()
    other.dial()
    assert wait_for_grant(desk) == wait_for_grant(other)


def test_a_cell_that_cannot_renew_gets_the_whole_time_at_once() -> None:
    desk = ready(protocol_max=1)
    run = desk.ask(deadline_s=LONG_S)
    assert the_lease(desk, run).expires_at == desk.now + LONG_S + leases.MARGIN_S


# --- taking back --------------------------------------------------------------------------------------------------


def revoke(desk: Desk, lease_id: str, tenant: str = "", grace_s: float = 10.0) -> LeaseView:
    answer = desk.tell(events.LeaseRevokeAsked(tenant, lease_id, grace_s, "the machine is needed")).answer
    assert isinstance(answer, LeaseView)
    return answer


def test_a_revoked_lease_is_told_to_its_cell_with_the_grace() -> None:
    desk = ready()
    run = desk.start()
    view = revoke(desk, run.lease_ids[0])
    assert (view.state, view.revoke, view.revoke_why) == ("held", "revoke_warning", "the machine is needed")
    assert desk.sent == [frames.RevokeLease(run.lease_ids[0], 1, 10.0)]
    assert desk.state.runs[run.run_id].state == runs.RUNNING


def test_the_cell_s_word_moves_it_on_and_old_words_do_not_move_it_back() -> None:
    desk = ready()
    run = desk.start()
    revoke(desk, run.lease_ids[0])
    for said, then in (
        ("grace_running", "grace_running"),
        ("revoke_warning", "grace_running"),
        ("from_the_future", "grace_running"),
        ("torndown", "torndown"),
        ("active", "torndown"),
    ):
        desk.say("cell-1", frames.LeaseRevoked(run.lease_ids[0], 1, said))
        assert the_lease(desk, run).revoke == then


def test_the_run_fails_with_the_words_of_whoever_took_its_lease() -> None:
    desk = ready()
    run = desk.start()
    revoke(desk, run.lease_ids[0])
    desk.report(run, "lease_revoked")
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code) == (runs.FAILED, "lease_revoked")
    assert ended.what == "its cpu lease was revoked: the machine is needed"


def test_a_run_that_ends_within_its_grace_has_finished() -> None:
    desk = ready()
    run = desk.start()
    revoke(desk, run.lease_ids[0])
    desk.report(run)
    assert desk.state.runs[run.run_id].state == runs.FINISHED
    desk.tear_down(run)
    assert not desk.state.leases_of(run)


def test_a_tenant_takes_back_its_own_and_knows_of_no_other() -> None:
    desk = ready()
    run = desk.start()
    with pytest.raises(GrafosError) as refusal:
        revoke(desk, run.lease_ids[0], "eve")
    assert refusal.value.code == "lease_unknown"
    assert revoke(desk, run.lease_ids[0], "ada").revoke == RevokeState.REVOKE_WARNING


def test_taking_back_twice_is_taking_back_once() -> None:
    desk = ready()
    run = desk.start()
    first = revoke(desk, run.lease_ids[0])
    assert revoke(desk, run.lease_ids[0], grace_s=0.0) == first
    assert not desk.sent


def test_a_run_that_waits_for_its_leases_fails_at_once() -> None:
    desk = ready()
    run = desk.ask()
    revoke(desk, run.lease_ids[0])
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code, ended.cost_micro_cents) == (runs.FAILED, "lease_revoked", 0)
    assert [type(frame) for frame in desk.sent] == [frames.TearDownLease]


def test_a_cell_that_was_away_hears_of_it_when_it_is_back() -> None:
    desk = ready()
    run = desk.start()
    desk.tell(events.LinkClosed("cell-1", 1))
    revoke(desk, run.lease_ids[0])
    assert not desk.sent
    desk.dial()
    assert frames.RevokeLease(run.lease_ids[0], 1, 10.0) in desk.sent


def test_a_revoked_lease_is_not_renewed() -> None:
    desk = ready()
    run = desk.start(deadline_s=LONG_S)
    revoke(desk, run.lease_ids[0], grace_s=300.0)
    desk.wait(290, "cell-1")
    assert the_lease(desk, run).generation == 1


def test_a_placed_run_whose_cell_never_began_it_fails_with_its_lease() -> None:
    """The word to start it was lost; the cell tore the lease down, and will begin nothing on it any more."""
    desk = ready()
    run = desk.ask(lease_mem_bytes=4096)
    desk.grant_all(run)
    cpu, mem = desk.state.leases_of(run)
    desk.tell(events.LeaseRevokeAsked("", mem.lease_id, 0.0, "maintenance"))
    desk.say("cell-1", frames.LeaseTornDown(cpu.lease_id, 1, fenced=True))
    assert desk.state.runs[run.run_id].state == runs.PLACED
    desk.say("cell-1", frames.LeaseTornDown(mem.lease_id, 1))
    ended = desk.state.runs[run.run_id]
    assert (ended.state, ended.code, ended.cost_micro_cents) == (runs.FAILED, "lease_revoked", 0)
    assert ended.what == "its mem lease was revoked: maintenance"
    assert [lease.state for lease in desk.state.leases_of(run)] == [leases.FENCED]


def test_a_run_whose_lease_an_old_cell_tore_down_has_failed_and_not_expired() -> None:
    """Such a cell knows of one reason only why a lease ends under its run."""
    desk = ready(protocol_max=1)
    run, other = desk.start(), desk.start(run_key="key-of-the-second-run")
    desk.tell(events.LeaseRevokeAsked("", run.lease_ids[0], 0.0, "maintenance"))
    for each in (run, other):
        desk.report(each, "lease_expired")
    ended, expired = desk.state.runs[run.run_id], desk.state.runs[other.run_id]
    assert (ended.state, ended.code, ended.what) == (
        runs.FAILED,
        "lease_revoked",
        "its cpu lease was revoked: maintenance",
    )
    assert (expired.state, expired.code) == (runs.EXPIRED, "lease_expired")


def test_an_old_cell_is_told_to_tear_down_at_once() -> None:
    desk = ready(protocol_max=1)
    run = desk.start()
    revoke(desk, run.lease_ids[0])
    assert desk.sent == [frames.TearDownLease(run.lease_ids[0], 1)]


# --- fences -------------------------------------------------------------------------------------------------------


def fenced(desk: Desk) -> rows.Run:
    run = desk.start()
    desk.report(run)
    desk.tear_down(run, fenced=True)
    return run


def test_an_operator_clears_a_fence_and_the_room_comes_back_with_the_cell_s_word() -> None:
    desk = ready()
    run = fenced(desk)
    answer = desk.tell(events.FenceClearAsked(run.lease_ids[0])).answer
    assert isinstance(answer, LeaseView)
    assert answer.state == "clearing"
    assert desk.sent == [frames.ClearFence(run.lease_ids[0], 1)]
    assert desk.state.leased_by_cell["cell-1"] == Resources(cpu_cores=1)
    desk.tear_down(run)
    assert not desk.state.leases_of(run)
    assert desk.state.leased_by_cell["cell-1"] == Resources()


def test_what_was_said_of_the_fence_before_it_was_cleared_does_not_bring_it_back() -> None:
    desk = ready()
    run = fenced(desk)
    desk.tell(events.FenceClearAsked(run.lease_ids[0]))
    desk.say("cell-1", frames.Heartbeat(Resources(cpu_cores=1), fenced=run.lease_ids))
    desk.tear_down(run, fenced=True)
    assert the_lease(desk, run).state == leases.CLEARING


def test_the_wish_to_clear_a_fence_survives_restarts_and_cut_links() -> None:
    desk = ready()
    run = fenced(desk)
    desk.tell(events.LinkClosed("cell-1", 1))
    desk.tell(events.FenceClearAsked(run.lease_ids[0]))
    assert not desk.sent
    desk.restart()
    desk.dial(boot_epoch=2, fenced=run.lease_ids)
    assert frames.ClearFence(run.lease_ids[0], 1) in desk.sent
    desk.tell(events.FenceClearAsked(run.lease_ids[0]))
    assert desk.sent == [frames.ClearFence(run.lease_ids[0], 1)], "asked again, told again"


def test_what_is_not_fenced_cannot_be_cleared() -> None:
    desk = ready()
    run = desk.start()
    for lease_id in (run.lease_ids[0], "03" + "0" * 30):
        with pytest.raises(GrafosError) as refusal:
            desk.tell(events.FenceClearAsked(lease_id))
        assert refusal.value.code == "lease_unknown"


def test_a_cell_that_clears_no_fences_says_so() -> None:
    desk = ready(protocol_max=1)
    run = fenced(desk)
    with pytest.raises(GrafosError) as refusal:
        desk.tell(events.FenceClearAsked(run.lease_ids[0]))
    assert refusal.value.code == "unsupported"


# --- other kinds --------------------------------------------------------------------------------------------------


def with_devices() -> Desk:
    desk = Desk()
    total = Resources(cpu_cores=2, mem_bytes=MIB, block_bytes=MIB, gpu_count=1, nic_count=1)
    desk.tell(events.CellRegistered(messages.CellRegistration("cell-1", "aws", "here", "1", total), "key-of-cell-1"))
    desk.set_terms()
    desk.dial()
    return desk


@pytest.mark.parametrize("wish", ["lease_block_bytes", "lease_gpu_count", "lease_nic_count"])
def test_a_kind_that_no_cell_has_is_unsupported(wish: str) -> None:
    asked: dict[str, Any] = {wish: 1}
    desk = ready()
    with pytest.raises(GrafosError) as refusal:
        desk.ask(**asked)
    assert refusal.value.code == "unsupported"


def test_devices_are_counted_and_leased_like_any_resource() -> None:
    desk = with_devices()
    run = desk.ask(lease_gpu_count=1, lease_nic_count=1, lease_block_bytes=4096)
    assert {frame.kind: frame.amount for frame in grants(desk)} == {"cpu": 1, "block": 4096, "gpu": 1, "net": 1}
    assert desk.state.leased_by_cell["cell-1"] == Resources(1, 0, 4096, 1, 1)
    with pytest.raises(GrafosError) as refusal:
        desk.ask(run_key="key-of-another-run", lease_gpu_count=1)
    assert refusal.value.code == "placement_failed", "there is one, and it is taken"
    assert desk.state.runs[run.run_id].state == runs.ADMITTED


def test_leased_blocks_outlive_the_daemon_of_their_cell_and_are_torn_down() -> None:
    desk = with_devices()
    run = desk.start(lease_block_bytes=4096)
    desk.dial(boot_epoch=2)
    [block] = desk.state.leases_of(run)
    assert (block.kind, block.state) == ("block", leases.TEARING)
    assert frames.TearDownLease(block.lease_id, 1) in desk.sent
    assert desk.state.leased_by_cell["cell-1"] == Resources(block_bytes=4096)
    desk.tear_down(run)
    assert not desk.state.leases_of(run)


def test_a_run_that_waits_asks_for_its_blocks_in_the_next_generation_too() -> None:
    desk = with_devices()
    run = desk.ask(lease_block_bytes=4096)
    desk.dial(boot_epoch=2)
    assert {(frame.kind, frame.generation) for frame in grants(desk)} == {("cpu", 2), ("block", 2)}
    assert all(lease.state == leases.ASKED for lease in desk.state.leases_of(run))
