"""The instances at the daemon: their ends are seen through, and none of their processes can fill its memory."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from broker_bench import CPU, LISTENER, Bench

from grafos_cell.blobcache import BlobCache
from grafos_cell.blocks import BlockStore
from grafos_cell.broker_events import Event, InstanceOver
from grafos_cell.fetching import Fetcher
from grafos_cell.holdings import BrokerState
from grafos_cell.pool import WorkerPool
from grafos_cell.run import LeaseAnswer
from grafos_cell.service_process import ServiceProcess
from grafos_cell.serving import Serving
from grafos_cell.worker_messages import ModuleCode
from grafos_core.ids import sha256_of
from grafos_scheduler.service_frames import StartInstance

MODULE = b"a module"


class SlowPool(WorkerPool):
    """A pool whose work for an instance takes some turns of the loop to be ended."""

    def __init__(self) -> None:
        super().__init__(1)
        self.has_begun = asyncio.Event()
        self.has_tidied = False

    async def code_of(self, module: bytes, sha256: str) -> ModuleCode:
        try:
            self.has_begun.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.has_tidied = True
        return await super().code_of(module, sha256)


class Ends:
    """Who hears of an instance's end."""

    def __init__(self, state: BrokerState) -> None:
        self.state = state
        self.events: list[Event] = []

    async def handle(self, event: Event) -> None:
        self.events.append(event)


def test_an_end_that_is_told_twice_is_seen_through(tmp_path: Path) -> None:
    """The broker and each tick may tell it, while the process that had the leases is not gone yet."""

    async def told_twice() -> tuple[bool, list[Event]]:
        bench, pool = Bench(), SlowPool()
        bench.serving()
        cache = BlobCache(tmp_path / "blobs")
        cache.put(sha256_of(MODULE), MODULE)
        ends = Ends(bench.state)
        blocks = BlockStore(tmp_path / "blocks")
        serving = Serving(ends, pool, Fetcher(cache, lambda _: None), lambda _: None, bench.clock, blocks)
        named = ("inst-1", "echo", 1, "ada", "p", sha256_of(MODULE))
        tokens = tuple(bench.token(lease, 2, amount=1 if lease == CPU else 8080) for lease in (CPU, LISTENER))
        serving.start(StartInstance(*named, 8080, 4, 65536, (CPU, LISTENER), tokens, 100, 0, 1.0))
        await pool.has_begun.wait()
        serving.stop("inst-1", "service_fenced")
        await asyncio.sleep(0)
        serving.stop("inst-1", "cancelled")
        await serving.stop_all()
        return pool.has_tidied, ends.events

    assert asyncio.run(told_twice()) == (True, [InstanceOver("inst-1", "service_fenced")])


def test_a_process_that_does_not_read_its_answers_is_not_answered_on_and_on() -> None:
    """The program says that it is ready, and reads nothing from then on."""
    program = """import os, time
from grafos_cell.worker_messages import Ready, frame
os.write(1, frame(Ready(os.getpid())))
time.sleep(600)"""

    async def answered_on() -> None:
        process = await ServiceProcess.start((sys.executable, "-c", program), 60.0)
        try:
            async with asyncio.timeout(0.5):
                for _ in range(1000):
                    await process.answer(LeaseAnswer(0, data=bytes(65536)))
        finally:
            await process.end()

    with pytest.raises(TimeoutError):
        asyncio.run(answered_on())
