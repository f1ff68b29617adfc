"""The cloud half of teardown: delete what a stack consists of, and prove it gone.

What there is to delete is what the journal knows and what a listing shows, together, so it works when either is
wrong: the journal lost, the machine deleted by hand, the machine never made. Only what bears the fabric's signature
is touched. One resource that cannot be deleted does not keep the others. All that came of it stands in the journal's
rows, so that a teardown which was interrupted tells the whole story when it ends.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from grafos_connectors.contract import TAG_STACK, Found, Kind, State
from grafos_core.errors import GrafosError
from grafos_core.receipts import TornDown
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import Life, ResourceRow, StackRow, StackState
from grafos_stacks.layouts import layout_of
from grafos_stacks.making import SHARED_PATIENCE_S
from grafos_stacks.names import attempt_in
from grafos_stacks.plan import shared_stack_of
from grafos_stacks.recovery import Ground, Unmaking, recovery, row_of

ROUNDS_MAX = 3
"""Deleting and listing again: a part that outlived its machine shows up in the second round."""
PARTS_PATIENCE_S = 120.0
PARTS_ASK_EVERY_S = 0.5
"""How long, and how often, to look whether what goes with its machine has gone."""

Place = tuple[Kind, str]


@dataclass(frozen=True)
class Unmade:
    """What became of a stack's resources, and what the cloud refused."""

    resources: tuple[TornDown, ...]
    failures: tuple[GrafosError, ...]

    @property
    def left(self) -> tuple[TornDown, ...]:
        """What is not proved gone."""
        return tuple(torn for torn in self.resources if not torn.gone)


def unmake_stack(hands: Hands, cell: StackRow) -> Unmade:
    """Deletes a cell's resources, and the shared network if no other cell uses it. The caller holds the stack's lock.

    ``cell`` has been ``UNMAKING`` since ``cell.changed_at``; the journal may know nothing more of it.
    """
    own = _unmake(hands, cell.stack, cell, cell.created_at)
    shared = shared_stack_of(cell.provider, cell.region)
    if own.left:
        return own
    with hands.journal.lock(shared, patience_s=SHARED_PATIENCE_S, sleep=hands.sleep):
        if _used_by_others(hands, cell, shared):
            return own
        network = _unmake(hands, shared, cell, cell.changed_at)
        row = hands.journal.stack(shared)
        if row is not None and not network.left:
            hands.journal.write(row.moved(StackState.GONE, hands.clock.now()))
    return Unmade(own.resources + network.resources, own.failures + network.failures)


def machine_rows(hands: Hands, cell: StackRow) -> list[ResourceRow]:
    """The machines that this stack had, as their rows stand."""
    rows = hands.journal.resources(cell.stack).values()
    return [
        row for row in rows if row.kind is Kind.MACHINE and row.ref is not None and row.changed_at >= cell.created_at
    ]


def _unmake(hands: Hands, stack: str, cell: StackRow, since: float) -> Unmade:
    """One stack's resources: delete, look again, until the listing shows none; then the proofs."""
    engine = Engine(hands)
    failures: dict[Place, GrafosError] = {}
    for _ in range(ROUNDS_MAX):
        todo = _decide(hands, engine, stack, cell)
        for row in todo.never_made:
            hands.journal.write(row.moved(Life.GONE, hands.clock.now(), why="never made"))
        failures = {}
        for row in todo.deletes:
            try:
                engine.unmake(row)
            except GrafosError as error:
                failures[_place(row)] = error
        if len(failures) == len(todo.deletes):
            break  # nothing moved: another round would fare no better
    _let_parts_go(hands, engine, stack, cell)
    return Unmade(_proved(hands, engine, stack, cell, since, failures), tuple(failures.values()))


def _decide(hands: Hands, engine: Engine, stack: str, cell: StackRow) -> Unmaking:
    """Lists, as often as it takes until the listing can be believed."""
    while True:
        at, listed = _listed(engine, stack, cell)
        traits, now = hands.connector.traits, hands.clock.now()
        ground = Ground(now, once=False, lag_s=traits.listing_lag_s, lost_at=hands.journal.lost_at)
        rows = hands.journal.resources(stack).values()
        dies_with = layout_of(cell.provider).dies_with
        going = [one for one in listed if one.state is State.DELETING and one.ref.kind in dies_with]
        found = [row_of(one, stack, "", attempt_in(one.tags), now) for one in listed if one not in going]
        todo = recovery(rows, found, at, ground, dies_with)
        if todo.look_not_before <= now:
            return todo
        engine.wait_until(todo.look_not_before, stack)


def _let_parts_go(hands: Hands, engine: Engine, stack: str, cell: StackRow) -> None:
    """A machine's disk may be listed for a moment as one that is being deleted."""
    until = hands.clock.now() + PARTS_PATIENCE_S
    while hands.clock.now() < until:
        _, listed = _listed(engine, stack, cell)
        if all(one.state is not State.DELETING for one in listed):
            return
        hands.sleep(PARTS_ASK_EVERY_S)


def _listed(engine: Engine, stack: str, cell: StackRow) -> tuple[float, list[Found]]:
    at, found = engine.listing(cell.region)
    return at, [one for one in found if one.tags.get(TAG_STACK) == stack and one.state is not State.GONE]


def _proved(
    hands: Hands, engine: Engine, stack: str, cell: StackRow, since: float, failures: dict[Place, GrafosError]
) -> tuple[TornDown, ...]:
    """Every resource that the stack had since then, with what two kinds of read say of it now."""
    rows = [row for row in hands.journal.resources(stack).values() if row.ref is not None and row.changed_at >= since]
    seen = [_seen_gone(hands, engine, row) for row in rows]
    at, found = _listed(engine, stack, cell)
    listed = {(one.ref.kind, one.ref.id) for one in found}
    moment = dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds")
    torn = []
    for row, not_seen in zip(rows, seen, strict=True):
        gone = not_seen and _place(row) not in listed
        proof = f"deleted; then not found by its id, and not in the listing of {row.region} at {moment}"
        if not gone:
            proof = str(failures.get(_place(row), f"still seen at {moment}"))
        kind, ref_id = _place(row)
        torn.append(TornDown(kind.value, ref_id, row.region, gone, proof))
    for kind, ref_id in sorted(listed - {_place(row) for row in rows}):
        torn.append(TornDown(kind.value, ref_id, cell.region, gone=False, proof=f"listed at {moment}"))
    return tuple(torn)


def _seen_gone(hands: Hands, engine: Engine, row: ResourceRow) -> bool:
    """Asks by id; a part that went with another is noted as gone."""
    assert row.ref is not None
    gone = engine.observe(row.ref).state is State.GONE
    if gone and row.life is not Life.GONE:
        hands.journal.write(row.moved(Life.GONE, hands.clock.now()))
    return gone


def _used_by_others(hands: Hands, cell: StackRow, shared: str) -> bool:
    """Whether another cell lives, or comes to live, in the region's network: by the journal, and by the cloud."""
    for row in hands.journal.stacks():
        same = (row.provider, row.region) == (cell.provider, cell.region)
        if same and row.plan is not None and row.stack != cell.stack and row.state is not StackState.GONE:
            return True
    _, found = Engine(hands).listing(cell.region)
    return any(one.tags.get(TAG_STACK) not in (cell.stack, shared) for one in found)


def _place(row: ResourceRow) -> Place:
    assert row.ref is not None
    return row.kind, row.ref.id
