"""Two cells, runs on both, and one region, with the real code on every step of a call's way but the sockets.

Frames travel with delays, and links break and come back, by one seed. What the runs were told is the ``history``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import linearizability
from desk import Desk
from leaping_loop import run_leaping
from linearizability import NEVER, Operation
from msgspec.structs import replace

from grafos_cell import abi, broker
from grafos_cell.broker_events import Booted, Told
from grafos_cell.holdings import BrokerSettings, BrokerState
from grafos_cell.region_calls import RegionReply, RegionWish
from grafos_cell.region_desk import RunRegions
from grafos_cell.region_link import RegionLink
from grafos_cell.regions import Regions
from grafos_core.receipts import Signed
from grafos_core.resources import Resources
from grafos_scheduler import frames
from grafos_scheduler.region_events import RegionAsked
from grafos_scheduler.region_frames import ATTACH, COMPARE_EXCHANGE, FETCH_ADD, READ, WRITE, RegionAnswer, RegionCall
from grafos_scheduler.region_messages import RegionRequest
from grafos_scheduler.region_relay import RegionRelay

WORDS = 3
CALLS = 25
"""Of each run."""
DELAY_S_MAX = 0.05
OWNER, OTHER = "cell-1", "cell-2"
PROTOCOL = 3


class Cell:
    """One cell: its regions, its way to those of others, and a link that may be down."""

    def __init__(self, world: World, cell_id: str, has: Resources) -> None:
        self.world, self.cell_id = world, cell_id
        self.state = BrokerState(BrokerSettings("fab", cell_id, has, b"key", lambda _: Signed("run", b"", b"")))
        self.state.apply(broker.decide(self.state, Booted(), world.now()).batch)
        self.regions = Regions(self.state, world.now)
        self.link = RegionLink(self.say, lambda: PROTOCOL)
        self.cut_count = 0
        self.is_up = True

    def say(self, frame: Any) -> None:
        """To the scheduler, if the link is up."""
        if self.is_up:
            self.world.travel(self, lambda: self.world.hears(self, frame))

    def send(self, frame: Any) -> None:
        """From the scheduler: this is the cell's link as the relay has it."""
        if self.is_up:
            self.world.travel(self, lambda: self.told(frame))

    def told(self, frame: Any) -> None:
        if isinstance(frame, RegionCall):
            self.say(self.regions.serve(frame))
        else:
            self.link.answered(frame)

    async def live(self) -> None:
        """The link breaks now and then: what is on its way is lost, and a while later there is another."""
        chance = self.world.chance
        while True:
            await asyncio.sleep(chance.expovariate(1 / self.world.steady_s))
            self.is_up, self.cut_count = False, self.cut_count + 1
            self.world.relay.link_lost(self.cell_id, self, self.world.state.link_of(self.cell_id))
            await asyncio.sleep(chance.choice([0.1, 1.0, 15.0]) * chance.random())
            self.is_up = True
            self.link.cut()


