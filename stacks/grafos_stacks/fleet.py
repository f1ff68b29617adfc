"""Many cells at once: held in full before the first is made, then made in parallel, each for itself.

Whoever runs the same command again goes on with what is unfinished. The cells of a region share its network, which one
of them makes while the others wait for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId, check_name
from grafos_stacks.bundle import Bundles
from grafos_stacks.candidates import Provided, provide
from grafos_stacks.journal import Journal
from grafos_stacks.making import hold_all
from grafos_stacks.plan import StackPlan
from grafos_stacks.planner import plan_cell
from grafos_stacks.side_by_side import HandsOf, Told, side_by_side
from grafos_stacks.spec import CELL_ID_CHARACTERS_MAX

COUNT_MAX = 256
"""Cells of one command: what one confirmation may cover, and what one region's subnet holds."""

Provide = Callable[[HandsOf, Sequence[StackPlan]], Provided]
"""Makes one cell at the first of its places that has a machine."""


class Made(NamedTuple):
    """What came of one cell: the cell, or the error that stood in the way."""

    cell_id: str
    provided: Provided | None
    error: GrafosError | None


def names_of(base: str, count: int) -> tuple[str, ...]:
    """The names of so many cells: ``web-1`` to ``web-12``; the base itself for one. ``name_invalid``,
    ``limit_exceeded`` or ``config_invalid`` if there are no such names."""
    if count < 1:
        raise GrafosError(
            "config_invalid", f"{count} cells cannot be made", where="--count", next="ask for one or more"
        )
    if count > COUNT_MAX:
        raise GrafosError(
            "limit_exceeded",
            f"{count} cells are more than one command makes",
            where="--count",
            next=f"ask for {COUNT_MAX} at most, under another --cell-id each time",
        )
    names = (base,) if count == 1 else tuple(f"{base}-{number}" for number in range(1, count + 1))
    check_name("cell", names[-1])
    if len(names[-1]) > CELL_ID_CHARACTERS_MAX:
        raise GrafosError(
            "name_invalid",
            f"the cells' names would have more than {CELL_ID_CHARACTERS_MAX} characters",
            where=names[-1],
            next="choose a shorter --cell-id",
        )
    return names


def plans_for(places: Sequence[StackPlan], names: Sequence[str]) -> list[list[StackPlan]]:
    """For each name its plans, one for each place; what the cloud said is the same for all of them."""
    return [[_named(plan, name) for plan in places] for name in names]


def _named(plan: StackPlan, cell_id: str) -> StackPlan:
    spec = msgspec.structs.replace(plan.spec, cell_id=cell_id)
    return plan if plan.stack == cell_id else plan_cell(spec, plan.facts, FabricId(plan.fabric), plan.made_at)


def provision_fleet(
    hands_of: HandsOf,
    cells: Sequence[Sequence[StackPlan]],
    bundles: Bundles,
    project: Path,
    told: Told | None = None,
) -> tuple[Made, ...]:
    """Makes all of them; an outcome for each, in their order. ``cells`` has each one's places, in the order of trying.

    Raises ``budget_exceeded`` before anything is made, and ``KeyboardInterrupt`` after every cell has stopped where it
    can go on.
    """
    hold_fleet(hands_of, [plans[0] for plans in cells])

    def one(own: HandsOf, plans: Sequence[StackPlan]) -> Provided:
        return provide(own, plans, bundles, project)

    return each(hands_of, cells, one, told)


def hold_fleet(hands_of: HandsOf, plans: Sequence[StackPlan]) -> None:
    """Opens and holds them all, or none, while no other command works on any of them: what it works on is its own, and
    it alone knows whether that has a row and a hold."""
    journal = next(iter(hands_of.values())).journal
    with contextlib.ExitStack() as locks:
        hold_all(hands_of, [plan for plan in plans if _is_free(journal, plan.stack, locks)])


def _is_free(journal: Journal, stack: str, locks: contextlib.ExitStack) -> bool:
    try:
        locks.enter_context(journal.lock(stack))
    except GrafosError as error:
        if error.code != "stack_busy":
            raise
        return False
    return True


def each(
    hands_of: HandsOf, cells: Sequence[Sequence[StackPlan]], make: Provide, told: Told | None = None
) -> tuple[Made, ...]:
    """``make`` for every cell, side by side."""
    names = [plans[0].stack for plans in cells]
    came = side_by_side(hands_of, list(zip(names, cells, strict=True)), make, told)
    return tuple(
        Made(name, None, one) if isinstance(one, GrafosError) else Made(name, one, None)
        for name, one in zip(names, came, strict=True)
    )
