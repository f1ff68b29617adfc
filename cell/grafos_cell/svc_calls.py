"""What the imports of ``grafos_svc_v0`` do: the host's half of one instance of a service, in the instance's process.

A call that must wait reads the daemon's messages until it need not: it takes neither processor time nor fuel. Nothing
else reads them, so what a guest does between its calls is undisturbed, and what comes meanwhile waits in the pipe.
Source: ``docs/reference/tasklet-abi.md``, section 11.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol, assert_never

from grafos_cell import abi
from grafos_cell.hostcalls import HostCalls, LeasedBlocks
from grafos_cell.memory_calls import LeasedMemory
from grafos_cell.run import LeaseAnswer
from grafos_cell.service_messages import (
    Accepted,
    Bytes,
    Closed,
    Drain,
    FromInstance,
    Gone,
    HalfEnd,
    Listen,
    Offer,
    Room,
    Serve,
    ToInstance,
)

ROOM_SHARE = 4
"""Consumed bytes are told of when they make up this part of a window: seldom, and long before a sender has to wait."""
LISTENER_SLOT = 0
"""The capability under which an instance listens: it has one listener lease, in the first slot."""

_U32 = 0xFFFF_FFFF


class Channel(Protocol):
    """The way to the daemon."""

    def send(self, message: FromInstance) -> None: ...

    def receive(self) -> ToInstance:
        """The next message; waits for it. ``EOFError`` when the daemon is gone."""
        ...

    def listen(self, listen: Listen) -> LeaseAnswer:
        """Whether the instance may listen, at this very moment."""
        ...


class _Session:
    """One session at the guest: what came and was not read, and what may be sent."""

    __slots__ = ("has_ended", "inbound", "is_gone", "is_short", "room", "unsaid")

    def __init__(self, window_bytes: int) -> None:
        self.inbound = bytearray()
        self.has_ended = False  # the client's half
        self.is_gone = False
        self.is_short = False  # the last write took fewer bytes than it was offered
        self.room = window_bytes
        self.unsaid = 0  # bytes that the guest has read, and the daemon does not know of

    @property
    def is_ready(self) -> bool:
        """Whether the call that the guest wants to make next would not wait."""
        if self.is_gone or not self.room:
            return self.is_gone
        return self.is_short or bool(self.inbound) or self.has_ended


class ServiceCalls(HostCalls):
    """The calls of a tasklet, and those of a service. After its end, ``fuel_given`` is all the fuel that it got."""

    def __init__(
        self,
        serve: Serve,
        channel: Channel,
        context: bytes,
        input_bytes: bytes,
        fuel: int,
        regions: Sequence[LeasedMemory] = (),
        blocks: Sequence[LeasedBlocks] = (),
    ) -> None:
        super().__init__(context, input_bytes, fuel, regions, blocks)
        self._serve = serve
        self._channel = channel
        self._is_listening = False
        self._is_draining = False
        self._offered: OrderedDict[int, _Session] = OrderedDict()
        self._sessions: dict[int, _Session] = {}
        self._maybe_ready: OrderedDict[int, None] = OrderedDict()

    # --- grafos_svc_v0 ----------------------------------------------------------------------------------------------

    def svc_listen(self, cap_handle: int, port: int, max_sessions: int) -> int:
        port, max_sessions = port & _U32, max_sessions & _U32
        if cap_handle & _U32 != LISTENER_SLOT or not max_sessions:
            return abi.INVALID_ARGUMENT
        if self._is_listening or port != self._serve.port or max_sessions > self._serve.max_sessions:
            return abi.CAPACITY_EXCEEDED
        status = self._channel.listen(Listen(max_sessions)).status
        self._is_listening = status == abi.OK
        return abi.LISTENER_HANDLE if self._is_listening else status

    def svc_wait(self, listener: int) -> int:
        if not self._is_listener(listener):
            return abi.INVALID_ARGUMENT
        while True:
            if self._offered:
                return abi.LISTENER_HANDLE
            handle = self._next_ready()
            if handle:
                return handle
            if self._is_draining and not self._sessions:
                return abi.DRAINING
            self._take_message(self._channel.receive())

    def svc_accept(self, listener: int) -> int:
        if not self._is_listener(listener):
            return abi.INVALID_ARGUMENT
        while not self._offered:
            if self._is_draining:
                return abi.DRAINING
            self._take_message(self._channel.receive())
        handle, session = self._offered.popitem(last=False)
        self._sessions[handle] = session
        more = min(self._serve.fuel_per_session, abi.FUEL_MAX - self.guest.fuel_left())
        if more > 0:
            self.guest.refuel(more)
            self.fuel_given += more
        self._channel.send(Accepted(handle, self.clock_ns()))
        self._look_at(handle)
        return handle

    def svc_read(self, handle: int, dst: int, capacity: int) -> int:
        session = self._sessions.get(handle & _U32)
        dst, capacity = dst & _U32, capacity & _U32
        if session is None or not capacity or not self.guest.holds(dst, capacity):
            return abi.INVALID_ARGUMENT
        while not session.inbound and not session.has_ended and not session.is_gone:
            self._take_message(self._channel.receive())
        if session.is_gone:
            return abi.DISCONNECTED
        part = bytes(memoryview(session.inbound)[:capacity])
        if not self._pay(len(part)):
            return abi.CAPACITY_EXCEEDED
        self.guest.write(dst, part)
        del session.inbound[: len(part)]
        session.unsaid += len(part)
        if session.unsaid * ROOM_SHARE >= self._serve.window_bytes and not session.has_ended:
            self._channel.send(Room(handle & _U32, session.unsaid))
            session.unsaid = 0
        return len(part)

    def svc_write(self, handle: int, src: int, length: int) -> int:
        session = self._sessions.get(handle & _U32)
        src, length = src & _U32, length & _U32
        if session is None or not self.guest.holds(src, length):
            return abi.INVALID_ARGUMENT
        while length and not session.room and not session.is_gone:
            self._take_message(self._channel.receive())
        if session.is_gone:
            return abi.DISCONNECTED
        taken = min(length, session.room)
        if not self._pay(taken):
            return abi.CAPACITY_EXCEEDED
        if taken:
            self._channel.send(Bytes(handle & _U32, self.guest.read(src, taken)))
        session.room -= taken
        session.is_short = taken < length
        self._look_at(handle & _U32)
        return taken

    def svc_close(self, handle: int) -> int:
        if self._sessions.pop(handle & _U32, None) is None:
            return abi.INVALID_ARGUMENT
        self._maybe_ready.pop(handle & _U32, None)
        self._channel.send(Closed(handle & _U32, self.clock_ns()))
        return abi.OK

    # --- inside -----------------------------------------------------------------------------------------------------

    def _is_listener(self, handle: int) -> bool:
        return self._is_listening and handle & _U32 == abi.LISTENER_HANDLE

    def _look_at(self, handle: int) -> None:
        """Something may have changed that makes the session ready; it keeps its place among those that wait."""
        self._maybe_ready.setdefault(handle)

    def _next_ready(self) -> int:
        """A session that is ready, each in its turn; 0 for none. What is not ready is looked at when it changes."""
        while self._maybe_ready:
            handle, _ = self._maybe_ready.popitem(last=False)
            if self._sessions[handle].is_ready:
                self._look_at(handle)
                return handle
        return 0

    def _take_message(self, message: ToInstance) -> None:
        if isinstance(message, Drain):
            self._is_draining = True
        elif isinstance(message, Offer):
            self._offered[message.handle] = _Session(self._serve.window_bytes)
        elif message.handle in self._sessions:
            self._change(self._sessions[message.handle], message)
            self._look_at(message.handle)
        elif message.handle in self._offered:
            if isinstance(message, Gone):  # the guest never heard of it
                del self._offered[message.handle]
                self._channel.send(Closed(message.handle, self.clock_ns()))
            else:
                self._change(self._offered[message.handle], message)

    def _change(self, session: _Session, message: Bytes | HalfEnd | Room | Gone) -> None:
        match message:
            case Bytes():
                session.inbound += message.data
            case HalfEnd():
                session.has_ended = True
            case Room():
                session.room += message.n_bytes
            case Gone():
                session.is_gone = True
                session.inbound.clear()
            case _:
                assert_never(message)
