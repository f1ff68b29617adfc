"""The sessions of one instance, at the daemon: who may send how much, what waits, what has had its time.

Nothing acts here but through the functions that it is given: ``to_guest`` for the instance's process, ``is_full`` for
whether much waits on the way there, ``to_client`` for the link. Time is an argument (seconds, of a clock that never
goes back). Neither side is believed: a guest may have broken out of its sandbox, and a relay may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from grafos_cell import abi
from grafos_cell.service_messages import (
    Accepted,
    Bytes,
    Closed,
    Drain,
    Gone,
    HalfEnd,
    Offer,
    Room,
    ToInstance,
)
from grafos_scheduler.service_frames import (
    SESSION_DATA_BYTES_MAX,
    SESSION_WINDOW_BYTES,
    SessionCredit,
    SessionData,
    SessionEnd,
    StartInstance,
)

WAITING_BYTES_MAX = 32 * 1024 * 1024
"""Of all sessions of an instance together, on this side of the way to its process: twice a window for each of the 64
sessions that a service has by default. Who sends beyond it loses the session."""
SILENT_S_MAX = 0.5
"""A session whose client says nothing is offered to the guest after so long: in some protocols the service begins."""
CLOSED = "session_closed"
"""What a client is told that could still send when the service was done; else it would wait for room for ever."""
ToClient = SessionData | SessionEnd | SessionCredit


class ProtocolError(Exception):
    """The process said what no instance says that works as it should."""


class Session:
    """One session. ``handle`` is 0 until it is offered to the guest. What the client said and the guest has not been
    told yet is joined, however small its pieces were: the bytes in ``kept``, the credit in ``kept_room``."""

    __slots__ = (
        "begun_at",
        "from_client",
        "from_guest",
        "handle",
        "has_ended",
        "is_accepted",
        "is_end_told",
        "kept",
        "kept_room",
        "moved_at",
        "session_id",
    )

    def __init__(self, session_id: str, now: float) -> None:
        self.session_id = session_id
        self.handle = 0
        self.is_accepted = False
        self.has_ended = False  # the client's half
        self.is_end_told = False
        self.begun_at = self.moved_at = now
        self.from_client = SESSION_WINDOW_BYTES  # how much the client may send
        self.from_guest = SESSION_WINDOW_BYTES  # how much the guest may
        self.kept = bytearray()
        self.kept_room = 0


class FuelCap:
    """What may be given as fuel: ``per_s`` units a second on the average, and a second's worth, or one session's, at
    once. 0 is no cap."""

    def __init__(self, per_s: int, at_once: int, now: float) -> None:
        self._per_s = per_s
        self._most = float(max(per_s, at_once))
        self._left = self._most
        self._at = now

    def take(self, units: int, now: float) -> bool:
        """Whether so many units may be given now; if so, they are."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if not self._per_s:
            return True
        if self._left < units:
            return False
        self._left -= units
        return True


