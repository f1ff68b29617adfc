"""The clocks that an emulator can live by: the machine's own, one that runs faster, and one that stands still.

Only the clouds live by them. What runs on a machine is real, and so is its time.
"""

from __future__ import annotations

import re
import time

from grafos_core.clock import Clock, SystemClock, VirtualClock

REAL, STEPPED = "real", "stepped"
SCALED = re.compile(r"scaled:(\d+(?:\.\d+)?)")
FACTOR_MAX = 100_000.0  # a day in about a second
ADVANCE_S_MAX = 366 * 86400.0
FORMS = "real, stepped, or scaled:FACTOR as in scaled:60"


class ScaledClock:
    """Runs ``factor`` times as fast as the machine's, from the moment at which it is made."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._began_at, self._began = time.time(), time.monotonic()

    def now(self) -> float:
        return self._began_at + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self.factor


def clock_of(text: str) -> Clock:
    """The clock that ``text`` names; ValueError for what is none. A stepped one begins at the machine's time."""
    if text == REAL:
        return SystemClock()
    if text == STEPPED:
        return VirtualClock(time.time())
    found = SCALED.fullmatch(text)
    if not found or not 0 < float(found[1]) <= FACTOR_MAX:
        raise ValueError(f"{text[:60]!r} is no clock: {FORMS}")
    return ScaledClock(float(found[1]))


def form_of(clock: Clock) -> str:
    """The text that names such a clock."""
    if isinstance(clock, ScaledClock):
        return f"scaled:{clock.factor:g}"
    return STEPPED if isinstance(clock, VirtualClock) else REAL


def advance(clock: Clock, seconds: float) -> float:
    """Lets time pass on a stepped clock, and gives what it shows then; ValueError for any other clock."""
    if not isinstance(clock, VirtualClock):
        raise ValueError("this clock moves by itself; start the emulator with a stepped one")
    if not 0 <= seconds <= ADVANCE_S_MAX:
        raise ValueError(f"{seconds:g} s is no step: 0 to {ADVANCE_S_MAX:g}")
    clock.advance(seconds)
    return clock.now()
