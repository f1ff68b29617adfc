"""The runs of a cell that comes to its end: all are stopped, and nothing keeps the cell from leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grafos_cell.blobcache import BlobCache
from grafos_cell.blocks import BlockStore
from grafos_cell.broker_events import WorkerEnded
from grafos_cell.broker_tokens import mint_token
from grafos_cell.fetching import Fetcher
from grafos_cell.holdings import LEASE, RUN, BrokerSettings, BrokerState, HeldLease, TakenRun
from grafos_cell.pool import WorkerPool
from grafos_cell.region_desk import CellRegions
from grafos_cell.running import Runner
from grafos_core.changes import Change
from grafos_core.clock import SystemClock
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_scheduler.frames import StartRun


class Desk:
    """Hears of the ends of runs, in the broker's place; ``when_told`` is what it does then."""

    def __init__(self, folder: Path, when_told: Callable[[Desk], Awaitable[Any]]) -> None:
        rules = BrokerSettings("fab", "cell-1", Resources(cpu_cores=1), b"key", lambda receipt: Signed("run", b"", b""))
        self.state = BrokerState(rules)
        self.ended: list[tuple[str, str]] = []
        self.runner = Runner(
            self,
            WorkerPool(1),
            Fetcher(BlobCache(folder), lambda frame: None),
            SystemClock(),
            BlockStore(folder / "blocks"),
            CellRegions(self.state, SystemClock().now, SimpleNamespace(send=lambda frame: None, protocol=0)),
        )
        self._when_told = when_told

    async def handle(self, event: WorkerEnded) -> None:
        await self._when_told(self)
        self.ended.append((event.run_id, event.code))

    def start(self, run_id: str, lease_id: str = "lease") -> None:
        """A run that waits for its module, which never comes."""
        lease = HeldLease(lease_id, "acme", "cpu", 1, 1, 60.0)
        taken = TakenRun(run_id, "acme", "local", "here", "t", "0" * 64, "", 1, (lease_id,), 0.0, 60.0)
        self.state.apply((Change(LEASE, lease_id, lease), Change(RUN, run_id, taken)))
        token = mint_token(self.state, lease, 0.0)
        self.runner.start(StartRun(run_id, "acme", "local", "here", "t", "0" * 64, "", 1, 65536, 1.0, (token,)))


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


def test_a_lease_is_used_until_nothing_is_left_of_its_run(tmp_path: Path) -> None:
    """So a fence that is cleared while the worker is still there is no free room."""

    async def story() -> tuple[bool, bool, bool]:
        desk = Desk(tmp_path, lambda desk: asyncio.sleep(0))
        desk.start("run-1", "lease-1")
        await asyncio.sleep(0)
        during, other = desk.runner.uses("lease-1"), desk.runner.uses("lease-2")
        await desk.runner.stop_all()
        return during, other, desk.runner.uses("lease-1")

    assert asyncio.run(story()) == (True, False, False)


@pytest.mark.deep
def test_an_end_that_never_becomes_durable_does_not_keep_the_cell_from_leaving(tmp_path: Path) -> None:
    async def story() -> Desk:
        desk = Desk(tmp_path, lambda desk: asyncio.sleep(3600))
        desk.start("run-1")
        await asyncio.sleep(0)
        await desk.runner.stop_all()
        return desk

    assert asyncio.run(story()).ended == []
