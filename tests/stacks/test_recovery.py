"""What is next is a pure function of the journal's row, of what a read shows, and of the time."""

from __future__ import annotations

import msgspec
import pytest

from grafos_connectors.contract import CloudError, Found, Kind, Operation, Ref, State
from grafos_stacks.aws import AwsLayout
from grafos_stacks.journal import Life, ResourceRow
from grafos_stacks.recovery import (
    BACK_OFF_S_MAX,
    CALLS_MAX,
    Adopt,
    Again,
    Await,
    Create,
    Ground,
    Keep,
    Look,
    Remove,
    Sight,
    Stop,
    Unmaking,
    after_refusal,
    back_off_s,
    next_step,
    recovery,
    row_of,
)

LAG = 30.0
THEN = 1000.0  # when the row last changed
KEY = "ab" * 16


def ref(id: str = "i-1", kind: Kind = Kind.MACHINE) -> Ref:
    return Ref(KEY, kind, id, "us-east-1")


def row(life: Life, kind: Kind = Kind.MACHINE, **fields: object) -> ResourceRow:
    made = life not in (Life.INTENDED, Life.REFUSED)
    base = ResourceRow(
        key=KEY,
        stack="aws-one",
        name=kind.value,
        kind=kind,
        region="us-east-1",
        zone="",
        attempt=2,
        token="g",
        life=life,
        first_at=THEN,
        intended_at=THEN,
        changed_at=THEN,
        ref=ref(f"{kind.value}-1", kind) if made else None,
    )
    return msgspec.structs.replace(base, **fields)


def seen(id: str = "machine-1", at: float = THEN + 1) -> Sight:
    return Sight(at, Found(ref(id), State.READY))


def unseen(at: float = THEN + 1) -> Sight:
    return Sight(at, None)


def step(the_row: ResourceRow | None, sight: Sight | None, *, once: bool = True, lost_at: float = 0.0) -> object:
    return next_step(the_row, sight, Ground(THEN + 1, once, LAG, lost_at))


LATE = THEN + LAG


@pytest.mark.parametrize(
    ("life", "sight", "once", "wanted"),
    [
        # an intent without an outcome may have had its effect
        (Life.INTENDED, None, True, Look(THEN + 1)),
        (Life.INTENDED, seen(), True, Adopt(seen().found)),
        (Life.INTENDED, unseen(), True, Create(2)),  # the same token makes no second one
        (Life.INTENDED, unseen(), False, Look(LATE)),  # this cloud would make a second one
        (Life.INTENDED, unseen(LATE), False, Create(2)),
        # a call that was answered is waited for
        (Life.BEGUN, None, True, Await()),
        (Life.BEGUN, unseen(), False, Await()),
        # what was there may be gone, or only not be shown
        (Life.READY, None, True, Look(THEN + 1)),
        (Life.READY, seen(), True, Keep(seen().found)),
        (Life.READY, seen("machine-9"), True, Adopt(seen("machine-9").found)),
        (Life.READY, unseen(), True, Look(LATE)),
        (Life.READY, unseen(LATE), True, Create(3)),
        # refused for good: nothing came to be
        (Life.REFUSED, unseen(), False, Create(3)),
        (Life.REFUSED, seen(), False, Adopt(seen().found)),
        # failed: what it left goes first
        (Life.FAILED, None, True, Remove(ref("machine-1"))),
        # a delete of which nobody knows the end
        (Life.UNMAKING, seen(), True, Look(LATE)),
        (Life.UNMAKING, seen(at=LATE), True, Adopt(seen(at=LATE).found)),
        (Life.UNMAKING, unseen(), True, Look(LATE)),
        (Life.UNMAKING, unseen(LATE), True, Create(3)),
        # gone: a listing may still show it for a while
        (Life.GONE, seen(), True, Look(LATE)),
        (Life.GONE, seen("machine-9"), True, Adopt(seen("machine-9").found)),
        (Life.GONE, unseen(), True, Create(3)),
    ],
)
def test_the_next_step_follows_from_row_and_sight(life: Life, sight: Sight | None, once: bool, wanted: object) -> None:  # noqa: FBT001  a table's column
    assert step(row(life), sight, once=once) == wanted


