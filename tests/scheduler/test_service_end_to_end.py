"""A service on real cells: a real scheduler, real agents, a module that echoes, and sessions through all of them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import PROVIDER, AgentOf
from orchestrator import Orchestrator
from standalone import Identity

from grafos_cell.conformance.echo import echo_module
from grafos_core.errors import GrafosError
from grafos_scheduler.service_client import ServiceClient, Session
from grafos_scheduler.service_messages import ActiveActive, ResourceRequirement, ServiceSpec, ServiceView
from grafos_scheduler.services_client import ServicesClient

PORT = 8080
PATIENCE_S = 60.0


def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    ends_at = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < ends_at, "it never came to pass"
        time.sleep(0.05)
    return found


class Fleet:
    """An orchestrator with two cells, and a tenant with a service of two replicas."""

    def __init__(self, orchestrator: Orchestrator, operator: Identity, agents: list[AgentOf], tenant: Identity) -> None:
        self.orchestrator, self.operator, self.agents = orchestrator, operator, agents
        self.client = ServicesClient(
            orchestrator.url, orchestrator.ca_pem, tenant.certificate, tenant.key, tenant.token, patience_s=5.0
        )

    def deploy(self, replicas: int) -> ServiceView:
        spec = ServiceSpec(
            name="echo",
            module_hash=self.client.put_blob(echo_module(64)),
            listener_port=PORT,
            replication=ActiveActive(replicas),
            resources_per_instance=(ResourceRequirement("cpu", 1), ResourceRequirement("mem", 1 << 20)),
        )
        self.client.deploy_service(spec)
        return until(lambda: view if (view := self.client.service("echo")).healthy == replicas else None)


async def echoed(session: Session, text: bytes) -> bytes:
    await session.write(text)
    back = b""
    while len(back) < len(text):
        piece = await session.read()
        if not piece:
            break
        back += piece
    return back


@pytest.fixture
def fleet(orchestrator: Orchestrator, operator: Identity, tmp_path: Path) -> Iterator[Fleet]:
    agents = [AgentOf(orchestrator, name, tmp_path / name) for name in ("one", "two")]
    try:
        for agent in agents:
            agent.given(orchestrator.bootstrap(operator, agent.cell_id, PROVIDER)).linked()
        made = Fleet(orchestrator, operator, agents, orchestrator.employ(operator, "acme"))
        yield made
        made.client.close()
    finally:
        for agent in agents:
            agent.discard()


@pytest.mark.timeout(300)
def test_a_client_goes_on_at_once_when_one_of_two_cells_is_killed(
    fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    view = fleet.deploy(2)
    assert {instance.cell_id for instance in view.instances} == {"one", "two"}
    blind_s, told, dead = asyncio.run(through_a_kill(fleet, view))
    assert told == "cell_lost"
    record_property("served again after, s", round(blind_s, 3))
    after = fleet.client.service("echo")
    assert {instance.cell_id for instance in after.instances if instance.connected} == {"one", "two"} - {dead}
    # No replacement may come before the dead cell's lease has surely ended, even if a cell were free.
    assert [instance.state for instance in after.instances] == ["active", "active"]
    check_the_replacement(fleet, dead)


def check_the_replacement(fleet: Fleet, dead: str) -> None:
    """The dead cell starts again: its instance died with its daemon, and another one takes the slot."""
    before = {instance.instance_id for instance in fleet.client.service("echo").instances}
    next(agent for agent in fleet.agents if agent.cell_id == dead).linked()
    view = until(lambda: view if (view := fleet.client.service("echo")).healthy == 2 else None)
    [new] = [instance for instance in view.instances if instance.instance_id not in before]
    assert (new.cell_id, new.why) == (dead, "failover")


async def through_a_kill(fleet: Fleet, view: ServiceView) -> tuple[float, str, str]:
    """Kills the cell under a session; how long it took to be served again, what was told, and which cell it was."""
    client = ServiceClient(fleet.client.door)
    session = await client.open("echo")
    assert await echoed(session, b"before") == b"before"
    cell_id = next(each.cell_id for each in view.instances if each.instance_id == session.instance_id)
    agent = next(each for each in fleet.agents if each.cell_id == cell_id)
    agent.processes[-1].popen.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    with pytest.raises(GrafosError) as caught:
        await session.read()
    await session.close()
    again = await client.open("echo")
    assert await echoed(again, b"after") == b"after"
    blind_s = time.monotonic() - killed_at
    assert again.instance_id != session.instance_id
    await again.close()
    return blind_s, caught.value.code, cell_id
