"""How a change on AWS stands, decided from one read: creates, and each case of "Gone" on the decision page."""

from __future__ import annotations

import pytest

from grafos_connectors.aws.progress import ACCEPTED, UNSEEN, created, deleted
from grafos_connectors.contract import Done, Failed, Found, Kind, Operation, Pending, Progress, Ref, State

BEGAN, LAG_S, PAUSE_S = 1000.0, 30.0, 2.0
YOUNG, SETTLED = BEGAN + LAG_S - 0.1, BEGAN + LAG_S


def seen(state: State, kind: Kind = Kind.MACHINE, **attributes: str) -> Found:
    return Found(ref=Ref(key="k", kind=kind, id="x-1", region="us-east-1"), state=state, attributes=attributes)


def after_create(found: Found | None, now: float = YOUNG) -> Progress:
    operation = Operation(verb="create", ref=seen(State.READY).ref, began_at=BEGAN)
    return created(operation, found, now=now, lag_s=LAG_S, pause_s=PAUSE_S)


def after_delete(
    found: Found | None, *, handle: str = ACCEPTED, kind: Kind = Kind.MACHINE, now: float = YOUNG
) -> Progress:
    operation = Operation(verb="delete", ref=seen(State.READY, kind).ref, handle=handle, began_at=BEGAN)
    return deleted(operation, found, now=now, lag_s=LAG_S, pause_s=PAUSE_S)


def code_of(progress: Progress) -> str:
    assert isinstance(progress, Failed)
    return progress.cloud_error().code


def test_what_was_made_a_moment_ago_may_not_show_up_yet() -> None:
    """DescribeInstances by id may answer InvalidInstanceID.NotFound after a successful RunInstances."""
    assert after_create(None) == Pending(again_after_s=PAUSE_S)


def test_what_never_shows_up_has_failed() -> None:
    assert code_of(after_create(None, SETTLED)) == "cloud_not_found"


def test_what_does_not_show_up_is_deleted_all_the_same() -> None:
    """EC2 named its id: it may show up in minutes, and would bill beside the one that is made in its place."""
    progress = after_create(None, SETTLED)
    assert isinstance(progress, Failed)
    assert progress.found is not None
    assert progress.found.ref.id == "x-1"
    assert progress.found.state is State.PENDING


def test_a_create_is_done_when_it_is_ready_and_not_before() -> None:
    assert isinstance(after_create(seen(State.PENDING), SETTLED), Pending)
    assert after_create(seen(State.READY)) == Done(found=seen(State.READY))


@pytest.mark.parametrize(
    ("reason_code", "code"),
    [
        ("Server.InsufficientInstanceCapacity", "cloud_capacity"),
        ("Client.InternalError", "cloud_invalid"),
        ("Client.VolumeLimitExceeded", "cloud_quota"),
        ("Client.InstanceInitiatedShutdown", "cloud_conflict"),
        ("", "cloud_unknown"),
    ],
)
def test_a_machine_that_launched_and_died_tells_why(reason_code: str, code: str) -> None:
    """The waiter of the SDK would only say "terminal failure state"."""
    died = seen(State.GONE, reason="because", reason_code=reason_code)
    progress = after_create(died)
    assert code_of(progress) == code
    assert isinstance(progress, Failed)
    assert progress.found is None
    assert progress.cloud_error().why == "because"


def test_a_machine_that_is_ending_is_still_to_be_deleted() -> None:
    progress = after_create(seen(State.DELETING))
    assert isinstance(progress, Failed)
    assert progress.found is not None


def test_a_machine_is_gone_when_a_read_shows_it_terminated() -> None:
    assert after_delete(seen(State.GONE)) == Done()
    assert after_delete(seen(State.GONE), handle=UNSEEN) == Done()


def test_a_machine_that_one_read_does_not_show_is_not_believed_gone() -> None:
    assert isinstance(after_delete(None), Pending)
    assert isinstance(after_delete(None, handle=UNSEEN), Pending)


def test_a_machine_that_reads_did_not_show_over_the_whole_lag_is_gone() -> None:
    assert after_delete(None, now=SETTLED) == Done()
    assert after_delete(None, handle=UNSEEN, now=SETTLED) == Done()


def test_what_leaves_no_trace_is_gone_at_the_first_read_after_an_accepted_delete() -> None:
    assert after_delete(None, kind=Kind.FIREWALL) == Done()


def test_what_the_delete_did_not_find_must_stay_unseen_for_the_lag() -> None:
    assert isinstance(after_delete(None, kind=Kind.FIREWALL, handle=UNSEEN), Pending)
    assert after_delete(None, kind=Kind.FIREWALL, handle=UNSEEN, now=SETTLED) == Done()


def test_an_old_view_of_what_was_deleted_is_waited_out() -> None:
    assert isinstance(after_delete(seen(State.READY, Kind.FIREWALL), kind=Kind.FIREWALL), Pending)


def test_a_delete_that_says_done_and_is_not_must_be_called_again() -> None:
    alive = seen(State.READY, Kind.FIREWALL)
    assert code_of(after_delete(alive, kind=Kind.FIREWALL, now=SETTLED)) == "cloud_not_found"


def test_what_the_delete_did_not_find_and_a_read_shows_must_be_deleted_again() -> None:
    assert code_of(after_delete(seen(State.READY), handle=UNSEEN)) == "cloud_not_found"


def test_a_machine_may_take_its_time_to_end() -> None:
    assert isinstance(after_delete(seen(State.DELETING), now=SETTLED + 600), Pending)
