"""The instances of services on one simulated cell: they listen, take sessions, drain, crash, and are stopped.

What is true of real instances is true here: they are gone with their cell's process, one that was told to stop takes
nothing any more, and one that drains ends with its last session.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grafos_cell.broker_events import DrainServing, InstanceOver, StartServing, StopServing, TellServing
from grafos_scheduler.service_frames import (
    InstanceListening,
    InstanceLoad,
    SessionCredit,
    SessionData,
    SessionEnd,
    SessionOpen,
    StartInstance,
)

if TYPE_CHECKING:
    from grafos_testkit.cells import CellProcess

ABOUT_SERVING = StartServing | DrainServing | StopServing | TellServing
ABOUT_SESSIONS = SessionOpen | SessionData | SessionEnd | SessionCredit
STARTS_WITHIN_S = (0.05, 2.0)
SERVES_S = (0.1, 3.0)
"""How long a session is kept waiting for its answer."""
NEVER_LISTENS = 0.03
"""How likely a module does not call ``svc_listen``, where programs may misbehave."""


@dataclass
class Served:
    """One instance, as its cell's process has it. ``begins`` 0 sessions; ``is_over``: it takes nothing any more."""

    start: StartInstance
    listens: bool = False
    drains: bool = False
    is_over: bool = False
    sessions: dict[str, None] = field(default_factory=dict)
    sessions_served: int = 0


class Serving:
    """All instances of one life of a cell."""

    def __init__(self, cell: CellProcess) -> None:
        self._cell = cell
        self._served: dict[str, Served] = {}

    def carry_out(self, effect: ABOUT_SERVING) -> None:
        """What the broker wants done."""
        match effect:
            case StartServing():
                self._start(effect.start)
            case DrainServing():
                if one := self._served.get(effect.instance_id):
                    one.drains = True
                    self._end_if_drained(one)
            case TellServing():
                one = self._served.get(effect.instance_id)
                if one is not None and one.listens and not one.is_over:
                    self._say(one)
            case StopServing():
                if one := self._served.get(effect.instance_id):
                    self._stop(one, effect.code)

    def hear(self, frame: ABOUT_SESSIONS) -> None:
        """What a client says through the relay."""
        if isinstance(frame, SessionOpen):
            self._open(frame)
            return
        one = next((each for each in self._served.values() if frame.session_id in each.sessions), None)
        if one is None or one.is_over:
            return
        if isinstance(frame, SessionData):
            self._cell.ghost.answers(self._cell, one.start)
            self._cell.send(SessionCredit(frame.session_id, len(frame.data)))
            wait = self._cell.world.chance.uniform(*SERVES_S)
            self._cell.later(wait, "", lambda: self._answer(one, frame))
        elif isinstance(frame, SessionEnd) and frame.code:
            one.sessions.pop(frame.session_id, None)
            self._end_if_drained(one)

    def beat(self) -> None:
        """What goes with a heartbeat."""
        for one in self._served.values():
            if one.listens and not one.is_over:
                self._cell.send(InstanceLoad(one.start.instance_id, len(one.sessions), one.sessions_served))

    # --- inside ---

    def _start(self, start: StartInstance) -> None:
        self._cell.ghost.instance_started(self._cell, start)
        one = self._served[start.instance_id] = Served(start)
        world = self._cell.world
        if world.faults.crash and world.happens(NEVER_LISTENS):
            over = InstanceOver(start.instance_id, "service_not_listening")
            self._cell.later(start.listen_within_s, "", lambda: self._over(one, over))
            return
        self._cell.later(world.chance.uniform(*STARTS_WITHIN_S), "", lambda: self._listen(one))

    def _listen(self, one: Served) -> None:
        if one.is_over:
            return
        one.listens = True
        self._cell.ghost.serves(self._cell, one.start)
        self._say(one)
        world = self._cell.world
        if world.faults.crash and world.happens(world.faults.crash):
            over = InstanceOver(one.start.instance_id, "program_error", "it crashed", one.sessions_served)
            self._cell.later(world.chance.uniform(0.5, 20.0), "", lambda: self._over(one, over))

    def _say(self, one: Served) -> None:
        self._cell.send(InstanceListening(one.start.instance_id, one.start.generation))

    def _open(self, frame: SessionOpen) -> None:
        one = self._served.get(frame.instance_id)
        if one is None or one.is_over or not one.listens:
            self._cell.send(SessionEnd(frame.session_id, "service_fenced"))
        elif one.drains:
            self._cell.send(SessionEnd(frame.session_id, "draining"))
        else:
            self._cell.ghost.answers(self._cell, one.start)
            one.sessions[frame.session_id] = None

    def _answer(self, one: Served, frame: SessionData) -> None:
        if one.is_over or frame.session_id not in one.sessions:
            return
        self._cell.ghost.answers(self._cell, one.start)
        del one.sessions[frame.session_id]
        one.sessions_served += 1
        self._cell.send(SessionData(frame.session_id, frame.data))
        self._cell.send(SessionEnd(frame.session_id))
        self._end_if_drained(one)

    def _end_if_drained(self, one: Served) -> None:
        if one.drains and not one.sessions and not one.is_over:
            start = one.start
            over = InstanceOver(start.instance_id, "finished", "", one.sessions_served, one.sessions_served)
            self._cell.later(self._cell.world.chance.uniform(0.0, 0.2), "", lambda: self._over(one, over))

    def _stop(self, one: Served, code: str) -> None:
        """All its sessions end at once; its process may be one that cannot be killed."""
        for session_id in one.sessions:
            self._cell.send(SessionEnd(session_id, code))
        one.sessions.clear()
        one.is_over = True
        self._cell.ghost.serves_no_more(one.start.instance_id)
        world = self._cell.world
        if world.happens(world.faults.stuck_worker):
            world.say(f"{self._cell.name} {one.start.instance_id} cannot be stopped")
            return
        over = InstanceOver(one.start.instance_id, "worker_lost", "", one.sessions_served, one.sessions_served)
        self._cell.later(world.chance.uniform(0.0, 0.5), "", lambda: self._over(one, over))

    def _over(self, one: Served, over: InstanceOver) -> None:
        """Its process is gone."""
        if self._served.pop(over.instance_id, None) is None:
            return
        one.is_over = True
        for session_id in one.sessions:
            self._cell.send(SessionEnd(session_id, "interrupted"))
        self._cell.ghost.serves_no_more(over.instance_id)
        self._cell.ghost.worker_gone(self._cell, over.instance_id)
        self._cell.handle(over)
