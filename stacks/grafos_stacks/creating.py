"""The making half of the direct engine: every resource that is wanted is made or adopted, one after the other.

``recovery.next_step`` says what is next for each; here it is done: looked for, created, waited for, adopted, or what a
failed attempt left behind removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from grafos_connectors.contract import CloudError, Done, Found, Kind, Operation, Ref, Scalar, State
from grafos_core.errors import GrafosError
from grafos_stacks.direct import OTHER_IN_USE_PATIENCE_S, Engine
from grafos_stacks.journal import NEXT_LIVES, Life, ResourceRow
from grafos_stacks.layouts import UNMAKE_ORDER, going_along
from grafos_stacks.names import Ownership, attempt_in, ownership, token_of
from grafos_stacks.plan import Planned, desired
from grafos_stacks.progress import BEGUN, DONE, WAITING
from grafos_stacks.recovery import (
    CONFLICT,
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
    after_refusal,
    back_off_s,
    is_live,
    made_at,
    next_step,
    row_of,
)

LateInputs = Callable[[Planned, int], Mapping[str, Scalar]]
"""Inputs of a create call that no journal may hold, by resource and attempt."""


def no_late_inputs(what: Planned, attempt: int) -> Mapping[str, Scalar]:  # noqa: ARG001  the shape of a LateInputs
    """For plans without a machine."""
    return {}


def late_user_data(render: Callable[[int], str]) -> LateInputs:
    """The machine's user data, which ``render`` makes by attempt at the moment of the call: it may hold a secret."""

    def late(what: Planned, attempt: int) -> Mapping[str, Scalar]:
        return {"user_data": render(attempt)} if what.kind is Kind.MACHINE else {}

    return late


@dataclass
class _Want:
    """One resource that is wanted, and how often its create was called in this run. ``early`` are those that are made
    while it becomes ready, and ``made`` all that was made before it, then also those."""

    what: Planned
    needs: Mapping[str, str]
    late_inputs: LateInputs
    begun_at: float
    made: dict[str, Found] = field(default_factory=dict)
    early: Iterable[Planned] = ()
    calls: int = 0


