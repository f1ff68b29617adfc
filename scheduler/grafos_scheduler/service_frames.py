"""The frames of the cell link that concern services: instances that start, drain and end, and the sessions in them.

An *instance* is one replica's life on one cell; a *session* is one client's connection to it, relayed through the
scheduler. Each direction of a session has a window of ``SESSION_WINDOW_BYTES``: the sender may have so much under way,
the receiver gives ``SessionCredit`` back as it consumes. So a slow client stops itself alone, and never the link.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_core.receipts import Signed
from grafos_scheduler.frame_parts import Id, LeaseId
from grafos_scheduler.messages import Hex256, Name, Text

SESSION_WINDOW_BYTES = 256 * 1024
"""Under way in one direction of one session; what a relay and an instance keep for it at most."""
SESSION_DATA_BYTES_MAX = 64 * 1024
"""Of one frame: no session holds the link for longer than this takes."""
SESSIONS_MAX = 1024
"""Of one instance; each may fill its windows on the cell."""
INSTANCE_LEASES_MAX = 16
"""The listener's, the CPU's and those of memory."""
DRAIN_S_MAX = 3600
"""Seconds, from the word to drain to the instance's end. A whole number as other bounds are: to Python's types 3600 and
3600.0 are one, and a published schema would show whichever was imported first."""
SESSION_IDLE_S_DEFAULT = 60.0
"""A session in which neither side moved a byte for so long is ended, so that slow clients hold no place for ever."""
LISTEN_WITHIN_S_DEFAULT = 10.0
"""From an instance's start to its ``svc_listen``, and from a session's opening to its being accepted."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Generation = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=DRAIN_S_MAX)]
SomeSeconds = Annotated[float, msgspec.Meta(gt=0, le=DRAIN_S_MAX)]
Data = Annotated[bytes, msgspec.Meta(max_length=SESSION_DATA_BYTES_MAX)]
LogText = Annotated[str, msgspec.Meta(max_length=64 * 1024)]
LeaseIds = Annotated[tuple[LeaseId, ...], msgspec.Meta(max_length=INSTANCE_LEASES_MAX)]
Tokens = Annotated[tuple[Text, ...], msgspec.Meta(max_length=INSTANCE_LEASES_MAX)]

# --- down -------------------------------------------------------------------------------------------------------


class StartInstance(msgspec.Struct, frozen=True, tag="start_instance"):
    """Starts an instance under its leases' tokens, which stand in the order of ``leases``: one of kind ``listener``
    whose amount is ``listener_port``, one ``cpu``, and any number of ``mem``. An instance id that the cell has seen is
    not started again. ``fuel_per_session`` is what each accepted session adds, ``fuel_per_s_max`` what an instance may
    be given per second on the average."""

    instance_id: Id
    service: Name
    generation: Generation
    tenant: Name
    program: Text
    module_sha256: Hex256
    listener_port: Port
    max_sessions: Annotated[int, msgspec.Meta(ge=1, le=SESSIONS_MAX)]
    memory_bytes: Count
    leases: LeaseIds
    tokens: Tokens
    fuel_per_session: Count
    fuel_per_s_max: Count
    drain_deadline_s: Seconds
    provider: Text = ""
    region: Text = ""
    idle_s: SomeSeconds = SESSION_IDLE_S_DEFAULT
    listen_within_s: SomeSeconds = LISTEN_WITHIN_S_DEFAULT


class DrainInstance(msgspec.Struct, frozen=True, tag="drain_instance"):
    """No new session; the instance ends when its last one has, or at the deadline."""

    instance_id: Id
    generation: Generation
    deadline_s: Seconds


class StopInstance(msgspec.Struct, frozen=True, tag="stop_instance"):
    """Ends the instance and all its sessions at once; ``code`` is what it ends with."""

    instance_id: Id
    code: Id


class InstanceEndedNoted(msgspec.Struct, frozen=True, tag="instance_ended_noted"):
    """The end of the instance is durable at the scheduler; the cell may forget it."""

    instance_id: Id


class SessionOpen(msgspec.Struct, frozen=True, tag="session_open"):
    """A client has connected. Refused by a ``SessionEnd`` with a code; there is no other answer."""

    session_id: Id
    instance_id: Id


# --- both ways --------------------------------------------------------------------------------------------------


class SessionData(msgspec.Struct, frozen=True, tag="session_data"):
    """The next bytes of a session in this direction; never more than its credit."""

    session_id: Id
    data: Data


class SessionEnd(msgspec.Struct, frozen=True, tag="session_end"):
    """With an empty ``code``: this direction is at its end, the other goes on. With a code: the session is gone."""

    session_id: Id
    code: Id = ""


class SessionCredit(msgspec.Struct, frozen=True, tag="session_credit"):
    """So many bytes of the other direction were consumed; as many more may be sent."""

    session_id: Id
    n_bytes: Annotated[int, msgspec.Meta(ge=1, le=SESSION_WINDOW_BYTES)]


# --- up ---------------------------------------------------------------------------------------------------------


class InstanceListening(msgspec.Struct, frozen=True, tag="instance_listening"):
    """The instance called ``svc_listen`` with a right to its port: it is ready for sessions."""

    instance_id: Id
    generation: Generation


class InstanceLoad(msgspec.Struct, frozen=True, tag="instance_load"):
    """How much an instance has to do, and the fuel that it has used so far; said with each heartbeat."""

    instance_id: Id
    sessions: Count
    fuel_used: Count


class InstanceEnded(msgspec.Struct, frozen=True, tag="instance_ended"):
    """Kept by the cell, and sent again after every reconnect, until it is noted."""

    instance_id: Id
    code: Id  # "finished" or an error code
    what: Text
    fuel_used: Count
    sessions_served: Count
    log: LogText
    receipt: Signed  # of an InstanceReceipt


ServiceDown = (
    StartInstance
    | DrainInstance
    | StopInstance
    | InstanceEndedNoted
    | SessionOpen
    | SessionData
    | SessionEnd
    | SessionCredit
)
ServiceUp = InstanceListening | InstanceLoad | InstanceEnded | SessionData | SessionEnd | SessionCredit
