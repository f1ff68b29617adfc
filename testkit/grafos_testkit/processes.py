"""A process of a simulated fabric: it lives, dies with all that it has in memory, and comes back from its disk.

The minds inside are the real ones. What stands around them does what the real shells do (decide, apply, commit, then
act) and may be killed before and after each commit and each effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from grafos_core.changes import Batch, RowCodec
from grafos_core.rowfile import RowMemory

if TYPE_CHECKING:
    from grafos_testkit.transitions import Tables
    from grafos_testkit.world import World

PROVIDER = "aws"
"""What every simulated cell says of itself; no cloud is asked."""
AWAY_S = (0.05, 6.0)
"""How long a process that died is away."""


class KilledError(Exception):
    """The process that was working is gone, with all that it had in memory."""


class Process:
    """Something that runs, dies with all that it has in memory, and comes back (a ``mortal`` one perhaps not)."""

    mortal = False
    tables: Tables

    def __init__(self, world: World, name: str, codec: RowCodec) -> None:
        self.world = world
        self.name = name
        self.codec = codec
        self.number = world.next_number()
        self.disk = RowMemory(codec)
        self.life = 0
        self.alive = False
        self.gone = False
        self.is_held_down = False

    def guarded(self, action: Callable[[], None]) -> Callable[[], None]:
        """The action as this life of the process will do it: not at all if it died before, and it may die in it."""
        life = self.life

        def act() -> None:
            if self.alive and self.life == life:
                try:
                    action()
                except KilledError:
                    self.die()

        return act

    def later(self, delay_s: float, what: str, action: Callable[[], None]) -> None:
        self.world.later(delay_s, what, self.guarded(action))

    def begin(self) -> None:
        """Starts, and starts again if it dies while starting."""
        if self.alive or self.gone or self.is_held_down:
            return
        self.life += 1
        self.alive = True
        self.guarded(self.boot)()

    def die(self) -> None:
        """Loses what it has in memory; unless it is held down or lost, it comes back by itself."""
        self.alive = False
        self.lose_memory()
        if self.mortal and self.world.happens(self.world.faults.lost_for_ever):
            self.world.say(f"{self.name} never comes back")
            self.gone = True
        elif not self.is_held_down:
            self.world.later(self.world.chance.uniform(*AWAY_S), f"start {self.name}", self.begin)

    def commit(self, batch: Batch, epoch: int) -> None:
        """Makes a batch durable; a disk that refuses is the end of the process, as nothing was promised to anybody."""
        self.world.kill_point(self, "before commit")
        rough = self.world.faults.disk
        if self.disk.broken or (rough and self.world.happens(rough)):
            self.world.say(f"the disk of {self.name} refuses")
            raise KilledError
        self.disk.commit(batch, epoch)
        self.world.committed(self, batch, self.codec)

    def boot(self) -> None: ...

    def lose_memory(self) -> None: ...
