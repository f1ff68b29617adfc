"""The cell's daemon: carries the broker's decisions through a real process.

    decide -> apply to memory, with the tokens that it asks for from now on -> await the disk -> only then effects

It registers with its scheduler, holds the link, lets time pass for the broker, and ends when it is told to, when its
own state cannot be made durable, or when the cell has outlived its end. Nothing here decides who may run what: that is
``broker``; nothing here runs a guest: that is ``pool``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any

import msgspec

from grafos_cell import broker
from grafos_cell.blobcache import BlobCache
from grafos_cell.blocks import BlockStore
from grafos_cell.broker_events import (
    Booted,
    DrainServing,
    Effect,
    Event,
    ForBroker,
    LinkUp,
    Report,
    StartServing,
    StartWorker,
    StopServing,
    StopWorker,
    TellServing,
    Tick,
    Told,
    Unbind,
    Unbound,
)
from grafos_cell.code_cache import CodeCache
from grafos_cell.fetching import Fetcher
from grafos_cell.holdings import CLOSED, BrokerState
from grafos_cell.identity import Identity
from grafos_cell.link import Link
from grafos_cell.membership import Membership
from grafos_cell.pool import WorkerPool
from grafos_cell.region_desk import CellRegions
from grafos_cell.running import Runner
from grafos_cell.service_instance import FromClient
from grafos_cell.serving import Serving
from grafos_cell.settings import Settings
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.resources import KINDS_ON_DISK
from grafos_core.rowstore import Store
from grafos_scheduler import frames, messages
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.region_frames import RegionAnswer, RegionCall
from grafos_scheduler.service_frames import StartInstance

TICK_EVERY_S = 0.25
"""How late a lease's end or the cell's own end may be noticed."""
EVENTS_IN_WORK_MAX = 256
"""Frames that wait for the disk; beyond this the link is not read."""

REGISTER_S_MAX = 2.0
"""For each wait on the socket; the daemon cannot end while a registration is under way."""

log = logging.getLogger("grafos.cell")


class Agent:
    """One cell in one process. ``state`` is for reading; only ``handle`` moves it."""

    def __init__(
        self,
        settings: Settings,
        membership: Membership,
        identity: Identity,
        state: BrokerState,
        store: Store,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self.state = state
        self.stopped: asyncio.Future[GrafosError] = asyncio.get_running_loop().create_future()
        self.linked_once = asyncio.Event()
        self._settings = settings
        self._membership = membership
        self._identity = identity
        self._store = store
        self._clock = clock
        self._instance = f"{chance.getrandbits(64):016x}"
        self._is_registered = False
        self._is_fenced = False
        self._is_ending = False
        self._in_work: set[asyncio.Task[None]] = set()
        self._link = Link(settings.scheduler, identity.link_context, self, chance)
        pool = WorkerPool(state.settings.total.cpu_cores, cache=CodeCache(settings.code))
        self._blocks = BlockStore(settings.blocks)
        self._fetcher = Fetcher(BlobCache(settings.blobs), self._link.send)
        self._regions = CellRegions(state, clock.now, self._link)
        self._runner = Runner(self, pool, self._fetcher, clock, self._blocks, self._regions)
        self._serving = Serving(self, pool, self._fetcher, self._link.send, clock, self._blocks)

    async def boot(self) -> None:
        """The first thing in each process: a new epoch, so that nothing from before is honoured."""
        await self.handle(Booted())
        kept = {lease.lease_id for lease in self.state.leases.values() if lease.state != CLOSED}
        self._blocks.keep_only(kept)
        log.info("start %d of cell %s", self.state.epoch, self.state.settings.cell_id)

    async def serve(self) -> None:
        """Holds the link and lets time pass, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.hold())
            group.create_task(self._tick_for_ever())

    async def handle(self, event: Event) -> None:
        """Carries one event through; returns when it is durable and its effects are under way."""
        if self.stopped.done():
            return
        decision = broker.decide(self.state, event, self._clock.now())
        self.state.apply(decision.batch)
        for renewed in decision.renewed:
            self._runner.renewed(renewed.run_id, renewed.lease_id, renewed.token)
            self._serving.renewed(renewed.run_id, renewed.lease_id, renewed.token)
        try:
            await self._store.commit(decision.batch, self._store.epoch)
        except GrafosError as error:
            if not self.stopped.done():
                log.critical("stopping: %s (%s)", error, error.why or error.where)
                self.stopped.set_result(error)
            return
        if isinstance(event, LinkUp):
            self._link.speak()
        for effect in decision.effects:
            self._carry_out(effect)

    async def fence(self) -> None:
        """The cell's end: nothing new is taken on, and what runs is killed. Returns when it is all over."""
        self._is_fenced = True
        await asyncio.gather(self._runner.stop_all(), self._serving.stop_all())

    async def end(self, fault: GrafosError) -> None:
        """Nobody honours this cell any more, or nobody who would is within reach: fences it; ``stopped`` says why."""
        if self._is_ending:
            return
        self._is_ending = True
        log.critical("fencing: %s (%s)", fault, fault.why)
        await self.fence()
        if not self.stopped.done():
            self.stopped.set_result(fault)

    def renewed(self, *, link_goes_on: bool) -> None:
        """There is a newer certificate: tells what the machine has now, and, unless the link goes on, dials with it.
        Runs and leases stay, sessions only on the link that goes on."""
        self._is_registered = False
        if link_goes_on and not self._is_ending:
            self.spawn(self._tell_anew())
        else:
            self._link.redial()

    async def _tell_anew(self) -> None:
        try:
            await self.prepare()
        except (GrafosError, OSError) as error:
            log.info("not registered anew: %s; the next link does", error)

    async def close(self) -> None:
        """Ends the workers; what they ran is ended by the next start."""
        await self._serving.close()
        await self._runner.close()

    # --- what the link asks ---

    async def prepare(self) -> None:
        """Registers with the scheduler, until it has once said that it knows the cell."""
        if self._is_ending:
            await asyncio.Event().wait()  # nobody is to be dialled any more
        if not self._is_registered:
            self.state.resize(self._membership.inventory())
            await asyncio.to_thread(self._register)
            self._is_registered = True

    def ended(self, fault: GrafosError) -> None:
        self._serving.unlinked()
        if fault.code == "cell_unknown":
            self._is_registered = False
        elif fault.code in self._membership.final_faults:
            self.spawn(self.end(fault))

    def hello(self) -> frames.Hello:
        said = broker.hello(self.state, version("grafos-cell"))
        return msgspec.structs.replace(said, api_token=self._identity.api_token, instance=self._instance)

    def heartbeat(self) -> frames.Heartbeat:
        self._serving.tell_load()
        return broker.heartbeat(self.state)

    async def linked(self) -> None:
        log.info("linked to the scheduler")
        self._serving.unlinked()  # before anything is said: sessions belong to the link before
        self.linked_once.set()
        await self._runner.warm_up()
        await self.handle(LinkUp())
        self._fetcher.ask_again()
        self._regions.linked()
        self._serving.linked()

    async def told(self, frame: frames.DownFrame) -> None:
        if isinstance(frame, frames.BlobData):
            self._fetcher.came(frame)
        elif isinstance(frame, RegionCall | RegionAnswer):
            self._regions.told(frame)
        elif isinstance(frame, FromClient):
            self._serving.told(frame)
        elif isinstance(frame, frames.GrantLease | frames.StartRun | StartInstance) and self._is_fenced:
            self._turn_down(frame)
        elif isinstance(frame, ForBroker):
            # Tasks begin in this order, and each decides before it first waits.
            self.spawn(self.handle(Told(frame)))
            while len(self._in_work) > EVENTS_IN_WORK_MAX:
                await asyncio.wait(self._in_work, return_when=asyncio.FIRST_COMPLETED)
        else:
            raise GrafosError("answer_invalid", f"the scheduler said {type(frame).__name__} on a link that is open")

    # --- inside ---

    def _register(self) -> None:
        """In a thread: the client is synchronous, and this happens rarely."""
        identity, peer = self._identity, self._identity.peer
        registration = messages.CellRegistration(
            cell_id=peer.name,
            provider=peer.provider,
            region=self._settings.region,
            agent_version=version("grafos-cell"),
            total=self.state.settings.total,
            image_sha256=self._membership.image(),
        )
        with SchedulerClient(
            self._settings.scheduler,
            identity.ca_pem,
            identity.certificate,
            identity.key,
            identity.api_token,
            timeout_s=REGISTER_S_MAX,
        ) as client:
            client.register_cell(registration)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Lets ``work`` go on beside the caller; a bug in it stops the daemon, and the next start sorts it out."""
        task = asyncio.get_running_loop().create_task(work)
        self._in_work.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._in_work.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None and not self.stopped.done():
            log.critical("stopping: an event could not be handled", exc_info=bug)
            self.stopped.set_result(GrafosError("internal", "an event could not be handled", why=repr(bug)))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Report():
                self._link.send(effect.frame)
            case StartWorker():
                self._runner.start(effect.start)
            case StopWorker():
                self._runner.stop(effect.run_id)
            case StartServing():
                self._serving.start(effect.start)
            case DrainServing():
                self._serving.drain(effect.instance_id)
            case StopServing():
                self._serving.stop(effect.instance_id, effect.code)
            case TellServing():
                self._serving.tell(effect.instance_id)
            case Unbind():
                gone = self._is_gone(effect)
                self.spawn(self.handle(Unbound(effect.lease_id, effect.generation, gone)))

    def _is_gone(self, unbind: Unbind) -> bool:
        """Takes the binding down. All kinds but those on the disk live in the worker's process, and go with it; one
        that could not be ended keeps what it has, also when an operator clears the fence too early."""
        if self._runner.uses(unbind.lease_id) or self._serving.uses(unbind.lease_id):
            log.error("lease %s cannot be taken down: its run's worker is still there", unbind.lease_id)
            return False
        try:
            self._regions.remove(unbind.lease_id)
            if unbind.kind in KINDS_ON_DISK:
                self._blocks.remove(unbind.lease_id)
        except OSError as error:
            log.error("the blocks of lease %s cannot be removed: %s", unbind.lease_id, error)
            return False
        return True

    def _turn_down(self, frame: frames.GrantLease | frames.StartRun | StartInstance) -> None:
        if isinstance(frame, frames.GrantLease):
            what = "the cell has come to its end"
            self._link.send(frames.LeaseRefused(frame.lease_id, frame.generation, "draining", what))

    async def _tick_for_ever(self) -> None:
        while True:
            await self.handle(Tick())
            self._serving.tick()
            await asyncio.sleep(TICK_EVERY_S)
