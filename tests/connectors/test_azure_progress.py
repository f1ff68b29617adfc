"""How a change on Azure stands, decided from one question about its operation and one read of its resource."""

from __future__ import annotations

import msgspec
import pytest

from grafos_connectors.azure import describe
from grafos_connectors.azure.errors import Refusal
from grafos_connectors.azure.ids import parse
from grafos_connectors.azure.lro import FAILED, RUNNING, SUCCEEDED, UNKNOWN, Step
from grafos_connectors.azure.progress import Handle, created, deleted, read, updated, written
from grafos_connectors.contract import CloudError, Done, Failed, Found, Kind, Operation, Pending, Progress, Ref, State

BEGAN, LAG_S, PAUSE_S = 1000.0, 30.0, 5.0
YOUNG, SETTLED = BEGAN + LAG_S - 0.1, BEGAN + LAG_S
ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/m"
PLAIN = Handle()
SOLD_OUT = Refusal("AllocationFailed", "no room")


def seen(state: State, key: str = "k", **attributes: str) -> Found:
    return Found(ref=Ref(key=key, kind=Kind.MACHINE, id=ID, region="eastus"), state=state, attributes=attributes)


def after_create(step: Step, found: Found | None, now: float = YOUNG) -> Progress:
    operation = Operation(verb="create", ref=seen(State.READY).ref, began_at=BEGAN)
    return created(operation, step, found, now=now, lag_s=LAG_S, pause_s=PAUSE_S)


def after_delete(step: Step, found: Found | None, now: float = YOUNG, handle: Handle = PLAIN) -> Progress:
    operation = Operation(verb="delete", ref=seen(State.READY).ref, began_at=BEGAN)
    return deleted(operation, handle, step, found, now=now, lag_s=LAG_S, pause_s=PAUSE_S)


def code_of(progress: Progress) -> str:
    assert isinstance(progress, Failed)
    return progress.cloud_error().code


def test_while_the_operation_runs_it_is_asked_again_when_arm_says_so() -> None:
    assert after_create(Step(RUNNING, 17.0), None) == Pending(again_after_s=17.0)
    assert after_create(Step(RUNNING), None) == Pending(again_after_s=PAUSE_S)
    assert after_delete(Step(RUNNING, 3.0), None) == Pending(again_after_s=3.0)


@pytest.mark.parametrize("state", [SUCCEEDED, UNKNOWN])
def test_a_create_is_done_when_a_read_shows_it_ready_and_not_before(state: str) -> None:
    assert after_create(Step(state), seen(State.READY)) == Done(found=seen(State.READY))
    assert isinstance(after_create(Step(state), seen(State.PENDING), SETTLED), Pending)


def test_an_operation_that_succeeded_without_its_resource_has_failed() -> None:
    """A GET by name is never behind the truth."""
    progress = after_create(Step(SUCCEEDED), None)
    assert code_of(progress) == "cloud_not_found"
    assert isinstance(progress, Failed)
    assert progress.found is None


def test_a_create_of_which_nobody_knows_anything_is_awaited_and_then_deleted_all_the_same() -> None:
    assert isinstance(after_create(Step(UNKNOWN), None), Pending)
    progress = after_create(Step(UNKNOWN), None, SETTLED)
    assert code_of(progress) == "cloud_not_found"
    assert isinstance(progress, Failed)
    assert progress.found is not None
    assert progress.found.ref.id == ID


def test_what_failed_stays_behind_and_is_named() -> None:
    progress = after_create(Step(FAILED, refusal=SOLD_OUT), seen(State.FAILED))
    assert code_of(progress) == "cloud_capacity"
    assert isinstance(progress, Failed)
    assert progress.found == seen(State.FAILED)


def test_what_somebody_else_made_under_our_name_is_not_ours_to_take_or_to_delete() -> None:
    for step in (Step(SUCCEEDED), Step(UNKNOWN), Step(FAILED, refusal=SOLD_OUT)):
        progress = after_create(step, seen(State.READY, key="theirs"))
        assert isinstance(progress, Failed)
        assert progress.found is None


def test_a_machine_tells_why_it_failed_when_its_operation_is_forgotten() -> None:
    failed = seen(State.FAILED, reason_code="ZonalAllocationFailed", reason="no room")
    assert code_of(after_create(Step(UNKNOWN), failed)) == "cloud_capacity"
    assert code_of(after_create(Step(UNKNOWN), seen(State.FAILED))) == "cloud_conflict"
    assert code_of(after_create(Step(UNKNOWN), seen(State.STOPPED))) == "cloud_conflict"


def test_a_delete_is_done_when_a_read_does_not_find_it() -> None:
    for state in (SUCCEEDED, UNKNOWN, FAILED):
        assert after_delete(Step(state), None) == Done()


