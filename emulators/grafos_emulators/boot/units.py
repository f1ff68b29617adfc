"""Services and timers of an emulated machine, as far as ``systemd-run`` makes them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from grafos_emulators.boot.orders import RunService

OF_DEBIAN = ("systemd-logind.service",)
"""What runs on every machine with Debian's image: here ``init`` does its work, which is to keep orders to end."""
FASTEST_RESTART_S = 0.1  # a service that fails at once must not keep its host busy


WALL_CLOCK_CHECK_S = 1.0  # the wall clock can be set, so a moment on it is not waited for in one go


@dataclass(frozen=True)
class Due:
    """A moment on one of the two clocks: ``time.monotonic`` or unix time."""

    monotonic: float = 0.0
    unix_time: float | None = None

    def is_now(self) -> bool:
        return self.wait_s() <= 0

    def wait_s(self) -> float:
        """How long to wait before looking again."""
        if self.unix_time is None:
            return self.monotonic - time.monotonic()
        return min(self.unix_time - time.time(), WALL_CLOCK_CHECK_S)


@dataclass
class Unit:
    """One service: running while it has a ``pid``, waiting while ``due`` is set, over when it has neither."""

    order: RunService
    pid: int | None = None
    due: Due | None = None
    stopped: bool = False
    failed: bool = False


class Units:
    """All units by name. ``spawn`` gives the pid of a service's process, or None when it cannot be started."""

    def __init__(self, *, spawn: Callable[[RunService], int | None], say: Callable[[str], None]) -> None:
        self._spawn = spawn
        self._say = say
        self._units: dict[str, Unit] = {}

    def start(self, order: RunService) -> bool:
        """Starts a service now; False when it cannot be started."""
        unit = Unit(order)
        self._units[order.name] = unit
        self._run(unit)
        return not unit.failed

    def start_later(self, order: RunService, due: Due) -> None:
        self._units[order.name] = Unit(order, due=due)

    def stop(self, names: tuple[str, ...]) -> None:
        for name in names:
            unit = self._units.get(name)
            if unit is None:
                continue
            unit.due, unit.stopped = None, True
            if unit.pid is not None:
                os.killpg(unit.pid, signal.SIGTERM)

    def state(self, name: str) -> str:
        """``active``, ``inactive`` or ``failed``, in systemd's sense."""
        unit = self._units.get(name)
        if unit is None:
            return "active" if name in OF_DEBIAN else "inactive"
        if unit.pid is not None or unit.due is not None:
            return "active"
        return "failed" if unit.failed else "inactive"

    def dues(self) -> list[Due]:
        """When something is to be started."""
        return [unit.due for unit in self._units.values() if unit.due is not None]

    def run_due(self) -> None:
        for unit in list(self._units.values()):
            if unit.due is not None and unit.due.is_now():
                unit.due = None
                self._run(unit)

    def ended(self, pid: int, exit_code: int) -> None:
        """A process of the machine ended; if it was a service's, the service ends or is due to start again."""
        for unit in self._units.values():
            if unit.pid != pid:
                continue
            unit.pid, unit.failed = None, exit_code != 0 and not unit.stopped
            self._say(f"{unit.order.name} ended, exit code {exit_code}")
            again = unit.order.restart == "always" or (unit.order.restart == "on-failure" and unit.failed)
            if again and not unit.stopped:
                unit.due = Due(monotonic=time.monotonic() + max(unit.order.restart_s, FASTEST_RESTART_S))
            return

    def _run(self, unit: Unit) -> None:
        unit.pid = self._spawn(unit.order)
        unit.failed = unit.pid is None
