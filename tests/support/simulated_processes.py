"""The processes of a simulated fabric: a scheduler's shell, a cell's agent, and the people who ask for runs.

The minds are the real ones. What stands around them here does what the real shells do (decide, apply, commit, then
act) and may be killed before and after each commit and each effect.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from simulated_network import Link

from grafos_cell import broker, broker_events, holdings
from grafos_core.changes import RowCodec
from grafos_core.receipts import RunReceipt, Signed
from grafos_core.resources import Resources
from grafos_core.rowfile import RowMemory
from grafos_core.tiers import Tier
from grafos_scheduler import effects, events, frames, messages, rows, runs, tenant_events
from grafos_scheduler.decide import decide
from grafos_scheduler.state import Settings, State

if TYPE_CHECKING:
    from invariants import Ghost
    from simulator import World

MIB = 1 << 20
PROVIDER = "aws"
TENANTS = ("ada", "grace")
LEASE_TTL_S = 40.0
"""Short, so that a run of less than a minute sees its leases renewed."""
CLOCK_OFF_S = 3.0
"""A cell's clock is off by up to this much; the scheduler allows for more."""


class KilledError(Exception):
    """The process that was working is gone, with all that it had in memory."""


class Process:
    """Something that runs, dies with all that it has in memory, and comes back (a ``mortal`` one perhaps not)."""

    mortal = False

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.life = 0
        self.alive = False
        self.gone = False

    def guarded(self, action: Callable[[], None]) -> Callable[[], None]:
        """The action as this life of the process will do it: not at all if it died before, and it may die in it."""
        life = self.life

        def act() -> None:
            if self.alive and self.life == life:
                try:
                    action()
                except KilledError:
                    self.die()

        return act

    def later(self, delay_s: float, what: str, action: Callable[[], None]) -> None:
        self.world.later(delay_s, what, self.guarded(action))

    def begin(self) -> None:
        """Starts, and starts again if it dies while starting."""
        self.life += 1
        self.alive = True
        self.guarded(self.boot)()

    def die(self) -> None:
        self.alive = False
        self.lose_memory()
        if self.mortal and self.world.happens(self.world.faults.lost_for_ever):
            self.world.say(f"{self.name} never comes back")
            self.gone = True
            return
        self.world.later(self.world.chance.uniform(0.05, 6.0), f"start {self.name}", self.begin)

    def boot(self) -> None: ...

    def lose_memory(self) -> None: ...


