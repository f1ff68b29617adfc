"""A cell's daemon as a process: from its identity to the link, and to its end in good order.

The cell's own end (``--expires-at``) is watched from the first moment, with or without a scheduler: it is one of the
layers that make sure that a forgotten machine stops costing money.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Coroutine
from typing import Any

from grafos_cell import service
from grafos_cell.agent import Agent
from grafos_cell.holdings import BrokerSettings
from grafos_cell.identity import capability_key
from grafos_cell.membership import Membership
from grafos_cell.settings import Settings
from grafos_cell.state import open_state
from grafos_core.clock import Clock, SystemClock
from grafos_core.machine_files import read_moment
from grafos_core.program import log_to_stderr, say_ready

LOOK_EVERY_S = 0.5
"""How late the cell's end may be noticed."""
ON_EXPIRY_AGAIN_S = 10.0
"""Between two tries of the command that ends the machine, as long as the machine is still there."""
ON_EXPIRY_TRIES_MAX = 360
ON_EXPIRY_S_MAX = 60.0
"""For one try."""

log = logging.getLogger("grafos.cell")


def run(settings: Settings, membership: Membership) -> None:
    """Serves until SIGTERM, SIGINT or the cell's end; raises the ``GrafosError`` that made it end otherwise."""
    log_to_stderr()
    asyncio.run(_main(settings, membership))


async def _main(settings: Settings, membership: Membership) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = SystemClock()
    daemon = Daemon(settings, membership, clock)
    watching = asyncio.create_task(service.feed_watchdog())
    ending = asyncio.create_task(_wait_for_end(settings, clock))
    serving = asyncio.create_task(daemon.serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping, ending}, return_when=asyncio.FIRST_COMPLETED)
    has_failed = serving.done()
    service.notify("STOPPING=1")
    if ending.done():
        log.warning("the cell has reached its end: fencing")
        await daemon.fence()
    tasks: tuple[asyncio.Task[Any], ...] = (serving, stopping, ending, watching)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if has_failed:
        serving.result()
    if not ending.cancelled():
        await _leave(settings.on_expiry, stop)


class Daemon:
    """The agent, from the files that it needs to the files that it leaves."""

    def __init__(self, settings: Settings, membership: Membership, clock: Clock) -> None:
        self._settings = settings
        self._membership = membership
        self._clock = clock
        self._agent: Agent | None = None

    async def serve(self) -> None:
        """Serves until cancelled; ``GrafosError`` when it cannot go on."""
        settings, membership = self._settings, self._membership
        identity = await membership.identity()
        peer = identity.peer
        rules = BrokerSettings(
            peer.fabric, peer.name, membership.inventory(), capability_key(settings.state), identity.sign
        )
        store, state = open_state(settings.database, rules)
        try:
            agent = Agent(settings, membership, identity, state, store, self._clock, random.SystemRandom())
            self._agent = agent
            await agent.boot()
            await self._serve(agent, membership.keep(identity, agent))
        finally:
            await store.close()

    async def _serve(self, agent: Agent, keep: Coroutine[Any, Any, None]) -> None:
        """Returns never; whatever ends the agent is raised, once the agent has ended."""
        telling = asyncio.create_task(self._say_ready(agent))
        serving, keeping = asyncio.create_task(agent.serve()), asyncio.create_task(keep)
        try:
            ends: tuple[asyncio.Future[Any], ...] = (serving, keeping, agent.stopped)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._agent = None
            for task in (telling, serving, keeping):
                task.cancel()
            await agent.close()
        if agent.stopped.done():
            raise agent.stopped.result()
        for task in (serving, keeping):
            if task.done():
                task.result()

    async def fence(self) -> None:
        """The cell's end, if it ever began: see ``Agent.fence``."""
        if self._agent is not None:
            await self._agent.fence()

    async def _say_ready(self, agent: Agent) -> None:
        """Tells the parent process that the link is up."""
        await agent.linked_once.wait()
        service.notify("READY=1")
        say_ready(self._settings.ready_fd, {"cell_id": agent.state.settings.cell_id, "start": agent.state.epoch})


async def _wait_for_end(settings: Settings, clock: Clock) -> None:
    """Returns at the cell's end, by whichever clock comes there first: a wall clock that is set back gains nothing.

    The end may be moved while we wait, or was before we began; ``Settings.end_file`` tells where to.
    """
    expires_at = settings.expires_at
    if not expires_at:
        await asyncio.Event().wait()
    limit = clock.monotonic() + expires_at - clock.now()
    while True:
        moved_to = read_moment(settings.end_file) if settings.end_file else 0
        if moved_to and moved_to != expires_at:
            log.warning("the cell's end was moved from %.0f to %d", expires_at, moved_to)
            expires_at = float(moved_to)
            limit = clock.monotonic() + expires_at - clock.now()
        if clock.now() >= expires_at or clock.monotonic() >= limit:
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def _leave(command: tuple[str, ...], stop: asyncio.Event) -> None:
    """Runs the command that ends the machine, again and again while the machine is still there and nobody stops us."""
    for _ in range(ON_EXPIRY_TRIES_MAX if command else 0):
        log.warning("running %s", command[0])
        if await _runs_well(command) or await _comes(stop, ON_EXPIRY_AGAIN_S):
            return


async def _runs_well(command: tuple[str, ...]) -> bool:
    """Whether the command did what it is for; one that hangs is killed."""
    try:
        process = await asyncio.create_subprocess_exec(*command)
    except OSError as error:
        log.error("%s cannot be run: %s", command[0], error)
        return False
    try:
        async with asyncio.timeout(ON_EXPIRY_S_MAX):
            return await process.wait() == 0
    except TimeoutError:
        log.error("%s does not end", command[0])
        process.kill()
        await process.wait()
        return False


async def _comes(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False
