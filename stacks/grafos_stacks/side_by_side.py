"""Work on many cells at once, each in a thread of its own; what fails for one keeps no other.

The SDKs wait for the network and for the clouds most of the time, so threads do. Each reads a journal of its own, since
one may be open in one thread only; what they write is made durable together (``JournalWriter``), since waiting for the
disk is most of what provisioning itself costs. Connectors, ledger and locks are shared as between processes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TypeVar

from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal, JournalWriter
from grafos_stacks.progress import Progress

AT_ONCE_MAX = 32
"""Cells that are under way at a time: more would only meet the clouds' request limits."""

HandsOf = Mapping[str, Hands]
"""What it takes to work on each cloud, by provider."""
Told = Callable[[str], Progress]
"""Gives the listener for the steps of the cell of that name."""

Cell = TypeVar("Cell")
Result = TypeVar("Result")


def side_by_side(
    hands_of: HandsOf,
    cells: Sequence[tuple[str, Cell]],
    work: Callable[[HandsOf, Cell], Result],
    told: Told | None = None,
) -> tuple[Result | GrafosError, ...]:
    """``work`` on each of the cells, which stand beside their names: in their order what came of it, or what stood in
    the way.

    Raises nothing but ``KeyboardInterrupt``, after all of them have stopped where they can go on. The journals of
    ``hands_of`` are left to the caller's own thread.
    """
    if not cells:
        return ()
    stopped, some = threading.Event(), next(iter(hands_of.values()))
    with (
        contextlib.closing(JournalWriter(some.fabric, some.clock)) as writer,
        ThreadPoolExecutor(min(AT_ONCE_MAX, len(cells)), thread_name_prefix="cell") as pool,
    ):

        def one(name: str, cell: Cell) -> Result | GrafosError:
            try:
                with contextlib.closing(Journal(some.fabric, some.clock, writer)) as journal:
                    return work(_own(hands_of, journal, stopped, told(name) if told else None), cell)
            except GrafosError as error:
                return error

        works = [pool.submit(one, name, cell) for name, cell in cells]
        try:
            for done in as_completed(works):
                done.result()  # what a thread may raise is a bug of ours or the wish to stop; either stops all
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return tuple(done.result() for done in works)


def _own(hands_of: HandsOf, journal: Journal, stopped: threading.Event, progress: Progress | None) -> HandsOf:
    """The hands of one thread, which stop at the next pause once the others were told to stop."""

    def stopping(sleep: Callable[[float], object]) -> Callable[[float], object]:
        def pause(seconds: float) -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            sleep(seconds)

        return pause

    return {
        provider: replace(hands, journal=journal, sleep=stopping(hands.sleep), progress=progress or hands.progress)
        for provider, hands in hands_of.items()
    }