class Sessions:
    """All sessions of one instance. ``fuel_given`` bounds what it can have used."""

    def __init__(
        self,
        start: StartInstance,
        now: float,
        to_guest: Callable[[ToInstance], None],
        to_client: Callable[[ToClient], None],
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._start = start
        self._is_full = is_full
        self._behind: dict[int, Session] = {}  # those for which something waits
        self._waiting_bytes = 0
        self._to_guest = to_guest
        self._to_client = to_client
        self._began_at = math.inf
        self._cap = FuelCap(start.fuel_per_s_max, start.fuel_per_session, now)
        self._by_id: dict[str, Session] = {}
        self._by_handle: dict[int, Session] = {}
        self._waiting: list[Session] = []
        self._next_handle = abi.FIRST_SESSION_HANDLE
        self._max = 0
        self._is_draining = False
        self._is_drain_told = False
        self._over_code = ""
        self.fuel_given = start.fuel_per_session
        self.fuel_used = 0
        self.served = 0

    @property
    def is_listening(self) -> bool:
        return self._max > 0

    @property
    def open(self) -> int:
        """How many sessions there are, accepted or not."""
        return len(self._by_id)

    def has(self, session_id: str) -> bool:
        return session_id in self._by_id

    def has_begun(self, now: float) -> None:
        """The process is there; from here on the guest has its time to listen."""
        self._began_at = now

    def listens(self, max_sessions: int) -> None:
        """The guest listens, for so many sessions; ``ProtocolError`` for more than it may have, or a second time."""
        if self._max or not 0 < max_sessions <= self._start.max_sessions:
            raise ProtocolError("it listens as it may not")
        self._max = max_sessions
        self._tell_drain()

    # --- from the client --------------------------------------------------------------------------------------------

    def begin(self, session_id: str, now: float) -> None:
        """A client wants a session; refused with a code when there can be none."""
        if session_id in self._by_id:
            return
        refusal = self._refusal()
        if refusal:
            self._to_client(SessionEnd(session_id, refusal))
            return
        session = Session(session_id, now)
        self._by_id[session_id] = session
        self._waiting.append(session)

    def _refusal(self) -> str:
        if self._over_code:
            return self._over_code
        if self._is_draining:
            return "draining"
        if not self.is_listening:
            return "service_not_listening"
        # What is gone counts until the guest has closed it.
        taken = len(self._by_handle) + len(self._waiting)
        return "sessions_exhausted" if taken >= self._max else ""

    def offer(self, now: float) -> None:
        """Offers the guest what waits, as far as the cap on fuel lets it. A guest may do nothing else until a client
        has sent something: so one that has not waits a little, for the others' sake."""
        for session in list(self._waiting):
            has_come = session.kept or session.has_ended or now - session.begun_at >= SILENT_S_MAX
            if not has_come:
                continue
            if not self._cap.take(self._start.fuel_per_session, now):
                return
            self._waiting.remove(session)
            session.handle = self._free_handle()
            self._by_handle[session.handle] = session
            self.fuel_given += self._start.fuel_per_session
            self._to_guest(Offer(session.handle))
            self._pass_on(session)
        self._tell_drain()

    def _pass_on(self, session: Session) -> None:
        """Tells the guest what waits for it, or, where much is under way already, remembers that it does."""
        if self._is_full():
            self._behind[session.handle] = session
            return
        self._behind.pop(session.handle, None)
        if session.kept:
            self._to_guest(Bytes(session.handle, bytes(session.kept)))
            self._drop_kept(session)
        if session.kept_room:
            self._to_guest(Room(session.handle, session.kept_room))
            session.kept_room = 0
        if session.has_ended and not session.is_end_told:
            self._to_guest(HalfEnd(session.handle))
            session.is_end_told = True

    def _catch_up(self) -> None:
        for session in list(self._behind.values()):
            self._pass_on(session)

    def _drop_kept(self, session: Session) -> None:
        self._waiting_bytes -= len(session.kept)
        session.kept.clear()

    def _free_handle(self) -> int:
        while self._next_handle in self._by_handle or self._next_handle > abi.SESSION_HANDLE_MAX:
            is_last = self._next_handle >= abi.SESSION_HANDLE_MAX
            self._next_handle = abi.FIRST_SESSION_HANDLE if is_last else self._next_handle + 1
        handle = self._next_handle
        self._next_handle += 1
        return handle

    def client_sent(self, session_id: str, data: bytes, now: float) -> None:
        session = self._by_id.get(session_id)
        if session is None or session.has_ended:
            return
        session.from_client -= len(data)
        if session.from_client < 0 or self._waiting_bytes + len(data) > WAITING_BYTES_MAX:
            self._end(session, "limit_exceeded")
            return
        session.moved_at = now
        session.kept += data
        self._waiting_bytes += len(data)
        if session.handle:
            self._pass_on(session)
        else:
            self.offer(now)

    def client_ended(self, session_id: str, code: str, now: float) -> None:
        """The client sends no more, or, with a code, is gone."""
        session = self._by_id.get(session_id)
        if session is None:
            return
        if code:
            self._forget(session)
        elif not session.has_ended:
            session.has_ended = True
            if session.handle:
                self._pass_on(session)
            else:
                self.offer(now)

    def client_took(self, session_id: str, n_bytes: int, now: float) -> None:
        session = self._by_id.get(session_id)
        if session is None:
            return
        session.from_guest += n_bytes
        if session.from_guest > SESSION_WINDOW_BYTES:
            self._end(session, "limit_exceeded")
            return
        session.moved_at = now
        session.kept_room += n_bytes
        if session.handle:
            self._pass_on(session)

    # --- from the guest ---------------------------------------------------------------------------------------------

    def guest_said(self, message: Accepted | Bytes | Room | Closed, now: float) -> None:
        """``ProtocolError`` for what it cannot say."""
        session = self._by_handle.get(message.handle)
        if session is None:
            raise ProtocolError("it speaks of a session that it was not offered")
        is_here = self._by_id.get(session.session_id) is session
        match message:
            case Accepted():
                self._check_fuel(message.fuel_used)
                if session.is_accepted:
                    raise ProtocolError("it accepted a session twice")
                session.is_accepted = True
                session.moved_at = now
                self.served += 1
            case Bytes():
                self._guest_sent(session, message.data, now, is_here=is_here)
            case Room():
                self._guest_took(session, message.n_bytes, is_here=is_here)
            case Closed():
                self._check_fuel(message.fuel_used)
                del self._by_handle[session.handle]
                if is_here:
                    self._end(session, "")
                self.offer(now)
        self._catch_up()

    def _check_fuel(self, fuel_used: int) -> None:
        if not self.fuel_used <= fuel_used <= self.fuel_given:
            raise ProtocolError("it has used fuel that it was not given")
        self.fuel_used = fuel_used

    def _guest_sent(self, session: Session, data: bytes, now: float, *, is_here: bool) -> None:
        session.from_guest -= len(data)
        if session.from_guest < 0 or not session.is_accepted:
            raise ProtocolError("it wrote more than it may")
        session.moved_at = now
        for begin in range(0, len(data) if is_here else 0, SESSION_DATA_BYTES_MAX):
            self._to_client(SessionData(session.session_id, data[begin : begin + SESSION_DATA_BYTES_MAX]))

    def _guest_took(self, session: Session, n_bytes: int, *, is_here: bool) -> None:
        session.from_client += n_bytes
        if not 0 < n_bytes <= SESSION_WINDOW_BYTES or session.from_client > SESSION_WINDOW_BYTES:
            raise ProtocolError("it read more than it was sent")
        if is_here:
            self._to_client(SessionCredit(session.session_id, n_bytes))

    # --- time, and the end ------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """No further session; what was begun goes on."""
        self._is_draining = True
        self._tell_drain()

    def _tell_drain(self) -> None:
        """The guest hears of a drain once: when it listens, and behind the last session that it can still accept."""
        if self._is_draining and self.is_listening and not self._waiting and not self._is_drain_told:
            self._is_drain_told = True
            self._to_guest(Drain())

    def tick(self, now: float) -> str:
        """Ends what has had its time; the code with which the instance itself is to end, if it is."""
        self.offer(now)
        self._catch_up()
        for session in list(self._by_id.values()):
            if now - session.moved_at >= self._start.idle_s:
                self._end(session, "session_idle")
            elif not session.is_accepted and now - session.begun_at >= self._start.listen_within_s:
                self._end(session, "service_not_listening")
        is_late = not self.is_listening and now - self._began_at >= self._start.listen_within_s
        return "service_not_listening" if is_late else ""

    def close(self, code: str) -> None:
        """The instance is over: all sessions end with this code, and further ones are refused with it."""
        self._over_code = self._over_code or code
        self.end_all(self._over_code)

    def end_all(self, code: str) -> None:
        """The way to the clients is over; there may be another."""
        for session in list(self._by_id.values()):
            self._end(session, code)

    def end_in_order(self) -> None:
        """The guest has returned: what it accepted ends as if it had closed it, what it did not is turned away."""
        self._over_code = "draining"
        for session in list(self._by_id.values()):
            self._end(session, "" if session.is_accepted else "draining")

    def _end(self, session: Session, code: str) -> None:
        self._to_client(SessionEnd(session.session_id, code))
        if not code and not session.has_ended:
            self._to_client(SessionEnd(session.session_id, CLOSED))
        self._forget(session)

    def _forget(self, session: Session) -> None:
        """The client's side is over; the guest's handle stays until it is closed."""
        del self._by_id[session.session_id]
        self._behind.pop(session.handle, None)
        self._drop_kept(session)
        if not session.handle:
            self._waiting.remove(session)
            self._tell_drain()
        elif session.handle in self._by_handle:
            self._to_guest(Gone(session.handle))