class SchedulerProcess(Process):
    """The shell around ``decide``: many decisions wait for one commit; effects and answers only after it."""

    enrols = False

    def __init__(self, world: World) -> None:
        super().__init__(world, "scheduler")
        self.disk = RowMemory(RowCodec(rows.STORED_KINDS))
        self.settings = Settings(
            "sched",
            frozenset({PROVIDER}),
            healthy_after_s=world.chance.choice([0.0, 3.0]),
            heartbeat_every_s=4.0,
            lease_ttl_s=LEASE_TTL_S,
            enrols=self.enrols,
        )
        self.state = State(self.settings, 0.0)
        self.connections: list[Link] = []
        self.links: dict[int, Link] = {}
        self._pending: list[tuple[effects.Decision, Callable[[effects.Decision], None]]] = []
        self._chance = random.Random(world.seed + 1)

    def boot(self) -> None:
        self._epoch = self.disk.take()
        self.state = State.load(self.settings, self.disk.load(), self.world.clock.now())
        self.world.ghost.scheduler_loaded(self.state)
        self._next_link = 1
        self._set_up()
        self._tick()

    def lose_memory(self) -> None:
        self._pending.clear()
        self.links.clear()
        for link in self.connections:
            link.cut()
        self.connections.clear()

    def handle(self, event: events.Event, then: Callable[[effects.Decision], None] = lambda decision: None) -> None:
        """Decides and applies at once; commit, effects and ``then`` follow together."""
        decision = decide(self.state, event, self.world.clock.now(), self._chance)
        self.state.apply(decision.changes)
        self.world.ghost.decided(self.state, decision)
        self._pending.append((decision, then))
        if len(self._pending) == 1:
            self.later(self.world.chance.uniform(0.0, 0.01), "", self._commit)

    def accept(self, link: Link, hello: frames.Hello) -> None:
        link.link_id, link.opened_at = self._next_link, self.world.clock.now()
        self._next_link += 1
        self.links[link.link_id] = link
        self.handle(events.LinkOpened(link.link_id, hello, link.cell.name))

    def hear(self, link: Link, frame: Any) -> None:
        if isinstance(frame, frames.Hello):
            self.accept(link, frame)
        elif isinstance(frame, frames.RunEnded):
            receipt = open_receipt(frame.receipt)
            self.handle(events.RunReported(link.cell.name, link.link_id, frame, receipt))
        else:
            self.handle(events.CellSaid(link.cell.name, link.link_id, frame))

    def link_lost(self, link: Link) -> None:
        if self.links.pop(link.link_id, None) is not None:
            self.handle(events.LinkClosed(link.cell.name, link.link_id))

    def _commit(self) -> None:
        """Some of what waits becomes durable, in order; then its effects go out, one by one."""
        count = self.world.chance.randint(1, len(self._pending))
        group, self._pending = self._pending[:count], self._pending[count:]
        if self._pending:
            self.later(self.world.chance.uniform(0.0, 0.01), "", self._commit)
        batch = tuple(change for decision, _ in group for change in decision.batch)
        self._commit_batch(batch)
        for decision, then in group:
            for effect in decision.effects:
                self.world.kill_point(self, f"before {type(effect).__name__}")
                self._act(effect)
            then(decision)

    def _commit_batch(self, batch: tuple[Any, ...]) -> None:
        if batch:
            self.world.kill_point(self, "before commit")
            self.disk.commit(batch, self._epoch)
            self.world.ghost.scheduler_committed(batch)
            self.world.kill_point(self, "after commit")

    def _act(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.SendToCell):
            link = self.links.get(effect.link_id)
            if link is not None:
                self.world.ghost.sent_down(effect)
                link.down.send(effect.frame)
        elif isinstance(effect, effects.CloseLink):
            link = self.links.pop(effect.link_id, None)
            if link is not None:
                link.cut()

    def _tick(self) -> None:
        self.handle(events.Tick())
        self.later(1.0, "", self._tick)

    def _set_up(self) -> None:
        """What the operator does; repeated at each start, as it would after a lost answer."""
        scene, until = self.world.scene, self.world.start + 10 * 86400
        self.handle(events.ClaimAccepted("fab", "op", "op-key"))
        for number in range(0 if self.enrols else scene.cells):
            self.handle(events.TermsSet(f"cell-{number}", 3_000_000 + number * 500_000, 0.0))
        for tenant in TENANTS:
            slice_id = f"slice-{tenant}"
            self.handle(
                tenant_events.TenantRegistered(
                    tenant, None, slice_id, scene.budget_micro_cents, until, f"key-of-{tenant}"
                )
            )


