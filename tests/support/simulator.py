"""A whole fabric in one process: the real scheduler's and brokers' minds, a virtual clock, and one integer of chance.

The seed draws everything: delays, lost requests, cut links, kills before and after each commit and each effect, what
workers do, what clients ask. So the seed replays a story byte for byte, and the story is the list ``World.trace``.

What is simulated: processes that die and come back from their disk; a disk that has exactly what was committed; links
like TCP (in order, a prefix arrives, each side notices a cut by itself, perhaps late); clients that repeat a request
under its run key until they are answered; clocks that are a little off. What is not: TLS, bytes on the wire, WASM.
``invariants`` holds what must be true at each step.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from invariants import Ghost
from simulated_joining import JoiningCell, Landlord, OrchestratorProcess
from simulated_operator import Operator
from simulated_processes import CellProcess, Client, KilledError, Process, SchedulerProcess

from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError

CALM_S = 200.0
"""After the last fault: longer than any lease with all its margins, so that everything must have come to its end."""


@dataclass(frozen=True)
class Faults:
    """How rough the world is. Chances are per occasion; ``kill_at`` names kill points by their number instead."""

    until_s: float = 60.0
    kill: float = 0.0
    lost_for_ever: float = 0.0
    cut: float = 0.0
    lose: float = 0.0
    stuck_worker: float = 0.0
    failed_unbind: float = 0.0
    partition: float = 0.0
    kill_at: frozenset[int] = frozenset()

    @classmethod
    def drawn(cls, chance: random.Random) -> Faults:
        """From calm to stormy."""
        rough = chance.choice([0.0, 0.3, 1.0, 3.0])
        return cls(
            kill=0.02 * rough * chance.random(),
            lost_for_ever=0.1 * rough * chance.random(),
            cut=0.03 * rough * chance.random(),
            lose=0.2 * rough * chance.random(),
            stuck_worker=0.3 * rough * chance.random(),
            failed_unbind=0.1 * rough * chance.random(),
            partition=0.1 * rough * chance.random(),
        )


@dataclass(frozen=True)
class Scene:
    """Who takes part. ``well_behaved``: every program finishes. ``takes_back``: how likely the operator, at each visit,
    takes a lease back or has a run cancelled. ``deadline_s`` is that of every run, where it is not drawn; a program
    takes at least ``least_share_of_deadline`` of it. With ``joins`` the cells enrol at an orchestrator; ``revokes`` and
    ``drains`` are how likely a cell is, at each visit, ``copies`` how likely somebody starts a copy of its machine, and
    with ``clocks_off`` some clocks are off by hours."""

    cells: int
    clients: int
    budget_micro_cents: int
    well_behaved: bool = False
    takes_back: float = 0.0
    deadline_s: float = 0.0
    least_share_of_deadline: float = 0.0
    joins: bool = False
    revokes: float = 0.0
    drains: float = 0.0
    copies: float = 0.0
    clocks_off: bool = False

    @classmethod
    def joining(cls, chance: random.Random) -> Scene:
        """Cells that enrol at an orchestrator."""
        drawn = cls.drawn(chance)
        revokes, drains = chance.choice([0.0, 0.05, 0.2]), chance.choice([0.0, 0.1])
        copies, clocks_off = chance.choice([0.0, 0.0, 0.1]), chance.random() < 0.5
        return replace(drawn, joins=True, revokes=revokes, drains=drains, copies=copies, clocks_off=clocks_off)

    @classmethod
    def drawn(cls, chance: random.Random) -> Scene:
        return cls(
            chance.randint(1, 3),
            chance.randint(3, 20),
            chance.choice([40_000, 400_000, 40_000_000]),
            takes_back=chance.choice([0.0, 0.1, 0.5]),
        )


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
        self.kill_points = 0
        self._queue: list[tuple[float, int, str, Callable[[], None]]] = []
        self._queued = 0
        self.ghost = Ghost(self)
        joins = self.scene.joins
        self.scheduler = OrchestratorProcess(self) if joins else SchedulerProcess(self)
        cell_class = JoiningCell if joins else CellProcess
        self.cells: list[CellProcess] = [cell_class(self, number) for number in range(self.scene.cells)]
        self.clients = [Client(self, number) for number in range(self.scene.clients)]
        self.operator = Landlord(self) if joins else Operator(self)

    @property
    def elapsed(self) -> float:
        return self.clock.now() - self.start

    @property
    def stormy(self) -> bool:
        """Whether faults still happen."""
        return self.elapsed < self.faults.until_s

    def say(self, line: str) -> None:
        self.trace.append(f"{self.elapsed:9.3f} {line}")

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

    def run(self) -> World:
        """Plays the story to its end; an ``AssertionError`` tells the seed and the trace."""
        try:
            for actor in (self.scheduler, *self.cells, *self.clients, self.operator):
                actor.begin()
            while self._queue and self.elapsed < self.faults.until_s + CALM_S:
                self._step()
            self.ghost.check_all_is_over()
        except (AssertionError, GrafosError, KeyError) as error:
            told = "\n".join(self.trace[-400:])
            raise AssertionError(f"seed {self.seed}, step {self.steps}: {error!r}\n{told}") from error
        return self

    def _step(self) -> None:
        at, _, what, action = heapq.heappop(self._queue)
        self.clock.advance(max(0.0, at - self.clock.now()))
        self.steps += 1
        if what:
            self.say(what)
        action()
        self.ghost.check_step()
