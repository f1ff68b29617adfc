"""Leases that are renewed, taken back, cleared, and kept on the disk: the cell's side."""

from __future__ import annotations

from typing import Any

import pytest
from broker_bench import BLOCK, CPU, MEM, USE, Bench

from grafos_cell import broker_leases, broker_tokens
from grafos_cell.broker_events import Decision, Renewed, Report, StartWorker, StopWorker, Told, Unbind, Unbound
from grafos_cell.broker_events import WorkerEnded as Ended
from grafos_cell.holdings import BOUND, CLOSED, CLOSING, FENCED
from grafos_core.resources import Resources
from grafos_scheduler import frames


@pytest.fixture
def bench() -> Bench:
    return Bench()


def reports(decision: Decision, kind: type[Any]) -> list[Any]:
    return [
        effect.frame for effect in decision.effects if isinstance(effect, Report) and isinstance(effect.frame, kind)
    ]


def labels(decision: Decision) -> list[str]:
    return [frame.state for frame in reports(decision, frames.LeaseRevoked)]


def revoke(bench: Bench, lease_id: str = CPU, grace_s: float = 10.0) -> Decision:
    return bench.tell(Told(frames.RevokeLease(lease_id, 1, grace_s)))


def clear(bench: Bench, lease_id: str = MEM) -> Decision:
    return bench.tell(Told(frames.ClearFence(lease_id, 1)))


# --- renewing ---


def test_a_renewal_goes_on_under_its_run_and_gives_it_the_new_token(bench: Bench) -> None:
    old = bench.token()
    bench.start(old)
    frame = frames.GrantLease(CPU, 2, "ada", "cpu", 1, bench.clock.now() + 300.0)
    decision = bench.tell(Told(frame))
    [granted] = reports(decision, frames.LeaseGranted)
    assert decision.renewed == (Renewed("run-1", CPU, granted.token),)
    assert (bench.lease().run_id, bench.lease().generation) == ("run-1", 2)
    assert bench.refusal(old) == "generation_stale"
    assert broker_tokens.check_token(bench.state, granted.token, USE, bench.clock.now()) == bench.lease()


def test_a_lost_renewal_ends_the_lease_by_the_cell_s_own_clock_and_its_run_with_it(bench: Bench) -> None:
    bench.start(bench.token(), deadline_s=3600.0)
    assert bench.wait(60.0).effects == (StopWorker("run-1"),)
    [end] = reports(bench.tell(Ended("run-1", "worker_lost")), frames.RunEnded)
    assert end.code == "lease_expired"
    assert bench.tell(Unbound(CPU, 1)).effects == (Report(frames.LeaseTornDown(CPU, 1)),)
    assert bench.lease().revoke == "failed_closed"


# --- taking back ---


def test_a_revoked_lease_goes_on_through_warning_and_grace_and_is_then_torn_down(bench: Bench) -> None:
    token = bench.token(expires_at=bench.clock.now() + 300.0)
    bench.start(token)
    assert labels(revoke(bench)) == ["revoke_warning"]
    assert labels(bench.wait(1.0)) == ["grace_running"]
    bench.clock.advance(8.9)
    lease = broker_tokens.check_token(bench.state, token, USE, bench.clock.now())
    assert lease == bench.lease(), "in the grace all still works"
    decision = bench.wait(0.1)
    assert labels(decision) == ["forced_teardown"]
    assert decision.effects[-1] == StopWorker("run-1")
    assert bench.refusal(token) == "lease_revoked"
    [end] = reports(bench.tell(Ended("run-1", "worker_lost")), frames.RunEnded)
    assert end.code == "lease_revoked"
    decision = bench.tell(Unbound(CPU, 1))
    assert labels(decision) == ["torndown"]
    assert reports(decision, frames.LeaseTornDown) == [frames.LeaseTornDown(CPU, 1)]


