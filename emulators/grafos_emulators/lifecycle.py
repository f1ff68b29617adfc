"""The life of an emulated machine, whatever cloud it is on.

A machine is asked for and **starts**; after a while it **runs**. It can be told to stop: then it is **stopping**,
later **stopped**, and can be started again. It can be ended from every state: then it is **ending**, and when its
processes are dead, **gone** for ever. A machine that switches itself off is told to stop or to end, as it was
launched. What happens in a state where it means nothing changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MachineState(StrEnum):
    """Where a machine is in its life; it bills in all but ``STOPPED`` and ``GONE``."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ENDING = "ending"
    GONE = "gone"


class Happening(StrEnum):
    """What moves a machine on: ``UP`` and ``DOWN`` come with time, the others are orders."""

    UP = "up"
    DOWN = "down"
    STOP = "stop"
    START = "start"
    END = "end"


TRANSITIONS: dict[tuple[MachineState, Happening], MachineState] = {
    (MachineState.STARTING, Happening.UP): MachineState.RUNNING,
    (MachineState.STARTING, Happening.STOP): MachineState.STOPPING,
    (MachineState.STARTING, Happening.END): MachineState.ENDING,
    (MachineState.RUNNING, Happening.STOP): MachineState.STOPPING,
    (MachineState.RUNNING, Happening.END): MachineState.ENDING,
    (MachineState.STOPPING, Happening.DOWN): MachineState.STOPPED,
    (MachineState.STOPPING, Happening.END): MachineState.ENDING,
    (MachineState.STOPPED, Happening.START): MachineState.STARTING,
    (MachineState.STOPPED, Happening.END): MachineState.ENDING,
    (MachineState.ENDING, Happening.DOWN): MachineState.GONE,
}


@dataclass(frozen=True)
class LifecycleTimes:
    """How long each passing state lasts at least, in seconds; a state also waits for the machine's processes to end.

    ``gone_visible_s`` is how long a cloud still lists a machine that is gone (AWS: about an hour), ``visible_after_s``
    how long reads that may lag do not show what was made.
    """

    starting_s: float = 0.5
    stopping_s: float = 0.5
    ending_s: float = 0.5
    gone_visible_s: float = 3600.0
    visible_after_s: float = 0.0

    def lasts_s(self, state: MachineState) -> float | None:
        """How long ``state`` lasts, or None for one that lasts until an order comes."""
        return {
            MachineState.STARTING: self.starting_s,
            MachineState.STOPPING: self.stopping_s,
            MachineState.ENDING: self.ending_s,
        }.get(state)


def passes_into(state: MachineState) -> Happening | None:
    """What time alone brings to a machine in ``state``."""
    if state is MachineState.STARTING:
        return Happening.UP
    return Happening.DOWN if state in {MachineState.STOPPING, MachineState.ENDING} else None
