"""Decides, persists, then acts: the loop that carries the pure scheduler through a real process.

    decide -> apply to memory -> await the store -> only then effects, and the answer

Deciding and applying happen at once, in the order in which ``handle`` is called; the waiting overlaps, so that many
decisions share one sync of the disk. When the store fails, memory is ahead of the disk: nothing more is decided or
answered, and the process is to end (``stopped``). The next one starts from what is durable, which is all that was
ever acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from grafos_core.changes import Batch
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.rowstore import Store
from grafos_scheduler import frames, runs
from grafos_scheduler.decide import decide
from grafos_scheduler.effects import CloseLink, Decision, Effect, InstanceMoved, RunMoved, SendToCell
from grafos_scheduler.events import Event, Tick
from grafos_scheduler.state import State

TICK_EVERY_S = 0.5
"""How late a lease's or run's end by time may be noticed."""
WAITERS_MAX = 512
"""Long polls held at once; further ones are answered at once with the state as it is."""

log = logging.getLogger("grafos.scheduler")


class Link(Protocol):
    """An open link to a cell, as the shell needs it."""

    def send(self, frame: frames.DownFrame) -> None: ...

    def close(self) -> None: ...


class Shell:
    """One scheduler in one process. ``state`` is for reading; only ``handle`` moves it. ``is_ending``: the process was
    told to end, and nobody is to wait for anything any more."""

    def __init__(self, state: State, store: Store, clock: Clock, chance: random.Random) -> None:
        self.state = state
        self.store = store
        self.clock = clock
        self.chance = chance
        self.stopped: asyncio.Future[GrafosError] = asyncio.get_running_loop().create_future()
        self._links: dict[tuple[str, int], Link] = {}
        self._welcomed: set[tuple[str, int]] = set()
        self._next_link_id = 1
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._waiting = 0
        self._instance_watchers: list[Callable[[str], None]] = []
        self.is_ending = False

    async def handle(self, event: Event, extra: Batch = (), *, by: str = "") -> msgspec.Struct | None:
        """What the decision answers, once it is durable together with ``extra`` and its effects are under way.

        Raises the refusal. ``extra`` are rows of the shell's own that belong to the same moment; ``by`` is as for
        ``decide``.
        """
        self._refuse_when_stopped()
        decision = self._decide(event, by)
        await self._commit(decision.batch + extra)
        return self._act(decision)

    async def handle_all(self, several: Sequence[Event]) -> list[msgspec.Struct | GrafosError | None]:
        """As ``handle`` for each, one after the other, and durable together: an answer or a refusal for each.

        Each is decided on what those before it came to, so money and room are never promised twice.
        """
        self._refuse_when_stopped()
        decisions = [self._decide_or_refuse(event) for event in several]
        await self._commit(tuple(change for decision in decisions for change in decision.batch))
        outcomes: list[msgspec.Struct | GrafosError | None] = []
        for decision in decisions:
            try:
                outcomes.append(self._act(decision))
            except GrafosError as refusal:
                outcomes.append(refusal)
        return outcomes

    async def put(self, rows: Batch) -> None:
        """Makes rows of the shell's own durable."""
        self._refuse_when_stopped()
        await self._commit(rows)

    async def settled(self) -> None:
        """Returns when all that memory shows now is durable; await it before showing state to anybody."""
        self._refuse_when_stopped()
        await self._commit(())

    async def wait_for_end(self, run_id: str, wait_s: float) -> None:
        """Returns when the run has ended (and that is durable), or after ``wait_s``."""
        if wait_s <= 0 or self._waiting >= WAITERS_MAX:
            return
        moved = asyncio.Event()
        self._waiters[run_id].add(moved)
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_s):
                while self._is_under_way(run_id) and not self.is_ending:
                    await moved.wait()
                    moved.clear()
        except TimeoutError:
            pass  # the caller shows the run as it is
        finally:
            self._waiting -= 1
            self._waiters[run_id].discard(moved)
            if not self._waiters[run_id]:
                del self._waiters[run_id]

    def add_link(self, cell_id: str, link: Link) -> int:
        """Makes the link reachable for effects; gives its id, which grows with every link."""
        link_id = self._next_link_id
        self._next_link_id += 1
        self._links[cell_id, link_id] = link
        return link_id

    def drop_link(self, cell_id: str, link_id: int) -> None:
        self._links.pop((cell_id, link_id), None)
        self._welcomed.discard((cell_id, link_id))

    def send_now(self, cell_id: str, frame: frames.DownFrame) -> bool:
        """Sends a frame that stands in no state over the cell's current link; whether there is one."""
        if not self.has_link(cell_id):
            return False
        self._links[cell_id, self.state.link_of(cell_id)].send(frame)
        return True

    async def tick_for_ever(self) -> None:
        """Tells the scheduler that time passes, until the task is cancelled or the shell stops."""
        while not self.stopped.done():
            try:
                await self.handle(Tick())
            except GrafosError as error:
                log.warning("tick: %s", error)
            except Exception:
                # A bug in one rule must not keep time from passing for all the others.
                log.exception("a tick could not be decided")
            await asyncio.sleep(TICK_EVERY_S)

    def has_link(self, cell_id: str) -> bool:
        """Whether frames can be sent to the cell. A link that was decided upon is not yet one that was welcomed: that
        waits for the disk, and a cell hangs up on whatever comes before it."""
        return (cell_id, self.state.link_of(cell_id)) in self._welcomed

    def watch_instances(self, watcher: Callable[[str], None]) -> None:
        """Whom to tell, by its id, of each instance that has a new state."""
        self._instance_watchers.append(watcher)

    def end_waiting(self) -> None:
        """Lets every long poll answer now, because the process is about to end."""
        self.is_ending = True
        for waiters in list(self._waiters.values()):
            for moved in waiters:
                moved.set()

    def _decide(self, event: Event, by: str = "") -> Decision:
        decision = decide(self.state, event, self.clock.now(), self.chance, by)
        self.state.apply(decision.changes)
        return decision

    def _decide_or_refuse(self, event: Event) -> Decision:
        """As ``_decide``; what was decided before it must reach the disk, so nothing is raised, not even a bug."""
        try:
            return self._decide(event)
        except GrafosError as refusal:
            return Decision(refusal=refusal)
        except Exception:
            log.exception("%s could not be decided", type(event).__name__)
            return Decision(refusal=GrafosError("internal", "the scheduler could not decide what was asked of it"))

    def _act(self, decision: Decision) -> msgspec.Struct | None:
        for effect in decision.effects:
            self._carry_out(effect)
        if decision.refusal is not None:
            raise decision.refusal
        return decision.answer

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, RunMoved):
            for moved in self._waiters.get(effect.run_id, ()):
                moved.set()
            return
        if isinstance(effect, InstanceMoved):
            for watcher in self._instance_watchers:
                watcher(effect.instance_id)
            return
        link = self._links.get((effect.cell_id, effect.link_id))
        if link is None:
            return
        if isinstance(effect, SendToCell):
            link.send(effect.frame)
            if isinstance(effect.frame, frames.Welcome):
                self._welcomed.add((effect.cell_id, effect.link_id))
        else:
            assert isinstance(effect, CloseLink)
            link.close()

    def _is_under_way(self, run_id: str) -> bool:
        run = self.state.runs.get(run_id)
        return run is not None and run.state in runs.UNDER_WAY

    async def _commit(self, batch: Batch) -> None:
        try:
            await self.store.commit(batch, self.store.epoch)
        except GrafosError as error:
            if not self.stopped.done():
                log.critical("stopping: %s (%s)", error, error.why or error.where)
                self.stopped.set_result(error)
            raise

    def _refuse_when_stopped(self) -> None:
        if self.stopped.done():
            code = self.stopped.result().code
            raise GrafosError(code, "the scheduler is stopping: its state could not be made durable")