def test_a_run_that_ends_within_the_grace_has_reported_and_its_lease_is_gone_at_once(bench: Bench) -> None:
    bench.start(bench.token())
    revoke(bench)
    bench.wait(1.0)
    decision = bench.tell(Ended("run-1", "finished", output=b"out"))
    assert labels(decision) == ["checkpoint_reported"]
    [end] = reports(decision, frames.RunEnded)
    assert (end.code, end.output) == ("finished", b"out")
    assert decision.effects[-1] == Unbind(CPU, 1, "cpu")
    assert labels(bench.tell(Unbound(CPU, 1))) == ["torndown"]


def test_a_revocation_may_be_asked_for_again_and_does_not_begin_anew(bench: Bench) -> None:
    bench.start(bench.token())
    revoke(bench)
    bench.wait(9.0)
    assert labels(revoke(bench, grace_s=300.0)) == ["grace_running"]
    assert labels(bench.wait(1.0)) == ["forced_teardown"]


def test_a_revocation_without_a_grace_is_over_with_the_next_ticks(bench: Bench) -> None:
    bench.start(bench.token())
    revoke(bench, grace_s=0.0)
    bench.wait(0.1)
    assert labels(bench.wait(0.1)) == ["forced_teardown"]


def test_a_grace_does_not_make_a_lease_longer(bench: Bench) -> None:
    bench.start(bench.token())
    revoke(bench, grace_s=300.0)
    assert labels(bench.wait(60.0)) == ["expired"]


@pytest.mark.parametrize("generation", [1, 2])
def test_a_revoked_lease_is_neither_renewed_nor_given_again(bench: Bench, generation: int) -> None:
    bench.start(bench.token())
    revoke(bench)
    assert bench.grant(generation=generation).code == "lease_revoked"
    bench.boot()
    assert bench.lease().revoke == "failed_closed"
    assert bench.grant(generation=generation).code == "lease_revoked"


def test_nothing_begins_on_a_lease_that_is_being_taken_back(bench: Bench) -> None:
    token = bench.token()
    revoke(bench)
    [end] = reports(bench.start(token), frames.RunEnded)
    assert end.code == "lease_revoked"


def test_what_is_gone_or_fenced_answers_a_revocation_as_it_answers_a_teardown(bench: Bench) -> None:
    assert revoke(bench).effects == (Report(frames.LeaseTornDown(CPU, 1)),)
    fence(bench)
    assert revoke(bench, MEM).effects == (Report(frames.LeaseTornDown(MEM, 1, fenced=True)),)


def test_a_revoked_lease_whose_worker_does_not_stop_is_fenced(bench: Bench) -> None:
    bench.start(bench.token())
    revoke(bench, grace_s=0.0)
    bench.wait(0.1)
    bench.wait(0.1)
    decision = bench.wait(broker_leases.TEARDOWN_WITHIN_S)
    assert labels(decision) == ["fenced"]
    assert bench.lease().state == FENCED


# --- fences ---


def fence(bench: Bench, lease_id: str = MEM) -> None:
    bench.token(lease_id, amount=600)
    bench.tear_down(lease_id)
    bench.tell(Unbound(lease_id, 1, gone=False))
    assert bench.lease(lease_id).state == FENCED


def test_a_cleared_fence_is_torn_down_again_and_its_room_comes_back(bench: Bench) -> None:
    fence(bench)
    assert clear(bench).effects == (Unbind(MEM, 1, "mem"),)
    assert bench.state.leased == Resources(mem_bytes=600), "not free before it is really gone"
    assert bench.tell(Unbound(MEM, 1)).effects == (Report(frames.LeaseTornDown(MEM, 1)),)
    assert (bench.state.leased, bench.state.fenced) == (Resources(), ())


def test_a_teardown_that_fails_again_fences_again(bench: Bench) -> None:
    fence(bench)
    clear(bench)
    bench.tell(Unbound(MEM, 1, gone=False))
    assert bench.state.fenced == (MEM,)


def test_clearing_is_answered_however_often_it_is_asked_and_touches_nothing_that_is_not_fenced(bench: Bench) -> None:
    assert clear(bench).effects == (Report(frames.LeaseTornDown(MEM, 1)),)
    bench.token(MEM, amount=600)
    assert clear(bench) == Decision()
    assert bench.lease(MEM).state == BOUND


