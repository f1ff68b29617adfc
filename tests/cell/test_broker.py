"""The broker: the last word on its cell about leases, tokens and runs."""

from __future__ import annotations

import random
from typing import Any

import pytest
from broker_bench import BLOCK, CPU, MEM, TOTAL, USE, Bench
from hypothesis import given
from hypothesis import strategies as st

from grafos_cell import broker, broker_leases, broker_runs, broker_tokens, holdings
from grafos_cell.broker_events import (
    Decision,
    LinkUp,
    Report,
    StartWorker,
    StopWorker,
    Told,
    Unbind,
    Unbound,
    WorkerEnded,
)
from grafos_cell.holdings import BOUND, CLOSED, CLOSING, FENCED
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_core.tokens import Caveat, Use, narrow
from grafos_scheduler import frames


@pytest.fixture
def bench() -> Bench:
    return Bench()


def ended(decision: Decision) -> frames.RunEnded:
    [frame] = [
        effect.frame
        for effect in decision.effects
        if isinstance(effect, Report) and isinstance(effect.frame, frames.RunEnded)
    ]
    return frame


# --- granting ---

LEASES = [kind[:-1] + digit for kind in (CPU, MEM, BLOCK) for digit in "01"]
ACTS = ("grant", "tear down", "unbound", "fence", "revoke", "clear", "start", "ended", "wait", "boot")
HISTORIES = st.lists(
    st.tuples(st.sampled_from(ACTS), st.sampled_from(LEASES), st.integers(1, 3), st.integers(0, 3)), max_size=40
)


def play(bench: Bench, act: str, lease_id: str, generation: int, size: int) -> None:
    """One moment of a cell's life, wanted or not."""
    amount = {"03": 1, "01": 300, "02": 2048}[lease_id[:2]] * size
    known = bench.state.leases.get(lease_id)
    of = known.generation if known else generation
    if act == "grant":
        bench.grant(lease_id, generation, amount=amount)
    elif act == "tear down":
        bench.tear_down(lease_id, of)
    elif act in ("unbound", "fence"):
        bench.tell(Unbound(lease_id, of, gone=act == "unbound"))
    elif act == "revoke":
        bench.tell(Told(frames.RevokeLease(lease_id, of, float(size))))
    elif act == "clear":
        bench.tell(Told(frames.ClearFence(lease_id, of)))
    elif act == "start" and isinstance(granted := bench.grant(lease_id, of, amount=amount), frames.LeaseGranted):
        bench.start(granted.token, run_id=f"run-{lease_id}")
    elif act == "ended":
        bench.tell(WorkerEnded(f"run-{lease_id}", "finished"))
    elif act == "wait":
        bench.wait(20.0 * size)
    elif act == "boot":
        bench.boot()


@given(history=HISTORIES)
def test_what_is_leased_is_the_sum_of_the_leases_whatever_happens_to_them(history: list[Any]) -> None:
    bench = Bench()
    for moment in history:
        play(bench, *moment)
        taking = [lease.resources for lease in bench.state.leases.values() if lease.state != CLOSED]
        assert bench.state.leased == sum(taking, Resources())
        assert bench.state.leased.fits(TOTAL)


def test_a_granted_lease_takes_room_and_its_token_opens_it(bench: Bench) -> None:
    token = bench.token(MEM, amount=600)
    assert bench.state.leased == Resources(mem_bytes=600)
    assert broker_tokens.check_token(bench.state, token, USE, bench.clock.now()) == bench.lease(MEM)


def test_the_cell_leases_out_no_more_than_it_has(bench: Bench) -> None:
    bench.token(MEM, amount=600)
    refused = bench.grant("01" + "f" * 30, amount=401)
    assert (refused.code, refused.what) == ("placement_failed", "no room for mem_bytes")
    assert isinstance(bench.grant("01" + "e" * 30, amount=400), frames.LeaseGranted)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"kind": "gpu"}, "unsupported"),
        ({"amount": 0}, "request_invalid"),
        ({"amount": -5}, "request_invalid"),
        ({"expires_at": 0.0}, "lease_expired"),
        ({"expires_at": 4e9}, "lease_expired"),
    ],
)
def test_a_lease_that_makes_no_sense_is_refused(bench: Bench, changed: dict[str, Any], code: str) -> None:
    assert bench.grant(**changed).code == code
    assert not bench.state.leases


