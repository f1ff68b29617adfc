"""From "start this run" to its end: fetch module and input, run them on a worker, tell the broker how it ended."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from grafos_cell.abi import RunContext
from grafos_cell.blocks import BlockStore
from grafos_cell.broker_events import Event, WorkerEnded
from grafos_cell.fetching import Fetcher
from grafos_cell.holdings import BrokerState
from grafos_cell.pool import WorkerPool
from grafos_cell.region_desk import CellRegions
from grafos_cell.run import RunOutcome, RunSpec
from grafos_cell.run_leases import RunLeases
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_scheduler import frames

STOP_WITHIN_S = 5.0
"""From telling all runs to stop to their ends being durable; killing a worker takes a fraction of that."""

log = logging.getLogger("grafos.cell")


class Handler(Protocol):
    """The agent, as runs see it."""

    state: BrokerState

    async def handle(self, event: Event) -> None: ...


class Runner:
    """The runs that go on this cell."""

    def __init__(
        self,
        agent: Handler,
        pool: WorkerPool,
        fetcher: Fetcher,
        clock: Clock,
        blocks: BlockStore,
        regions: CellRegions,
    ) -> None:
        self._pool = pool
        self._agent = agent
        self._fetcher = fetcher
        self._clock = clock
        self._blocks = blocks
        self._regions = regions
        self._is_warm = False
        self._is_closed = False
        self._runs: dict[str, asyncio.Task[RunOutcome]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._leases: dict[str, RunLeases] = {}

    async def warm_up(self) -> None:
        """Starts the workers, once; they get ready while the first run is on its way."""
        if not self._is_warm:
            self._is_warm = True
            await self._pool.start()

    def start(self, start: frames.StartRun) -> None:
        """Begins a run; its end comes as ``WorkerEnded``, whatever happens."""
        task = asyncio.get_running_loop().create_task(self._run(start))
        self._runs[start.run_id] = task
        task.add_done_callback(lambda done: self._over(start.run_id, done))

    def stop(self, run_id: str) -> None:
        """Kills the run's worker; its end follows."""
        if run_id in self._runs:
            self._runs[run_id].cancel()

    def renewed(self, run_id: str, lease_id: str, token: str) -> None:
        """The run's lease goes on under another token."""
        if run_id in self._leases:
            self._leases[run_id].renewed(lease_id, token)

    def uses(self, lease_id: str) -> bool:
        """Whether a run that has not ended, with whatever is left of its worker, has the lease."""
        return any(leases.has(lease_id) for leases in self._leases.values())

    async def stop_all(self) -> None:
        """Kills every run and waits until their ends are durable, but no longer than ``STOP_WITHIN_S``."""
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                while pending := {*self._runs.values(), *self._ending}:
                    for task in self._runs.values():  # also of a run that began while the others were ending
                        if not task.cancelling():
                            task.cancel()
                    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            log.error("not all runs have a durable end yet; the next start ends them")

    async def close(self) -> None:
        """Ends the workers without a word about their runs: the process is about to end."""
        self._is_closed = True
        for task in self._runs.values():
            task.cancel()
        await self._pool.close()

    def _over(self, run_id: str, task: asyncio.Task[RunOutcome]) -> None:
        """However the run's task ended, the broker hears of it once."""
        del self._runs[run_id]
        self._leases.pop(run_id, None)
        if not self._is_closed:
            ending = asyncio.get_running_loop().create_task(self._agent.handle(_ended(run_id, task)))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _run(self, start: frames.StartRun) -> RunOutcome:
        leases = RunLeases.of_run(self._agent.state, self._clock.now, self._blocks, start)
        self._leases[start.run_id] = leases
        leases.create_blocks()
        module = await self._fetcher.fetch(start.module_sha256)
        data = await self._fetcher.fetch(start.input_sha256) if start.input_sha256 else None
        context = RunContext(
            provider=start.provider,
            cell_id=self._agent.state.settings.cell_id,
            region=start.region,
            run_id=start.run_id,
            tasklet=start.tasklet,
            module_sha256=start.module_sha256,
        )
        spec = RunSpec(
            context=context,
            input=data,
            fuel=start.fuel,
            memory_bytes=start.memory_bytes,
            deadline_s=start.deadline_s,
            memory_leases=leases.memory,
            block_leases=leases.blocks,
        )
        regions = self._regions.of_run(start.run_id, len(spec.memory_leases))
        outcome = await self._pool.run(module, spec, leases.answer, regions.answer)
        if leases.blocks:
            await asyncio.to_thread(leases.sync_blocks)  # a disk may take its time, and leases end meanwhile
        return outcome


def _ended(run_id: str, task: asyncio.Task[RunOutcome]) -> WorkerEnded:
    if task.cancelled():
        # The broker knows why it was stopped, if it was the broker who had it stopped.
        return WorkerEnded(run_id, "interrupted", "the cell stopped the run")
    error = task.exception()
    if isinstance(error, GrafosError):
        return WorkerEnded(run_id, error.code, error.what)
    if error is not None:
        log.error("run %s could not be run", run_id, exc_info=error)
        return WorkerEnded(run_id, "internal", "the cell could not run it")
    outcome = task.result()
    return WorkerEnded(
        run_id=run_id,
        code=outcome.code,
        what=outcome.text,
        fuel_used=outcome.fuel_used,
        response_json=outcome.response.decode("utf-8", "replace"),
        output=outcome.output,
        log=outcome.log,
    )
