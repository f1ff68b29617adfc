"""Cells that are played on the wire: real identities, TLS, links and brokers; only the workers are made up.

A run takes as long as chance says and leaves a receipt that the cell's own key signed. All cells live in one thread,
so two hundred runs cost no processor to speak of. ``Cells.started`` counts each start of a run, for whoever asks
whether one ran twice.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
from orchestrator import Member

from grafos_cell import broker
from grafos_cell.broker_events import (
    Booted,
    Event,
    ForBroker,
    LinkUp,
    Report,
    StartWorker,
    StopWorker,
    Tick,
    Told,
    Unbind,
    Unbound,
    WorkerEnded,
)
from grafos_cell.holdings import BrokerSettings, BrokerState
from grafos_cell.identity import Identity
from grafos_cell.link import Link
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import frames

TICK_EVERY_S = 0.25
Seconds = Callable[[random.Random, frames.StartRun], float]
"""How long a run takes."""


def some_time(chance: random.Random, _: frames.StartRun) -> float:
    return chance.uniform(0.05, 1.5)


class PlayedCell:
    """One cell: whom the link talks to."""

    def __init__(self, cells: Cells, member: Member, total: Resources, seconds: Seconds, url: str) -> None:
        self.member = member
        self._cells = cells
        self._seconds = seconds
        self._chance = random.Random(member.cell_id)
        self._identity = Identity(member.trust_folder())
        fabric = member.at.fabric.id
        rules = BrokerSettings(fabric, member.cell_id, total, b"capability key of a cell", self._identity.sign)
        self.state = BrokerState.load(rules, ())
        self._link = Link(url or member.at.url, self._identity.link_context, self, self._chance)
        self._workers: dict[str, asyncio.TimerHandle] = {}
        self._is_registered = False
        self.goodbyes: Counter[str] = Counter()

    async def live(self) -> None:
        self._handle(Booted())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.hold())
            group.create_task(self._tick_for_ever())

    # --- what the link asks ---

    async def prepare(self) -> None:
        if not self._is_registered:
            await asyncio.to_thread(self.member.register, self.state.settings.total)
            self._is_registered = True

    def ended(self, fault: GrafosError) -> None:
        self.goodbyes[fault.code] += 1

    def hello(self) -> frames.Hello:
        said = broker.hello(self.state, "played")
        return msgspec.structs.replace(said, api_token=self._identity.api_token, instance=self.member.cell_id)

    def heartbeat(self) -> frames.Heartbeat:
        return broker.heartbeat(self.state)

    async def linked(self) -> None:
        self._link.speak()
        self._handle(LinkUp())

    async def told(self, frame: frames.DownFrame) -> None:
        if isinstance(frame, ForBroker):
            self._handle(Told(frame))

    def babble(self, garbage: bytes) -> None:
        assert self._link._writer is not None
        self._link._writer.write(garbage)

    # --- inside ---

    def _handle(self, event: Event) -> None:
        decision = broker.decide(self.state, event, time.time())
        self.state.apply(decision.batch)
        for effect in decision.effects:
            match effect:
                case Report():
                    self._link.send(effect.frame)
                case StartWorker():
                    self._start(effect.start)
                case StopWorker():
                    if worker := self._workers.pop(effect.run_id, None):
                        worker.cancel()
                        self._soon(WorkerEnded(effect.run_id, "worker_lost"))
                case Unbind():
                    self._soon(Unbound(effect.lease_id, effect.generation))

    def _soon(self, event: Event) -> None:
        asyncio.get_running_loop().call_soon(self._handle, event)

    def _start(self, start: frames.StartRun) -> None:
        self._cells.started[start.run_id] += 1
        seconds = self._seconds(self._chance, start)
        ended = WorkerEnded(start.run_id, "finished", fuel_used=1, response_json='"ok"')
        self._workers[start.run_id] = asyncio.get_running_loop().call_later(seconds, self._end, ended)

    def _end(self, ended: WorkerEnded) -> None:
        self._workers.pop(ended.run_id, None)
        self._handle(ended)

    async def _tick_for_ever(self) -> None:
        while True:
            self._handle(Tick())
            await asyncio.sleep(TICK_EVERY_S)


class Cells:
    """Played cells in a thread of their own, until ``close``. ``url``: where they dial, if that is another way."""

    def __init__(
        self, members: Sequence[Member], total: Resources, seconds: Seconds = some_time, *, url: str = ""
    ) -> None:
        self.started: Counter[str] = Counter()
        self.cells = [PlayedCell(self, member, total, seconds, url) for member in members]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="played cells")
        self._stop: asyncio.Task[None]
        self._began = threading.Event()
        self._thread.start()
        self._began.wait()

    def babble(self, number: int, garbage: bytes) -> None:
        """Has one cell send what no cell sends."""
        self._loop.call_soon_threadsafe(self.cells[number].babble, garbage)

    def close(self) -> None:
        """Ends all of them; an error of one is raised."""
        self._loop.call_soon_threadsafe(self._stop.cancel)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._live())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())

    async def _live(self) -> None:
        self._stop = asyncio.current_task()  # type: ignore[assignment]
        self._began.set()
        async with asyncio.TaskGroup() as group:
            for cell in self.cells:
                group.create_task(cell.live())