def test_the_same_grant_again_binds_nothing_more_and_gives_a_fresh_token(bench: Bench) -> None:
    expires_at = bench.clock.now() + 60.0
    first = bench.token(MEM, amount=600, expires_at=expires_at)
    bench.clock.advance(1.0)
    second = bench.token(MEM, amount=600, expires_at=expires_at)
    assert bench.state.leased == Resources(mem_bytes=600)
    for token in (first, second):
        assert broker_tokens.check_token(bench.state, token, USE, bench.clock.now())


def test_the_same_generation_again_does_not_move_the_end_of_the_lease(bench: Bench) -> None:
    first = bench.clock.now() + 60.0
    bench.token(expires_at=first)
    for other in (first + 600.0, first - 30.0):
        bench.token(expires_at=other)
        assert bench.lease().expires_at == first


def test_a_known_lease_cannot_be_asked_for_as_something_else(bench: Bench) -> None:
    bench.token(MEM, amount=100)
    for changed in ({"amount": 200}, {"amount": 100, "tenant": "eve"}):
        assert bench.grant(MEM, **changed).code == "request_invalid"


def test_the_next_generation_renews_and_kills_older_tokens(bench: Bench) -> None:
    old = bench.token(expires_at=bench.clock.now() + 60.0)
    new = bench.token(generation=2, expires_at=bench.clock.now() + 120.0)
    assert bench.refusal(old) == "generation_stale"
    assert broker_tokens.check_token(bench.state, new, USE, bench.clock.now()).expires_at == bench.clock.now() + 120.0
    assert bench.state.leased == Resources(cpu_cores=1)


def test_a_generation_never_goes_back(bench: Bench) -> None:
    bench.token(generation=3)
    assert bench.grant(generation=2).code == "generation_stale"
    bench.boot()
    assert bench.grant(generation=2).code == "generation_stale"
    assert bench.lease().generation == 3


def test_a_lease_that_was_torn_down_is_not_bound_again_by_an_old_request(bench: Bench) -> None:
    bench.token()
    bench.tear_down()
    assert bench.grant().code == "lease_expired", "while it is being taken down"
    bench.tell(Unbound(CPU, 1))
    assert bench.grant().code == "lease_expired"
    assert bench.lease().state == CLOSED


def test_a_teardown_that_overtakes_its_grant_wins(bench: Bench) -> None:
    bench.token()
    bench.boot()
    bench.tear_down(generation=2)
    assert bench.grant(generation=2).code == "lease_expired"


# --- tokens ---


def test_a_token_lives_three_hundred_seconds_at_most(bench: Bench) -> None:
    token = bench.token(expires_at=bench.clock.now() + 3600.0)
    bench.clock.advance(299.0)
    assert broker_tokens.check_token(bench.state, token, USE, bench.clock.now())
    bench.clock.advance(1.0)
    assert bench.refusal(token) == "token_expired"


def test_a_token_does_not_outlive_its_lease(bench: Bench) -> None:
    token = bench.token(expires_at=bench.clock.now() + 10.0)
    bench.clock.advance(10.0)
    assert bench.refusal(token) == "token_expired"


def test_a_token_of_another_cell_is_refused_even_under_the_same_key(bench: Bench) -> None:
    assert bench.refusal(Bench("cell-2").token()) == "capability_refused"


def test_a_token_under_another_key_is_refused(bench: Bench) -> None:
    bench.token()
    assert bench.refusal(Bench(token_key=b"another key").token()) == "capability_refused"


def test_a_token_from_before_the_last_start_is_refused_though_its_lease_was_bound_again(bench: Bench) -> None:
    """The epoch alone tells them apart here: lease, generation and expiry are what they were."""
    token = bench.token()
    held = bench.lease()
    bench.boot()
    bench.state.leases[CPU] = held
    assert bench.refusal(token) == "capability_refused"