def test_a_new_fabric_waits_for_nothing() -> None:
    assert step(None, None) == Look(THEN + 1)
    assert step(None, unseen(), once=False) == Create(1)


def test_with_the_journal_lost_nothing_is_made_before_the_listing_can_be_believed() -> None:
    assert step(None, unseen(), lost_at=THEN) == Look(LATE)
    assert step(None, unseen(LATE), lost_at=THEN) == Create(1)
    assert step(None, seen(), lost_at=THEN) == Adopt(seen().found)


def test_what_broke_or_hangs_on_what_was_replaced_goes_first() -> None:
    broken = Sight(THEN, Found(ref(), State.FAILED))
    assert step(None, broken) == Remove(ref())
    assert step(row(Life.READY), broken) == Remove(ref())
    assert step(row(Life.READY), Sight(THEN, None, stale=ref())) == Remove(ref())


def test_several_conflicts_in_a_row_are_waited_for_once() -> None:
    """Tokens of earlier cells of the name are used up one after the other; nothing new came to be meanwhile."""
    later = row(Life.REFUSED, why="cloud_conflict", doubt_at=THEN, changed_at=LATE + 5, intended_at=LATE + 5)
    assert step(later, unseen(LATE + 6)) == Create(3)


def test_a_conflict_is_looked_at_again_before_the_next_attempt() -> None:
    conflict = row(Life.REFUSED, why="cloud_conflict", doubt_at=THEN)
    assert step(conflict, unseen()) == Look(LATE)
    assert step(conflict, unseen(LATE)) == Create(3)
    assert step(conflict, seen()) == Adopt(seen().found)


def test_a_refusal_after_a_call_without_an_answer_is_waited_for_when_making_and_when_undoing() -> None:
    """What that call made, if it made anything, no read need show before."""
    doubtful = row(Life.REFUSED, why="cloud_throttled", doubt_at=THEN)
    assert step(doubtful, unseen()) == Look(LATE)
    assert step(doubtful, unseen(LATE)) == Create(3)
    assert undo([doubtful]).look_not_before == LATE
    assert undo([doubtful], at=LATE).look_not_before == 0.0
    assert step(row(Life.REFUSED, why="cloud_throttled"), unseen()) == Create(3)


def test_a_failure_that_left_nothing_is_followed_by_the_next_attempt() -> None:
    assert step(row(Life.FAILED, ref=None), None) == Create(3)


# --- a refused call ---------------------------------------------------------------------------------------------


def error(code: str, **fields: object) -> CloudError:
    return CloudError(code, "no", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["cloud_capacity", "cloud_quota", "cloud_denied", "cloud_auth", "cloud_invalid"])
def test_what_the_cloud_will_not_do_is_told_at_once(code: str) -> None:
    assert after_refusal(error(code), 1, 0.0, LAG) == Stop()


def test_an_unknown_refusal_fails_closed() -> None:
    assert after_refusal(error("cloud_unknown"), 1, 0.0, LAG) == Stop()


def test_a_throttle_waits_as_long_as_the_cloud_says() -> None:
    assert after_refusal(error("cloud_throttled", retry_after_s=7.0), 1, 0.0, LAG) == Again(7.0)
    assert after_refusal(error("cloud_throttled"), 3, 0.0, LAG) == Again(back_off_s(3))


def test_what_was_made_a_moment_ago_may_not_be_found_yet() -> None:
    assert isinstance(after_refusal(error("cloud_not_found"), 1, 0.0, LAG), Again)
    assert after_refusal(error("cloud_not_found"), 1, 2 * LAG, LAG) == Stop()


def test_a_lost_answer_or_a_conflict_is_cleared_up_by_a_read() -> None:
    assert after_refusal(error("cloud_unreachable", ambiguous=True), 1, 0.0, LAG) == Again(0.0)
    assert after_refusal(error("cloud_conflict"), 1, 0.0, LAG) == Again(0.0)