def test_gone_is_not_believed_at_once_of_what_the_delete_call_did_not_find() -> None:
    """A create call that is still on its way may land after it."""
    unseen = Handle(unseen=True)
    assert isinstance(after_delete(Step(UNKNOWN), None, YOUNG, unseen), Pending)
    assert after_delete(Step(UNKNOWN), None, SETTLED, unseen) == Done()
    assert code_of(after_delete(Step(UNKNOWN), seen(State.READY), YOUNG, unseen)) == "cloud_not_found"


def test_what_is_still_there_after_its_delete_is_deleted_again() -> None:
    assert isinstance(after_delete(Step(SUCCEEDED), seen(State.DELETING), SETTLED), Pending)
    assert isinstance(after_delete(Step(SUCCEEDED), seen(State.READY), YOUNG), Pending)
    assert code_of(after_delete(Step(SUCCEEDED), seen(State.READY), SETTLED)) == "cloud_not_found"
    assert code_of(after_delete(Step(FAILED, refusal=Refusal("ScopeLocked", "")), seen(State.READY))) == "cloud_denied"


def after_update(found: Found | None, now: float = YOUNG) -> Progress:
    operation = Operation(verb="update", ref=seen(State.READY).ref, began_at=BEGAN)
    given = Handle(tags={"grafos:key": "k"}, ends_at="7")
    return updated(operation, given, found, now=now, lag_s=LAG_S, pause_s=PAUSE_S)


def test_an_update_is_done_when_a_read_shows_both_tags_and_moment() -> None:
    right = msgspec.structs.replace(seen(State.READY, ends_at="7"), tags={"grafos:key": "k"})
    assert after_update(right) == Done(found=right)
    older = msgspec.structs.replace(right, attributes={"ends_at": "6"})
    assert isinstance(after_update(older), Pending)
    assert code_of(after_update(older, SETTLED)) == "cloud_conflict"
    assert code_of(after_update(None)) == "cloud_not_found"
    assert code_of(after_update(msgspec.structs.replace(right, state=State.DELETING))) == "cloud_not_found"


def test_a_handle_is_read_as_it_was_written_and_another_versions_is_empty() -> None:
    handle = Handle(token="t", unseen=True, tags={"a": "b"}, ends_at="7")
    assert read(written(handle)) == handle
    assert read("") == read("no JSON") == read("[]") == Handle()


# Machines -------------------------------------------------------------------------------------------------------------


def machine(provisioning: str, power: str = "", **fields: object) -> dict[str, object]:
    statuses = [{"code": f"PowerState/{power}", "level": "Info"}] if power else []
    return {
        "id": ID,
        "location": "East US",
        "properties": {"provisioningState": provisioning, "instanceView": {"statuses": statuses}, **fields},
    }


@pytest.mark.parametrize(
    ("provisioning", "power", "state", "is_billed"),
    [
        ("Creating", "", State.PENDING, True),
        ("Creating", "running", State.PENDING, True),
        ("Succeeded", "starting", State.PENDING, True),
        ("Succeeded", "running", State.READY, True),
        ("Updating", "running", State.READY, True),
        ("Failed", "running", State.READY, True),  # a later change failed; it runs all the same
        ("Failed", "", State.FAILED, False),  # it never got hardware
        ("Succeeded", "stopping", State.STOPPED, True),
        ("Succeeded", "stopped", State.STOPPED, True),  # switched off by itself, and billed
        ("Succeeded", "deallocating", State.STOPPED, True),
        ("Succeeded", "deallocated", State.STOPPED, False),
        ("Deleting", "running", State.DELETING, True),
        ("Succeeded", "", State.PENDING, True),
    ],
)
def test_a_machines_state_follows_from_its_power_and_its_last_change(
    provisioning: str,
    power: str,
    state: State,
    is_billed: bool,  # noqa: FBT001  a table's column
) -> None:
    found = describe.found(machine(provisioning, power), parse(ID))
    assert (found.state, found.billable, found.ref.region) == (state, is_billed, "eastus")


@pytest.mark.parametrize("document", [machine("Succeeded", "levitating"), machine("Levitating")])
def test_a_state_that_nobody_knows_is_an_error_and_no_guess(document: dict[str, object]) -> None:
    with pytest.raises(CloudError) as raised:
        describe.found(document, parse(ID))
    assert raised.value.code == "cloud_unknown"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("1970-01-02T00:00:00+00:00", "86400"),
        ("1970-01-02T00:00:00.1234567+00:00", "86400"),
        ("1970-01-02T00:00:00.1234567Z", "86400"),
        ("1970-01-02T00:00:00Z", "86400"),
        ("1970-01-02T02:00:00.5+02:00", "86400"),
        ("yesterday", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_moment_is_read_in_each_form_that_arm_writes(moment: object, expected: str) -> None:
    assert describe.unix_seconds(moment) == expected
