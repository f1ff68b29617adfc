"""A cell says nothing on a new link before it has said what ended while it had none."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_scheduler import ScriptedScheduler
from standalone import CELL_ID

from grafos_cell.identity import Identity
from grafos_cell.link import Link
from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import frames

EARLY = frames.LeaseTornDown("03" + "0" * 30, 1)
CAUGHT_UP = frames.RunStarted("run-that-ended")


class Hasty:
    """An agent whose other work reports something before it has caught up."""

    def __init__(self, url: str, trust: Path) -> None:
        self.link = Link(url, Identity(trust).link_context, self, random.Random(1))

    async def prepare(self) -> None: ...

    def ended(self, fault: GrafosError) -> None: ...

    def hello(self) -> frames.Hello:
        return frames.Hello(CELL_ID, 1, "test")

    def heartbeat(self) -> frames.Heartbeat:
        return frames.Heartbeat(Resources())

    async def linked(self) -> None:
        self.link.send(EARLY)
        await asyncio.sleep(0.05)
        self.link.speak()
        self.link.send(CAUGHT_UP)
        self.link.send(EARLY)

    async def told(self, frame: frames.DownFrame) -> None: ...


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[ScriptedScheduler]:
    made = ScriptedScheduler(tmp_path)
    yield made
    made.close()


def test_what_is_reported_before_the_cell_has_caught_up_is_not_said_on_any_link(scheduler: ScriptedScheduler) -> None:
    loop = asyncio.new_event_loop()
    hasty = Hasty(scheduler.url, scheduler.folder / "trust")
    holding = loop.create_task(hasty.link.hold())
    thread = threading.Thread(target=loop.run_until_complete, args=[asyncio.wait([holding])])
    thread.start()
    try:
        for _ in range(2):
            link = scheduler.next_link()
            link.welcome()
            said = (frame for frame in iter(link.hear, None) if not isinstance(frame, frames.Heartbeat))
            assert [next(said), next(said)] == [CAUGHT_UP, EARLY]
            link.close()
    finally:
        loop.call_soon_threadsafe(holding.cancel)
        thread.join()
        loop.close()
