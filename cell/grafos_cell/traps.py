"""How a guest is stopped, in our words, and the clock that stops it: what every call layer says alike."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Literal

from wasmtime import TrapCode, WasmtimeError

from grafos_cell.hostcalls import plain_text
from grafos_core.errors import GrafosError

StopReason = Literal["fuel", "deadline", "trap"]

_TRAPS = {
    TrapCode.UNREACHABLE: "it executed `unreachable`",
    TrapCode.STACK_OVERFLOW: "its call stack is full",
    TrapCode.MEMORY_OUT_OF_BOUNDS: "it accessed memory out of bounds",
    TrapCode.TABLE_OUT_OF_BOUNDS: "it accessed a table out of bounds",
    TrapCode.INDIRECT_CALL_TO_NULL: "it called an empty table entry",
    TrapCode.BAD_SIGNATURE: "it called a function as if it had another type",
    TrapCode.INTEGER_OVERFLOW: "an integer division overflowed",
    TrapCode.INTEGER_DIVISION_BY_ZERO: "it divided an integer by zero",
    TrapCode.BAD_CONVERSION_TO_INTEGER: "a float was converted that no integer can hold",
    TrapCode.NULL_REFERENCE: "it used a null reference",
}


class StoppedError(Exception):
    """The guest was stopped, and its instance is not to be used again. ``what`` is one clause, the same everywhere."""

    def __init__(self, reason: StopReason, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what


def stopped_by(code: TrapCode | None) -> StoppedError:
    """What a trap with this code means; None is a trap without one."""
    if code is TrapCode.OUT_OF_FUEL:
        return StoppedError("fuel", "it used up its fuel")
    if code is TrapCode.INTERRUPT:
        return StoppedError("deadline", "it ran longer than its deadline")
    if code in _TRAPS:
        return StoppedError("trap", _TRAPS[code])
    return StoppedError("trap", code.name.lower().replace("_", " ") if code else "it trapped")


def invalid(why: str) -> GrafosError:
    """What a module is refused with that the engine does not take."""
    return GrafosError("module_invalid", f"the module does not compile: {why}", why=why)


def reason_of(error: WasmtimeError) -> str:
    """The last and most telling clause of wasmtime's chain of causes, on one line and not long.

    It may repeat what the module calls things: whatever would drive a terminal is replaced.
    """
    whole = str(error).partition("; breakdown of")[0]  # what an instance that is too large consists of
    lines = [line.strip() for line in plain_text(whole.encode()).split("\n") if line.strip()]
    last = lines[-1] if lines else "no reason given"
    return last.split(": ", 1)[-1][:300] if last[:1].isdigit() else last[:300]


class Watchdog:
    """Calls ``bark`` once when an armed deadline passes; wall time, because that is what a cell has to give.

    A thread of its own, started at first use: the guest holds the main thread, but not the interpreter's lock.
    After ``disarm`` returned, the bark of that deadline will not come any more. Arming wakes the thread only when it
    would otherwise sleep too long, so a short run costs no switch between threads.
    """

    def __init__(self, bark: Callable[[], None]) -> None:
        self._bark = bark
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._due = math.inf
        self._wakes_at = -math.inf
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def arm(self, seconds: float) -> None:
        with self._lock:
            assert not self._is_closed, "a closed engine opens no instance"
            self._due = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)
                self._thread.start()
            elif self._due < self._wakes_at:
                self._changed.notify()

    def disarm(self) -> None:
        with self._lock:
            self._due = math.inf

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_closed:
                left = self._due - time.monotonic()
                if left <= 0:
                    self._due = math.inf
                    self._bark()
                    continue
                self._wakes_at = self._due
                self._changed.wait(None if left == math.inf else left)