class World:
    """All of it. ``steady_s``: how long a link holds on average."""

    def __init__(self, seed: int, steady_s: float = 0.3) -> None:
        self.chance = random.Random(seed)
        self.steady_s = steady_s
        self.desk = Desk()
        self.history: list[Operation] = []
        self.order = 0
        self.lost = 0
        for cell_id in (OWNER, OTHER):
            self.desk.add_cell(cell_id, cores=4)
        answer = self.desk.tell(
            RegionAsked("ada", RegionRequest("a-key-of-the-region", "aws", 64, 900.0, OWNER))
        ).answer
        [grant] = self.desk.frames(frames.GrantLease)
        self.ref = answer.ref.encode()  # type: ignore[union-attr]
        self.desk.say(OWNER, frames.LeaseGranted(grant.lease_id, 1, "token"))
        self.runs = [
            (
                cell_id,
                self.desk.start(run_key=f"key-of-run-{number}-{cell_id}", cell_id=cell_id, deadline_s=600.0).run_id,
            )
            for cell_id in (OWNER, OTHER)
            for number in range(2)
        ]
        has = Resources(cpu_cores=4, mem_bytes=1 << 21)
        self.cells = {cell_id: Cell(self, cell_id, has) for cell_id in (OWNER, OTHER)}
        owner = self.cells[OWNER].state
        owner.apply(broker.decide(owner, Told(replace(grant, expires_at=self.now() + 900)), self.now()).batch)
        self.relay = RegionRelay(self)  # type: ignore[arg-type]  # it needs of a shell what stands here

    def now(self) -> float:
        return self.desk.now

    # --- what the relay needs of a shell ---

    @property
    def state(self) -> Any:
        return self.desk.state

    def send_now(self, cell_id: str, frame: Any) -> bool:
        cell = self.cells[cell_id]
        cell.send(frame)
        return cell.is_up

    # --- how frames travel ---

    def travel(self, cell: Cell, arrive: Callable[[], None]) -> None:
        """What is on its way when the link breaks is mostly lost, and sometimes comes all the same, much later."""
        cuts = cell.cut_count

        def land() -> None:
            if cell.cut_count == cuts:
                arrive()
            elif self.chance.random() < 0.2:
                asyncio.get_running_loop().call_later(self.chance.random() * 5, arrive)

        asyncio.get_running_loop().call_later(self.chance.random() * DELAY_S_MAX, land)

    def hears(self, cell: Cell, frame: Any) -> None:
        if isinstance(frame, RegionAnswer):
            self.relay.answered(cell.cell_id, frame)
        else:
            task = asyncio.get_running_loop().create_task(self.relay.call(cell.cell_id, cell, frame))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    # --- the runs ---

    def play(self) -> World:
        run_leaping(self._play())
        return self

    async def _play(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        links = [asyncio.create_task(cell.live()) for cell in self.cells.values()]
        await asyncio.gather(*(self._run(cell_id, run_id) for cell_id, run_id in self.runs))
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _run(self, cell_id: str, run_id: str) -> None:
        cell = self.cells[cell_id]
        desk = RunRegions(cell.state, cell.regions, cell.link, run_id, 16)
        while (await desk.answer(RegionWish(ATTACH, data=self.ref))).status != abi.OK:
            pass
        unsure: list[Operation] = []
        for _ in range(CALLS):
            await asyncio.sleep(self.chance.random() * 0.02)
            wish = self._drawn()
            called = self._tick()
            reply = await desk.answer(wish)
            returned = self._tick()
            if reply.status == abi.OK:
                # What this run was told to be lost has happened by now, or never.
                self.history += [lost._replace(returned=returned) for lost in unsure]
                unsure = []
                self.history.append(_operation(wish, reply, called, returned))
            else:
                assert reply.status == abi.DISCONNECTED, reply
                self.lost += 1
                if wish.operation != READ:
                    unsure.append(_operation(wish, None, called, NEVER))
        self.history += unsure

    def _tick(self) -> int:
        self.order += 1
        return self.order

    def _drawn(self) -> RegionWish:
        draw, offset = self.chance, 8 * self.chance.randrange(WORDS)
        match draw.choice([READ, WRITE, COMPARE_EXCHANGE, FETCH_ADD, FETCH_ADD]):
            case "read":
                return RegionWish(READ, offset=offset, length=8)
            case "write":
                return RegionWish(WRITE, offset=offset, data=draw.randrange(50).to_bytes(8, "little"))
            case "fetch_add":
                return RegionWish(FETCH_ADD, offset=offset, value=1)
        return RegionWish(COMPARE_EXCHANGE, offset=offset, value=draw.randrange(20), new=draw.randrange(100, 200))


def _operation(wish: RegionWish, reply: RegionReply | None, called: int, returned: int) -> Operation:
    found: int | None = None
    if reply is not None and wish.operation != WRITE:
        found = int.from_bytes(reply.data, "little") if wish.operation == READ else reply.found
    value = int.from_bytes(wish.data, "little") if wish.operation == WRITE else wish.value
    kind = getattr(linearizability, wish.operation.upper())
    return Operation(wish.offset, kind, called, returned, value, wish.new, found, is_sure=reply is not None)
