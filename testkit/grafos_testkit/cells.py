"""A cell of a simulated fabric: the real broker, with workers and instances that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grafos_cell import broker, broker_events, holdings
from grafos_core.changes import RowCodec
from grafos_core.resources import Resources
from grafos_scheduler import events, frames, messages
from grafos_testkit.network import Link
from grafos_testkit.processes import PROVIDER, Process
from grafos_testkit.receipts import sign_receipt
from grafos_testkit.serving import ABOUT_SERVING, ABOUT_SESSIONS, Serving
from grafos_testkit.transitions import CELL_TABLES

if TYPE_CHECKING:
    from grafos_scheduler.state import State
    from grafos_testkit.ghost import Ghost
    from grafos_testkit.world import World

MIB = 1 << 20
CLOCK_OFF_S = 3.0
"""A cell's clock is off by up to this much; the scheduler allows for more."""
BEAT_EVERY_S = 4.0


class CellProcess(Process):
    """The agent around the broker: it dials, beats, runs workers; each decision is durable before it is acted upon."""

    mortal = True
    tables = CELL_TABLES

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, f"cell-{number}", RowCodec(holdings.STORED_KINDS))
        chance = world.chance
        some = Resources(cpu_cores=chance.randint(1, 3), mem_bytes=chance.randint(1, 4) * MIB, block_bytes=MIB)
        self.total = world.scene.total or some
        self.settings = holdings.BrokerSettings(
            "fab", self.name, self.total, f"key-{number}".encode(), sign_receipt, "simulated"
        )
        self.state = holdings.BrokerState(self.settings)
        self.link: Link | None = None
        self.serving = Serving(self)
        self.cut_off_until = 0.0
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

    @property
    def off_s(self) -> float:
        """By how much its clock is ahead."""
        return self._off_s

    @property
    def reaches(self) -> bool:
        """Whether the way to the scheduler is open."""
        return self.world.scheduler.alive and self.world.clock.now() >= self.cut_off_until

    def skew(self, off_s: float) -> None:
        """Sets its clock, ahead or behind; it looks at its leases by that at once."""
        self._off_s = off_s
        self.guarded(lambda: self.handle(broker_events.Tick()))()

    def cut_off(self, seconds: float) -> None:
        """Nothing gets through either way for so long."""
        self.cut_off_until = self.world.clock.now() + seconds
        if self.link is not None:
            self.link.cut()

    @property
    def is_in_time(self) -> bool:
        """Whether its clock is as close to the scheduler's as clocks must be."""
        return abs(self._off_s) < self.world.scheduler.settings.clock_skew_max_s

    def is_watched(self, _: State) -> bool:
        """Whether the scheduler's picture of its room is held against it: not where its leases end by another time."""
        return self.is_in_time

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
        self.serving = Serving(self)
        self.ghost.cell_died(self)

    def handle(self, event: broker_events.Event) -> None:
        decision = broker.decide(self.state, event, self.now)
        self.state.apply(decision.batch)
        if decision.batch:
            self.commit(decision.batch, self._epoch)
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
        elif isinstance(frame, ABOUT_SESSIONS):
            self.serving.hear(frame)
        else:
            self.handle(broker_events.Told(frame))

    def send(self, frame: Any) -> None:
        """Says something that need not arrive."""
        if self.link is not None and self._speaks:
            self.link.up.send(frame)

    def link_lost(self, link: Link) -> None:
        if link is self.link:
            self.link = None
            self.later(self.world.chance.uniform(0.1, 3.0), "", self._dial)

    def _register(self) -> None:
        """REST; repeated until it is answered, then the link is dialled."""
        registration = messages.CellRegistration(self.name, PROVIDER, "here", "1", self.total)
        scheduler = self.world.scheduler
        answered = self.guarded(self._dial)
        if self.reaches and not self.world.happens(self.world.faults.lose):
            event = events.CellRegistered(registration, self.name)
            scheduler.guarded(lambda: scheduler.handle(event, lambda _: answered()))()
        self.later(2.0, "", lambda: None if self.link else self._register())

    def _dial(self) -> None:
        if self.link is not None:
            return
        if not self.reaches:
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
            self.serving.beat()
            self.later(BEAT_EVERY_S, "", lambda: self._beat(link))

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
        elif isinstance(effect, ABOUT_SERVING):
            self.serving.carry_out(effect)
        elif isinstance(effect, broker_events.Unbind):
            gone = not self.world.happens(self.world.faults.failed_unbind)
            if gone:
                self.ghost.unbound(self, effect.lease_id)
            answer = broker_events.Unbound(effect.lease_id, effect.generation, gone)
            self.later(self.world.chance.uniform(0.0, 0.3), "", lambda: self.handle(answer))

    def _start_worker(self, start: frames.StartRun) -> None:
        """What the program does: it ends well, fails, or goes on until it is stopped."""
        self.ghost.run_started(self, start)
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
