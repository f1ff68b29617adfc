"""The frames between a client and the scheduler for one session with a service, framed as on the cell link.

The client says ``SessionHello`` and gets ``SessionOpened`` or ``SessionRefused``. From then on both sides send the
frames of ``service_frames`` that are for both ways; one connection carries one session.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_scheduler.frame_parts import Id
from grafos_scheduler.messages import Name, Text
from grafos_scheduler.service_frames import SessionCredit, SessionData, SessionEnd
from grafos_scheduler.service_messages import Policy

SESSION_ALPN = "grafos-session/1"


class SessionHello(msgspec.Struct, frozen=True, tag="session_hello"):
    """With an ``instance_id`` the client has resolved the service by itself, from a topology of ``generation``; else
    the scheduler does, by ``policy``. ``api_token`` is bound to the certificate of the connection."""

    service: Name
    api_token: Text
    policy: Policy = Policy.ROUND_ROBIN
    instance_id: Id = ""
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class SessionOpened(msgspec.Struct, frozen=True, tag="session_opened"):
    """The session begins. ``generation`` is that of the topology now."""

    session_id: Id
    instance_id: Id
    generation: int


class SessionRefused(msgspec.Struct, frozen=True, tag="session_refused"):
    """There is no session, and why; the connection ends."""

    code: Id
    what: str
    next: str = ""


FromClient = SessionHello | SessionData | SessionEnd | SessionCredit
ToClient = SessionOpened | SessionRefused | SessionData | SessionEnd | SessionCredit
