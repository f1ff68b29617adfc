"""A whole fabric in one process: the real scheduler's and brokers' minds, a virtual clock, and one integer of chance.

The seed draws everything: delays, lost requests, cut links, kills before and after each commit and each effect, what
workers do, what clients ask. So the seed replays a story byte for byte; ``World.trace`` tells it, and
``World.trace_sha256`` is over that and over every byte that was committed.

What is simulated: processes that die and come back from their disk; a disk that has exactly what was committed; links
like TCP (in order, a prefix arrives, each side notices a cut by itself, perhaps late); clients that repeat a request
under its key until they are answered; clocks that are a little off. What is not: TLS, bytes on the wire, WASM.
``ghost`` holds what must be true at each step.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from grafos_core.changes import Batch, RowCodec
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_testkit.casting import cast, visitors
from grafos_testkit.cells import CellProcess
from grafos_testkit.ghost import Ghost
from grafos_testkit.joining import JoiningCell, Landlord, OrchestratorProcess
from grafos_testkit.meddling import Meddler
from grafos_testkit.operating import Operator
from grafos_testkit.processes import KilledError, Process
from grafos_testkit.scenes import Faults, Scene
from grafos_testkit.scheduling import SchedulerProcess
from grafos_testkit.transitions import Transitions

if TYPE_CHECKING:
    from grafos_testkit.people import Person

CALM_S = 200.0
"""After the last fault: longer than any lease with all its margins, so that everything must have come to its end."""
TOLD_LINES = 400
"""Of the trace, when something is wrong."""


class Actor(Protocol):
    """Whoever does something by themselves."""

    def begin(self) -> None: ...


class Step(NamedTuple):
    """One committed state change: at which process, and how many seconds into the story."""

    number: int
    at_s: float
    process: str
    batch: Batch


class InvariantError(AssertionError):
    """What must be true is not. ``seed`` and ``commits`` say where; the text ends with the last lines of the trace."""

    def __init__(self, seed: int, commits: int, why: BaseException, trace: list[str]) -> None:
        told = "\n".join(trace[-TOLD_LINES:])
        super().__init__(f"seed {seed}, step {commits}: {why!r}\n{told}")
        self.seed = seed
        self.commits = commits
        self.why = str(why)


class World:
    """Everything that there is, and the queue of what happens next."""

    def __init__(self, seed: int, scene: Scene | None = None, faults: Faults | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.scene = scene or Scene.drawn(self.chance)
        self.faults = faults or Faults.drawn(self.chance)
        self.clock = VirtualClock()
        self.start = self.clock.now()
        self.trace: list[str] = []
        self.steps = 0
        self.commits = 0
        self.newest = Step(0, 0.0, "", ())
        self.kill_points = 0
        self.transitions = Transitions()
        self._meddler = Meddler(self)
        self._digest = hashlib.sha256()
        self._queue: list[tuple[float, int, str, Callable[[], None]]] = []
        self._queued = 0
        self._processes = 0
        self.ghost = Ghost(self)
        joins = self.scene.joins
        self.scheduler: SchedulerProcess = OrchestratorProcess(self) if joins else SchedulerProcess(self)
        cell_class = JoiningCell if joins else CellProcess
        self.cells: list[CellProcess] = [cell_class(self, number) for number in range(self.scene.cells)]
        self.people: list[Person] = cast(self)
        self.visitors = visitors(self, self.people)
        self.operator = Landlord(self) if joins else Operator(self)

    @property
    def elapsed(self) -> float:
        return self.clock.now() - self.start

    @property
    def stormy(self) -> bool:
        """Whether faults still happen."""
        return self.elapsed < self.faults.until_s

    @property
    def trace_sha256(self) -> str:
        """Of all that was said and committed so far."""
        return self._digest.hexdigest()

    def say(self, line: str) -> None:
        told = f"{self.elapsed:9.3f} {line}"
        self.trace.append(told)
        self._digest.update(told.encode() + b"\n")

    def committed(self, process: Process, batch: Batch, codec: RowCodec) -> None:
        """A process made a change durable: one step of the story."""
        self.commits += 1
        self.newest = Step(self.commits, self.elapsed, process.name, batch)
        for kind, key, row in batch:
            body = b"-" if row is None else codec.encode(row)
            self._digest.update(b"%s %s %s %s\n" % (process.name.encode(), kind.encode(), key.encode(), body))
        self.transitions.committed(process.tables, process.number, batch)
        self._meddler.saw(process, batch)

    def next_number(self) -> int:
        """Of a process: no two have the same."""
        self._processes += 1
        return self._processes

    def later(self, delay_s: float, what: str, action: Callable[[], None]) -> None:
        self._queued += 1
        heapq.heappush(self._queue, (self.clock.now() + delay_s, self._queued, what, action))

    def happens(self, probability: float) -> bool:
        """Whether a fault of this probability happens now; after the storm none does."""
        return self.stormy and self.chance.random() < probability

    def kill_point(self, process: Process, where: str) -> None:
        """A place where the process may die."""
        self.kill_points += 1
        named = self.kill_points in self.faults.kill_at
        if named or self.happens(self.faults.kill):
            self.say(f"KILL {process.name} {where} (point {self.kill_points})")
            raise KilledError

    def begin(self) -> None:
        """Everybody starts."""
        actors: tuple[Actor, ...] = (self.scheduler, *self.cells, *self.people, *self.visitors, self.operator)
        for actor in actors:
            actor.begin()

    def run(self) -> World:
        """Plays the story to its end; an ``InvariantError`` tells the seed and the trace."""
        self.checked(self.begin)
        while self._queue and self.elapsed < self.faults.until_s + CALM_S:
            self.advance()
        self.checked(self.ghost.check_all_is_over)
        return self

    def end_the_storm(self) -> None:
        """From now on nothing happens but what somebody does."""
        self.faults = replace(self.faults, until_s=min(self.faults.until_s, self.elapsed))

    def advance(self) -> None:
        """The next thing happens."""
        self.checked(self._advance)

    def advance_to(self, elapsed_s: float) -> None:
        """All that happens up to then."""
        while self._queue and self._queue[0][0] <= self.start + elapsed_s:
            self.advance()
        self.clock.advance(max(0.0, elapsed_s - self.elapsed))

    def checked(self, action: Callable[[], None]) -> None:
        """Does something, and tells where the story was if that breaks what must be true."""
        try:
            action()
        except (AssertionError, GrafosError, KeyError) as error:
            raise InvariantError(self.seed, self.commits, error, self.trace) from error

    def _advance(self) -> None:
        at, _, what, action = heapq.heappop(self._queue)
        self.clock.advance(max(0.0, at - self.clock.now()))
        self.steps += 1
        if what:
            self.say(what)
        action()
        self.ghost.check_step()