class CellProcess(Process):
    """The agent around the broker: it dials, beats, runs workers; each decision is durable before it is acted upon."""

    mortal = True

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, f"cell-{number}")
        chance = world.chance
        self.total = Resources(cpu_cores=chance.randint(1, 3), mem_bytes=chance.randint(1, 4) * MIB, block_bytes=MIB)
        self.disk = RowMemory(RowCodec(holdings.STORED_KINDS))
        self.settings = holdings.BrokerSettings("fab", self.name, self.total, f"key-{number}".encode(), sign_receipt)
        self.state = holdings.BrokerState(self.settings)
        self.link: Link | None = None
        self._speaks = False
        self._off_s = chance.uniform(-CLOCK_OFF_S, CLOCK_OFF_S)

    @property
    def ghost(self) -> Ghost:
        """Who watches it."""
        return self.world.ghost

    @property
    def now(self) -> float:
        """What this cell takes for the time."""
        return self.world.clock.now() + self._off_s

    def is_watched(self, _: State) -> bool:
        """Whether the scheduler's picture of its room is held against it."""
        return True

    def boot(self) -> None:
        self._epoch = self.disk.take()
        self.state = holdings.BrokerState.load(self.settings, self.disk.load())
        self.handle(broker_events.Booted())
        self._register()
        self._tick()

    def lose_memory(self) -> None:
        if self.link is not None:
            self.link.cut()
        self.link = None
        self.ghost.cell_died(self)

    def handle(self, event: broker_events.Event) -> None:
        decision = broker.decide(self.state, event, self.now)
        self.state.apply(decision.batch)
        if decision.batch:
            self.world.kill_point(self, "before commit")
            self.disk.commit(decision.batch, self._epoch)
            self.ghost.cell_committed(self, decision.batch)
            self.world.kill_point(self, "after commit")
        if isinstance(event, broker_events.LinkUp):
            self._speaks = True
        for effect in decision.effects:
            self.world.kill_point(self, f"before {type(effect).__name__}")
            self._act(effect)

    def hear(self, link: Link, frame: Any) -> None:
        if link is not self.link:
            return
        assert not isinstance(frame, frames.Goodbye), f"the scheduler turned {self.name} away: {frame}"
        if isinstance(frame, frames.Welcome):
            self.handle(broker_events.LinkUp())
            self._beat(link)
        else:
            self.handle(broker_events.Told(frame))

    def link_lost(self, link: Link) -> None:
        if link is self.link:
            self.link = None
            self.later(self.world.chance.uniform(0.1, 3.0), "", self._dial)

    def _register(self) -> None:
        """REST; repeated until it is answered, then the link is dialled."""
        registration = messages.CellRegistration(self.name, PROVIDER, "here", "1", self.total)
        scheduler = self.world.scheduler
        answered = self.guarded(self._dial)
        if scheduler.alive and not self.world.happens(self.world.faults.lose):
            event = events.CellRegistered(registration, self.name)
            scheduler.guarded(lambda: scheduler.handle(event, lambda decision: answered()))()
        self.later(2.0, "", lambda: None if self.link else self._register())

    def _dial(self) -> None:
        if self.link is not None:
            return
        if not self.world.scheduler.alive:
            self.later(self.world.chance.uniform(0.1, 3.0), "", self._dial)
            return
        self.open_link().up.send(broker.hello(self.state, "1"))

    def open_link(self) -> Link:
        """Dials; but for its hello it says nothing before it is welcome."""
        self.link, self._speaks = Link(self.world, self), False
        return self.link

    def _beat(self, link: Link) -> None:
        if link is self.link:
            link.up.send(broker.heartbeat(self.state))
            self.later(4.0, "", lambda: self._beat(link))

    def _tick(self) -> None:
        self.handle(broker_events.Tick())
        self.later(1.0, "", self._tick)

    def _act(self, effect: broker_events.Effect) -> None:
        if isinstance(effect, broker_events.Report):
            if self.link is not None and self._speaks:
                self.ghost.reported(self, effect.frame)
                self.link.up.send(effect.frame)
        elif isinstance(effect, broker_events.StartWorker):
            self._start_worker(effect.start)
        elif isinstance(effect, broker_events.StopWorker):
            self._stop_worker(effect.run_id)
        elif isinstance(effect, broker_events.Unbind):
            gone = not self.world.happens(self.world.faults.failed_unbind)
            if gone:
                self.ghost.unbound(self, effect.lease_id)
            answer = broker_events.Unbound(effect.lease_id, effect.generation, gone)
            self.later(self.world.chance.uniform(0.0, 0.3), "", lambda: self.handle(answer))

    def _start_worker(self, start: frames.StartRun) -> None:
        """What the program does: it ends well, fails, or goes on until it is stopped."""
        self.ghost.worker_started(self, start)
        chance = self.world.chance
        fate = 0.5 if self.world.scene.well_behaved else chance.random()
        if fate < 0.15:
            self.world.say(f"{self.name} {start.run_id} hangs")
            return
        code = "finished" if fate < 0.8 else chance.choice(["program_error", "fuel_exhausted", "trapped"])
        seconds = chance.uniform(self.world.scene.least_share_of_deadline * start.deadline_s + 0.001, start.deadline_s)
        ended = broker_events.WorkerEnded(start.run_id, code, fuel_used=chance.randint(1, 999), output=b"out")
        self.later(seconds, "", lambda: self._worker_ended(ended))

    def _stop_worker(self, run_id: str) -> None:
        if self.world.happens(self.world.faults.stuck_worker):
            self.world.say(f"{self.name} {run_id} cannot be stopped")
            return
        killed = broker_events.WorkerEnded(run_id, "worker_lost")
        self.later(self.world.chance.uniform(0.0, 0.5), "", lambda: self._worker_ended(killed))

    def _worker_ended(self, ended: broker_events.WorkerEnded) -> None:
        self.ghost.worker_gone(self, ended.run_id)
        self.handle(ended)


