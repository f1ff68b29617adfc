"""The scheduler's side of a lease: room is given back only when the binding is really gone."""

from __future__ import annotations

import pytest
from desk import MIB, Desk

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import events, frames, leases, rows, runs


def ready(cores: int = 2) -> Desk:
    desk = Desk()
    desk.add_cell(cores=cores)
    return desk


def states(desk: Desk, run: rows.Run) -> list[str]:
    return [lease.state for lease in desk.state.leases_of(run)]


def room_taken(desk: Desk) -> Resources:
    return desk.state.leased_by_cell.get("cell-1", Resources())


def test_a_run_is_placed_when_the_last_of_its_leases_is_granted() -> None:
    desk = ready()
    run = desk.ask(lease_mem_bytes=MIB)
    first, second = desk.state.leases_of(run)
    desk.say("cell-1", frames.LeaseGranted(first.lease_id, 1, "token-1"))
    assert desk.state.runs[run.run_id].state == runs.ADMITTED
    assert not desk.sent
    desk.say("cell-1", frames.LeaseGranted(second.lease_id, 1, "token-2"))
    assert desk.state.runs[run.run_id].state == runs.PLACED
    [start] = desk.frames(frames.StartRun)
    assert (start.run_id, start.tokens) == (run.run_id, ("token-1", "token-2"))


def test_tokens_never_reach_the_disk() -> None:
    desk = ready()
    desk.grant_all(desk.ask())
    assert desk.state.tokens
    assert not [kind for kind, _, _ in desk.memory.load() if kind == rows.TOKEN]
    assert not any("token-" in str(row) for _, _, row in desk.memory.load())


def test_room_is_given_back_only_when_the_cell_says_that_the_lease_is_gone() -> None:
    desk = ready()
    run = desk.start()
    desk.report(run)
    assert [frame.lease_id for frame in desk.frames(frames.TearDownLease)] == list(run.lease_ids)
    assert states(desk, run) == [leases.TEARING]
    assert room_taken(desk) == Resources(cpu_cores=1)
    desk.tear_down(run)
    assert states(desk, run) == []
    assert room_taken(desk) == Resources()


def test_a_lease_whose_teardown_failed_keeps_its_room_out_of_use() -> None:
    desk = ready(cores=1)
    run = desk.start()
    desk.report(run)
    desk.tear_down(run, fenced=True)
    assert states(desk, run) == [leases.FENCED]
    desk.tear_down(run)
    desk.wait(300, "cell-1")
    desk.dial(boot_epoch=2, fenced=run.lease_ids)
    assert states(desk, run) == [leases.FENCED], "nothing but an operator clears a fence"
    with pytest.raises(GrafosError) as refusal:
        desk.ask(run_key="another-key-of-it")
    assert refusal.value.code == "placement_failed"


def test_a_heartbeat_that_tells_of_a_fence_is_believed() -> None:
    desk = ready()
    run = desk.start()
    desk.say("cell-1", frames.Heartbeat(Resources(cpu_cores=1), fenced=run.lease_ids))
    assert states(desk, run) == [leases.FENCED]


def test_a_lapsed_lease_gives_its_room_back_but_is_not_forgotten() -> None:
    desk = ready()
    run = desk.start()
    [lease] = desk.state.leases_of(run)
    desk.tell(events.LinkClosed("cell-1", 1))
    desk.clock.advance(lease.expires_at - desk.now)
    desk.tell(events.Tick())
    assert room_taken(desk) == Resources(cpu_cores=1), "the cell's clock may be behind"
    desk.clock.advance(desk.settings.clock_skew_max_s)
    desk.tell(events.Tick())
    assert states(desk, run) == [leases.LAPSED]
    assert room_taken(desk) == Resources()
    desk.dial()
    assert [frame.lease_id for frame in desk.frames(frames.TearDownLease)] == list(run.lease_ids)


def test_a_lapsed_lease_that_turns_out_fenced_takes_its_room_again() -> None:
    desk = ready()
    run = desk.start()
    desk.tell(events.LinkClosed("cell-1", 1))
    desk.wait(100)
    desk.dial(fenced=run.lease_ids)
    assert states(desk, run) == [leases.FENCED]
    assert room_taken(desk) == Resources(cpu_cores=1)


def test_leases_die_with_the_daemon_of_their_cell() -> None:
    desk = ready()
    run = desk.start()
    desk.dial(boot_epoch=2)
    assert states(desk, run) == []
    assert room_taken(desk) == Resources()