def test_a_token_of_a_lease_that_is_gone_or_is_another_tenants_is_refused(bench: Bench) -> None:
    token = bench.token()
    bench.state.leases[CPU] = holdings.HeldLease(CPU, "eve", "cpu", 1, 1, bench.clock.now() + 60.0)
    assert bench.refusal(token) == "capability_refused"
    del bench.state.leases[CPU]
    assert bench.refusal(token) == "capability_refused"


def test_a_token_of_a_lease_that_is_being_torn_down_is_refused_at_once(bench: Bench) -> None:
    token = bench.token()
    bench.tear_down()
    assert bench.refusal(token) == "lease_expired"


def test_a_token_of_a_fenced_lease_is_refused(bench: Bench) -> None:
    token = bench.token()
    bench.tear_down()
    bench.tell(Unbound(CPU, 1, gone=False))
    assert bench.refusal(token) == "fenced"


def test_a_caveat_narrows_a_token_to_one_run(bench: Bench) -> None:
    token = narrow(bench.token(), Caveat("run", "run-1"))
    assert broker_tokens.check_token(bench.state, token, USE, bench.clock.now())
    assert bench.refusal(token, Use(broker_tokens.START, "run-2", "main")) == "capability_refused"


def test_no_random_change_of_a_token_is_accepted(bench: Bench) -> None:
    token, chance = bench.token(), random.Random(5)
    for _ in range(300):
        at = chance.randrange(len(token))
        changed = token[:at] + chance.choice("abcXYZ019-_.") + token[at + 1 :]
        if changed != token and _means_another(token, changed):
            assert bench.refusal(changed) in ("capability_refused", "token_refused", "token_expired")


def _means_another(token: str, changed: str) -> bool:
    """Base64 without padding has spare bits at the end of a part; a change of those alone is no change."""
    from grafos_core import tokens

    try:
        return [tokens._bytes(part) for part in changed.split(".")[1:]] != [
            tokens._bytes(part) for part in token.split(".")[1:]
        ]
    except GrafosError:
        return True


# --- running ---


def test_a_run_is_durable_before_its_worker_starts(bench: Bench) -> None:
    decision = bench.start(bench.token())
    assert [type(effect) for effect in decision.effects] == [Report, StartWorker]
    assert {change.key for change in decision.batch} == {"run-1", CPU}


def test_a_run_that_is_known_is_not_started_again(bench: Bench) -> None:
    token = bench.token()
    bench.start(token)
    again = bench.start(token)
    assert not again.batch
    assert again.effects == (Report(frames.RunStarted("run-1")),)
    end = ended(bench.tell(WorkerEnded("run-1", "finished")))
    assert bench.start(token).effects == (Report(end),)


def test_a_start_without_a_cpu_lease_is_an_end_that_is_reported_like_any_other(bench: Bench) -> None:
    for tokens in ((), (bench.token(MEM),)):
        end = ended(bench.start(*tokens, run_id=f"run-{len(tokens)}"))
        assert end.code == "capability_refused"
    assert [receipt.ended_at - receipt.started_at for receipt in bench.receipts] == [0.0, 0.0]


def test_a_tasklet_of_another_tenant_cannot_use_the_lease(bench: Bench) -> None:
    assert ended(bench.start(bench.token(), tenant="eve")).code == "capability_refused"


def test_a_lease_serves_one_run_at_a_time(bench: Bench) -> None:
    token = bench.token()
    bench.start(token)
    assert ended(bench.start(token, run_id="run-2")).code == "capability_refused"
    bench.tell(WorkerEnded("run-1", "finished"))
    assert isinstance(bench.start(token, run_id="run-3").effects[-1], StartWorker)


def test_the_same_lease_does_not_count_twice(bench: Bench) -> None:
    token = bench.token()
    assert ended(bench.start(token, narrow(token, Caveat("run", "run-1")))).code == "capability_refused"


def test_an_end_is_kept_until_the_scheduler_has_noted_it(bench: Bench) -> None:
    bench.start(bench.token())
    end = ended(bench.tell(WorkerEnded("run-1", "finished", fuel_used=7, output=b"out")))
    assert (end.code, end.fuel_used, end.output) == ("finished", 7, b"out")
    assert bench.state.unacknowledged == ("run-1",)
    assert bench.tell(LinkUp()).effects == (Report(end),)
    bench.boot()
    assert broker.hello(bench.state, "1").unacknowledged == ("run-1",)
    assert bench.tell(LinkUp()).effects == (Report(end),)
    bench.tell(Told(frames.RunEndedNoted("run-1")))
    assert not bench.state.runs
    assert not bench.tell(LinkUp()).effects


