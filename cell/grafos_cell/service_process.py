"""The process of one instance, seen from the daemon: a worker that is given one job and keeps it.

It is closed off like any worker, has no secret and no socket, and all that it says is looked at.
"""

from __future__ import annotations

import asyncio

from grafos_cell.run import LeaseAnswer, LeaseCall
from grafos_cell.service_messages import FromInstance, Serve, ToInstance
from grafos_cell.worker_messages import Done, ModuleCode, frame
from grafos_cell.worker_process import PoolLimits, WorkerLostError, WorkerProcess

BACKLOG_BYTES = 64 * 1024
"""Beside what the pipe itself holds."""


class ServiceProcess(WorkerProcess):
    """``start`` it, ``begin`` once, then ``say`` and ``hear``; ``end`` it in every case."""

    async def begin(self, code: ModuleCode, serve: Serve, limits: PoolLimits) -> None:
        """Hands the job over; ``WorkerLostError`` or ``CodeRefusedError`` when it does not get there."""
        self._is_between_runs = False
        try:
            async with asyncio.timeout(limits.load_s):
                await self._hand_over(code, serve)
        except TimeoutError:
            raise WorkerLostError(f"it did not load the module within {limits.load_s:g} s", has_started=False) from None

    async def answer(self, answer: LeaseAnswer) -> None:
        """Answers what it asked, and waits until it takes that: one that asks on and on and never reads fills nothing
        but its pipe."""
        await self._send(answer, has_started=True)

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the process to read that what its clients say had better be joined first."""
        return self._to.transport.get_write_buffer_size() > BACKLOG_BYTES

    def say(self, message: ToInstance) -> None:
        """Queues a message; what a process that is gone does not take any more is nobody's loss. What may wait here
        is bounded by ``is_behind``, and a few words for each session."""
        if not self._to.is_closing():
            self._to.write(frame(message))

    async def hear(self) -> FromInstance | LeaseCall | Done:
        """The next that it says; ``WorkerLostError`` when it is gone, or says what no instance says."""
        message = await self._receive(has_started=True)
        if not isinstance(message, FromInstance | LeaseCall | Done):
            raise WorkerLostError("it broke the protocol", has_started=True)
        return message
