"""Many cells at once: held in full before the first is made, then made in parallel, each for itself.

What fails for one keeps no other; whoever runs the same command again goes on with what is unfinished. The cells of a
region share its network, which one of them makes while the others wait for it. Each thread reads the journal for
itself; what they write is made durable together (``JournalWriter``), since waiting for the disk is most of
what provisioning itself costs.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId, check_name
from grafos_stacks.bundle import Bundles
from grafos_stacks.candidates import HandsOf, Provided, provide
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal, JournalWriter
from grafos_stacks.making import hold_all
from grafos_stacks.plan import StackPlan
from grafos_stacks.planner import plan_cell
from grafos_stacks.progress import Progress
from grafos_stacks.spec import CELL_ID_CHARACTERS_MAX

AT_ONCE_MAX = 32
"""Cells that are under way at a time: more would only meet the clouds' request limits."""
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
        raise GrafosError("config_invalid", f"{count} cells cannot be made", where="count", next="ask for one or more")
    if count > COUNT_MAX:
        raise GrafosError("limit_exceeded", f"{count} cells are more than {COUNT_MAX}", next="run the command twice")
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
    told: Callable[[str], Progress] | None = None,
) -> tuple[Made, ...]:
    """Makes all of them; an outcome for each, in their order. ``cells`` has each one's places, in the order of trying.

    Raises ``budget_exceeded`` before anything is made, and ``KeyboardInterrupt`` after every cell has stopped where it
    can go on. ``told`` gives the listener for a cell's steps. The hands' journals are left to the caller's own thread.
    """
    hold_all(hands_of, [plans[0] for plans in cells])

    def one(own: HandsOf, plans: Sequence[StackPlan]) -> Provided:
        return provide(own, plans, bundles, project)

    return each(hands_of, cells, one, told)


def each(
    hands_of: HandsOf,
    cells: Sequence[Sequence[StackPlan]],
    make: Provide,
    told: Callable[[str], Progress] | None = None,
) -> tuple[Made, ...]:
    """``make`` for every cell, in threads with hands of their own."""
    stopped = threading.Event()
    if not cells:
        return ()
    some = next(iter(hands_of.values()))
    with (
        contextlib.closing(JournalWriter(some.fabric, some.clock)) as writer,
        ThreadPoolExecutor(min(AT_ONCE_MAX, len(cells)), thread_name_prefix="cell") as pool,
    ):
        works = [
            pool.submit(_one, _own(hands_of, stopped, told(plans[0].stack) if told else None), writer, plans, make)
            for plans in cells
        ]
        try:
            for work in as_completed(works):
                work.result()  # what a thread may raise is a bug of ours or the wish to stop; either stops all
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return tuple(work.result() for work in works)


def _one(hands_of: HandsOf, writer: JournalWriter, plans: Sequence[StackPlan], make: Provide) -> Made:
    cell_id, some = plans[0].stack, next(iter(hands_of.values()))
    try:
        with contextlib.closing(Journal(some.fabric, some.clock, writer)) as journal:
            own = {provider: replace(hands, journal=journal) for provider, hands in hands_of.items()}
            return Made(cell_id, make(own, plans), None)
    except GrafosError as error:
        return Made(cell_id, None, error)


def _own(hands_of: HandsOf, stopped: threading.Event, progress: Progress | None) -> Mapping[str, Hands]:
    """The hands of one thread, which stop at the next pause once the others were told to stop."""

    def stopping(sleep: Callable[[float], object]) -> Callable[[float], object]:
        def pause(seconds: float) -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            sleep(seconds)

        return pause

    return {
        provider: replace(hands, sleep=stopping(hands.sleep), progress=progress or hands.progress)
        for provider, hands in hands_of.items()
    }
