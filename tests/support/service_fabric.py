"""A service that echoes on real cells: an orchestrator, three agents, a tenant, and what can befall the cells.

The way of cell "three" to the orchestrator can be shut; ``failure_table`` has the failures.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from agents import PROVIDER, AgentOf
from gate import Gate
from orchestrator import Orchestrator
from standalone import Identity

from grafos_cell.conformance.echo import PORT, echo_module
from grafos_core.audit_chain import AuditRecord
from grafos_core.errors import GrafosError
from grafos_scheduler.audit_messages import AuditQuery
from grafos_scheduler.lease_messages import LeaseView
from grafos_scheduler.service_client import ServiceClient, Session
from grafos_scheduler.service_messages import (
    ActiveActive,
    InstanceView,
    NodeConstraint,
    ResourceRequirement,
    ServiceSpec,
    ServiceView,
)
from grafos_scheduler.services_client import ServicesClient

LEASE_S, HEARTBEAT_EVERY_S = 6.0, 0.7
"""Short, and yet long enough for a machine with much else to do."""
CELLS = ("one", "two", "three")
CUT_OFF = "three"
"""The cell whose way can be shut."""
PATIENCE_S = 60.0
LOOK_EVERY_S = 0.05
SESSIONS = 64

Found = TypeVar("Found")


def until(look: Callable[[], Found]) -> Found:
    """What ``look`` gives, once that is something."""
    ends_at = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < ends_at, "it never came to pass"
        time.sleep(LOOK_EVERY_S)
    return found


async def echoed(session: Session, text: bytes) -> bytes:
    """What comes back of the text; less of it where the session ends."""
    await session.write(text)
    back = b""
    while len(back) < len(text):
        piece = await session.read()
        if not piece:
            break
        back += piece
    return back


class ServiceFabric:
    """All of it. ``client`` is the tenant's."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self.orchestrator = orchestrator
        self.operator = orchestrator.claimed()
        tenant: Identity = orchestrator.employ(self.operator, "acme", budget_cents=1_000_000)
        self.client = ServicesClient(
            orchestrator.url, orchestrator.ca_pem, tenant.certificate, tenant.key, tenant.token, patience_s=5.0
        )
        self.gate = Gate(orchestrator.port)
        self.agents = {name: AgentOf(orchestrator, name) for name in CELLS}

    def begin(self, cells: tuple[str, ...]) -> None:
        """Starts the cells side by side, and waits until they are there."""
        for name in cells:
            agent = self.agents[name]
            if not agent.processes:
                agent.given(self.orchestrator.bootstrap(self.operator, name, PROVIDER))
            port = self.gate.port if name == CUT_OFF else self.orchestrator.port
            agent.begin(orchestrator=f"https://127.0.0.1:{port}")
        for name in cells:
            self.agents[name].processes[-1].wait_ready()

    def kill(self, cell_id: str) -> None:
        self.agents[cell_id].processes[-1].popen.send_signal(signal.SIGKILL)

    def revive(self, *cells: str) -> None:
        """The cells that were killed start again, and get instances where a replica has none."""
        for cell_id in cells:
            self.agents[cell_id].processes[-1].discard()
        self.begin(cells)

    # --- the tenant's ---

    def deploy(
        self, name: str = "echo", *, replicas: int = 2, cells: tuple[str, ...] = (), **other: Any
    ) -> ServiceView:
        """The service, once it is whole."""
        spec = ServiceSpec(
            name=name,
            module_hash=self.client.put_blob(echo_module(SESSIONS, crashes=True)),
            listener_port=PORT,
            replication=ActiveActive(replicas),
            node_constraint=NodeConstraint(cell_ids=cells),
            resources_per_instance=(ResourceRequirement("cpu", 1), ResourceRequirement("mem", 1 << 20)),
            **other,
        )
        self.client.deploy_service(spec)
        return self.whole(name)

    def whole(self, name: str = "echo") -> ServiceView:
        """The service, once all its replicas are healthy and nothing of before is left."""

        def look() -> ServiceView | None:
            view = self.client.service(name)
            states = {(instance.state, instance.revision) for instance in view.instances}
            is_whole = view.healthy == view.spec.replica_count and states == {("active", view.revision)}
            return view if is_whole else None

        return until(look)  # type: ignore[return-value]

    def active(self, name: str = "echo") -> list[str]:
        """The instances that serve, as the scheduler has it."""
        return [each.instance_id for each in self.client.service(name).instances if each.state == "active"]

    def remove(self, name: str = "echo") -> None:
        self.client.remove_service(name, at_once=True)
        until(lambda: name not in [view.name for view in self.client.services()])

    def sessions(self) -> ServiceClient:
        return ServiceClient(self.client.door)

    async def session_at(self, cell_id: str, name: str = "echo") -> Session:
        """A session with the instance on that cell, which has answered."""
        view = self.client.service(name)
        [wanted] = [each.instance_id for each in view.instances if each.cell_id == cell_id and each.state == "active"]
        while True:
            session = await self.sessions().open(name)
            if session.instance_id == wanted:
                assert await echoed(session, b"before") == b"before"
                return session
            await session.close()

    # --- what can be seen ---

    def head(self) -> int:
        """The newest record of the audit log."""
        with self.orchestrator.client(self.operator) as client:
            return client.audit(AuditQuery(limit=1)).head_sequence

    def events(self, since: int, name: str = "echo") -> list[AuditRecord]:
        """What was recorded of the service's instances after the record ``since``."""
        with self.orchestrator.client(self.operator) as client:
            page = client.audit(AuditQuery(after=since, limit=1000))
        return [record for record in page.records if record.details.get("service") == name]

    def event(self, since: int, kind: str, name: str = "echo") -> AuditRecord:
        """The first of its kind, once it is there."""
        return until(lambda: next((one for one in self.events(since, name) if one.kind == kind), None))  # type: ignore[return-value]

    def lease(self, instance_id: str, kind: str) -> LeaseView:
        """The instance's lease of that kind."""
        with self.orchestrator.client(self.operator) as client:
            [found] = [each for each in client.leases(instance_id) if each.kind == kind]
        return found

    def process_of(self, instance: InstanceView) -> int:
        """The process in which the instance is, as its cell's log says."""
        said = self.agents[instance.cell_id].log.read_text()
        return int(re.findall(rf"{instance.instance_id} has process (\d+)", said)[-1])

    def discard(self) -> None:
        self.client.close()
        for agent in self.agents.values():
            agent.discard()
        self.gate.close()


def is_gone(pid: int) -> bool:
    """Whether no process has the number, or only one that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except FileNotFoundError:
        return True


async def served(client: ServiceClient, name: str = "echo") -> Session:
    """The first session that answers."""
    while True:
        try:
            session = await client.open(name)
        except GrafosError:
            await asyncio.sleep(LOOK_EVERY_S)
            continue
        try:
            if await echoed(session, b"after") == b"after":
                return session
        except GrafosError:
            pass
        await session.close()


@contextmanager
def service_fabric(folder: Path) -> Iterator[ServiceFabric]:
    """A fabric with short heartbeats and leases."""
    orchestrator = Orchestrator(folder, **{"heartbeat-every-s": HEARTBEAT_EVERY_S, "service-lease-s": LEASE_S})
    made: ServiceFabric | None = None
    try:
        orchestrator.start()
        made = ServiceFabric(orchestrator)
        made.begin(CELLS)
        yield made
    finally:
        if made is not None:
            made.discard()
        orchestrator.discard()
