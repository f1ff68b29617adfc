"""An instance of a service on a real cell daemon, with the test in the place of its scheduler and its clients."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from scripted_scheduler import WAIT_S, ScriptedLink
from standalone import PROVIDER

from grafos_core.ids import sha256_of
from grafos_scheduler import frames
from grafos_scheduler.service_frames import (
    SESSION_DATA_BYTES_MAX,
    InstanceEnded,
    InstanceListening,
    InstanceLoad,
    SessionCredit,
    SessionData,
    SessionEnd,
    SessionOpen,
    StartInstance,
)

CPU, LISTENER = "03" + "0" * 30, "06" + "0" * 30
PORT = 8080


class ScriptedService:
    """One instance, and what its clients have got. ``is_taking``: clients give credit for what they get."""

    def __init__(self, link: ScriptedLink, instance_id: str = "inst-1", port: int = PORT) -> None:
        self.link = link
        self.instance_id = instance_id
        self.port = port
        self.is_taking = True
        self.got: defaultdict[str, bytearray] = defaultdict(bytearray)
        self.ends: dict[str, str] = {}
        self.credit: defaultdict[str, int] = defaultdict(int)
        self.load: InstanceLoad | None = None
        self.listening = 0
        self.ended: InstanceEnded | None = None
        self.torn_down: list[str] = []

    def start(self, module: bytes, *, ttl_s: float = 120.0, has_module: bool = False, **changes: Any) -> None:
        """Asks for the leases, and starts the instance under them."""
        tokens = tuple(
            self.lease(lease_id, kind, amount, ttl_s=ttl_s)
            for lease_id, kind, amount in ((CPU, "cpu", 1), (LISTENER, "listener", self.port))
        )
        given = {
            "instance_id": self.instance_id,
            "service": "echo",
            "generation": 1,
            "tenant": "acme",
            "program": "p",
            "module_sha256": sha256_of(module),
            "listener_port": self.port,
            "max_sessions": 64,
            "memory_bytes": 2**23,
            "leases": (CPU, LISTENER),
            "tokens": tokens,
            "fuel_per_session": 10**9,
            "fuel_per_s_max": 0,
            "drain_deadline_s": 30.0,
            "provider": PROVIDER,
            "region": "here",
        }
        self.link.say(StartInstance(**{**given, **changes}))
        if not has_module:
            self.link.serve_blob(module)

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
            case InstanceListening():
                self.listening += 1
            case InstanceLoad():
                self.load = frame
            case InstanceEnded():
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

    def wait_listening(self) -> None:
        self.hear_until(lambda: self.listening or self.ended)
        assert self.listening, self.ended

    def wait_ended(self) -> InstanceEnded:
        self.hear_until(lambda: self.ended)
        assert self.ended is not None
        return self.ended
