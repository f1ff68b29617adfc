"""The broker and the instances of services: one port, one life, and no service after the listener lease."""

from __future__ import annotations

from typing import Any

import pytest
from broker_bench import CPU, LISTENER, MEM, Bench

from grafos_cell import holdings
from grafos_cell.broker import hello
from grafos_cell.broker_events import (
    Decision,
    DrainServing,
    InstanceOver,
    LinkUp,
    Report,
    StartServing,
    StopServing,
    TellServing,
    Told,
    Unbind,
    Unbound,
)
from grafos_cell.broker_leases import TEARDOWN_WITHIN_S
from grafos_core.receipts import InstanceReceipt
from grafos_scheduler import frames
from grafos_scheduler.service_frames import DrainInstance, InstanceEnded, InstanceEndedNoted, StopInstance

OTHER_LISTENER, OTHER_CPU = "06" + "1" * 30, "03" + "1" * 30


@pytest.fixture
def bench() -> Bench:
    return Bench()


def ended(decision: Decision) -> InstanceEnded:
    [frame] = [
        effect.frame
        for effect in decision.effects
        if isinstance(effect, Report) and isinstance(effect.frame, InstanceEnded)
    ]
    return frame


def is_stopped(decision: Decision) -> list[str]:
    """The codes with which instances are stopped."""
    return [effect.code for effect in decision.effects if isinstance(effect, StopServing)]


def over(bench: Bench, code: str = "finished", **more: Any) -> Decision:
    return bench.tell(InstanceOver("inst-1", code, **more))


# --- ports --------------------------------------------------------------------------------------------------------


def test_a_port_is_of_one_lease_alone_until_that_is_closed(bench: Bench) -> None:
    assert isinstance(bench.grant(LISTENER, amount=8080), frames.LeaseGranted)
    refused = bench.grant(OTHER_LISTENER, amount=8080)
    assert (type(refused), refused.code) == (frames.LeaseRefused, "port_taken")
    assert isinstance(bench.grant(OTHER_LISTENER, amount=8081), frames.LeaseGranted)
    bench.tear_down(LISTENER)
    assert bench.grant("06" + "2" * 30, amount=8080).code == "port_taken"  # as long as it is being torn down
    bench.tell(Unbound(LISTENER, 1))
    assert isinstance(bench.grant("06" + "2" * 30, amount=8080), frames.LeaseGranted)


def test_a_fenced_lease_keeps_its_port(bench: Bench) -> None:
    bench.grant(LISTENER, amount=8080)
    bench.tear_down(LISTENER)
    bench.tell(Unbound(LISTENER, 1, gone=False))
    assert bench.lease(LISTENER).state == holdings.FENCED
    assert bench.grant(OTHER_LISTENER, amount=8080).code == "port_taken"


def test_a_listener_lease_is_renewed_and_takes_nothing_of_the_cell(bench: Bench) -> None:
    before = bench.state.leased
    bench.grant(LISTENER, amount=8080)
    assert isinstance(bench.grant(LISTENER, 2, amount=8080), frames.LeaseGranted)
    assert bench.state.leased == before


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_what_is_no_port_is_not_leased(bench: Bench, port: int) -> None:
    assert bench.grant(LISTENER, amount=port).code == "request_invalid"


@pytest.mark.parametrize("lease_id", [CPU, LISTENER])
def test_only_memory_is_leased_as_a_shared_region(bench: Bench, lease_id: str) -> None:
    assert bench.grant(lease_id, amount=8080, shared=True).code == "request_invalid"
    assert lease_id not in bench.state.leases


# --- starting -----------------------------------------------------------------------------------------------------


