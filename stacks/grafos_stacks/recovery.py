"""What to do next about each resource: a pure function of the journal, of what the cloud shows, and of the time.

The same function decides the first provision and every recovery after a crash; an undisturbed run is the case in which
nothing was there before. Two facts shape it. A crash can fall before or after a call, so an intent without an outcome
may or may not have had its effect. And a read may miss, for up to the cloud's listing lag, what exists, or still show
what is gone. So a resource is believed absent only by a read that was made one lag after the last moment at which it
could have come to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from grafos_connectors.contract import CloudError, Found, Kind, Ref, State
from grafos_stacks.journal import Life, ResourceRow
from grafos_stacks.layouts import UNMAKE_ORDER

CONFLICT = "cloud_conflict"
BACK_OFF_S = 0.5
BACK_OFF_S_MAX = 15.0
CALLS_MAX = 8
"""Create calls for one resource in one run, all reasons together; then the person is told."""
NOT_FOUND_PATIENCE = 2
"""How many listing lags a call is repeated that misses something made just before."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What is known beside the rows. ``once`` and ``lag_s`` are the cloud's traits; ``lost_at`` the journal's."""

    now: float
    once: bool
    lag_s: float
    lost_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What a read said that was begun ``at`` that time: the live resource, proved to be ours, or None.

    ``stale`` is one that an earlier run made in the same place, and that hangs on what has been replaced since.
    """

    at: float
    found: Found | None
    stale: Ref | None = None


# --- what can be next when a resource is wanted ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """Read, but not before that time."""

    not_before: float


@dataclass(frozen=True, slots=True)
class Create:
    """Journal the intent and call, with this attempt's token."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Await:
    """The call was made; ask how it goes."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """It exists and is ours: take it over."""

    found: Found


@dataclass(frozen=True, slots=True)
class Remove:
    """What a failed attempt left behind, or what broke, must go first."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class Keep:
    """It is there as the journal says."""

    found: Found


Step = Look | Create | Await | Adopt | Remove | Keep


def next_step(row: ResourceRow | None, sight: Sight | None, ground: Ground) -> Step:
    """The next step towards having the resource. ``sight`` is the latest read of this run, None before the first."""
    if row is not None and row.life is Life.BEGUN:
        return Await()
    if row is not None and row.life is Life.FAILED:
        return Remove(row.ref) if row.ref is not None else Create(row.attempt + 1)
    if sight is None:
        return Look(ground.now)
    if sight.stale is not None:
        return Remove(sight.stale)
    return _seen(row, sight.found, sight, ground) if sight.found else _unseen(row, sight, ground)


def _seen(row: ResourceRow | None, found: Found, sight: Sight, ground: Ground) -> Step:
    if found.state is State.FAILED:
        return Remove(found.ref)
    if row is None or row.ref is None or row.ref.id != found.ref.id:
        return Adopt(found)
    if row.life in (Life.GONE, Life.UNMAKING) and not _past_lag(sight, row.changed_at, ground):
        return Look(row.changed_at + ground.lag_s)  # what was deleted may still be listed for a while
    return Keep(found) if row.life is Life.READY else Adopt(found)


def _unseen(row: ResourceRow | None, sight: Sight, ground: Ground) -> Step:
    """Nothing is listed. Create it, unless it may have come to be less than a lag ago."""
    if row is None:
        return _create_after(ground.lost_at, 1, sight, ground) if ground.lost_at else Create(1)
    if row.life is Life.INTENDED:
        return Create(row.attempt) if ground.once else _create_after(row.intended_at, row.attempt, sight, ground)
    if row.why == CONFLICT or (row.life is Life.REFUSED and row.doubt_at):
        return _create_after(row.doubt_at, row.attempt + 1, sight, ground)
    if row.life in (Life.READY, Life.UNMAKING):
        return _create_after(row.changed_at, row.attempt + 1, sight, ground)
    return Create(row.attempt + 1)


def _create_after(moment: float, attempt: int, sight: Sight, ground: Ground) -> Step:
    return Create(attempt) if _past_lag(sight, moment, ground) else Look(moment + ground.lag_s)


def _past_lag(sight: Sight, moment: float, ground: Ground) -> bool:
    return sight.at >= moment + ground.lag_s


# --- when a create call was refused ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after this long."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The person must know."""


