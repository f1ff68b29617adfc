"""The runs of a cell that comes to its end: all are stopped, and nothing keeps the cell from leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from grafos_cell.blobcache import BlobCache
from grafos_cell.blocks import BlockStore
from grafos_cell.broker_events import WorkerEnded
from grafos_cell.holdings import RUN, BrokerSettings, BrokerState, TakenRun
from grafos_cell.pool import WorkerPool
from grafos_cell.running import Runner
from grafos_core.changes import Change
from grafos_core.clock import SystemClock
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_scheduler.messages import StartRun


class Desk:
    """Hears of the ends of runs, in the broker's place; ``when_told`` is what it does then."""

    def __init__(self, folder: Path, when_told: Callable[[Desk], Awaitable[Any]]) -> None:
        rules = BrokerSettings("fab", "cell-1", Resources(cpu_cores=1), b"key", lambda receipt: Signed("run", b"", b""))
        self.state = BrokerState(rules)
        self.ended: list[tuple[str, str]] = []
        self.runner = Runner(
            self, WorkerPool(1), BlobCache(folder), lambda frame: None, SystemClock(), BlockStore(folder / "blocks")
        )
        self._when_told = when_told

    async def handle(self, event: WorkerEnded) -> None:
        await self._when_told(self)
        self.ended.append((event.run_id, event.code))

    def start(self, run_id: str) -> None:
        """A run that waits for its module, which never comes."""
        taken = TakenRun(run_id, "acme", "local", "here", "t", "0" * 64, "", 1, (), 0.0, 60.0)
        self.state.apply((Change(RUN, run_id, taken),))
        self.runner.start(StartRun(run_id, "acme", "local", "here", "t", "0" * 64, "", 1, 65536, 1.0, ()))


def test_a_run_that_begins_while_the_others_end_is_stopped_too(tmp_path: Path) -> None:
    """The broker decided upon it before the cell was fenced, and the disk took its time."""

    async def begin_another(desk: Desk) -> None:
        if not desk.ended:
            desk.start("run-2")

    async def story() -> Desk:
        desk = Desk(tmp_path, begin_another)
        desk.start("run-1")
        await asyncio.sleep(0)
        await desk.runner.stop_all()
        return desk

    assert asyncio.run(story()).ended == [("run-1", "interrupted"), ("run-2", "interrupted")]


@pytest.mark.deep
def test_an_end_that_never_becomes_durable_does_not_keep_the_cell_from_leaving(tmp_path: Path) -> None:
    async def story() -> Desk:
        desk = Desk(tmp_path, lambda desk: asyncio.sleep(3600))
        desk.start("run-1")
        await asyncio.sleep(0)
        await desk.runner.stop_all()
        return desk

    assert asyncio.run(story()).ended == []