def test_no_call_is_repeated_for_ever() -> None:
    for code in ("cloud_throttled", "cloud_unreachable", "cloud_conflict", "cloud_not_found"):
        assert after_refusal(error(code, ambiguous=True), CALLS_MAX, 0.0, LAG) == Stop()


def test_pauses_double_and_are_bounded() -> None:
    pauses = [back_off_s(calls) for calls in range(1, 40)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACK_OFF_S_MAX


# --- undoing ----------------------------------------------------------------------------------------------------

DIES_WITH = AwsLayout().dies_with


def undo(
    rows: list[ResourceRow], found: list[ResourceRow] | None = None, at: float = THEN + 1, lost_at: float = 0.0
) -> Unmaking:
    return recovery(rows, found or [], at, Ground(THEN + 1, once=False, lag_s=LAG, lost_at=lost_at), DIES_WITH)


def test_what_needs_another_goes_before_it() -> None:
    order = [Kind.MACHINE, Kind.FIREWALL, Kind.SUBNET, Kind.GATEWAY_ATTACHMENT, Kind.GATEWAY, Kind.NETWORK]
    rows = [row(Life.READY, kind) for kind in reversed(order)]
    assert [one.kind for one in undo(rows).deletes] == order


def test_what_goes_with_another_gets_no_call_of_its_own() -> None:
    rows = [row(Life.READY, kind) for kind in (Kind.FIREWALL, Kind.FIREWALL_RULE, Kind.NETWORK, Kind.ROUTE)]
    assert [one.kind for one in undo(rows).deletes] == [Kind.FIREWALL, Kind.NETWORK]


def test_a_part_that_outlived_its_machine_is_deleted_by_itself() -> None:
    disk = row_of(Found(ref("vol-1", Kind.DISK), State.READY), "aws-one", "", 1, THEN)
    assert [one.kind for one in undo([row(Life.GONE)], [disk]).deletes] == [Kind.DISK]
    assert [one.kind for one in undo([row(Life.READY)], [disk]).deletes] == [Kind.MACHINE]


def test_what_the_journal_knows_and_what_is_listed_are_deleted_once_each() -> None:
    both = ("machine-1", "machine-7")
    listed = [row_of(Found(ref(one), State.READY), "aws-one", "", 1, THEN) for one in both]
    deletes = undo([row(Life.READY)], listed).deletes
    assert [(one.name, one.ref.id) for one in deletes] == [("machine", "machine-1"), ("", "machine-7")]


def test_an_intent_in_doubt_is_not_judged_by_a_listing_that_may_miss_it() -> None:
    assert undo([row(Life.INTENDED)]).look_not_before == LATE
    assert undo([row(Life.INTENDED)], at=LATE).never_made == (row(Life.INTENDED),)


def test_an_intent_whose_resource_shows_up_is_deleted_under_its_own_name() -> None:
    listed = [row_of(Found(ref("machine-7"), State.READY), "aws-one", "", 1, THEN)]
    [deleted] = undo([row(Life.INTENDED)], listed, at=LATE).deletes
    assert (deleted.name, deleted.ref.id) == ("machine", "machine-7")


def test_with_the_journal_lost_the_listing_is_repeated_after_a_lag() -> None:
    assert undo([], lost_at=THEN).look_not_before == LATE
    assert undo([], at=LATE, lost_at=THEN).deletes == ()


@pytest.mark.parametrize("life", [Life.GONE, Life.REFUSED])
def test_what_is_gone_or_never_was_is_left_alone(life: Life) -> None:
    undone = undo([row(life)])
    assert (undone.deletes, undone.never_made) == ((), ())


def test_an_operation_under_way_is_data_like_any_other() -> None:
    begun = row(Life.BEGUN, operation=Operation("create", ref()))
    assert [one.kind for one in undo([begun]).deletes] == [Kind.MACHINE]