class Creator(Engine):
    """An engine that makes. Whoever calls it holds the stack's lock."""

    def make(
        self, resources: Iterable[Planned], known: Mapping[str, Found], late_inputs: LateInputs = no_late_inputs
    ) -> dict[str, Found]:
        """Has every resource made or adopted, in order; gives all that is known by plan name.

        ``known`` are resources of another stack that these need. Raises the cloud's refusal when there is nothing
        left to try; what was made until then stays in the journal for the next run or for teardown.
        """
        wanted, made = list(resources), dict(known)
        while (what := next((one for one in wanted if one.name not in made), None)) is not None:
            early = [one for one in wanted if one.early and what.name in one.needs.values()]
            want = _Want(what, _ids(what, made), late_inputs, self._now(), made, early)
            found = self._have(want)
            # A failed machine may have taken what it needs along: then all is looked at again, from the beginning.
            made = {**want.made, what.name: found} if found is not None else dict(known)
        return made

    def _have(self, want: _Want) -> Found | None:
        """One resource, made or adopted; None if what an earlier attempt left took along what this one needs."""
        what = want.what
        self._tell(what.name, BEGUN, want.begun_at)
        sight: Sight | None = None
        found: Found | None = None
        while found is None:
            row = self._journal.resources(what.stack).get(what.key)
            step = next_step(row, sight, self._ground(what.kind))
            sight = None
            match step:
                case Look(not_before):
                    self._wait_until(not_before, what.name, want.begun_at)
                    sight = self._look(want, row)
                case Create(attempt):
                    self._create(want, row, attempt)
                case Await():
                    assert row is not None
                    self._make_early(row, want)
                    found = self._await_made(row, want)
                case Remove(ref):
                    if self._remove(row, ref, want):
                        return None
                case Adopt(seen):
                    found = self._adopt(want, seen, row)
                case Keep(seen):
                    found = seen
        self._tell(what.name, DONE, want.begun_at, found.ref.id)
        return found

    def _look(self, want: _Want, row: ResourceRow | None) -> Sight:
        """Reads by key. What bears our key but does not prove to be ours is an error, never adopted."""
        what, at = want.what, self._now()
        # A read has no use for the inputs that no journal may hold, but a call is whole or it is none.
        blank = {"user_data": ""} if what.kind is Kind.MACHINE else {}
        call, _ = desired(self._fabric, what, row.attempt if row else 1, want.needs, blank)
        found = self._ask(lambda: self._connector.find(call))
        if found is None or not (is_live(found) or found.state is State.FAILED):
            return Sight(at, None, self._stale(row))
        # What bears no tags of its own is ours if it hangs on what this run has proved to be ours.
        carried = not found.ref.key and found.attributes.get("carrier") in want.needs.values()
        if not carried and ownership(self._fabric, found) is not Ownership.OURS:
            found = self._beside(what, found)
        if found.state is State.STOPPED:
            raise GrafosError(
                "cloud_conflict",
                f"the {what.kind.value} {found.ref.id} was stopped from outside",
                where=what.region,
                next="tear the cell down and provision it anew",
            )
        return Sight(at, found)

    def _beside(self, what: Planned, copy: Found) -> Found:
        """Ours beside somebody's copy of its tags, as a listing shows it; the copy alone is an error, since ours may
        only not be shown yet."""
        _, listed = self.listing(what.region)
        ours = [one for one in listed if (one.ref.kind, one.ref.key) == (what.kind, what.key)]
        if not ours:
            raise _not_ours(what, copy)
        return min(ours, key=lambda one: (one.attributes.get("made_at", ""), one.ref.id))

    def _stale(self, row: ResourceRow | None) -> Ref | None:
        """A part without a key of its own that still hangs on what was replaced: a route to a gateway that is gone."""
        if row is None or row.ref is None or row.life not in (Life.READY, Life.UNMAKING):
            return None
        there = self.observe(row.ref)
        return row.ref if not there.ref.key and there.state in (State.READY, State.FAILED) else None

    def _create(self, want: _Want, row: ResourceRow | None, attempt: int) -> None:
        """Journals the intent, calls, journals the answer."""
        what = want.what
        want.calls += 1
        call, token = desired(self._fabric, what, attempt, want.needs, want.late_inputs(what, attempt))
        self._fabric.note_provisioned()
        # An earlier call of this attempt, whose answer nobody has, may have had its effect whatever this one is told.
        unanswered = row is not None and row.life is Life.INTENDED and what.kind in self._connector.traits.once
        intent = _intent(what, row, attempt, call.tags, self._now())
        self._journal.write(intent)
        try:
            operation = self._connector.begin_create(call, token)
        except CloudError as error:
            self._refused(error, intent, want, unanswered=unanswered)
        else:
            self._journal.write(intent.moved(Life.BEGUN, self._now(), ref=operation.ref, operation=operation))

    def _refused(self, error: CloudError, intent: ResourceRow, want: _Want, *, unanswered: bool) -> None:
        """The create call raised: note what is known of its effect, then wait, or tell the person."""
        if not error.ambiguous:
            first_conflict = (intent.doubt_at or self._now()) if error.code == CONFLICT else 0.0
            doubt_at = self._now() if unanswered else first_conflict
            self._journal.write(intent.moved(Life.REFUSED, self._now(), why=error.code, doubt_at=doubt_at))
        lag_s = self._connector.traits.listing_lag_s
        match after_refusal(error, want.calls, self._now() - want.begun_at, lag_s):
            case Again(after_s):
                self._tell(want.what.name, WAITING, want.begun_at, error.what)
                self._hands.sleep(after_s)
            case Stop():
                if error.code == CONFLICT and not error.next:
                    error.next = "tear the cell down, which removes what is half there, then provision it again"
                raise error

    def _make_early(self, row: ResourceRow, want: _Want) -> None:
        """Makes what needs no more than that the cloud has taken this one on. What is refused so early, for whatever
        reason, has its turn when this one is ready; then the reason counts."""
        assert row.ref is not None
        there = {**want.made, want.what.name: Found(ref=row.ref, state=State.PENDING)}
        for what in want.early:
            begun_at = self._now()
            try:
                found = self._have(_Want(what, _ids(what, there), want.late_inputs, begun_at))
            except CloudError as error:
                self._tell(what.name, WAITING, begun_at, error.what)
            else:
                want.made |= {what.name: found} if found is not None else {}

    def _await_made(self, row: ResourceRow, want: _Want) -> Found | None:
        """Polls until the resource can be used; None if an attempt of an earlier run turns out to have failed."""
        assert row.ref is not None
        operation = row.operation or Operation("create", row.ref, began_at=row.changed_at)
        outcome = self._await(operation, want.what.name, want.begun_at)
        if isinstance(outcome, Done):
            assert outcome.found is not None, "what was made is there"
            self._journal.write(row.moved(Life.READY, self._now(), ref=outcome.found.ref, operation=None))
            return outcome.found
        left = outcome.found.ref if outcome.found is not None and outcome.found.state is not State.GONE else None
        error = outcome.cloud_error()
        failed = row.moved(Life.FAILED, self._now(), ref=left, operation=None, why=error.code)
        self._journal.write(failed)
        if want.calls == 0:
            return None
        if left is not None:
            self._remove(failed, left, want)
        raise error

    def _remove(self, row: ResourceRow | None, ref: Ref, want: _Want) -> bool:
        """Deletes what a failed attempt left behind, or what broke; whether other resources of its stack went along."""
        self._delete(ref, want.what.name, want.begun_at, lambda _: None)
        if row is not None and row.life is not Life.GONE:
            self._journal.write(row.moved(Life.GONE, self._now()))
        along = self._going_with(ref.kind, want)
        for one in along:
            self._see_off(one, want.begun_at)
        return bool(along)

    def _going_with(self, kind: Kind, want: _Want) -> list[ResourceRow]:
        """The stack's resources that go when one of that kind goes, in the order in which they can; also what was made
        early for it, which serves nothing else."""
        stack, rows = self._journal.stack(want.what.stack), self._journal.resources(want.what.stack).values()
        dies_with = going_along(stack.plan.spec) if stack is not None and stack.plan is not None else {}
        early = {one.key for one in want.early}
        along = [row for row in rows if row.ref is not None and row.life is not Life.GONE]
        along = [row for row in along if dies_with.get(row.kind) is kind or row.key in early]
        return sorted(along, key=lambda row: UNMAKE_ORDER.index(row.kind))

    def _see_off(self, row: ResourceRow, begun_at: float) -> None:
        """Waits until what goes with another one is gone, and deletes it if it does not go."""
        assert row.ref is not None
        until = self._now() + OTHER_IN_USE_PATIENCE_S
        while (seen := self.observe(row.ref)).state is State.DELETING and self._now() < until:
            self._tell(row.name, WAITING, begun_at, "until it has gone with what was removed")
            self._hands.sleep(back_off_s(0))
        if seen.state is State.GONE:
            self._journal.write(row.moved(Life.GONE, self._now(), operation=None))
        else:
            self.unmake(row)

    def _adopt(self, want: _Want, found: Found, row: ResourceRow | None) -> Found | None:
        """Takes over what exists and is ours, made by a run whose end no journal knows; None if it is not ready."""
        self._fabric.note_provisioned()
        what, now = want.what, self._now()
        attempt = attempt_in(found.tags) if found.ref.key else 1
        ready = found.state is State.READY
        self._journal.write(
            msgspec.structs.replace(
                row_of(found, what.stack, what.name, attempt, now),
                key=what.key,
                zone=what.zone,
                token=token_of(what.key, attempt),
                tags=dict(found.tags),
                life=Life.READY if ready else Life.BEGUN,
                first_at=(row.first_at if row else 0.0) or made_at(found, now),
            )
        )
        return found if ready else None

    def _ground(self, kind: Kind) -> Ground:
        traits = self._connector.traits
        return Ground(self._now(), kind in traits.once, traits.listing_lag_s, self._journal.lost_at)


def _ids(what: Planned, made: Mapping[str, Found]) -> dict[str, str]:
    """The cloud's ids of what it needs, by role."""
    return {role: made[name].ref.id for role, name in what.needs.items()}


def _intent(what: Planned, row: ResourceRow | None, attempt: int, tags: Mapping[str, str], now: float) -> ResourceRow:
    assert row is None or Life.INTENDED in NEXT_LIVES[row.life], f"no attempt follows on {row.life}"
    return ResourceRow(
        key=what.key,
        stack=what.stack,
        name=what.name,
        kind=what.kind,
        region=what.region,
        zone=what.zone,
        attempt=attempt,
        token=token_of(what.key, attempt),
        life=Life.INTENDED,
        first_at=row.first_at or now if row else now,
        intended_at=now,
        changed_at=now,
        tags=dict(tags),
        doubt_at=row.doubt_at if row and row.why == CONFLICT else 0.0,
    )


def _not_ours(what: Planned, found: Found) -> GrafosError:
    return GrafosError(
        "cloud_conflict",
        f"the {what.kind.value} {found.ref.id} bears grafos' key, but not this fabric's signature",
        where=f"{what.region} {what.cloud_name}",
        next="remove its grafos tags if it is somebody else's, or delete it by hand",
    )
