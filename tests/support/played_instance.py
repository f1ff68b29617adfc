"""A cell that is played over a raw link, with instances that echo what they are sent; in a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any

from raw_link import RawLink
from standalone import CELL_ID, HEARTBEAT_EVERY_S, Identity, Standalone

from grafos_core.receipts import InstanceReceipt, sign_record
from grafos_core.resources import Resources
from grafos_core.trust import key_from_pem
from grafos_scheduler import frames
from grafos_scheduler.service_frames import (
    SESSION_WINDOW_BYTES,
    DrainInstance,
    InstanceEnded,
    InstanceListening,
    SessionCredit,
    SessionData,
    SessionEnd,
    SessionOpen,
    StartInstance,
    StopInstance,
)

LOOK_EVERY_S = 0.02
WRITE_S_MAX = 60.0
"""A scheduler on a busy machine may not read for a while."""


class PlayedInstances:
    """Grants every lease, starts every instance, echoes every session. ``consumes`` False: data is left unread."""

    def __init__(self, cell: Standalone, who: Identity, *, consumes: bool = True) -> None:
        self._cell, self._who = cell, who
        self.link = RawLink(cell, who)
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._beat_at = 0.0
        self.consumes = consumes
        self.started: list[StartInstance] = []
        self.sessions: dict[str, str] = {}
        self.unread: list[SessionData] = []
        self._credit: dict[str, int] = {}
        self._backlog: dict[str, list[SessionData | SessionEnd]] = {}
        self.is_over = False
        self.link.hello()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def say(self, frame: Any) -> None:
        """Has the frame sent: one thread alone uses the connection."""
        self._said.put(frame)

    @property
    def is_linked(self) -> bool:
        """Whether the scheduler has not ended the link."""
        return self._thread.is_alive()

    @property
    def has_said_all(self) -> bool:
        return self._said.empty()

    def cut(self) -> None:
        """The link breaks."""
        self.is_over = True
        self._thread.join(WRITE_S_MAX)
        self.link.close()

    def end(self, start: StartInstance, code: str) -> None:
        """Reports the end of an instance, with a receipt that its cell signed."""
        now = time.time()
        receipt = InstanceReceipt(
            fabric=self._cell.fabric.id,
            instance_id=start.instance_id,
            service=start.service,
            generation=start.generation,
            tenant=start.tenant,
            provider=start.provider,
            cell_id=CELL_ID,
            region=start.region,
            module_sha256=start.module_sha256,
            code=code,
            fuel_used=1,
            sessions_served=1,
            started_at=now,
            ended_at=now,
            boot_epoch=1,
        )
        key = key_from_pem(self._who.key.read_bytes())
        signed = sign_record(receipt, key, self._who.certificate.read_text())
        self.say(InstanceEnded(start.instance_id, code, "", 1, 1, "what it said", signed))

    def _play(self) -> None:
        with contextlib.suppress(OSError):
            while not self.is_over and self._hear_one():
                pass

    def _hear_one(self) -> bool:
        """Sends what is due, and answers what comes next; whether the link is still there."""
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + HEARTBEAT_EVERY_S
            self.say(frames.Heartbeat(Resources()))
        self.link.socket.settimeout(WRITE_S_MAX)
        while not self._said.empty():
            self.link.say(self._said.get())
        self.link.socket.settimeout(LOOK_EVERY_S)
        try:
            frame = self.link.hear()
        except TimeoutError:
            return True
        if frame is not None:
            self._answer(frame)
        return frame is not None

    def _answer(self, frame: Any) -> None:
        match frame:
            case frames.GrantLease():
                self.say(frames.LeaseGranted(frame.lease_id, frame.generation, f"token-{frame.lease_id}"))
            case frames.TearDownLease():
                self.say(frames.LeaseTornDown(frame.lease_id, frame.generation))
            case StartInstance():
                self.started.append(frame)
                self.say(InstanceListening(frame.instance_id, frame.generation))
            case DrainInstance() | StopInstance():
                start = next(one for one in self.started if one.instance_id == frame.instance_id)
                self.end(start, "finished" if isinstance(frame, DrainInstance) else frame.code)
            case SessionOpen():
                self.sessions[frame.session_id] = frame.instance_id
                self._credit[frame.session_id] = SESSION_WINDOW_BYTES
            case SessionData() if self.consumes:
                self._backlog.setdefault(frame.session_id, []).append(frame)
                self._echo(frame.session_id)
            case SessionData():
                self.unread.append(frame)
            case SessionCredit():
                self._credit[frame.session_id] += frame.n_bytes
                self._echo(frame.session_id)
            case SessionEnd() if not frame.code:
                self._backlog.setdefault(frame.session_id, []).append(frame)
                self._echo(frame.session_id)
            case _:
                pass

    def _echo(self, session_id: str) -> None:
        """Sends back what there is credit for; what is sent back counts as read."""
        backlog = self._backlog.get(session_id, [])
        while backlog:
            if isinstance(backlog[0], SessionData):
                size = len(backlog[0].data)
                if size > self._credit[session_id]:
                    return
                self._credit[session_id] -= size
                self.say(SessionCredit(session_id, size))
            self.say(backlog.pop(0))
