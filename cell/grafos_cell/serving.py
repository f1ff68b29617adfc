"""The instances that go on this cell, each in a task of its own, and which of them a session's frame is for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from grafos_cell.blocks import BlockStore
from grafos_cell.broker_events import InstanceOver
from grafos_cell.fetching import Fetcher
from grafos_cell.pool import WorkerPool
from grafos_cell.run_leases import RunLeases
from grafos_cell.running import STOP_WITHIN_S, Handler
from grafos_cell.service_instance import FromClient, Instance
from grafos_core.clock import Clock
from grafos_scheduler import frames
from grafos_scheduler.service_frames import SessionEnd, SessionOpen, StartInstance

log = logging.getLogger("grafos.cell")


class Serving:
    """``send`` puts a frame on the link, or drops it when there is none."""

    def __init__(
        self,
        agent: Handler,
        pool: WorkerPool,
        fetcher: Fetcher,
        send: Callable[[frames.UpFrame], None],
        clock: Clock,
        blocks: BlockStore,
    ) -> None:
        self._agent = agent
        self._pool = pool
        self._fetcher = fetcher
        self._send = send
        self._clock = clock
        self._blocks = blocks
        self._is_closed = False
        self._instances: dict[str, Instance] = {}
        self._tasks: dict[str, asyncio.Task[InstanceOver]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._of_session: dict[str, Instance] = {}

    def start(self, start: StartInstance) -> None:
        """Begins to serve; the end comes as ``InstanceOver``, whatever happens."""
        leases = RunLeases.of_instance(self._agent.state, self._clock.now, self._blocks, start)
        instance = Instance(start, self._agent.state, leases, self._clock, self._send)
        task = asyncio.get_running_loop().create_task(instance.serve(self._pool, self._fetcher))
        self._instances[start.instance_id] = instance
        self._tasks[start.instance_id] = task
        task.add_done_callback(lambda done: self._over(instance, done))

    def stop(self, instance_id: str, code: str) -> None:
        """Ends all sessions of the instance and kills its process; its end follows."""
        instance = self._instances.get(instance_id)
        if instance is not None:
            instance.stop(code)
            task = self._tasks[instance_id]
            if not task.cancelling():  # a second time would break off the ending of the process, under living leases
                task.cancel()

    def drain(self, instance_id: str) -> None:
        if instance_id in self._instances:
            self._instances[instance_id].drain()

    def tell(self, instance_id: str) -> None:
        """Says again how far the instance has come."""
        if instance_id in self._instances:
            self._instances[instance_id].tell()

    def renewed(self, instance_id: str, lease_id: str, token: str) -> None:
        """The instance's lease goes on under another token."""
        if instance_id in self._instances:
            self._instances[instance_id].leases.renewed(lease_id, token)

    def uses(self, lease_id: str) -> bool:
        """Whether an instance that has not ended, with whatever is left of its process, has the lease."""
        return any(instance.leases.has(lease_id) for instance in self._instances.values())

    def told(self, frame: FromClient) -> None:
        """A frame of a session. One that is not there, or not any more, is nobody's."""
        if isinstance(frame, SessionOpen):
            instance = self._instances.get(frame.instance_id)
            if instance is None:
                self._send(SessionEnd(frame.session_id, "service_unknown"))
                return
            instance.told(frame)
            if instance.has(frame.session_id):
                self._of_session[frame.session_id] = instance
            return
        found = self._of_session.get(frame.session_id)
        if found is not None:
            found.told(frame)

    def linked(self) -> None:
        """A new link is up."""
        for instance in self._instances.values():
            instance.tell()

    def unlinked(self) -> None:
        """The link has ended, and what was on its way is lost."""
        for instance in self._instances.values():
            instance.unlinked()

    def tell_load(self) -> None:
        for instance in self._instances.values():
            instance.tell_load()

    def tick(self) -> None:
        for instance_id, instance in self._instances.items():
            code = instance.tick()
            if code:
                self.stop(instance_id, code)
        gone = [session_id for session_id, instance in self._of_session.items() if not instance.has(session_id)]
        for session_id in gone:
            del self._of_session[session_id]

    async def stop_all(self) -> None:
        """Ends every instance and waits until their ends are durable, but no longer than ``STOP_WITHIN_S``."""
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                while pending := {*self._tasks.values(), *self._ending}:
                    for instance_id in self._instances:  # also one that began while the others were ending
                        self.stop(instance_id, "interrupted")
                    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            log.error("not all instances have a durable end yet; the next start ends them")

    async def close(self) -> None:
        """Ends the processes without a word about their instances: the daemon is about to end."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, instance: Instance, task: asyncio.Task[InstanceOver]) -> None:
        """However the task ended, the broker hears of it once."""
        instance_id = instance.start.instance_id
        del self._instances[instance_id], self._tasks[instance_id]
        if not self._is_closed:
            ending = asyncio.get_running_loop().create_task(self._agent.handle(_end_of(instance, task)))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)


def _end_of(instance: Instance, task: asyncio.Task[InstanceOver]) -> InstanceOver:
    if task.cancelled():
        return instance.over(instance.stop_code or "interrupted")
    error = task.exception()
    if error is not None:
        log.error("instance %s could not be served", instance.start.instance_id, exc_info=error)
        return instance.over("internal", "the cell could not serve it")
    return task.result()