def test_a_run_that_goes_on_is_not_forgotten_by_a_note_that_is_not_due(bench: Bench) -> None:
    bench.start(bench.token())
    assert not bench.tell(Told(frames.RunEndedNoted("run-1"))).batch


def test_the_receipt_says_what_ran_and_for_how_long(bench: Bench) -> None:
    bench.start(bench.token())
    bench.clock.advance(2.5)
    bench.tell(WorkerEnded("run-1", "finished", fuel_used=7, response_json="{}", output=b"out"))
    [receipt] = bench.receipts
    assert (receipt.run_id, receipt.cell_id, receipt.code, receipt.fuel_used) == ("run-1", "cell-1", "finished", 7)
    assert receipt.ended_at - receipt.started_at == 2.5
    assert receipt.boot_epoch == bench.state.epoch


def test_a_worker_that_ends_twice_ends_once(bench: Bench) -> None:
    bench.start(bench.token())
    bench.tell(WorkerEnded("run-1", "finished"))
    assert bench.tell(WorkerEnded("run-1", "trapped")) == Decision()
    assert bench.tell(WorkerEnded("run-unknown", "trapped")) == Decision()


def test_a_worker_that_overruns_its_deadline_is_stopped_once(bench: Bench) -> None:
    bench.start(bench.token(), deadline_s=10.0)
    assert not bench.wait(10.0 + broker_runs.OVERRUN_S - 1.0).effects
    assert bench.wait(1.0).effects == (StopWorker("run-1"),)
    assert not bench.wait(1.0).effects
    assert ended(bench.tell(WorkerEnded("run-1", "worker_lost"))).code == "deadline_exceeded"


# --- tearing down ---


def test_a_lease_ends_at_its_time_with_nobody_asked(bench: Bench) -> None:
    bench.token()
    assert not bench.wait(59.0).effects
    assert bench.wait(1.0).effects == (Unbind(CPU, 1, "cpu"),)
    assert bench.lease().state == CLOSING
    assert bench.state.leased == Resources(cpu_cores=1), "not free before it is really gone"
    assert bench.tell(Unbound(CPU, 1)).effects == (Report(frames.LeaseTornDown(CPU, 1)),)
    assert bench.state.leased == Resources()


def test_a_lease_that_ends_takes_its_run_along_and_is_unbound_after_the_worker_is_gone(bench: Bench) -> None:
    bench.going()
    decision = bench.wait(60.0)
    assert decision.effects == (StopWorker("run-1"),), "both leases ended; one worker to stop"
    decision = bench.tell(WorkerEnded("run-1", "worker_lost"))
    assert ended(decision).code == "lease_expired"
    assert [effect for effect in decision.effects if isinstance(effect, Unbind)] == [
        Unbind(CPU, 1, "cpu"),
        Unbind(MEM, 1, "mem"),
    ]


def test_a_lease_outlives_its_run_until_it_is_torn_down(bench: Bench) -> None:
    bench.going()
    bench.tell(WorkerEnded("run-1", "finished"))
    assert bench.lease().state == BOUND
    assert bench.tear_down().effects == (Unbind(CPU, 1, "cpu"),)


def test_a_teardown_may_be_asked_for_again_and_again(bench: Bench) -> None:
    bench.token()
    bench.tear_down()
    assert bench.tear_down() == Decision(), "it is under way, and will be reported"
    bench.tell(Unbound(CPU, 1))
    gone = (Report(frames.LeaseTornDown(CPU, 1)),)
    assert bench.tear_down().effects == gone
    bench.wait(100.0)
    assert not bench.state.leases
    assert bench.tear_down().effects == gone, "a lease that is unknown here is gone"


def test_a_teardown_of_an_older_generation_does_not_touch_the_newer(bench: Bench) -> None:
    bench.token(generation=2)
    bench.tear_down(generation=1)
    assert bench.lease().state == BOUND


