"""Teardown of many cells at once: in parallel, each for itself; what fails for one keeps no other.

The SDKs wait for the network and for the clouds most of the time, so threads do. Each has a journal of its own, since
one may be open in one thread only; the connector, the ledger and the locks are shared as between processes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal, JournalWriter
from grafos_stacks.progress import Progress
from grafos_stacks.teardown import TornDownCell, teardown

AT_ONCE_MAX = 32
"""Cells in one batch at a time: more would only meet the clouds' request limits."""


class Target(NamedTuple):
    """One cell that is to go. ``seen``: a listing shows something of it, whatever the records say."""

    cell_id: str
    provider: str
    region: str = ""
    seen: bool = False


class Outcome(NamedTuple):
    """What came of one cell: its receipt, or the error that stood in the way."""

    target: Target
    torn: TornDownCell | None
    error: GrafosError | None


def teardown_batch(
    hands: Hands, targets: Sequence[Target], project: Path, told: Callable[[str], Progress] | None = None
) -> tuple[Outcome, ...]:
    """Tears all of them down; an outcome for each, in their order. Raises nothing but ``KeyboardInterrupt``, after
    which every cell's own teardown has stopped where it can go on.

    ``told`` gives the listener for a cell's steps. ``hands.journal`` is left to the caller's own thread.
    """
    stopped = threading.Event()
    if not targets:
        return ()
    with (
        contextlib.closing(JournalWriter(hands.fabric, hands.clock)) as writer,
        ThreadPoolExecutor(max_workers=min(AT_ONCE_MAX, len(targets)), thread_name_prefix="teardown") as pool,
    ):
        works = {
            pool.submit(
                _one, _own(hands, stopped, told(target.cell_id) if told else None), writer, target, project
            ): target
            for target in targets
        }
        try:
            for work in as_completed(works):
                work.result()  # what a thread may raise is a bug of ours or the wish to stop; either stops all
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    by_target = {target: work.result() for work, target in works.items()}
    return tuple(by_target[target] for target in targets)


def _one(hands: Hands, writer: JournalWriter, target: Target, project: Path) -> Outcome:
    try:
        journal = Journal(hands.fabric, hands.clock, writer)
        with contextlib.closing(journal):
            own = replace(hands, journal=journal)
            torn = teardown(own, target.cell_id, project, target.region, target.provider, seen=target.seen)
            return Outcome(target, torn, None)
    except GrafosError as error:
        return Outcome(target, None, error)


def _own(hands: Hands, stopped: threading.Event, progress: Progress | None) -> Hands:
    """The hands of one thread, which stop at the next pause once the batch was told to stop."""

    def sleep(seconds: float) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        hands.sleep(seconds)

    return replace(hands, sleep=sleep, progress=progress or hands.progress)
