"""An instance of a service on a real cell daemon, with the test in the place of its scheduler and its clients."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from scripted_scheduler import WAIT_S, ScriptedLink, ScriptedScheduler
from standalone import PROVIDER

from grafos_core.ids import sha256_of
from grafos_scheduler import frames
from grafos_scheduler.service_frames import (
    SESSION_DATA_BYTES_MAX,
    InstanceEnded,
    InstanceEndedNoted,
    InstanceListening,
    InstanceLoad,
    SessionCredit,
    SessionData,
    SessionEnd,
    SessionOpen,
    StartInstance,
    StopInstance,
)

PORT = 8080
LAST_GENERATION = 1000
"""Of a lease that is torn down, whatever generation it came to."""


class ServiceHouse:
    """A cell on which one instance after the other lives, with the test in its scheduler's place."""

    def __init__(self, folder: Path) -> None:
        self.scheduler = ScriptedScheduler(folder)
        self.modules: set[str] = set()  # that the cell has
        self._count = 0
        self.scheduler.start_cell()
        self.next_link().welcome()

    def next_link(self) -> ScriptedLink:
        """The next link that the cell dials, not yet welcomed."""
        self.link = self.scheduler.next_link()
        return self.link

    def service(self) -> ScriptedService:
        """An instance that is not started yet, with leases of its own."""
        self._count += 1
        return ScriptedService(self, self._count)

    def process_of(self, instance_id: str) -> int:
        """The process of the instance, as the daemon's log has it."""
        log = (self.scheduler.folder / "cell.log").read_text()
        [pid] = re.findall(rf"instance {instance_id} has process (\d+)", log)
        return int(pid)

    def close(self) -> None:
        self.scheduler.close()


class ScriptedService:
    """One instance, and what its clients have got. ``is_taking``: clients give credit for what they get."""

    def __init__(self, house: ServiceHouse, number: int) -> None:
        self.house = house
        self.instance_id = f"inst-{number}"
        self.cpu, self.listener = f"03{number:030x}", f"06{number:030x}"
        self.is_taking = True
        self.forget()

    @property
    def link(self) -> ScriptedLink:
        return self.house.link

    def forget(self) -> None:
        """What was heard so far is no news: of a new link it is heard again."""
        self.got: defaultdict[str, bytearray] = defaultdict(bytearray)
        self.ends: dict[str, str] = {}
        self.credit: defaultdict[str, int] = defaultdict(int)
        self.load: InstanceLoad | None = None
        self.listening = 0
        self.ended: InstanceEnded | None = None
        self.torn_down: list[str] = []

    def start(self, module: bytes, *, ttl_s: float = 120.0, is_refused: bool = False, **changes: Any) -> None:
        """Asks for the leases, and starts the instance under them. One that is refused wants no module."""
        tokens = tuple(
            self.lease(lease_id, kind, amount, ttl_s=ttl_s)
            for lease_id, kind, amount in ((self.cpu, "cpu", 1), (self.listener, "listener", PORT))
        )
        given = {
            "instance_id": self.instance_id,
            "service": "echo",
            "generation": 1,
            "tenant": "acme",
            "program": "p",
            "module_sha256": sha256_of(module),
            "listener_port": PORT,
            "max_sessions": 64,
            "memory_bytes": 2**23,
            "leases": (self.cpu, self.listener),
            "tokens": tokens,
            "fuel_per_session": 10**9,
            "fuel_per_s_max": 0,
            "drain_deadline_s": 30.0,
            "provider": PROVIDER,
            "region": "here",
        }
        self.link.say(StartInstance(**{**given, **changes}))
        if not is_refused and sha256_of(module) not in self.house.modules:
            self.link.serve_blob(module)
            self.house.modules.add(sha256_of(module))

    def lease(self, lease_id: str, kind: str, amount: int, *, generation: int = 1, ttl_s: float = 120.0) -> str:
        self.link.say(frames.GrantLease(lease_id, generation, "acme", kind, amount, time.time() + ttl_s))
        return self.link.hear_one(frames.LeaseGranted).token

    def open(self, *session_ids: str) -> None:
        self.link.say(*(SessionOpen(session_id, self.instance_id) for session_id in session_ids))

    def send(self, session_id: str, data: bytes) -> None:
        parts = range(0, len(data), SESSION_DATA_BYTES_MAX)
        self.link.say(*(SessionData(session_id, data[at : at + SESSION_DATA_BYTES_MAX]) for at in parts))

    def finish(self, *session_ids: str) -> None:
        self.link.say(*(SessionEnd(session_id) for session_id in session_ids))

    def hear(self) -> frames.UpFrame:
        """Takes in the next frame."""
        frame = self.link.hear()
        assert frame is not None, "the cell ended the link"
        match frame:
            case InstanceListening() if frame.instance_id == self.instance_id:
                self.listening += 1
            case InstanceLoad() if frame.instance_id == self.instance_id:
                self.load = frame
            case InstanceEnded() if frame.instance_id == self.instance_id:
                self.ended = frame
            case SessionData():
                self.got[frame.session_id] += frame.data
                if self.is_taking:
                    self.link.say(SessionCredit(frame.session_id, len(frame.data)))
            case SessionEnd():
                self.ends[frame.session_id] = frame.code
            case SessionCredit():
                self.credit[frame.session_id] += frame.n_bytes
            case frames.LeaseTornDown():
                self.torn_down.append(frame.lease_id)
        return frame

    def hear_until(self, condition: Any) -> None:
        """Takes in frames until the condition holds."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"got {dict(self.got)!r:.300}, ends {self.ends}, {self.ended}"
            self.hear()

    def clear_away(self) -> None:
        """Ends the instance, if it goes, and gives its leases back."""
        if self.ended is None:
            self.link.say(StopInstance(self.instance_id, "cancelled"))
            self.wait_ended()
        self.link.say(InstanceEndedNoted(self.instance_id))
        for lease_id in (self.cpu, self.listener):
            self.link.say(frames.TearDownLease(lease_id, LAST_GENERATION))
        self.hear_until(lambda: {self.cpu, self.listener} <= set(self.torn_down))

    def wait_listening(self) -> None:
        self.hear_until(lambda: self.listening or self.ended)
        assert self.listening, self.ended

    def wait_ended(self) -> InstanceEnded:
        self.hear_until(lambda: self.ended)
        assert self.ended is not None
        return self.ended
