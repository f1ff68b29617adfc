"""The world that the emulated clouds share: its clock, its machines, and what comes to pass with time.

A cloud's front end orders (``launch``, ``ask``); the world moves machines through their lives (``lifecycle``), boots
and halts them with a driver (``boot``), and tells the cloud of each change. Time moves on by a thread of its own and at
each ``catch_up``, which front ends call before they answer: so a stepped clock needs no waiting.
"""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from grafos_core.clock import Clock
from grafos_emulators.boot.driver import Driver, Handle, MachineSetup
from grafos_emulators.capacity import Capacity
from grafos_emulators.clocks import ScaledClock
from grafos_emulators.lifecycle import TRANSITIONS, Happening, LifecycleTimes, MachineState, passes_into

HALT_POLL_S = 0.02  # how often a machine that was told to die is looked at
SHORTEST_WAIT_S = 0.02  # the thread never spins, not even on a clock that stands still
LONGEST_WAIT_S = 60.0


@dataclass
class Machine:
    """One machine of any cloud; changed only by its world, under the world's lock.

    ``changed`` is called with the lock held, after each change of ``state``. ``ends_when_off`` is asked when the
    machine switched itself off: does that end it, or only stop it? ``reason`` says who moved it last: ``user`` (an API
    call), ``machine`` (it switched itself off), ``crash`` (its processes were killed) or empty (time passed).
    ``notice`` says until when a machine may run that was told that its cloud takes it back; empty for any other.
    """

    setup: MachineSetup
    ends_when_off: Callable[[], bool]
    changed: Callable[[Machine], None]
    state: MachineState = MachineState.STARTING
    reason: str = ""
    notice: str = ""
    boots: int = 0
    turn: int = 0
    handle: Handle | None = field(default=None, repr=False)

    @property
    def machine_id(self) -> str:
        return self.setup.machine_id


