"""The five rows of the failure table, each done to real processes under a session that is open, and the planned ones.

Each gives what the client saw: with what code its session ended, and how long it was until it was answered again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from service_fabric import CUT_OFF, ServiceFabric, echoed, served, until

from grafos_cell.conformance.echo import CRASH
from grafos_core.errors import GrafosError
from grafos_core.resources import LISTENER
from grafos_scheduler.service_client import Session
from grafos_scheduler.service_messages import InstanceView


@dataclass(frozen=True)
class Seen:
    """``before`` is the instance that it happened to; ``told`` what ended its session; ``blind_s`` the time without an
    answer; ``again`` the instance that answered then; ``since`` the audit log's newest record before it happened, and
    ``leased_until`` how long its leases lasted at least (Unix seconds)."""

    before: InstanceView
    told: str
    blind_s: float
    again: str
    since: int
    leased_until: float


def node_killed(fabric: ServiceFabric) -> Seen:
    """``kill -9`` of the agent of a cell that has one of two replicas."""
    return _through(fabric, _an_instance(fabric), lambda it: fabric.kill(it.cell_id))


def tasklet_crashed(fabric: ServiceFabric) -> Seen:
    """The guest traps."""
    return _through(fabric, _an_instance(fabric), lambda _: None, last_words=CRASH)


def listener_revoked(fabric: ServiceFabric) -> Seen:
    """The operator takes the listener lease of one of two replicas back."""

    def revoke(instance: InstanceView) -> None:
        lease = fabric.lease(instance.instance_id, LISTENER)
        with fabric.orchestrator.client(fabric.operator) as client:
            client.revoke_lease(lease.lease_id, grace_s=0.0, why="the table")

    return _through(fabric, _an_instance(fabric), revoke)


def all_killed(fabric: ServiceFabric) -> tuple[Seen, str]:
    """All cells that serve are killed, and start again once a client was refused; with what code it was."""
    refusals: list[str] = []
    cells = [instance.cell_id for instance in fabric.whole().instances]

    def kill(_: InstanceView) -> None:
        for cell_id in cells:
            fabric.kill(cell_id)

    def revive() -> None:
        refusals.append(until(lambda: _refusal(fabric)))
        fabric.revive(*cells)

    return _through(fabric, _an_instance(fabric), kill, then=revive), refusals[0]


def partitioned(fabric: ServiceFabric) -> Seen:
    """The link of a cell carries nothing any more, and nobody is told."""
    [instance] = [each for each in fabric.whole().instances if each.cell_id == CUT_OFF]
    return _through(fabric, instance, lambda _: fabric.gate.shut())


def _an_instance(fabric: ServiceFabric) -> InstanceView:
    return fabric.whole().instances[0]


def _refusal(fabric: ServiceFabric) -> str:
    async def ask() -> str:
        try:
            await (await fabric.sessions().open("echo")).close()
        except GrafosError as refused:
            return refused.code
        return ""

    return asyncio.run(ask())


def _through(
    fabric: ServiceFabric,
    instance: InstanceView,
    befall: Callable[[InstanceView], None],
    *,
    last_words: bytes = b"",
    then: Callable[[], None] = lambda: None,
) -> Seen:
    """A session with the instance, before, while and after that befalls it."""

    async def story() -> Seen:
        session = await fabric.session_at(instance.cell_id)
        since, leased_until = fabric.head(), fabric.lease(instance.instance_id, LISTENER).expires_at
        befall(instance)
        began_at = time.monotonic()
        if last_words:
            await session.write(last_words)
        told = await _ended(session)
        await session.close()
        await asyncio.to_thread(then)
        again = await served(fabric.sessions())
        blind_s = time.monotonic() - began_at
        await again.close()
        return Seen(instance, told, blind_s, again.instance_id, since, leased_until)

    seen = asyncio.run(story())
    until(
        lambda: instance.instance_id not in fabric.active()
    )  # sessions are told before the scheduler has it in writing
    return seen


async def _ended(session: Session) -> str:
    """The code with which the session ends; empty if in good order."""
    try:
        while await session.read():
            pass
    except GrafosError as error:
        return error.code
    return ""


async def in_flight(session: Session, is_over: Callable[[], bool]) -> None:
    """Speaks on and on in the session until it ``is_over``. Fails if it once is not answered."""
    while True:
        assert await echoed(session, b"still here") == b"still here"
        if is_over():
            return
        await asyncio.sleep(0.02)