TIERS = (Tier.GUARANTEED, Tier.STANDARD, Tier.STANDARD, Tier.SCAVENGER)


@dataclass
class Client:
    """A person's command line: it makes a run key, and asks until it is answered."""

    world: World
    number: int
    tries: int = 0
    run_id: str = ""
    over: bool = False
    tenant: str = field(init=False)
    request: messages.RunRequest = field(init=False)

    def __post_init__(self) -> None:
        chance = self.world.chance
        self.tenant = chance.choice(TENANTS)
        self.request = messages.RunRequest(
            run_key=f"run-key-number-{self.number:04d}",
            provider=PROVIDER,
            program="program",
            tasklet="main",
            module_sha256="a" * 64,
            input_sha256="b" * 64,
            lease_mem_bytes=chance.choice([0, 65536, MIB]),
            lease_block_bytes=chance.choice([0, 0, 4096]),
            deadline_s=self.world.scene.deadline_s or chance.choice([1.0, 3.0, 10.0, 45.0]),
            tier=Tier.STANDARD if self.world.scene.well_behaved else chance.choice(TIERS),
        )

    def begin(self) -> None:
        self.world.later(self.world.chance.uniform(1.0, 0.8 * self.world.faults.until_s), "", self._ask)

    def _ask(self) -> None:
        """The request may be lost, and so may its answer; then the client asks again, with the same key."""
        if self.over:
            return
        world, scheduler = self.world, self.world.scheduler
        world.later(world.chance.uniform(1.0, 3.0), "", self._ask)
        if not scheduler.alive or world.happens(world.faults.lose):
            return
        event = events.RunRequested(self.tenant, self.request)
        arrive = scheduler.guarded(lambda: scheduler.handle(event, self._told))
        world.later(world.chance.uniform(0.001, 0.05), "", arrive)

    def _told(self, decision: effects.Decision) -> None:
        world = self.world
        if self.over or world.happens(world.faults.lose):
            return
        if decision.refusal is not None:
            world.say(f"client {self.number} refused: {decision.refusal}")
            self.tries += 1
            self.over = not decision.refusal.retryable or self.tries >= 8
            return
        assert isinstance(decision.answer, messages.RunView)
        view = decision.answer
        world.say(f"client {self.number} sees {view.run_id} {view.state}")
        world.ghost.client_saw(self, view)
        self.run_id = view.run_id
        self.over = view.state in runs.ENDED


def sign_receipt(receipt: RunReceipt) -> Signed:
    """A signature that is the same each time, as ECDSA's is not."""
    body = msgspec.json.encode(receipt, order="sorted")
    return Signed("run", body, hmac.new(receipt.cell_id.encode(), body, hashlib.sha256).digest())


def open_receipt(signed: Signed) -> RunReceipt:
    receipt = msgspec.json.decode(signed.body, type=RunReceipt)
    assert sign_receipt(receipt) == signed
    return receipt
