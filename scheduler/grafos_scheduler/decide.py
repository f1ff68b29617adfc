"""The one front door of the scheduler's mind: an event in, a decision out."""

from __future__ import annotations

import random

from grafos_scheduler.events import Decision, Event
from grafos_scheduler.state import State


def decide(state: State, event: Event, now: float, chance: random.Random) -> Decision:
    """What ``event`` comes to in ``state`` at ``now`` (Unix seconds).

    Reads the state and changes nothing. Raises the ``GrafosError`` that refuses the event.
    """
    raise AssertionError(f"no handler for {type(event).__name__}: {state}, {now}, {chance}")
