"""Time as an argument: whoever needs to know the time is handed a ``Clock``."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time in two ways."""

    def now(self) -> float:
        """Unix time in seconds: comparable between machines, and it may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start: never jumps, comparable within one process only."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class VirtualClock:
    """A clock that stands still until it is advanced; for simulators and tests."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Lets ``seconds`` (not negative) pass."""
        assert seconds >= 0, "time does not run backwards; use jump() for a clock that was set"
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Sets the wall clock forward or back, as an administrator would; the monotonic time is not touched."""
        self._now += seconds
