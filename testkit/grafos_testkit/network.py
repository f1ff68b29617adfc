"""Links of a simulated fabric, like TCP: in order; when cut, a prefix arrives and each side notices for itself."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grafos_testkit.cells import CellProcess
    from grafos_testkit.processes import Process
    from grafos_testkit.world import World


class Channel:
    """One direction of a link: frames arrive in order, each after its delay."""

    def __init__(self, link: Link, hear: Callable[[Link, Any], None], process: Process) -> None:
        self.link = link
        self._hear = hear
        self._process = process
        self._flying: deque[tuple[float, Any]] = deque()
        self._last = 0.0

    def send(self, frame: Any) -> None:
        world = self.link.world
        if not self.link.open:
            return
        self._last = max(self._last, world.clock.now() + world.chance.uniform(0.001, 0.05))
        self._flying.append((self._last, frame))
        world.later(self._last - world.clock.now(), "", self._process.guarded(self._deliver))
        if world.happens(world.faults.cut):
            self.link.cut()

    def cut(self) -> float:
        """Drops all but a prefix of what is under way; gives when the last of it arrives."""
        world = self.link.world
        keep = world.chance.randint(0, len(self._flying))
        while len(self._flying) > keep:
            self._flying.pop()
        return self._flying[-1][0] if self._flying else world.clock.now()

    def _deliver(self) -> None:
        if self._flying and self._flying[0][0] <= self.link.world.clock.now():
            frame = self._flying.popleft()[1]
            self.link.world.say(f"{self._process.name} <- {self.link.cell.name}#{self.link.link_id} {brief(frame)}")
            self._hear(self.link, frame)


class Link:
    """A connection between one life of the cell and one life of the scheduler."""

    def __init__(self, world: World, cell: CellProcess) -> None:
        self.world = world
        self.cell = cell
        self.link_id = 0
        self.opened_at = 0.0
        self.open = True
        self.key, self.not_after, self.instance = "", math.inf, ""
        world.scheduler.connections.append(self)
        self.up = Channel(self, world.scheduler.hear, world.scheduler)
        self.down = Channel(self, cell.hear, cell)

    def cut(self) -> None:
        """The connection breaks; each side notices for itself, after what still arrives, perhaps much later."""
        if not self.open:
            return
        self.open = False
        self.world.say(f"cut {self.cell.name}#{self.link_id}")
        sides: list[tuple[Channel, Process, Callable[[Link], None]]] = [
            (self.up, self.world.scheduler, self.world.scheduler.link_lost),
            (self.down, self.cell, self.cell.link_lost),
        ]
        for channel, process, lost in sides:
            wait = max(0.0, channel.cut() - self.world.clock.now())
            wait += self.world.chance.choice([0.001, 0.1, 8.0])
            self.world.later(wait, "", process.guarded(lambda lost=lost: lost(self)))  # type: ignore[misc]


def brief(frame: Any) -> str:
    """A frame in a line of the trace."""
    shown = {
        name: getattr(frame, name)
        for name in ("run_id", "lease_id", "generation", "boot_epoch", "code", "fenced", "unacknowledged", "state")
        if getattr(frame, name, None)
    }
    return f"{type(frame).__name__} {shown}"
