"""What the daemon and the process of an instance say to each other, on top of what it says to a worker.

    daemon                       process
                                 Ready
    Serve(spec, ...)             CodeWanted, when it does not have the module
    ModuleCode                   Started
    LeaseAnswer                  Listen, LeaseCall
    Offer, Bytes, HalfEnd,       Accepted, Bytes, Room, Closed
    Room, Gone, Drain
                                 Done(outcome)

A session is named by the handle under which the guest knows it. The daemon makes the handles; one is free again when
the process has said ``Closed`` for it.
"""

from __future__ import annotations

import msgspec

from grafos_cell.run import RunSpec


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    """Runs the module as an instance: its right is for ``port`` and ``max_sessions`` at a time, each session that it
    accepts brings ``fuel_per_session``, and each direction of a session begins with a window of ``window_bytes``."""

    spec: RunSpec
    port: int
    max_sessions: int
    fuel_per_session: int
    window_bytes: int


class Offer(msgspec.Struct, frozen=True, tag="offer"):
    """A session waits to be accepted."""

    handle: int


class HalfEnd(msgspec.Struct, frozen=True, tag="half_end"):
    """The client sends no more."""

    handle: int


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """The session is over, in both directions."""

    handle: int


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """No further session is offered."""


class Listen(msgspec.Struct, frozen=True, tag="listen"):
    """The guest listens, for so many sessions at a time. Answered by ``LeaseAnswer``."""

    max_sessions: int


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The guest took the session on. ``fuel_used`` is all that the instance has used so far."""

    handle: int
    fuel_used: int


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """The guest is done with the session; the handle is free."""

    handle: int
    fuel_used: int


class Bytes(msgspec.Struct, frozen=True, tag="bytes"):
    """In either direction: the next bytes of the session."""

    handle: int
    data: bytes


class Room(msgspec.Struct, frozen=True, tag="room"):
    """In either direction: so many bytes of the other direction were consumed."""

    handle: int
    n_bytes: int


ToInstance = Offer | Bytes | HalfEnd | Room | Gone | Drain
FromInstance = Listen | Accepted | Bytes | Room | Closed
