"""Roll: cells go over to another image one after the other, each by a successor that takes its place.

    hold the successor beside the old one ─> make it ─> it is ready ─> the old one is drained and torn down

A cell's machine cannot change its image, so the successor is another cell, under a name of its own, with the same
inputs, the same end and the same way to join. It is held and made while the old one still works: both fit under the
cap, or nothing is made; and one that does not get ready, or that the cloud refuses, is torn down, and the old one
stays. The successor's row in
the journal tells whom it replaces, so a roll that was killed anywhere goes on where it was: with the same successor, or
with the end of the old one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_core.errors import GrafosError
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.failover import left_nothing
from grafos_stacks.inviting import Patience
from grafos_stacks.journal import DIRECT, StackRow, StackState
from grafos_stacks.owners import check_owner
from grafos_stacks.plan import CellFacts, StackPlan
from grafos_stacks.preflight import MEETS_ALL
from grafos_stacks.provision import PATIENCE, prepare, provision
from grafos_stacks.records import CellHome, CellRecord
from grafos_stacks.spec import CELL_ID_CHARACTERS_MAX, CellSpec
from grafos_stacks.teardown import TornDownCell, teardown

SUCCESSOR = re.compile(r"(?P<base>.+)-r(?P<number>\d+)")
"""How successors are called: ``web-1``, then ``web-1-r2``, then ``web-1-r3``."""


REFUSED = ("cloud_capacity", "cloud_denied", "cloud_invalid", "cloud_quota")
"""How a cloud says that it does not make a machine, and not that it does not answer."""


class Turn(NamedTuple):
    """One cell of a roll, and the plan of its successor; None when it starts from what is wanted already, or when
    ``error`` stands in the way of one. ``begun``: an earlier run of the roll came that far."""

    old: StackRow
    plan: StackPlan | None
    begun: bool = False
    error: GrafosError | None = None


class Rolled(NamedTuple):
    """What came of one cell: its successor and the receipt of its own end, neither if there was nothing to do, or the
    error for which it stays. ``untried``: an earlier one failed, and the roll stopped there."""

    cell_id: str
    record: CellRecord | None = None
    torn: TornDownCell | None = None
    error: GrafosError | None = None
    untried: bool = False


def cells_to_roll(hands: Hands, cell_id: str = "") -> list[StackRow]:
    """That cell, or all of the connector's cloud that joined an orchestrator, live, and were made by this home's own
    engine. ``cell_unknown``, ``unsupported`` for one that is a fabric of its own, ``cell_gone`` for one that ran out,
    ``stack_busy`` for one that is not finished or whose engine is another one."""
    provider, now = hands.connector.provider, hands.clock.now()
    rows = [row for row in hands.journal.stacks() if row.provider == provider and row.plan is not None]
    if not cell_id:
        direct = (row for row in rows if row.engine == DIRECT and _joins(row))
        return [row for row in direct if is_to_roll(row, rows, now)]
    named = next((row for row in rows if row.stack == cell_id and row.state is not StackState.GONE), None)
    if named is None:
        step = "grafos cloud ls"
        raise GrafosError("cell_unknown", f"the journal knows no cell {cell_id!r} on {provider} that lives", next=step)
    if not _joins(named):
        raise GrafosError(
            "unsupported",
            f"{cell_id} joins no orchestrator, so no other cell can take its place",
            where=provider,
            next=f"make another one; then: grafos cloud teardown {provider} --cell-id {cell_id}",
        )
    check_owner(named, DIRECT)
    if not is_to_roll(named, rows, now):
        if has_run_out(named, now):
            step = f"remove what is left: grafos cloud teardown {provider} --cell-id {cell_id}"
            raise GrafosError("cell_gone", f"{cell_id} ran out and has ended itself", next=step)
        verb, why = (
            ("provision", "was never finished") if named.state is StackState.MAKING else ("teardown", "is ending")
        )
        again = f"grafos cloud {verb} {provider} --cell-id {cell_id}"
        raise GrafosError("stack_busy", f"{cell_id} {why}", next=f"that goes on by: {again}")
    return [named]


def plan_roll(hands: Hands, cells: Iterable[StackRow], image: str, bundles: Bundles) -> tuple[Turn, ...]:
    """For each cell the plan of its successor, or what stands in the way of it; changes nothing. Raised is what every
    cell would meet, and what stands in the way of the first if it is in the way of all."""
    known = hands.journal.stacks()
    taken = {row.stack for row in known if row.state is not StackState.GONE}
    turns = []
    for row in cells:
        begun = successor_of(row, known)
        name = begun.stack if begun is not None else _fresh_name(hands, row.stack, taken)
        taken.add(name)
        try:
            turns.append(_turn(hands, row, begun, _spec(hands, row, name, image), bundles))
        except GrafosError as error:
            if error.code in MEETS_ALL:
                raise
            turns.append(Turn(row, None, begun is not None, error))
    if turns and all(turn.error is not None for turn in turns):
        assert turns[0].error is not None, "each of them has one"
        raise turns[0].error
    return tuple(turns)


def _turn(hands: Hands, old: StackRow, begun: StackRow | None, wanted: CellSpec, bundles: Bundles) -> Turn:
    assert old.plan is not None, "cells have plans"
    plan = prepare(hands, wanted, bundles).plan
    if begun is not None and plan.expires_at < old.plan.expires_at:
        raise GrafosError(
            "plan_stale",
            f"{old.stack} was extended after {plan.stack} was begun in its place, which would end earlier",
            where=old.stack,
            next=f"grafos cloud teardown {old.provider} --cell-id {plan.stack}; then roll once more",
        )
    same = begun is None and starts_alike(old.plan.facts, plan.facts)
    return Turn(old, None if same else plan, begun is not None)


def roll(
    hands: Hands, turns: Sequence[Turn], bundles: Bundles, project: Path, patience: Patience = PATIENCE
) -> tuple[Rolled, ...]:
    """Replaces one after the other, and stops at the first whose turn fails: it and those after it stay. One that has
    no plan of a successor stays, and the others go on.

    ``KeyboardInterrupt`` ends it where it is; the same call goes on.
    """
    outcomes: list[Rolled] = []
    has_failed = False
    for turn in turns:
        if turn.error is not None:
            turn.error.what = f"{turn.old.stack} stays: {turn.error.what}"
            outcomes.append(Rolled(turn.old.stack, error=turn.error))
        elif has_failed:
            outcomes.append(Rolled(turn.old.stack, untried=turn.plan is not None))
        else:
            outcomes.append(_rolled(hands, turn, bundles, project, patience))
            has_failed = outcomes[-1].error is not None
    return tuple(outcomes)


def starts_alike(one: CellFacts, other: CellFacts) -> bool:
    """Whether two machines start from the same bytes."""
    return (one.image.id, one.baked, one.bundle) == (other.image.id, other.baked, other.bundle)


def is_to_roll(row: StackRow, rows: Iterable[StackRow], now: float) -> bool:
    """Whether a cell lives and can be replaced; also one whose end was begun because its successor is ready. ``rows``
    are the journal's. One that ran out has ended itself, and must not keep the others from being replaced."""
    if has_run_out(row, now):
        return False
    return row.state is StackState.MADE or (row.state is StackState.UNMAKING and successor_of(row, rows) is not None)