def test_a_run_that_waits_asks_a_restarted_cell_in_the_next_generation() -> None:
    desk = ready()
    run = desk.ask(lease_mem_bytes=MIB)
    first, second = desk.state.leases_of(run)
    desk.say("cell-1", frames.LeaseGranted(first.lease_id, 1, "an old token"))
    desk.dial(boot_epoch=2)
    assert [(frame.lease_id, frame.generation) for frame in desk.frames(frames.GrantLease)] == [
        (first.lease_id, 2),
        (second.lease_id, 2),
    ]
    assert not desk.state.tokens
    desk.say("cell-1", frames.LeaseGranted(second.lease_id, 2, "token-2"))
    assert not desk.frames(frames.StartRun), "the token of the first generation does not count"
    desk.say("cell-1", frames.LeaseGranted(first.lease_id, 2, "token-1"))
    assert desk.frames(frames.StartRun)[0].tokens == ("token-1", "token-2")


def test_a_grant_of_an_older_generation_does_not_count() -> None:
    desk = ready()
    run = desk.ask()
    desk.dial(boot_epoch=2)
    desk.say("cell-1", frames.LeaseGranted(run.lease_ids[0], 1, "an old token"))
    assert states(desk, run) == [leases.ASKED]
    assert not desk.sent


def test_a_teardown_of_an_older_generation_does_not_count() -> None:
    desk = ready()
    run = desk.ask()
    desk.dial(boot_epoch=2)
    desk.say("cell-1", frames.LeaseTornDown(run.lease_ids[0], 1))
    assert states(desk, run) == [leases.ASKED]


def test_a_reconnected_cell_is_asked_again_for_the_same_generation_and_the_run_starts() -> None:
    """The grant, its answer, or the start may have been lost with the link; all of them may be repeated."""
    desk = ready()
    run = desk.ask()
    desk.grant_all(run)
    desk.dial()
    assert [frame.generation for frame in desk.frames(frames.GrantLease)] == [1]
    desk.grant_all(run)
    assert [frame.run_id for frame in desk.frames(frames.StartRun)] == [run.run_id]


def test_a_restarted_scheduler_asks_again_because_it_keeps_no_tokens() -> None:
    desk = ready()
    run = desk.ask()
    desk.grant_all(run)
    desk.restart()
    desk.dial()
    desk.grant_all(run)
    assert desk.frames(frames.StartRun)[0].tokens


def test_a_running_run_is_left_in_peace_when_its_cell_reconnects() -> None:
    desk = ready()
    desk.start()
    desk.dial()
    assert [type(frame) for frame in desk.sent] == [frames.Welcome]


def test_a_refused_lease_refuses_the_run_and_gives_its_money_back() -> None:
    desk = ready()
    run = desk.ask(lease_mem_bytes=MIB)
    desk.say("cell-1", frames.LeaseRefused(run.lease_ids[1], 1, "placement_failed", "no room for mem_bytes"))
    refused = desk.state.runs[run.run_id]
    assert (refused.state, refused.code, refused.retryable) == (runs.REFUSED, "placement_failed", True)
    assert "no room for mem_bytes" in refused.what
    assert desk.state.ledger.accounts["slice-1"].held_micro_cents == 0
    assert states(desk, run) == [leases.TEARING, leases.TEARING]


def test_a_refused_lease_is_torn_down_too() -> None:
    """It may be bound all the same: granted before, the word of it lost, its time run out when it was asked again."""
    desk = ready()
    run = desk.ask()
    desk.say("cell-1", frames.LeaseRefused(run.lease_ids[0], 1, "lease_expired", "too late"))
    assert [frame.lease_id for frame in desk.frames(frames.TearDownLease)] == list(run.lease_ids)
    assert room_taken(desk) == Resources(cpu_cores=1)


def test_a_refusal_with_a_code_that_nobody_knows_is_still_typed() -> None:
    desk = ready()
    run = desk.ask()
    desk.say("cell-1", frames.LeaseRefused(run.lease_ids[0], 1, "from_the_future", "words"))
    assert desk.state.runs[run.run_id].code == "answer_invalid"


def test_a_grant_that_nobody_remembers_is_torn_down() -> None:
    desk = ready()
    desk.say("cell-1", frames.LeaseGranted("03" + "0" * 30, 5, "token"))
    assert desk.sent == [frames.TearDownLease("03" + "0" * 30, 5)]


def test_a_cell_cannot_speak_for_the_leases_of_another() -> None:
    desk = ready()
    desk.add_cell("cell-2", mem=1)
    run = desk.ask()
    assert run.cell_id == "cell-1"
    for frame in (
        frames.LeaseTornDown(run.lease_ids[0], 1),
        frames.LeaseRefused(run.lease_ids[0], 1, "fenced", ""),
        frames.LeaseGranted(run.lease_ids[0], 1, "forged"),
    ):
        desk.say("cell-2", frame)
        assert states(desk, run) == [leases.ASKED]


@pytest.mark.parametrize("state", list(leases.NEXT))
def test_every_state_of_the_table_can_be_reached_and_left_or_is_an_end(state: str) -> None:
    assert state == leases.ASKED or any(state in after for after in leases.NEXT.values())
    assert leases.NEXT[state] - {state} or state in (leases.GONE, leases.FENCED)