def test_an_instance_is_durable_before_it_is_started_and_never_started_twice(bench: Bench) -> None:
    tokens = bench.token(CPU), bench.token(LISTENER, amount=8080)
    decision = bench.serve(*tokens)
    assert [change.kind for change in decision.batch].count(holdings.INSTANCE) == 1
    assert isinstance(decision.effects[-1], StartServing)
    again = bench.serve(*tokens)
    assert (again.batch, again.effects) == ((), (TellServing("inst-1"),))
    over(bench)
    assert ended(bench.serve(*tokens)).code == "finished"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"leases": (CPU,), "tokens": "cpu"}, "capability_refused"),
        ({"leases": (LISTENER,), "tokens": "listener"}, "capability_refused"),
        ({"leases": (LISTENER, CPU)}, "capability_refused"),
        ({"leases": (CPU, LISTENER, MEM)}, "request_invalid"),
        ({"leases": (CPU, CPU), "tokens": "cpu cpu"}, "request_invalid"),
        ({"listener_port": 8081}, "capability_refused"),
        ({"tenant": "bob"}, "capability_refused"),
    ],
    ids=["no-listener", "no-cpu", "crossed", "too-few-tokens", "twice", "another-port", "another-tenant"],
)
def test_an_instance_that_its_tokens_do_not_cover_ends_before_it_starts(
    bench: Bench, changed: dict[str, Any], code: str
) -> None:
    tokens = {"cpu": bench.token(CPU), "listener": bench.token(LISTENER, amount=8080)}
    named = changed.pop("tokens", "cpu listener")
    decision = bench.serve(*(tokens[name] for name in named.split()), **changed)
    assert ended(decision).code == code
    assert not any(isinstance(effect, StartServing) for effect in decision.effects)
    assert bench.lease(LISTENER).run_id == ""


def test_a_shared_region_is_no_lease_of_an_instance(bench: Bench) -> None:
    tokens = bench.token(CPU), bench.token(LISTENER, amount=8080), bench.token(MEM, amount=600, shared=True)
    refused = ended(bench.serve(*tokens, leases=(CPU, LISTENER, MEM)))
    assert (refused.code, bench.lease(MEM).run_id) == ("capability_refused", "")


def test_a_lease_serves_one_instance_at_a_time_and_the_next_one_after_its_end(bench: Bench) -> None:
    """A tasklet that crashes is started again on the same leases, under a new name."""
    tokens = bench.token(CPU), bench.token(LISTENER, amount=8080)
    bench.serve(*tokens)
    assert ended(bench.serve(*tokens, instance_id="inst-2")).code == "capability_refused"
    over(bench, "trapped")
    assert bench.lease(CPU).state == bench.lease(LISTENER).state == holdings.BOUND
    assert isinstance(bench.serve(*tokens, instance_id="inst-3").effects[-1], StartServing)


# --- leases that end ----------------------------------------------------------------------------------------------


def test_without_a_renewal_an_instance_is_fenced_by_the_cell_s_own_clock(bench: Bench) -> None:
    """Nobody is told and nobody is asked: that is all that a partition leaves."""
    bench.serving()
    assert is_stopped(bench.wait(59.0)) == []
    assert is_stopped(bench.wait(2.0)) == ["service_fenced"]
    decision = over(bench, "interrupted")
    assert ended(decision).code == "service_fenced"
    assert {effect.lease_id for effect in decision.effects if isinstance(effect, Unbind)} == {CPU, LISTENER}


def test_a_renewal_goes_to_the_instance_and_keeps_it_going(bench: Bench) -> None:
    bench.serving()
    bench.clock.advance(50.0)
    for lease_id, amount in ((CPU, 1), (LISTENER, 8080)):
        frame = frames.GrantLease(lease_id, 2, "ada", bench.lease(lease_id).kind, amount, bench.clock.now() + 60.0)
        [renewed] = bench.tell(Told(frame)).renewed
        assert (renewed.run_id, renewed.lease_id) == ("inst-1", lease_id)
    assert is_stopped(bench.wait(50.0)) == []


def test_a_revoked_listener_lease_fences_at_once_whatever_grace_was_given(bench: Bench) -> None:
    bench.serving()
    decision = bench.tell(Told(frames.RevokeLease(LISTENER, 1, grace_s=30.0)))
    assert is_stopped(decision) == ["service_fenced"]
    ending = over(bench, "interrupted")
    assert ended(ending).code == "service_fenced"
    assert bench.lease(CPU).state == holdings.BOUND
    assert bench.lease(LISTENER).state == holdings.CLOSING


