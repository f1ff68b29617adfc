"""Sessions of clients with services, passed on between the client's connection and the link of the instance's cell.

A relay keeps no bytes of its own: each side sends only what the other has given it credit for, so what waits for a slow
one is bounded by the window of its session, and nobody else waits. Sessions are not durable; when the link, the
connection or the instance goes, the session is over, and both sides are told as far as they can be.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from grafos_core.errors import GrafosError
from grafos_core.ids import random_text
from grafos_scheduler import service_instances, services
from grafos_scheduler.service_frames import (
    SESSION_WINDOW_BYTES,
    SessionCredit,
    SessionData,
    SessionEnd,
    SessionOpen,
)
from grafos_scheduler.service_resolver import Endpoint, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from grafos_core.clock import Clock
    from grafos_scheduler.frames import DownFrame
    from grafos_scheduler.service_rows import Instance
    from grafos_scheduler.session_frames import SessionHello
    from grafos_scheduler.state import State

SESSIONS_PER_TENANT_MAX = 4096
"""Open at once; each has a connection here."""
Relayed = SessionData | SessionEnd | SessionCredit


class Shell(Protocol):
    """Whose links the relay sends over; the scheduler's own is ``shell.Shell``."""

    @property
    def state(self) -> State: ...

    @property
    def clock(self) -> Clock: ...

    def has_link(self, cell_id: str) -> bool: ...

    def send_now(self, cell_id: str, frame: DownFrame) -> bool: ...

    def watch_instances(self, watcher: Callable[[str], None]) -> None: ...


class ClientEnd(Protocol):
    """The client's connection, as the relay needs it."""

    def pass_on(self, frame: Relayed) -> None: ...

    def over(self, *, lingers: bool = False) -> None: ...


@dataclass(slots=True)
class Session:
    """``to_cell`` and ``to_client`` are the bytes that may still be sent in each direction, None once it is ended."""

    session_id: str
    tenant: str
    instance_id: str
    cell_id: str
    link_id: int
    client: ClientEnd
    to_cell: int | None = SESSION_WINDOW_BYTES
    to_client: int | None = SESSION_WINDOW_BYTES