def test_a_binding_that_cannot_be_taken_down_is_fenced(bench: Bench) -> None:
    bench.token(MEM, amount=600)
    bench.tear_down(MEM)
    assert bench.tell(Unbound(MEM, 1, gone=False)).effects == (Report(frames.LeaseTornDown(MEM, 1, fenced=True)),)
    assert bench.state.fenced == (MEM,)
    assert bench.state.leased == Resources(mem_bytes=600)
    assert bench.grant(MEM, generation=2, amount=600).code == "fenced"
    assert bench.tear_down(MEM).effects == (Report(frames.LeaseTornDown(MEM, 1, fenced=True)),)


def test_a_teardown_that_does_not_come_to_an_end_fences_and_ends_its_run(bench: Bench) -> None:
    bench.going()
    bench.wait(60.0)
    decision = bench.wait(broker_leases.TEARDOWN_WITHIN_S)
    assert ended(decision).code == "worker_lost"
    assert bench.state.fenced == (MEM, CPU)
    assert bench.tell(WorkerEnded("run-1", "finished")) == Decision(), "too late"
    assert bench.tell(Unbound(CPU, 1)) == Decision(), "nothing but an operator clears a fence"


def test_a_worker_that_cannot_be_stopped_keeps_all_its_leases_out_of_use(bench: Bench) -> None:
    """One of its leases is torn down; the memory of the other must not be given back under it later."""
    bench.going()
    assert bench.tear_down(CPU).effects == (StopWorker("run-1"),)
    decision = bench.wait(broker_leases.TEARDOWN_WITHIN_S)
    assert ended(decision).code == "worker_lost"
    assert bench.state.fenced == (MEM, CPU)
    assert bench.tear_down(MEM).effects == (Report(frames.LeaseTornDown(MEM, 1, fenced=True)),)
    assert not bench.wait(60.0).effects


def test_a_closed_lease_is_forgotten_when_its_time_is_up(bench: Bench) -> None:
    bench.token()
    bench.tear_down()
    bench.tell(Unbound(CPU, 1))
    bench.wait(59.0)
    assert bench.lease().state == CLOSED
    bench.wait(1.0)
    assert not bench.state.leases
    assert bench.grant(expires_at=bench.clock.now()).code == "lease_expired"


# --- starting again ---


def test_the_boot_epoch_grows_at_every_start(bench: Bench) -> None:
    epochs = [bench.state.epoch]
    for _ in range(3):
        bench.boot()
        epochs.append(bench.state.epoch)
    assert epochs == [1, 2, 3, 4]


def test_cpu_and_memory_leases_die_with_the_daemon_and_fences_do_not(bench: Bench) -> None:
    bench.token(CPU)
    bench.token(MEM, amount=600)
    bench.tear_down(MEM)
    bench.tell(Unbound(MEM, 1, gone=False))
    bench.boot()
    assert (bench.lease(CPU).state, bench.lease(MEM).state) == (CLOSED, FENCED)
    assert bench.state.leased == Resources(mem_bytes=600)


def test_a_run_that_was_going_when_the_daemon_died_is_lost_and_its_receipt_shows_no_time(bench: Bench) -> None:
    """Nobody saw how long it ran, so nobody pays for it."""
    bench.going()
    bench.clock.advance(5.0)
    assert ended(bench.boot()).code == "cell_lost"
    [receipt] = bench.receipts
    assert receipt.ended_at == receipt.started_at
    assert bench.state.unacknowledged == ("run-1",)


def test_a_restarted_cell_binds_the_next_generation(bench: Bench) -> None:
    bench.token()
    bench.boot()
    assert bench.grant().code == "lease_expired"
    token = bench.token(generation=2)
    assert isinstance(bench.start(token).effects[-1], StartWorker)


def test_what_the_cell_says_of_itself(bench: Bench) -> None:
    bench.going()
    assert broker.heartbeat(bench.state) == frames.Heartbeat(Resources(cpu_cores=1, mem_bytes=600))
    hello = broker.hello(bench.state, "1.2")
    assert (hello.cell_id, hello.boot_epoch, hello.agent_version) == ("cell-1", 1, "1.2")
