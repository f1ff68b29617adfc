"""What goes wrong in the emulated Google Cloud, over its real wire format, and what the connector makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from contract_work import Work
from gcp_place import GcpPlace, gcp_place

from grafos_connectors.contract import CloudError, Done, Failed, Kind, Pending, Ref, State
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule


@pytest.fixture
def place(tmp_path: Path) -> Iterator[GcpPlace]:
    with gcp_place(tmp_path) as place:
        yield place


@pytest.fixture
def work(place: GcpPlace) -> Work:
    work = Work(place)
    work.lay_ground(Kind.MACHINE)
    return work


def befall(place: GcpPlace, operation: str, effect: Effect, times: int = 1, **fault: object) -> None:
    """The next calls of the operation go wrong so."""
    rule = FaultRule(Fault(effect, **fault), provider="gcp", operation=operation, times=times)  # type: ignore[arg-type]
    place.clouds.faults.add(rule)


def sizes(place: GcpPlace) -> tuple[int, int]:
    """How many machines and disks truly exist."""
    kinds = [thing.kind for thing in place.clouds.world()]
    return kinds.count("instance"), kinds.count("disk")


# Refusals by the call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "ambiguous"),
    [
        (ErrorClass.CAPACITY, "cloud_capacity", False),
        (ErrorClass.QUOTA, "cloud_quota", False),
        (ErrorClass.THROTTLED, "cloud_throttled", False),
        (ErrorClass.DENIED, "cloud_denied", False),
        (ErrorClass.AUTH, "cloud_auth", False),
        (ErrorClass.UNAVAILABLE, "cloud_unreachable", True),
        (ErrorClass.INTERNAL, "cloud_unreachable", True),
    ],
)
def test_a_refusal_has_its_class_and_only_a_server_error_leaves_a_doubt(
    place: GcpPlace, work: Work, error: ErrorClass, code: str, *, ambiguous: bool
) -> None:
    befall(place, "instances.insert", Effect.REFUSE, times=0, error=error)
    before = place.changes().count("instances.insert")
    refusal = work.refused(work.desired(Kind.MACHINE))
    assert (refusal.code, refusal.ambiguous) == (code, ambiguous)
    assert refusal.cloud_code
    # A login that is not accepted is renewed and offered again, up to three times in all; nothing else is sent twice.
    sent = place.changes().count("instances.insert") - before
    assert sent == (3 if error is ErrorClass.AUTH else 1)
    assert sizes(place) == (0, 0)


@pytest.mark.parametrize("retry_after_s", [None, 9.0])
def test_a_throttled_create_says_how_long_to_wait_when_the_cloud_does(
    place: GcpPlace, work: Work, retry_after_s: float | None
) -> None:
    """403 without a wait, 429 with one."""
    befall(place, "instances.insert", Effect.REFUSE, error=ErrorClass.THROTTLED, retry_after_s=retry_after_s)
    refusal = work.refused(work.desired(Kind.MACHINE))
    assert (refusal.code, refusal.retry_after_s) == ("cloud_throttled", retry_after_s or 0.0)
    assert work.connector.begin_create(work.desired(Kind.MACHINE), "token").ref.id


def test_a_throttled_question_says_nothing_about_the_operation(place: GcpPlace, work: Work) -> None:
    """A create that succeeded, a poll that was refused, and a repeated create that met it: seen with other tools."""
    operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
    befall(place, "zoneOperations.get", Effect.REFUSE, error=ErrorClass.THROTTLED)
    with pytest.raises(CloudError) as raised:
        work.connector.poll(operation)
    assert raised.value.code == "cloud_throttled"
    again = Work(place)
    again.ids = work.ids
    assert again.connector.begin_create(again.desired(Kind.MACHINE), "token").ref == operation.ref
    found = work.finish(operation)
    assert found is not None
    assert sizes(place) == (1, 1)


# Refusals by the operation -------------------------------------------------------------------------------------------


def test_a_full_zone_is_said_by_the_operation_and_leaves_nothing(place: GcpPlace, work: Work) -> None:
    befall(place, "instances.insert", Effect.OPERATION_ERROR, error=ErrorClass.CAPACITY)
    operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
    assert isinstance(work.connector.poll(operation), Pending)
    outcome = work.outcome(operation)
    assert isinstance(outcome, Failed)
    error = outcome.cloud_error()
    assert (error.code, outcome.found) == ("cloud_capacity", None)
    assert error.alternatives
    assert work.zone not in error.alternatives
    assert sizes(place) == (0, 0)


def test_after_a_full_zone_the_same_token_tells_the_same_and_another_one_tries_again(
    place: GcpPlace, work: Work
) -> None:
    befall(place, "instances.insert", Effect.OPERATION_ERROR, error=ErrorClass.CAPACITY)
    desired = work.desired(Kind.MACHINE)
    assert work.fails(desired, "token").code == "cloud_capacity"
    assert work.fails(desired, "token").code == "cloud_capacity"
    found = work.finish(work.connector.begin_create(desired, "token-2"))
    assert found is not None
    assert found.state is State.READY


def test_a_quota_may_be_told_by_the_operation_too(place: GcpPlace, work: Work) -> None:
    befall(place, "instances.insert", Effect.OPERATION_ERROR, error=ErrorClass.QUOTA)
    error = work.fails(work.desired(Kind.MACHINE))
    assert (error.code, error.ambiguous) == ("cloud_quota", False)
    assert sizes(place) == (0, 0)


def test_an_operation_that_says_done_while_nothing_was_made_has_failed(place: GcpPlace, work: Work) -> None:
    befall(place, "instances.insert", Effect.SAYS_DONE_AND_IS_NOT)
    outcome = work.outcome(work.connector.begin_create(work.desired(Kind.MACHINE), "token"))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_not_found"
    assert outcome.found is not None
    assert isinstance(work.outcome(work.connector.begin_delete(outcome.found.ref)), Done)


def test_a_delete_that_says_done_and_is_not_is_called_again(place: GcpPlace, work: Work) -> None:
    made = work.make(Kind.MACHINE)
    befall(place, "instances.delete", Effect.SAYS_DONE_AND_IS_NOT)
    outcome = work.outcome(work.connector.begin_delete(made.ref))
    assert isinstance(outcome, Failed)
    assert outcome.cloud_error().code == "cloud_not_found"
    assert outcome.found is not None
    assert isinstance(work.outcome(work.connector.begin_delete(made.ref)), Done)
    assert sizes(place) == (0, 0)


def test_a_delete_whose_operation_failed_says_why(place: GcpPlace, work: Work) -> None:
    made = work.make(Kind.MACHINE)
    befall(place, "instances.delete", Effect.OPERATION_ERROR, error=ErrorClass.INTERNAL)
    outcome = work.outcome(work.connector.begin_delete(made.ref))
    assert isinstance(outcome, Failed)
    assert (outcome.cloud_error().code, outcome.found is not None) == ("cloud_unreachable", True)


# Lost requests and answers -------------------------------------------------------------------------------------------


def test_a_create_whose_answer_was_lost_is_met_by_its_name(place: GcpPlace, work: Work) -> None:
    """With the same token the first operation answers, with another the name does; neither makes a second machine."""
    befall(place, "instances.insert", Effect.LOST_ANSWER)
    desired = work.desired(Kind.MACHINE)
    assert work.refused(desired, "token").ambiguous
    with_the_same = work.connector.begin_create(desired, "token")
    with_another = work.connector.begin_create(desired, "token-2")
    assert with_the_same.ref == with_another.ref
    for operation in (with_the_same, with_another):
        found = work.finish(operation)
        assert found is not None
        assert found.ref.key == desired.key
    assert sizes(place) == (1, 1)


def test_a_create_that_was_accepted_is_not_refused_because_the_next_question_fails(place: GcpPlace, work: Work) -> None:
    """The answer of an operation that has ended is looked into; whatever comes of that look, the machine bills."""
    desired = work.desired(Kind.MACHINE)
    first = work.connector.begin_create(desired, "token")
    work.finish(first)
    befall(place, "instances.get", Effect.REFUSE, times=0, error=ErrorClass.DENIED)
    again = work.connector.begin_create(desired, "token")
    assert (again.ref, again.handle) == (first.ref, first.handle)


def test_what_cannot_be_looked_at_after_its_name_was_met_is_in_doubt(place: GcpPlace, work: Work) -> None:
    """A refusal without doubt would let its journal forget the machine."""
    desired = work.desired(Kind.MACHINE)
    work.finish(work.connector.begin_create(desired, "token"))
    befall(place, "instances.get", Effect.REFUSE, times=0, error=ErrorClass.DENIED)
    refusal = work.refused(desired, "token-2")
    assert (refusal.code, refusal.ambiguous) == ("cloud_denied", True)


def test_a_create_whose_request_was_lost_made_nothing(place: GcpPlace, work: Work) -> None:
    befall(place, "instances.insert", Effect.LOST_REQUEST)
    desired = work.desired(Kind.MACHINE)
    assert work.refused(desired).ambiguous
    assert work.connector.find(desired) is None
    assert sizes(place) == (0, 0)


def test_a_delete_whose_answer_was_lost_is_repeated_safely(place: GcpPlace, work: Work) -> None:
    made = work.make(Kind.MACHINE)
    befall(place, "instances.delete", Effect.LOST_ANSWER)
    with pytest.raises(CloudError) as raised:
        work.connector.begin_delete(made.ref)
    assert raised.value.ambiguous
    place.pass_time(600)
    assert isinstance(work.outcome(work.connector.begin_delete(made.ref)), Done)
    assert sizes(place) == (0, 0)


def test_a_question_whose_answer_was_lost_is_asked_again(place: GcpPlace, work: Work) -> None:
    made = work.make(Kind.MACHINE)
    befall(place, "instances.get", Effect.LOST_ANSWER, times=2)
    assert work.connector.observe(made.ref).state is State.READY


# What machines do by themselves --------------------------------------------------------------------------------------


def test_a_machine_that_runs_and_dies_at_once_is_not_called_ready(place: GcpPlace, work: Work) -> None:
    befall(place, "instances.insert", Effect.LAUNCH_THEN_DIE, after_s=0.0)
    operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
    place.pass_time(600)
    outcome = work.outcome(operation)
    assert isinstance(outcome, Failed)
    left = [] if outcome.found is None else [outcome.found.ref]
    for ref in left:
        work.finish(work.connector.begin_delete(ref))
    assert sizes(place) == (0, 0)


def test_a_spot_machine_that_is_taken_back_is_gone_with_its_disk(place: GcpPlace, work: Work) -> None:
    befall(place, "instances.insert", Effect.SPOT_NOTICE, after_s=60.0)
    made = work.make(Kind.MACHINE, spot=True)
    for _ in range(10):
        place.pass_time(60)
        work.connector.observe(made.ref)
    assert work.connector.observe(made.ref).state is State.GONE
    assert sizes(place) == (0, 0)


def test_what_a_list_does_not_show_yet_is_found_by_its_name(place: GcpPlace, work: Work) -> None:
    place.clouds.set({"visible_after_s": 600.0})
    made = work.make(Kind.MACHINE, "grafos-just-made")
    desired = work.desired(Kind.MACHINE, "grafos-just-made")
    assert made.ref.id not in {found.ref.id for found in work.listed()}
    found = work.connector.find(desired)
    assert found is not None
    place.pass_time(600.0)
    assert made.ref.id in {found.ref.id for found in work.listed()}


def test_a_disk_in_use_is_not_deleted(place: GcpPlace, work: Work) -> None:
    made = work.make(Kind.MACHINE)
    disk = Ref(key="", kind=Kind.DISK, id=made.ref.id.replace("/instances/", "/disks/"), region=place.region)
    assert work.why_not(lambda: work.connector.begin_delete(disk)).code == "cloud_in_use"
    assert sizes(place) == (1, 1)
