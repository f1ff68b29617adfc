"""How a change on Google Cloud stands, decided from its operations and one read."""

from __future__ import annotations

from typing import Any

import pytest

from grafos_connectors.contract import Done, Failed, Found, Kind, Operation, Pending, Progress, Ref, State
from grafos_connectors.gcp.progress import Handle, Sight, created, deleted, updated

BEGAN, LAG_S, PAUSE_S = 1000.0, 10.0, 2.0
YOUNG, SETTLED = BEGAN + LAG_S - 0.1, BEGAN + LAG_S
REF = Ref(key="k", kind=Kind.MACHINE, id="zones/z-1-a/instances/m", region="z-1", zone="z-1-a")
RUNNING: dict[str, Any] = {"status": "RUNNING"}
ENDED: dict[str, Any] = {"status": "DONE"}
FORGOTTEN = None
TAGS = {"grafos:key": "k", "grafos:expires": "7"}


def failed(code: str) -> dict[str, Any]:
    return {"status": "DONE", "error": {"errors": [{"code": code, "message": "because"}]}, "httpErrorStatusCode": 400}


def seen(state: State, key: str = "k", **attributes: str) -> Found:
    ref = Ref(key=key, kind=REF.kind, id=REF.id, region=REF.region, zone=REF.zone)
    return Found(ref=ref, state=state, tags=TAGS, attributes=attributes)


def after_create(found: Found | None, *operations: Any, now: float = YOUNG) -> Progress:
    operation = Operation(verb="create", ref=REF, began_at=BEGAN)
    return created(operation, Sight(operations=operations, found=found), now=now, lag_s=LAG_S, pause_s=PAUSE_S)


def after_update(found: Found | None, *operations: Any, now: float = YOUNG) -> Progress:
    operation = Operation(verb="update", ref=REF, handle=Handle(tags=TAGS).text(), began_at=BEGAN)
    return updated(operation, Sight(operations=operations, found=found), now=now, lag_s=LAG_S, pause_s=PAUSE_S)


def after_delete(found: Found | None, *operations: Any, now: float = YOUNG, key: str = "k") -> Progress:
    ref = Ref(key=key, kind=REF.kind, id=REF.id, region=REF.region)
    operation = Operation(verb="delete", ref=ref, began_at=BEGAN)
    return deleted(operation, Sight(operations=operations, found=found), now=now, lag_s=LAG_S, pause_s=PAUSE_S)


def code_of(progress: Progress) -> str:
    assert isinstance(progress, Failed)
    return progress.cloud_error().code


# Creates -------------------------------------------------------------------------------------------------------------


def test_a_create_waits_for_its_operation_however_long_that_takes() -> None:
    assert after_create(None, RUNNING, now=SETTLED + 600) == Pending(again_after_s=PAUSE_S)


def test_a_create_is_done_when_it_is_ready_and_not_before() -> None:
    assert isinstance(after_create(seen(State.PENDING), ENDED), Pending)
    assert after_create(seen(State.READY), ENDED) == Done(found=seen(State.READY))


def test_an_operation_that_says_done_while_nothing_is_there_has_failed() -> None:
    """A machine that was taken back, or whose end came, between its start and the read. Should the read be behind, then
    it exists and bills: so it is deleted all the same."""
    progress = after_create(None, ENDED)
    assert code_of(progress) == "cloud_not_found"
    assert isinstance(progress, Failed)
    assert progress.found is not None
    assert progress.found.ref == REF


def test_what_an_operation_refuses_has_the_operations_class_and_leaves_nothing() -> None:
    progress = after_create(None, failed("ZONE_RESOURCE_POOL_EXHAUSTED"))
    assert code_of(progress) == "cloud_capacity"
    assert isinstance(progress, Failed)
    assert (progress.found, progress.cloud_error().why) == (None, "because")


def test_what_a_failed_operation_left_behind_is_still_to_be_deleted() -> None:
    progress = after_create(seen(State.STOPPED), failed("INTERNAL_ERROR"))
    assert isinstance(progress, Failed)
    assert progress.found == seen(State.STOPPED)


def test_what_an_earlier_call_made_is_not_named_as_left_behind_by_one_that_met_it() -> None:
    """It may be the machine that another process waits for."""
    progress = after_create(seen(State.READY), failed("RESOURCE_ALREADY_EXISTS"))
    assert code_of(progress) == "cloud_conflict"
    assert isinstance(progress, Failed)
    assert progress.found is None


def test_somebody_elses_resource_is_never_named_as_what_was_left_behind() -> None:
    """Whoever reads ``found`` deletes it."""
    for operation in (failed("RESOURCE_ALREADY_EXISTS"), ENDED):
        progress = after_create(seen(State.READY, key="theirs"), operation)
        assert code_of(progress) == "cloud_conflict"
        assert isinstance(progress, Failed)
        assert progress.found is None


