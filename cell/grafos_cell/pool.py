"""The cell's workers: one process per core, one run at a time in each, and a typed end for every run.

``WorkerPool.run`` lends a worker to one run. A worker that dies, hangs, or says something that it should not is killed
and another takes its place; a run whose waiting task is cancelled takes its worker with it. Workers are started in the
background and kept. Nothing that a worker says is believed without a look: it may be a guest that broke out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence

from grafos_cell.code_cache import CodeCache
from grafos_cell.compiling import Compilers
from grafos_cell.region_calls import RegionDesk, no_region_desk
from grafos_cell.run import LeaseDesk, RunOutcome, RunSpec, aged, check_spec, no_desk
from grafos_cell.worker_messages import ModuleCode
from grafos_cell.worker_process import CodeRefusedError, PoolLimits, WorkerLostError, WorkerProcess, worker_command
from grafos_core.errors import GrafosError

ATTEMPTS_MAX = 2
"""A worker lost before a run started costs nothing but another try; one that always kills workers is ended."""

log = logging.getLogger("grafos.cell")


class WorkerPool:
    """``await start()`` once, ``await run(...)`` as often as wanted, ``await close()`` in the end; one event loop.

    ``workers``: how many processes, one per core if not said. ``cache`` keeps compiled code over restarts, if given.
    ``command`` starts a process; only a test needs another.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        cache: CodeCache | None = None,
        limits: PoolLimits | None = None,
        command: Sequence[str] | None = None,
        compile_command: Sequence[str] | None = None,
    ) -> None:
        self._size = workers or cores()
        self._limits = limits or PoolLimits()
        self._command = command or worker_command()
        self._compilers = Compilers(self._size, compile_command or worker_command(), self._limits, cache)
        self._turns = asyncio.Semaphore(self._size)
        self._idle: list[WorkerProcess] = []
        self._all: set[WorkerProcess] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._is_closed = False
        self._is_unsealed_told = False

    @property
    def size(self) -> int:
        """How many runs go at the same time."""
        return self._size

    @property
    def waiting(self) -> int:
        """How many runs wait for a worker."""
        return self._waiting

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are ready or at work."""
        return [worker.pid for worker in self._all]

    async def start(self) -> None:
        """Begins to start all workers and returns at once; a run waits for the one that it gets."""
        for _ in range(self._size):
            self._start_in_background()

    async def run(
        self, module: bytes, spec: RunSpec, desk: LeaseDesk = no_desk, regions: RegionDesk = no_region_desk
    ) -> RunOutcome:
        """Runs ``spec`` on the next free worker; ``desk`` has its leases, ``regions`` all that it may attach to. Every
        end is an outcome, also ``worker_lost``.

        Raises ``limit_exceeded`` for a spec outside the ABI's limits, ``cell_busy`` when too many runs wait, and
        ``draining`` when the pool is closed. Cancelling ends the run at once, and its worker with it.
        """
        check_spec(spec)
        self._refuse_if_closed()
        handed_in_at = time.monotonic()
        if self._waiting >= self._limits.queue:
            raise GrafosError("cell_busy", f"{self._waiting} runs wait for a worker already", next="try again later")
        self._waiting += 1
        try:
            code = await self._compilers.code_of(module, spec.context.module_sha256)
            await self._turns.acquire()
        except GrafosError as error:
            if error.code == "draining":
                raise
            return RunOutcome(error.code, error.what)
        except (WorkerLostError, OSError) as lost:
            return RunOutcome("worker_lost", f"the module could not be compiled: {lost}")
        finally:
            self._waiting -= 1
        try:
            return await self._attempt(code, spec, handed_in_at, desk, regions)
        except CodeRefusedError as refused:
            self._compilers.forget(code)
            return RunOutcome("internal", f"the cell could not load the module that it compiled: {refused}")
        finally:
            self._turns.release()

    async def code_of(self, module: bytes, sha256: str) -> ModuleCode:
        """The compiled code of a module that is to run in a process of its own; refusals as ``Compilers`` has them."""
        return await self._compilers.code_of(module, sha256)

    async def close(self) -> None:
        """Ends all workers, also under a run, which then ends as ``worker_lost``; closing twice is harmless."""
        self._is_closed = True
        starting = list(self._starting)
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        await self._compilers.close()
        await asyncio.gather(*(self._end(worker) for worker in list(self._all)))

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise GrafosError("draining", "the cell starts no more runs")

    async def _attempt(
        self, code: ModuleCode, spec: RunSpec, handed_in_at: float, desk: LeaseDesk, regions: RegionDesk
    ) -> RunOutcome:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                worker = await self._take()
            except (WorkerLostError, OSError) as lost:
                return RunOutcome("worker_lost", f"no worker could be started: {lost}")
            try:
                left = aged(spec, time.monotonic() - handed_in_at)
                return await worker.run(code, left, self._limits, desk, regions)
            except WorkerLostError as lost:
                if lost.has_started or attempt == ATTEMPTS_MAX:
                    return RunOutcome("worker_lost", f"the worker ended under the run: {lost}")
            finally:
                await self._give_back(worker)
        raise AssertionError("the last attempt returns")

    async def _take(self) -> WorkerProcess:
        """An idle worker that lives, or the next that gets ready; ``draining`` when the pool is closed meanwhile."""
        started: asyncio.Task[None] | None = None
        while True:
            self._refuse_if_closed()
            while self._idle:
                worker = self._idle.pop()
                if worker.is_usable:
                    return worker
                await self._end(worker)
            if not self._starting:
                if started is not None:
                    started.result()  # what kept a worker from starting that was started for this run
                started = self._start_in_background()
            await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)

    async def _give_back(self, worker: WorkerProcess) -> None:
        if worker.is_usable and not self._is_closed:
            self._idle.append(worker)
            return
        await self._end(worker)
        if not self._is_closed:
            self._start_in_background()

    async def _end(self, worker: WorkerProcess) -> None:
        await worker.end()
        self._all.discard(worker)

    def _start_in_background(self) -> asyncio.Task[None]:
        """Begins to start a worker. If that fails it is no news yet: the run that needs one tries again and tells."""
        task = asyncio.create_task(self._start_idle())
        self._starting.add(task)
        task.add_done_callback(self._over)
        return task

    async def _start_idle(self) -> None:
        worker = await WorkerProcess.start(self._command, self._limits.start_s)
        self._all.add(worker)
        self._idle.append(worker)
        self._compilers.warm_up()  # not before: a cell that comes up has enough to do
        if worker.unsealed and not self._is_unsealed_told:
            self._is_unsealed_told = True
            log.warning("workers are not closed off, and runs go on all the same: %r", worker.unsealed)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would complain that nobody did


def cores() -> int:
    """The cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
