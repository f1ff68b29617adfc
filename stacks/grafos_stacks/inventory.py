"""What a cloud account holds of a fabric, and what of it must not be there: decided from one listing, purely.

Every resource is judged: it belongs to a cell that lives, or it is condemned, for a reason that a person can check; or
it only bears our tags. A sweep deletes what is condemned and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from grafos_connectors.contract import TAG_KEY, TAG_STACK, Found, Kind, State
from grafos_core.fabric import Fabric
from grafos_stacks.journal import Life, ResourceRow, StackRow, StackState
from grafos_stacks.names import TAG_KIND, attempt_in, expiry_in, ours_among
from grafos_stacks.plan import shared_stack_of
from grafos_stacks.spec import SHARED_PREFIX, is_cell, is_image


class Verdict(StrEnum):
    """What is to become of a resource, and why."""

    LIVE = "live"  # a cell that is as it should be, or the network that it uses
    BUSY = "busy"  # another command works on it right now
    ELSEWHERE = "elsewhere"  # not known here, and not overdue: another home of the same fabric may have made it
    UNPROVED = "unproved"  # it bears our tags, but nothing proves that we made it: never touched
    OVERDUE = "overdue"  # its expiry has passed
    STOPPED = "stopped"  # its machine was stopped, and its disk or address bill on
    HALF_MADE = "half-made"  # a provision or a teardown of it was interrupted, or its machine is gone
    ORPHANED = "orphaned"  # no journal and no record knows it
    SURPLUS = "surplus"  # a second one of what there should be one, or what outlived its machine
    UNUSED = "unused"  # a network without a cell


CONDEMNED = frozenset(
    (Verdict.OVERDUE, Verdict.STOPPED, Verdict.HALF_MADE, Verdict.ORPHANED, Verdict.SURPLUS, Verdict.UNUSED)
)


class Judged(NamedTuple):
    """A resource with its verdict."""

    found: Found
    verdict: Verdict

    @property
    def stack(self) -> str:
        """The stack that it says it belongs to."""
        return self.found.tags.get(TAG_STACK, "")

    @property
    def region(self) -> str:
        """Where it is."""
        return self.found.ref.region


@dataclass(frozen=True)
class Known:
    """What this home knows: the journal's rows, the cells with a record and without an end, who is being worked on.

    ``disguised`` are cells whose machine is there by its id, though its tags or its name prove it no longer.
    ``shared``: the fabric's key was exported or imported, so cells may live that this home never heard of.
    """

    now: float
    lag_s: float
    stacks: Mapping[str, StackRow]
    resources: Mapping[str, tuple[ResourceRow, ...]]
    recorded: frozenset[str]
    busy: frozenset[str] = frozenset()
    disguised: frozenset[str] = frozenset()
    shared: bool = False

    def knows(self, stack: str) -> bool:
        """Whether anything here says that the stack should be there."""
        row = self.stacks.get(stack)
        return stack in self.recorded or (row is not None and row.state is not StackState.GONE)


def judge(fabric: Fabric, provider: str, listed: Iterable[Found], known: Known) -> tuple[Judged, ...]:
    """A verdict on everything that a listing shows, in its order; what is gone or going is left out."""
    there = [found for found in listed if found.state not in (State.GONE, State.DELETING)]
    ours = {id(found) for found in ours_among(fabric, there)}
    groups: dict[tuple[str, str], list[Found]] = {}
    for found in there:
        if id(found) in ours:
            groups.setdefault((found.tags[TAG_STACK], found.ref.region), []).append(found)
    cells = {place: parts for place, parts in groups.items() if is_cell(place[0])}
    of_cell = {place: _of_cell(*place, parts, known) for place, parts in cells.items()}
    verdicts: dict[int, Verdict] = {}
    for (stack, region), parts in groups.items():
        if is_image(stack):
            whole = _of_image(stack, parts, known)
        elif is_cell(stack):
            whole = of_cell[stack, region]
        else:
            whole = _of_network(provider, region, of_cell, known)
        for found in parts:
            too_many = (
                _is_left_over(found, whole, parts) if is_image(stack) else _is_surplus(found, whole, parts, known)
            )
            verdicts[id(found)] = Verdict.SURPLUS if too_many else whole
    return tuple(Judged(found, verdicts.get(id(found), Verdict.UNPROVED)) for found in there)


def forgotten(provider: str, judged: Iterable[Judged], known: Known) -> tuple[StackRow, ...]:
    """Cells of the journal of which the cloud shows nothing any more; their teardown only settles what they cost."""
    shown = {one.stack for one in judged if one.verdict is not Verdict.UNPROVED}
    rows = [row for row in known.stacks.values() if row.provider == provider and row.state is not StackState.GONE]
    there = shown | known.busy | known.disguised
    cells = [row for row in rows if not row.stack.startswith(SHARED_PREFIX) and row.stack not in there]
    return tuple(row for row in cells if not _is_young(row.stack, known))


def _of_image(stack: str, parts: list[Found], known: Known) -> Verdict:
    """A published image ends when what was held for keeping it ends. Whole, and unknown here, it is left alone until
    then: nothing goes on in it, and publishing it again takes it into the journal."""
    row = known.stacks.get(stack)
    there = any(found.ref.kind is Kind.IMAGE for found in parts)
    if stack in known.busy:
        return Verdict.BUSY
    if _ran_out(None, parts, known.now):
        return Verdict.OVERDUE
    if row is None or row.state is StackState.GONE:
        return Verdict.ELSEWHERE if known.shared or there else Verdict.ORPHANED
    made = row.state is StackState.MADE and (there or _is_young(stack, known))
    return Verdict.LIVE if made else Verdict.HALF_MADE


def _is_left_over(found: Found, whole: Verdict, parts: list[Found]) -> bool:
    """What led to an image that is there."""
    kept = whole in (Verdict.LIVE, Verdict.ELSEWHERE)
    done = any(one.ref.kind is Kind.IMAGE and one.state is State.READY for one in parts)
    return kept and done and found.ref.kind in (Kind.OBJECT, Kind.BUCKET, Kind.DISK)


def _of_cell(stack: str, region: str, parts: list[Found], known: Known) -> Verdict:
    row = known.stacks.get(stack)
    machines = [found for found in parts if found.ref.kind is Kind.MACHINE]
    if stack in known.busy:
        return Verdict.BUSY
    if row is not None and row.state is not StackState.GONE and row.region != region:
        another_home_s = known.shared and not _ran_out(None, parts, known.now)
        return Verdict.ELSEWHERE if another_home_s else Verdict.SURPLUS  # our cell of that name is in another region
    if _ran_out(row, parts, known.now):
        return Verdict.OVERDUE
    if any(found.state is State.STOPPED for found in machines):
        return Verdict.STOPPED
    if not known.knows(stack):
        return Verdict.ELSEWHERE if known.shared else Verdict.ORPHANED
    if row is not None and row.state in (StackState.MAKING, StackState.UNMAKING):
        return Verdict.HALF_MADE
    lives = machines or stack in known.disguised or _is_young(stack, known)
    return Verdict.LIVE if lives else Verdict.HALF_MADE


def _ran_out(row: StackRow | None, parts: list[Found], now: float) -> bool:
    """By the latest expiry that anything tells: one that is just being extended bears two."""
    plan = row.plan if row is not None and row.state is not StackState.GONE else None
    latest = max([plan.expires_at if plan else 0, *(expiry_in(found.tags) for found in parts)])
    return 0 < latest < now


def _is_young(stack: str, known: Known) -> bool:
    """Whether a listing may not show yet what was made a moment ago."""
    changed = [row.changed_at for row in known.resources.get(stack, ())]
    return bool(changed) and known.now < max(changed) + known.lag_s


def _is_surplus(found: Found, whole: Verdict, parts: list[Found], known: Known) -> bool:
    """A part whose machine is gone, or a machine or an address beside the one that the journal knows, in a cell that
    lives."""
    stack = found.tags[TAG_STACK]
    row = known.stacks.get(stack)
    if whole is not Verdict.LIVE or row is None or row.state is not StackState.MADE or _is_young(stack, known):
        return False
    kind = found.ref.kind
    if kind in (Kind.MACHINE, Kind.ADDRESS) and found.tags.get(TAG_KIND) == kind.value:
        rows = [one for one in known.resources.get(stack, ()) if one.kind is kind and one.life is Life.READY]
        ids = {one.ref.id for one in rows if one.ref is not None}
        return bool(ids) and found.ref.id not in ids
    if found.tags.get(TAG_KIND) != Kind.MACHINE.value or stack in known.disguised:
        return False
    machines = [one for one in parts if one.ref.kind is Kind.MACHINE]
    return all(_made_with(one) != _made_with(found) for one in machines)


def _made_with(found: Found) -> tuple[str, int]:
    return found.tags.get(TAG_KEY, ""), attempt_in(found.tags)


def _of_network(provider: str, region: str, of_cell: Mapping[tuple[str, str], Verdict], known: Known) -> Verdict:
    shared = shared_stack_of(provider, region)
    users = {verdict for (_, where), verdict in of_cell.items() if where == region}
    coming = [
        row
        for row in known.stacks.values()
        if (row.provider, row.region) == (provider, region)
        and is_cell(row.stack)
        and row.state is not StackState.GONE
        and (row.stack, region) not in of_cell
    ]
    if shared in known.busy or Verdict.BUSY in users:
        return Verdict.BUSY
    if users - CONDEMNED:
        return Verdict.LIVE
    if any(row.stack in known.busy or _is_young(row.stack, known) for row in coming):
        return Verdict.BUSY
    if known.shared and not known.knows(shared):
        return Verdict.ELSEWHERE
    return Verdict.UNUSED
