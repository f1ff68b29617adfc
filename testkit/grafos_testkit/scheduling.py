"""The scheduler of a simulated fabric."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grafos_core.changes import Batch, RowCodec
from grafos_scheduler import effects, events, frames, rows, service_events, service_frames, tenant_events
from grafos_scheduler.decide import decide
from grafos_scheduler.session_relay import Relayed, SessionRelay
from grafos_scheduler.state import Settings, State
from grafos_testkit.processes import PROVIDER, Process
from grafos_testkit.receipts import open_instance_receipt, open_receipt
from grafos_testkit.transitions import SCHEDULER_TABLES

if TYPE_CHECKING:
    from grafos_core.clock import Clock
    from grafos_testkit.network import Link
    from grafos_testkit.world import World

LEASE_TTL_S = 40.0
"""Short, so that a run of less than a minute sees its leases renewed."""


class SchedulerProcess(Process):
    """The shell around ``decide``: many decisions wait for one commit; effects and answers only after it."""

    enrols = False
    tables = SCHEDULER_TABLES

    def __init__(self, world: World) -> None:
        super().__init__(world, "scheduler", RowCodec(rows.STORED_KINDS))
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
        self._watchers: list[Callable[[str], None]] = []
        self._welcomed: set[int] = set()

    @property
    def clock(self) -> Clock:
        """By which it goes."""
        return self.world.clock

    def boot(self) -> None:
        self._epoch = self.disk.take()
        self.state = State.load(self.settings, self.disk.load(), self.world.clock.now())
        self.world.ghost.scheduler_loaded(self.state)
        self._next_link = 1
        self.sessions = SessionRelay(self, self._chance)
        self._set_up()
        self._tick()

    def lose_memory(self) -> None:
        self._pending.clear()
        self.links.clear()
        self._welcomed.clear()
        self._watchers.clear()
        for link in self.connections:
            link.cut()
        self.connections.clear()

    def handle(self, event: events.Event, then: Callable[[effects.Decision], None] = lambda _: None) -> None:
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
        cell_id = link.cell.name
        if isinstance(frame, frames.Hello):
            self.accept(link, frame)
        elif isinstance(frame, frames.RunEnded):
            receipt = open_receipt(frame.receipt)
            self.handle(events.RunReported(cell_id, link.link_id, frame, receipt))
        elif isinstance(frame, service_frames.InstanceEnded):
            ended = open_instance_receipt(frame.receipt)
            self.handle(service_events.InstanceReported(cell_id, link.link_id, frame, ended))
        elif isinstance(frame, service_frames.InstanceListening | service_frames.InstanceLoad):
            self.handle(service_events.InstanceSaid(cell_id, link.link_id, frame))
        elif isinstance(frame, Relayed):
            if self.state.link_of(cell_id) == link.link_id:
                self.sessions.from_cell(cell_id, frame)
        else:
            self.handle(events.CellSaid(cell_id, link.link_id, frame))

    def link_lost(self, link: Link) -> None:
        self._welcomed.discard(link.link_id)
        self.sessions.link_lost(link.cell.name, link.link_id)
        if self.links.pop(link.link_id, None) is not None:
            self.handle(events.LinkClosed(link.cell.name, link.link_id))

    # --- what the relay of sessions asks of a shell ---

    def has_link(self, cell_id: str) -> bool:
        return self.state.link_of(cell_id) in self._welcomed

    def send_now(self, cell_id: str, frame: frames.DownFrame) -> bool:
        if not self.has_link(cell_id):
            return False
        link = self.links.get(self.state.link_of(cell_id))
        if link is not None:
            link.down.send(frame)
        return link is not None

    def watch_instances(self, watcher: Callable[[str], None]) -> None:
        self._watchers.append(watcher)

    # --- inside ---

    def _commit(self) -> None:
        """Some of what waits becomes durable, in order; then its effects go out, one by one."""
        count = self.world.chance.randint(1, len(self._pending))
        group, self._pending = self._pending[:count], self._pending[count:]
        if self._pending:
            self.later(self.world.chance.uniform(0.0, 0.01), "", self._commit)
        self._commit_batch(tuple(change for decision, _ in group for change in decision.batch))
        for decision, then in group:
            for effect in decision.effects:
                self.world.kill_point(self, f"before {type(effect).__name__}")
                self._act(effect)
            then(decision)

    def _commit_batch(self, batch: Batch) -> None:
        if batch:
            self.commit(batch, self._epoch)
            self.world.ghost.scheduler_committed(batch)
            self.world.kill_point(self, "after commit")

    def _act(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.SendToCell):
            link = self.links.get(effect.link_id)
            if link is not None:
                self.world.ghost.sent_down(effect)
                link.down.send(effect.frame)
                if isinstance(effect.frame, frames.Welcome):
                    self._welcomed.add(effect.link_id)
        elif isinstance(effect, effects.CloseLink):
            self._welcomed.discard(effect.link_id)
            link = self.links.pop(effect.link_id, None)
            if link is not None:
                link.cut()
        elif isinstance(effect, effects.InstanceMoved):
            for watcher in self._watchers:
                watcher(effect.instance_id)

    def _tick(self) -> None:
        self.handle(events.Tick())
        self.later(1.0, "", self._tick)

    def _set_up(self) -> None:
        """What the operator does; repeated at each start, as it would after a lost answer."""
        scene, until = self.world.scene, self.world.start + 10 * 86400
        self.handle(events.ClaimAccepted("fab", "op", "op-key"))
        for number in range(0 if self.enrols else scene.cells):
            self.handle(events.TermsSet(f"cell-{number}", scene.rate_of(number), 0.0))
        for tenant in scene.tenants:
            slice_id, micro_cents = f"slice-{tenant}", scene.budget_of(tenant)
            self.handle(
                tenant_events.TenantRegistered(tenant, None, slice_id, micro_cents, until, f"key-of-{tenant}"),
            )