@pytest.mark.parametrize("operations", [(), (FORGOTTEN,)])
def test_what_no_operation_tells_about_is_awaited_for_the_lag_and_then_deleted(operations: tuple[Any, ...]) -> None:
    """Of an earlier insert, whose answer was lost, only the name is known."""
    assert isinstance(after_create(None, *operations), Pending)
    progress = after_create(None, *operations, now=SETTLED)
    assert code_of(progress) == "cloud_not_found"
    assert isinstance(progress, Failed)
    assert progress.found is not None
    assert progress.found.ref.id == REF.id


def test_a_spot_machine_that_stopped_before_it_was_ready_was_taken_back() -> None:
    """Another zone may have room; a machine at the full price that stopped was stopped by somebody."""
    assert code_of(after_create(seen(State.STOPPED, spot="true"), ENDED)) == "cloud_capacity"
    progress = after_create(seen(State.STOPPED, reason="stopped by a person"), ENDED)
    assert code_of(progress) == "cloud_conflict"
    assert isinstance(progress, Failed)
    assert progress.found is not None
    assert progress.cloud_error().why == "stopped by a person"


# Updates -------------------------------------------------------------------------------------------------------------


def test_an_update_is_done_when_all_its_operations_ended_and_a_read_shows_its_tags() -> None:
    assert isinstance(after_update(None, ENDED, RUNNING), Pending)
    assert after_update(seen(State.READY), ENDED, ENDED) == Done(found=seen(State.READY))
    assert after_update(seen(State.READY)) == Done(found=seen(State.READY))


def test_an_update_that_no_read_shows_has_failed_after_the_lag() -> None:
    old = Found(ref=REF, state=State.READY, tags={"grafos:key": "k"})
    assert isinstance(after_update(old, ENDED), Pending)
    assert code_of(after_update(old, ENDED, now=SETTLED)) == "cloud_not_found"


def test_an_update_of_what_is_gone_or_going_has_failed() -> None:
    assert code_of(after_update(None, ENDED)) == "cloud_not_found"
    assert code_of(after_update(seen(State.DELETING), ENDED)) == "cloud_not_found"


def test_an_update_that_an_operation_refuses_says_so() -> None:
    assert code_of(after_update(seen(State.READY), ENDED, failed("QUOTA_EXCEEDED"))) == "cloud_quota"


# Deletes -------------------------------------------------------------------------------------------------------------


def test_a_delete_is_done_when_its_operation_ended_and_nothing_is_there() -> None:
    assert isinstance(after_delete(None, RUNNING, now=SETTLED), Pending)
    assert after_delete(None, ENDED) == Done()


def test_what_the_delete_did_not_find_must_stay_unseen_for_the_lag() -> None:
    """An insert whose answer was lost may land a moment after the delete was told that there is nothing."""
    assert isinstance(after_delete(None), Pending)
    assert after_delete(None, now=SETTLED) == Done()


def test_a_delete_that_says_done_and_is_not_must_be_called_again() -> None:
    assert isinstance(after_delete(seen(State.READY), ENDED), Pending)
    assert code_of(after_delete(seen(State.READY), ENDED, now=SETTLED)) == "cloud_not_found"


def test_what_the_delete_did_not_find_and_a_read_shows_must_be_deleted_again() -> None:
    assert code_of(after_delete(seen(State.READY))) == "cloud_not_found"


def test_what_is_in_use_says_so_by_its_operation() -> None:
    progress = after_delete(seen(State.READY), failed("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"))
    assert code_of(progress) == "cloud_in_use"


def test_a_machine_may_take_its_time_to_end() -> None:
    assert isinstance(after_delete(seen(State.DELETING), ENDED, now=SETTLED + 600), Pending)


def test_another_resource_that_took_the_name_is_not_what_was_deleted() -> None:
    assert after_delete(seen(State.READY, key="theirs"), ENDED) == Done()


def test_a_delete_that_failed_is_not_believed_because_a_label_was_changed_meanwhile() -> None:
    progress = after_delete(seen(State.READY, key=""), failed("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"))
    assert code_of(progress) == "cloud_in_use"


# Handles -------------------------------------------------------------------------------------------------------------


def test_a_handle_survives_the_journal() -> None:
    handle = Handle(operations=("zones/z/operations/o-1",), tags=TAGS)
    operation = Operation(verb="update", ref=REF, handle=handle.text())
    assert Handle.of(operation) == handle
    assert Handle.of(Operation(verb="create", ref=REF)) == Handle()