def has_run_out(row: StackRow, now: float) -> bool:
    """Whether a cell is past its end."""
    return row.plan is not None and row.plan.expires_at <= now


def successor_of(old: StackRow, rows: Iterable[StackRow]) -> StackRow | None:
    """The one that an earlier run began for this very cell: that of an earlier cell of its name is nobody's."""
    begun = (row for row in rows if row.replaces == old.stack and row.created_at >= old.created_at)
    return next((row for row in begun if row.state in (StackState.MAKING, StackState.MADE)), None)


def _rolled(hands: Hands, turn: Turn, bundles: Bundles, project: Path, patience: Patience) -> Rolled:
    old, plan = turn.old, turn.plan
    if plan is None:
        return Rolled(old.stack)
    try:
        _check_unchanged(hands, turn)
        record = provision(hands, plan, bundles, project, patience=patience, replaces=old.stack)
    except GrafosError as error:
        if error.code == "interrupted":
            raise
        _clear_refused(hands, plan.stack, project, error)
        error.what = f"{old.stack} stays: {error.what}"
        return Rolled(old.stack, error=error)
    try:
        return Rolled(old.stack, record, teardown(hands, old.stack, project, old.region, old.provider))
    except GrafosError as error:
        if error.code == "interrupted":
            raise
        error.what = f"{record.cell_id} is ready in the place of {old.stack}, whose end failed: {error.what}"
        return Rolled(old.stack, record, error=error)