def test_a_fence_survives_any_number_of_restarts(bench: Bench) -> None:
    fence(bench)
    for _ in range(3):
        bench.boot()
        bench.wait(1000.0)
        assert bench.state.fenced == (MEM,)


def test_a_fence_of_a_lease_whose_renewal_was_lost_is_cleared_in_the_generation_that_is_asked_for(bench: Bench) -> None:
    """The scheduler passes over what is said of an older generation than it knows of."""
    fence(bench)
    assert bench.tell(Told(frames.ClearFence(MEM, 2))).effects == (Unbind(MEM, 2, "mem"),)
    assert bench.tell(Unbound(MEM, 2)).effects == (Report(frames.LeaseTornDown(MEM, 2)),)


def test_a_fence_is_told_whatever_generation_is_asked_for(bench: Bench) -> None:
    bench.token(MEM, amount=600)
    bench.token(MEM, 2, amount=600)
    bench.tear_down(MEM, 2)
    bench.tell(Unbound(MEM, 2, gone=False))
    for generation in (1, 2, 3):
        assert bench.tear_down(MEM, generation).effects == (Report(frames.LeaseTornDown(MEM, generation, fenced=True)),)


def test_a_teardown_in_a_later_generation_that_meets_one_under_way_does_not_end_in_a_fence(bench: Bench) -> None:
    """The lease ran out while its renewal was on the way; the run's end tears down what the scheduler believes in."""
    bench.token()
    bench.wait(60.0)
    decision = bench.tear_down(CPU, 2)
    for unbind in (Unbind(CPU, 1, "cpu"), *decision.effects):
        assert isinstance(unbind, Unbind)
        bench.tell(Unbound(unbind.lease_id, unbind.generation))
    assert bench.wait(broker_leases.TEARDOWN_WITHIN_S).effects == ()
    assert bench.state.fenced == ()


# --- blocks ---


def test_leased_blocks_survive_the_daemon_and_its_tokens_do_not(bench: Bench) -> None:
    token = bench.token(BLOCK, amount=512)
    bench.start(bench.token(), token)
    bench.boot()
    assert (bench.lease(BLOCK).state, bench.lease(BLOCK).run_id) == (BOUND, "")
    assert bench.lease(CPU).state == CLOSED
    assert bench.refusal(token) == "capability_refused"
    again = bench.token(BLOCK, 2, amount=512)
    assert isinstance(bench.start(bench.token(CPU, 2), again, run_id="run-2").effects[-1], StartWorker)


def test_a_teardown_of_blocks_that_was_under_way_begins_again_with_the_daemon(bench: Bench) -> None:
    bench.token(BLOCK, amount=512)
    bench.tear_down(BLOCK)
    decision = bench.boot()
    assert Unbind(BLOCK, 1, "block") in decision.effects
    assert bench.lease(BLOCK).state == CLOSING
    bench.wait(broker_leases.TEARDOWN_WITHIN_S - 1.0)
    assert bench.tell(Unbound(BLOCK, 1)).effects == (Report(frames.LeaseTornDown(BLOCK, 1)),)


@pytest.mark.parametrize("kind", ["gpu", "net", "telescope"])
def test_what_the_cell_has_none_of_is_unsupported(bench: Bench, kind: str) -> None:
    assert bench.grant("04" + "0" * 30, kind=kind).code == "unsupported"


def test_a_region_that_is_gone_is_not_renewed_into_an_empty_one(bench: Bench) -> None:
    bench.token(MEM, shared=True)
    bench.token(MEM, generation=2, shared=True, expires_at=bench.clock.now() + 90.0)
    bench.wait(90.0)
    bench.tell(Unbound(MEM, 2))
    later = {"shared": True, "expires_at": bench.clock.now() + 60.0}
    assert bench.grant(MEM, generation=3, **later).code == "lease_expired", "its row says that it is closed"
    bench.wait(1.0)
    assert MEM not in bench.state.leases
    assert bench.grant(MEM, generation=3, **later).code == "lease_expired", "nothing is known of it any more"