class World:
    """Machines, time, and where there is room. ``lock`` guards everything that the emulated clouds keep, theirs too."""

    def __init__(self, *, clock: Clock, times: LifecycleTimes, driver: Driver) -> None:
        self.clock = clock
        self.times = times
        self.capacity = Capacity()
        self.lock = threading.RLock()
        self._driver = driver
        self._machines: dict[str, Machine] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._wake = threading.Condition(self.lock)
        self._closed = False
        # A clock that runs faster than the machine's is waited for that much shorter.
        self._runs_by = clock.factor if isinstance(clock, ScaledClock) else 1.0
        self._thread = threading.Thread(target=self._pass_time, name="emulator-time", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def launch(self, machine: Machine) -> None:
        """Takes a new machine in; it starts now and will run when its time has come."""
        with self.lock:
            assert machine.machine_id not in self._machines, "a machine is launched once"
            self._machines[machine.machine_id] = machine
            self._enter(machine, MachineState.STARTING, reason="user")

    def ask(self, machine_id: str, happening: Happening, *, reason: str) -> bool:
        """Gives an order; False when the machine is unknown or its state does not take the order."""
        with self.lock:
            machine = self._machines.get(machine_id)
            if machine is None:
                return False
            state = TRANSITIONS.get((machine.state, happening))
            if state is None:
                return False
            self._enter(machine, state, reason=reason)
            return True

    def give_notice(self, machine_id: str, ends_at: float) -> None:
        """From now on it is seen that the cloud takes a spot machine back at ``ends_at``, in unix seconds."""
        with self.lock:
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends_at))
            self._machines[machine_id].notice = f"taken back at {moment}"

    def machine(self, machine_id: str) -> Machine | None:
        with self.lock:
            return self._machines.get(machine_id)

    def states(self) -> dict[str, dict[str, str]]:
        """Each machine's state, address and notice, by its id."""
        with self.lock:
            return {
                machine_id: {
                    "state": machine.state.value,
                    "address": machine.setup.address,
                    "notice": machine.notice,
                }
                for machine_id, machine in self._machines.items()
            }

    def forget(self, machine_id: str) -> None:
        """Lets go of the record of a machine that is gone."""
        with self.lock:
            assert self._machines[machine_id].state is MachineState.GONE, "only what is gone is forgotten"
            del self._machines[machine_id]

    def console(self, machine_id: str) -> bytes:
        """The newest part of what the machine wrote to its console."""
        return self._driver.console(machine_id)

    def set_times(self, **seconds: float) -> LifecycleTimes:
        """Changes some of the lifecycle times, for states entered from now on."""
        with self.lock:
            self.times = replace(self.times, **seconds)
            return self.times

    def at(self, due: float, act: Callable[[], None]) -> None:
        """Calls ``act`` under the lock when the clock's ``monotonic`` has reached ``due``."""
        with self.lock:
            heapq.heappush(self._due, (due, next(self._sequence), act))
            self._wake.notify()

    def catch_up(self) -> None:
        """Lets everything happen that is due by now; in a world that is closed, nothing boots any more.

        What fails is told on stderr, and time goes on: whoever happens to ask is not to blame, and all else must come.
        """
        with self.lock:
            while not self._closed and self._due and self._due[0][0] <= self.clock.monotonic():
                _, _, act = heapq.heappop(self._due)
                try:
                    act()
                except Exception as bug:  # noqa: BLE001  one failure must not stop the time of all clouds
                    traceback.print_exception(bug, file=sys.stderr)

    def close(self) -> None:
        """Ends time, and every machine with it; returns when no process of theirs is left."""
        with self.lock:
            self._closed = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._driver.close()

    def _enter(self, machine: Machine, state: MachineState, *, reason: str = "") -> None:
        machine.state, machine.reason, machine.turn = state, reason, machine.turn + 1
        if state is MachineState.STARTING:
            machine.notice = ""
        if state is MachineState.RUNNING:
            self._boot(machine)
        if state in {MachineState.STOPPING, MachineState.ENDING} and machine.handle is not None:
            self._driver.halt(machine.handle)
        if state is MachineState.GONE:
            self._driver.discard(machine.machine_id)
        machine.changed(machine)
        self._schedule_what_follows(machine)

    def _schedule_what_follows(self, machine: Machine) -> None:
        happening, lasts_s = passes_into(machine.state), self.times.lasts_s(machine.state)
        if happening is not None and lasts_s is not None:
            turn = machine.turn
            self.at(self.clock.monotonic() + lasts_s, lambda: self._time_has_come(machine, turn, happening))

    def _time_has_come(self, machine: Machine, turn: int, happening: Happening) -> None:
        if machine.turn != turn:
            return  # an order moved the machine on meanwhile
        if happening is Happening.DOWN and machine.handle is not None:
            if not self._driver.ended(machine.handle):
                again_at = self.clock.monotonic() + HALT_POLL_S
                self.at(again_at, lambda: self._time_has_come(machine, turn, happening))
                return
            machine.handle = None
        self._enter(machine, TRANSITIONS[machine.state, happening])

    def _boot(self, machine: Machine) -> None:
        machine.boots += 1
        setup = machine.setup
        if machine.boots > 1 and not setup.runs_at_each_boot:
            setup = replace(setup, user_data=b"")
        boot = machine.boots

        def went_off(*, crashed: bool) -> None:
            self._went_off(machine, boot, crashed=crashed)

        try:
            machine.handle = self._driver.start(setup, went_off)
        except OSError:  # a host without space, processes or files left: as hardware that fails
            self.at(self.clock.monotonic(), lambda: went_off(crashed=True))

    def _went_off(self, machine: Machine, boot: int, *, crashed: bool) -> None:
        with self.lock:
            if machine.boots != boot or self._closed:
                return
            happening = Happening.END if machine.ends_when_off() else Happening.STOP
            state = TRANSITIONS.get((machine.state, happening))
            if machine.state is MachineState.RUNNING and state is not None:
                self._enter(machine, state, reason="crash" if crashed else "machine")

    def _pass_time(self) -> None:
        with self.lock:
            while not self._closed:
                self.catch_up()
                wait_s = LONGEST_WAIT_S
                if self._due:
                    wait_s = min(wait_s, max(self._due[0][0] - self.clock.monotonic(), SHORTEST_WAIT_S))
                self._wake.wait(max(wait_s / self._runs_by, SHORTEST_WAIT_S))
