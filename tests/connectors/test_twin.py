"""What only the twin does: planned faults, limits, a world to count in."""

from __future__ import annotations

import random

import msgspec
import pytest
from contract_work import Work
from twin_place import TwinPlace

from grafos_connectors.contract import CloudError, Failed, Kind, State
from grafos_connectors.twin import Effect, Fault, FaultPlan, Limits, TwinCloud, TwinConnector
from grafos_core.clock import VirtualClock


@pytest.fixture
def place() -> TwinPlace:
    return TwinPlace()


@pytest.fixture
def work(place: TwinPlace) -> Work:
    work = Work(place)
    work.lay_ground(Kind.MACHINE)
    return work


def world(place: TwinPlace) -> list[Kind]:
    return sorted(found.ref.kind for found in place.cloud.world())


def test_a_refusal_has_no_effect(place: TwinPlace, work: Work) -> None:
    before = world(place)
    place.faults.add(
        Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code="cloud_capacity", alternatives=("twin-1b",))
    )
    refusal = work.refused(work.desired(Kind.MACHINE))
    assert (refusal.code, refusal.alternatives) == ("cloud_capacity", ("twin-1b",))
    assert world(place) == before


def test_a_lost_request_cannot_be_told_from_a_lost_answer(place: TwinPlace, work: Work) -> None:
    before = world(place)
    place.faults.add(Fault("begin_create", Effect.LOSE_REQUEST))
    lost_request = work.refused(work.desired(Kind.MACHINE))
    assert world(place) == before
    place.faults.add(Fault("begin_create", Effect.LOSE_ANSWER))
    lost_answer = work.refused(work.desired(Kind.MACHINE))
    assert world(place) == sorted([*before, Kind.MACHINE, Kind.DISK, Kind.NIC])
    assert lost_request.to_wire() == lost_answer.to_wire()


def test_a_lost_answer_to_a_delete_has_its_effect(place: TwinPlace, work: Work) -> None:
    made = work.make(Kind.MACHINE)
    place.faults.add(Fault("begin_delete", Effect.LOSE_ANSWER))
    with pytest.raises(CloudError) as raised:
        work.connector.begin_delete(made.ref)
    assert raised.value.ambiguous
    assert work.connector.observe(made.ref).state is State.DELETING


def test_a_machine_may_launch_and_die(place: TwinPlace, work: Work) -> None:
    before = world(place)
    place.faults.add(Fault("begin_create", Effect.DIE_LATER, kind=Kind.MACHINE, code="cloud_capacity"))
    outcome = work.outcome(work.connector.begin_create(work.desired(Kind.MACHINE), "token"))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_capacity"
    assert world(place) == before


def test_a_question_may_be_refused_too(place: TwinPlace, work: Work) -> None:
    operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
    place.faults.add(Fault("poll", Effect.REFUSE, code="cloud_throttled", retry_after_s=3.0))
    with pytest.raises(CloudError) as raised:
        work.connector.poll(operation)
    assert raised.value.retry_after_s == 3.0
    assert work.finish(operation) is not None


def test_a_fault_hits_the_calls_that_its_rule_names() -> None:
    plan = FaultPlan([Fault("poll", Effect.REFUSE, skip=1, times=2)])
    hits = [plan.draw(operation, None) is not None for operation in ("find", "poll", "poll", "poll", "poll")]
    assert hits == [False, False, True, True, False]


def test_a_plan_replays_from_its_seed() -> None:
    def hits(seed: int) -> list[bool]:
        plan = FaultPlan([Fault("poll", Effect.REFUSE, times=100, probability=0.3)], chance=random.Random(seed))
        return [plan.draw("poll", None) is not None for _ in range(100)]

    assert hits(7) == hits(7)
    assert hits(7) != hits(8)
    assert 10 < sum(hits(7)) < 60


def test_a_full_zone_offers_those_that_have_room() -> None:
    work = Work(TwinPlace(limits=Limits(machines_per_zone={"twin-1a": 0, "twin-1b": 1, "twin-1c": 0})))
    work.lay_ground(Kind.MACHINE)
    refusal = work.refused(work.desired(Kind.MACHINE))
    assert (refusal.code, refusal.alternatives) == ("cloud_capacity", ("twin-1b",))


def test_a_machine_that_powers_itself_off_ends_and_takes_its_disk_along(place: TwinPlace, work: Work) -> None:
    before = world(place)
    made = work.make(Kind.MACHINE)
    place.cloud.halt(made.ref.id)
    place.pass_time(60.0)
    assert work.connector.observe(made.ref).state is State.GONE
    assert work.connector.observe(made.ref).attributes["reason"] == "Client.InstanceInitiatedShutdown"
    assert world(place) == before


def test_the_console_is_what_the_machine_wrote(place: TwinPlace, work: Work) -> None:
    made = work.make(Kind.MACHINE)
    place.cloud.write_console(made.ref.id, "booted\n")
    assert work.connector.console(made.ref) == "booted\n"


def test_a_create_that_never_shows_up_names_what_must_be_deleted(work: Work) -> None:
    operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
    never = msgspec.structs.replace(operation, ref=msgspec.structs.replace(operation.ref, id="machine-999999"))
    outcome = work.outcome(never)
    assert isinstance(outcome, Failed)
    assert outcome.found is not None
    assert outcome.found.ref.id == "machine-999999"


def test_reads_lag_and_the_world_does_not() -> None:
    place = TwinPlace(listing_lag_s=30.0)
    work = Work(place)
    desired = work.desired(Kind.NETWORK)
    made = work.connector.begin_create(desired, "token")
    assert [found.ref.id for found in place.cloud.world()] == [made.ref.id]
    assert work.connector.find(desired) is None
    assert work.connector.observe(made.ref).state is State.GONE
    assert work.listed() == []
    place.pass_time(30.0)
    assert work.connector.find(desired) is not None


def test_changing_calls_are_counted(place: TwinPlace, work: Work) -> None:
    made = work.make(Kind.MACHINE)
    work.finish(work.connector.begin_delete(made.ref))
    assert place.cloud.changing_calls["create machine"] == 1
    assert place.cloud.changing_calls["delete machine"] == 1


def test_offers_and_prices_can_be_a_tests_own() -> None:
    types = {"big.metal": ("arm64", 96, 1 << 40, 500_000_000)}
    connector = TwinConnector(TwinCloud(VirtualClock()), regions=("moon-1",), machine_types=types)
    assert {offer.zone for offer in connector.offers("moon-1")} == {"moon-1a", "moon-1b", "moon-1c"}
    assert connector.price("moon-1", "big.metal").machine_per_hour == 500_000_000