@pytest.mark.parametrize(("lease_id", "code"), [(CPU, "lease_expired"), (LISTENER, "service_fenced")])
def test_a_lease_that_is_torn_down_takes_the_instance_along(bench: Bench, lease_id: str, code: str) -> None:
    bench.serving()
    assert is_stopped(bench.tear_down(lease_id)) == [code]
    assert is_stopped(bench.tear_down(lease_id)) == []


def test_a_process_that_does_not_end_fences_all_leases_of_its_instance(bench: Bench) -> None:
    bench.serving()
    bench.tear_down(LISTENER)
    decision = bench.wait(TEARDOWN_WITHIN_S)
    assert ended(decision).code == "service_fenced"
    assert {bench.lease(CPU).state, bench.lease(LISTENER).state} == {holdings.FENCED}


# --- draining and stopping ----------------------------------------------------------------------------------------


def test_a_drain_waits_until_its_deadline_and_no_longer(bench: Bench) -> None:
    bench.serving()
    drain = DrainInstance("inst-1", 2, 5.0)
    assert bench.tell(Told(drain)).effects == (DrainServing("inst-1"),)
    assert bench.tell(Told(drain)).effects == ()
    assert is_stopped(bench.wait(4.0)) == []
    assert is_stopped(bench.wait(1.0)) == ["deadline_exceeded"]
    assert ended(over(bench, "interrupted")).code == "deadline_exceeded"


def test_a_drain_that_is_done_in_time_ends_well(bench: Bench) -> None:
    bench.serving()
    bench.tell(Told(DrainInstance("inst-1", 2, 5.0)))
    assert ended(over(bench)).code == "finished"


def test_a_stop_names_the_end_and_an_unknown_code_does_not(bench: Bench) -> None:
    bench.serving()
    assert is_stopped(bench.tell(Told(StopInstance("inst-1", "budget_exceeded")))) == ["budget_exceeded"]
    assert is_stopped(bench.tell(Told(StopInstance("inst-1", "cancelled")))) == []
    assert ended(over(bench, "interrupted")).code == "budget_exceeded"
    assert bench.tell(Told(StopInstance("inst-9", "cancelled"))).effects == ()


def test_a_code_that_nobody_knows_is_not_taken_over(bench: Bench) -> None:
    bench.serving()
    assert is_stopped(bench.tell(Told(StopInstance("inst-1", "\x1b[31m")))) == ["cancelled"]


# --- the end ------------------------------------------------------------------------------------------------------


def test_an_end_is_kept_and_told_until_it_is_noted(bench: Bench) -> None:
    bench.serving()
    told = ended(over(bench, "trapped", what="it trapped", fuel_used=7, sessions_served=3, log="words"))
    assert (told.code, told.what, told.fuel_used, told.sessions_served, told.log) == (
        "trapped",
        "it trapped",
        7,
        3,
        "words",
    )
    receipt = bench.receipts[-1]
    assert isinstance(receipt, InstanceReceipt)
    assert (receipt.instance_id, receipt.service, receipt.code, receipt.sessions_served) == (
        "inst-1",
        "echo",
        "trapped",
        3,
    )
    assert hello(bench.state, "1").unacknowledged == ("inst-1",)
    assert ended(bench.tell(LinkUp())) == told
    bench.boot()
    assert ended(bench.tell(LinkUp())) == told
    bench.tell(Told(InstanceEndedNoted("inst-1")))
    assert bench.tell(LinkUp()).effects == ()
    assert bench.state.instances == {}


def test_an_instance_that_goes_is_not_forgotten(bench: Bench) -> None:
    bench.serving()
    bench.tell(Told(InstanceEndedNoted("inst-1")))
    assert "inst-1" in bench.state.instances


def test_a_daemon_that_starts_again_ends_the_instances_that_were_going(bench: Bench) -> None:
    bench.serving()
    bench.clock.advance(30.0)
    assert ended(bench.boot()).code == "cell_lost"
    receipt = bench.receipts[-1]
    assert receipt.ended_at == receipt.started_at  # nobody saw for how long it served
    assert bench.lease(LISTENER).state == holdings.CLOSED
    assert isinstance(bench.grant(OTHER_LISTENER, amount=8080), frames.LeaseGranted)