def after_refusal(error: CloudError, calls: int, waited_s: float, lag_s: float) -> Again | Stop:
    """What to do about a create call that raised. ``calls`` were made in this run, over ``waited_s`` seconds."""
    if calls >= CALLS_MAX:
        return Stop()
    if error.code == CONFLICT or error.ambiguous:
        return Again(back_off_s(calls) if calls > 1 else 0.0)  # a read finds out, then the next attempt follows
    if error.code in ("cloud_throttled", "cloud_unreachable"):
        return Again(max(error.retry_after_s, back_off_s(calls)))
    if error.code == "cloud_not_found" and waited_s < NOT_FOUND_PATIENCE * lag_s:
        return Again(back_off_s(calls))
    return Stop()


def back_off_s(calls: int) -> float:
    """Seconds before the next call: doubling, bounded."""
    return min(BACK_OFF_S_MAX, BACK_OFF_S * float(1 << min(calls, 10)))


# --- when a stack is to go ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unmaking:
    """Either a time before which nothing can be decided, or what to delete, in order, and what never came to be."""

    look_not_before: float = 0.0
    deletes: tuple[ResourceRow, ...] = ()
    never_made: tuple[ResourceRow, ...] = ()


def recovery(
    rows: Iterable[ResourceRow],
    found: Iterable[ResourceRow],
    listed_at: float,
    ground: Ground,
    dies_with: Mapping[Kind, Kind],
) -> Unmaking:
    """How to undo a stack. ``found`` is what a listing showed of it, as rows (``row_of``), begun at ``listed_at``.

    What the journal knows and what the listing shows are both deleted. A resource that goes when another goes gets no
    call of its own, unless that other is not there any more.
    """
    known = list(rows)
    doubts = [row.intended_at for row in known if row.life is Life.INTENDED]
    doubts += [row.doubt_at for row in known if row.life is Life.REFUSED and row.doubt_at]
    settled = max((*doubts, ground.lost_at)) + ground.lag_s
    if (doubts or ground.lost_at) and listed_at < settled:
        return Unmaking(look_not_before=settled)
    listed = list(found)
    owed = [_with_place(row, listed) for row in known if row.life not in (Life.GONE, Life.REFUSED)]
    targets = {_place(row): row for row in owed if row.ref is not None}
    for row in listed:
        targets.setdefault(_place(row), row)
    kinds = {row.kind for row in targets.values()}
    deletes = [row for row in targets.values() if dies_with.get(row.kind) not in kinds]
    return Unmaking(
        deletes=tuple(sorted(deletes, key=_order)),
        never_made=tuple(row for row in owed if row.ref is None),
    )


def _with_place(row: ResourceRow, listed: list[ResourceRow]) -> ResourceRow:
    """An intent whose answer was lost, with the place at which the listing shows what came of it."""
    if row.ref is not None:
        return row
    same = [other for other in listed if other.kind is row.kind and other.key in (row.key, "")]
    return msgspec.structs.replace(row, ref=same[0].ref) if same else row


def row_of(found: Found, stack: str, name: str, attempt: int, now: float) -> ResourceRow:
    """A listed resource as a row, as if its journal were there. ``name`` is empty for what no plan names."""
    return ResourceRow(
        key=found.ref.key,
        stack=stack,
        name=name,
        kind=found.ref.kind,
        region=found.ref.region,
        zone=found.ref.zone,
        attempt=attempt,
        token="",
        life=Life.READY,
        first_at=made_at(found, now),
        intended_at=now,
        changed_at=now,
        tags=dict(found.tags),
        ref=found.ref,
    )


def made_at(found: Found, otherwise: float) -> float:
    """When the cloud says that it made the resource (Unix seconds)."""
    text = found.attributes.get("made_at", "")
    return float(text) if text.replace(".", "", 1).isdecimal() else otherwise


def is_live(found: Found) -> bool:
    """Whether it is there or coming, not going or broken."""
    return found.state in (State.PENDING, State.READY, State.STOPPED)


def _place(row: ResourceRow) -> tuple[Kind, str]:
    assert row.ref is not None, "only what has a place is asked for it"
    return row.kind, row.ref.id


def _order(row: ResourceRow) -> int:
    return UNMAKE_ORDER.index(row.kind)