class SessionRelay:
    """All sessions of one scheduler. ``chance`` makes their ids, which nobody may guess."""

    def __init__(self, shell: Shell, chance: random.Random | None = None) -> None:
        self._shell = shell
        self._chance = chance or random.SystemRandom()
        self._sessions: dict[str, Session] = {}
        self._by_instance: defaultdict[str, dict[str, None]] = defaultdict(dict)  # in the order of their opening
        self._by_tenant: defaultdict[str, int] = defaultdict(int)
        self._turns: defaultdict[str, int] = defaultdict(int)
        shell.watch_instances(self._instance_moved)

    # --- what clients do ---

    def open(self, tenant: str, hello: SessionHello, client: ClientEnd) -> tuple[Session, int]:
        """A session with an instance that is healthy, and the generation of the topology by which it was chosen."""
        state = self._shell.state
        service = services.of_tenant(state, tenant, hello.service)
        if self._by_tenant[tenant] >= SESSIONS_PER_TENANT_MAX:
            raise GrafosError("limit_exceeded", f"tenant {tenant} has {SESSIONS_PER_TENANT_MAX} sessions open")
        healthy = self.healthy(service.key)
        if hello.instance_id:
            healthy = [endpoint for endpoint in healthy if endpoint.instance_id == hello.instance_id]
            if not healthy and hello.generation != service.generation:
                raise GrafosError(
                    "generation_stale",
                    f"the topology of service {service.name} is of generation {service.generation} by now",
                    next="resolve it anew",
                )
        chosen = resolve(service.name, healthy, hello.policy, self._turns[service.key])
        self._turns[service.key] += 1
        instance = state.instances[chosen.instance_id]
        session = Session(
            f"sess-{random_text(26, self._chance)}",
            tenant,
            instance.instance_id,
            instance.cell_id,
            state.link_of(instance.cell_id),
            client,
        )
        self._sessions[session.session_id] = session
        self._by_instance[instance.instance_id][session.session_id] = None
        self._by_tenant[tenant] += 1
        self._shell.send_now(session.cell_id, SessionOpen(session.session_id, instance.instance_id))
        return session, service.generation

    def healthy(self, service_key: str) -> list[Endpoint]:
        """The instances that can be reached and may serve, with the sessions that they have from here."""
        return [
            Endpoint(
                instance.instance_id,
                instance.cell_id,
                instance.spec.listener_port,
                self.sessions_of(instance.instance_id),
                instance.spec.max_sessions,
            )
            for instance in self._shell.state.instances_of(service_key)
            if self._can_serve(instance)
        ]

    def sessions_of(self, instance_id: str) -> int:
        return len(self._by_instance.get(instance_id, ()))

    def from_client(self, session: Session, frame: Relayed) -> None:
        """Passes on what the client says; ``limit_exceeded`` for more than it has credit for."""
        if session.session_id not in self._sessions:
            return
        if frame.session_id != session.session_id:
            raise GrafosError("request_invalid", "the frame is of another session")
        if _says_nothing(frame, session.to_cell, session.to_client):
            return
        if isinstance(frame, SessionData):
            session.to_cell = _spent(session.to_cell, frame)
        elif isinstance(frame, SessionCredit):
            session.to_client = _given(session.to_client, frame)
        self._shell.send_now(session.cell_id, frame)
        if isinstance(frame, SessionEnd):
            session.to_cell = None
            self._forget_if_over(session, frame)

    def client_gone(self, session: Session) -> None:
        """The client's connection broke."""
        if self._forget(session):
            self._shell.send_now(session.cell_id, SessionEnd(session.session_id, "interrupted"))

    # --- what cells do ---

    def from_cell(self, cell_id: str, frame: Relayed) -> None:
        """Passes on what an instance says; ``request_invalid`` for more than it has credit for."""
        session = self._sessions.get(frame.session_id)
        if session is None or session.cell_id != cell_id:
            return
        if _says_nothing(frame, session.to_client, session.to_cell):
            return
        if isinstance(frame, SessionData):
            session.to_client = _spent(session.to_client, frame)
        elif isinstance(frame, SessionCredit):
            session.to_cell = _given(session.to_cell, frame)
        session.client.pass_on(frame)
        if isinstance(frame, SessionEnd):
            session.to_client = None
            self._forget_if_over(session, frame)

    def link_lost(self, cell_id: str, link_id: int) -> None:
        """What was under way over the link is lost, and nobody knows how much of it."""
        for session in [*self._sessions.values()]:
            if (session.cell_id, session.link_id) == (cell_id, link_id):
                self._break(session, "cell_lost")

    def _instance_moved(self, instance_id: str) -> None:
        instance = self._shell.state.instances.get(instance_id)
        if instance is not None and instance.state not in (service_instances.FENCED, service_instances.ENDED):
            return
        code = service_instances.stop_code(instance) if instance is not None else "service_fenced"
        for session_id in [*self._by_instance.get(instance_id, ())]:
            self._break(self._sessions[session_id], code)

    def _break(self, session: Session, code: str) -> None:
        if self._forget(session):
            session.client.pass_on(SessionEnd(session.session_id, code))
            session.client.over()

    def _can_serve(self, instance: Instance) -> bool:
        return (
            instance.state == service_instances.ACTIVE
            and self._shell.clock.now() < instance.serves_until
            and self._shell.has_link(instance.cell_id)
        )

    def _forget_if_over(self, session: Session, end: SessionEnd) -> None:
        if (end.code or (session.to_cell is None and session.to_client is None)) and self._forget(session):
            session.client.over(lingers=session.to_cell is not None and session.to_client is None)

    def _forget(self, session: Session) -> bool:
        """Whether it was still there."""
        if self._sessions.pop(session.session_id, None) is None:
            return False
        members = self._by_instance[session.instance_id]
        members.pop(session.session_id, None)
        if not members:
            del self._by_instance[session.instance_id]
        self._by_tenant[session.tenant] -= 1
        if not self._by_tenant[session.tenant]:
            del self._by_tenant[session.tenant]
        return True


def _says_nothing(frame: Relayed, own: int | None, others: int | None) -> bool:
    """Whether it is an end that was said before, or credit for who sends no more. As these cost no credit, they would
    load the other side without bound."""
    if isinstance(frame, SessionCredit):
        return others is None
    return isinstance(frame, SessionEnd) and not frame.code and own is None


def _spent(credit: int | None, frame: SessionData) -> int | None:
    """What is left of the credit; nobody sends more than it has, or nothing, or after its end."""
    if credit is None or not 0 < len(frame.data) <= credit:
        raise GrafosError("request_invalid", "a session sent nothing, or more than it had credit for")
    return credit - len(frame.data)


def _given(credit: int | None, frame: SessionCredit) -> int:
    assert credit is not None, "credit for who sends no more says nothing"
    if credit + frame.n_bytes > SESSION_WINDOW_BYTES:
        raise GrafosError("request_invalid", "a session gave back more credit than was used")
    return credit + frame.n_bytes