def _check_unchanged(hands: Hands, turn: Turn) -> None:
    """``plan_stale`` for a cell that was extended or torn down since its successor was planned: that would have another
    end, or nobody to replace."""
    rows = hands.journal.stacks()
    now = next((row for row in rows if row.stack == turn.old.stack), turn.old)
    ends = [row.plan.life for row in (now, turn.old) if row.plan is not None]
    if is_to_roll(now, rows, hands.clock.now()) and ends[0] == ends[-1]:
        return
    raise GrafosError(
        "plan_stale",
        "it was extended or torn down after its successor was planned",
        where=turn.old.stack,
        next=f"grafos cloud roll {turn.old.provider}   plans anew",
    )


def _clear_refused(hands: Hands, stack: str, project: Path, error: GrafosError) -> None:
    """Of a successor whose machine the cloud refused nothing stays that would bill, as an address does, and no hold.
    One of which more is known, or may be there, stays begun: the next roll goes on with it."""
    row = hands.journal.stack(stack)
    if error.code not in REFUSED or row is None or row.plan is None or row.state is not StackState.MAKING:
        return
    if not left_nothing(hands, row.plan):
        return
    try:
        teardown(hands, stack, project, row.region, row.provider)
    except GrafosError as failed:
        if failed.code == "interrupted":
            raise
        error.what += f"; what was begun of {stack} could not be removed: {failed.what}"
        error.next = f"grafos cloud teardown {row.provider} --cell-id {stack}"
    else:
        error.what += f"; what was begun of {stack} was removed"


def _joins(row: StackRow) -> bool:
    return row.plan is not None and row.plan.spec.joins


def _fresh_name(hands: Hands, cell_id: str, taken: Iterable[str]) -> str:
    match = SUCCESSOR.fullmatch(cell_id)
    base, number = (match["base"], int(match["number"]) + 1) if match else (cell_id, 2)
    while (name := successor_name(base, number)) in taken or _is_somebody(hands, name):
        number += 1
    return name


def successor_name(base: str, number: int) -> str:
    """``web-1-r2``; of a long name only as much as leaves room for the number."""
    tail = f"-r{number}"
    return base[: CELL_ID_CHARACTERS_MAX - len(tail)].rstrip("-") + tail


def _is_somebody(hands: Hands, cell_id: str) -> bool:
    """A cell of that name that the journal does not know."""
    home = CellHome(hands.fabric, cell_id)
    return home.is_recorded and not home.record().gone_at


def _spec(hands: Hands, row: StackRow, name: str, image: str) -> CellSpec:
    """What the old one was asked for, on the machine type that it has, to its end; ``stack_busy`` where that end is
    being moved."""
    old = row.plan
    assert old is not None, "cells have plans"
    if row.extending_to:
        raise GrafosError(
            "stack_busy",
            f"{row.stack} is being extended",
            next=f"that goes on by: grafos cloud extend --cell-id {row.stack}",
        )
    now, life = int(hands.clock.now()), old.life
    return msgspec.structs.replace(
        old.spec,
        cell_id=name,
        image=image,
        machine_type=old.facts.offer.machine_type,
        ttl_s=life.expires_at - now,
        max_ttl_s=life.held_until - now if life.held_until > life.expires_at else 0,
    )
