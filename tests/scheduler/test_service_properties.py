"""No two instances of one replica can ever serve at once, whatever happens to cells, links, clocks and schedulers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from service_desk import CELLS, ServiceDesk

from grafos_core.resources import LISTENER, Resources
from grafos_scheduler import effects, events, frames, service_events, service_frames

SKEW_MAX_S = 5.0


@dataclass
class PlayedCell:
    """A cell as it really is: what it holds and runs, by its own clock. ``hears``: frames get through."""

    name: str
    skew_s: float
    boot_epoch: int = 1
    hears: bool = True
    leases: dict[str, tuple[int, float, str]] = field(default_factory=dict)
    serving: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def can_serve(self, instance_id: str, now: float) -> bool:
        lease = self.leases.get(self.serving.get(instance_id, ""))
        return lease is not None and lease[1] > now + self.skew_s


class PlayedWorld:
    """A scheduler at a desk with three such cells."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.desk = ServiceDesk(3)
        self.cells = {name: PlayedCell(name, self.chance.uniform(-SKEW_MAX_S, SKEW_MAX_S)) for name in CELLS}
        self.slots: dict[str, int] = {}

    def tell(self, event: Any) -> None:
        """Something happens at the scheduler; what it sends gets to its cells, and so do their answers."""
        self.desk.tell(event)
        sent = [effect for effect in self.desk.effects if isinstance(effect, effects.SendToCell)]
        for effect in sent:
            cell = self.cells[effect.cell_id]
            if cell.hears:
                for answer in self.heard(cell, effect.frame):
                    self.say(cell, answer)
        self.check()

    def say(self, cell: PlayedCell, frame: Any) -> None:
        link_id = self.desk.state.link_of(cell.name)
        if not cell.hears or not link_id:
            return
        if isinstance(frame, service_frames.InstanceListening):
            self.tell(service_events.InstanceSaid(cell.name, link_id, frame))
        else:
            self.tell(events.CellSaid(cell.name, link_id, frame))

    def heard(self, cell: PlayedCell, frame: Any) -> list[Any]:
        match frame:
            case frames.GrantLease():
                held = cell.leases.get(frame.lease_id)
                if held is None or held[0] <= frame.generation:
                    cell.leases[frame.lease_id] = (frame.generation, frame.expires_at, frame.kind)
                return [frames.LeaseGranted(frame.lease_id, frame.generation, "token")]
            case frames.TearDownLease():
                self.end_those_on(cell, frame.lease_id, "lease_expired")
                cell.leases.pop(frame.lease_id, None)
                return [frames.LeaseTornDown(frame.lease_id, frame.generation)]
            case service_frames.StartInstance():
                if frame.instance_id not in cell.ended:
                    cell.serving[frame.instance_id] = next(
                        lease_id for lease_id in frame.leases if cell.leases[lease_id][2] == LISTENER
                    )
                return [service_frames.InstanceListening(frame.instance_id, frame.generation)]
            case service_frames.StopInstance() | service_frames.DrainInstance():
                self.end(cell, frame.instance_id, "finished")
            case service_frames.InstanceEndedNoted():
                cell.ended.pop(frame.instance_id, None)
        return []

    def end_those_on(self, cell: PlayedCell, lease_id: str, code: str) -> None:
        for instance_id in [one for one, listener in cell.serving.items() if listener == lease_id]:
            self.end(cell, instance_id, code)

    def end(self, cell: PlayedCell, instance_id: str, code: str) -> None:
        """The instance has ended there; that is kept until the scheduler has noted it."""
        if cell.serving.pop(instance_id, None) is not None:
            cell.ended[instance_id] = code

    def report_ends(self, cell: PlayedCell) -> None:
        for instance_id, code in list(cell.ended.items()):
            if cell.hears and self.desk.state.link_of(cell.name):
                instance = self.desk.state.instances.get(instance_id)
                if instance is not None:
                    self.desk.report(instance, code, seconds=0.0)
                cell.ended.pop(instance_id)
                self.check()

    def second(self) -> None:
        """Time passes everywhere; each cell ends what its own clock says is over."""
        self.desk.clock.advance(1.0)
        for cell in self.cells.values():
            for lease_id, (_, expires_at, _) in list(cell.leases.items()):
                if expires_at <= self.desk.now + cell.skew_s:
                    self.end_those_on(cell, lease_id, "lease_expired")
                    del cell.leases[lease_id]
            if cell.hears and self.desk.state.link_of(cell.name):
                self.say(cell, frames.Heartbeat(Resources()))
            self.report_ends(cell)
        self.tell(events.Tick())

    def happen(self, what: str) -> None:
        cell = self.chance.choice(list(self.cells.values()))
        link_id = self.desk.state.link_of(cell.name)
        match what:
            case "silent":
                cell.hears = False
            case "cut" if link_id:
                cell.hears = False
                self.tell(events.LinkClosed(cell.name, link_id))
            case "heal":
                self.heal(cell)
            case "kill":
                cell.serving.clear()
                cell.leases.clear()
                cell.boot_epoch += 1
                cell.hears = False
            case "crash" if cell.serving:
                self.end(cell, self.chance.choice(list(cell.serving)), "trap")
            case "restart":
                self.desk.restart()
                for each in self.cells.values():
                    each.hears = False
            case "cutover" | "failover":
                self.replace(what)

    def heal(self, cell: PlayedCell) -> None:
        cell.hears = True
        self.desk._links += 1
        hello = frames.Hello(cell.name, cell.boot_epoch, "1", unacknowledged=tuple(cell.ended))
        self.tell(events.LinkOpened(self.desk._links, hello, f"key-of-{cell.name}"))
        self.report_ends(cell)

    def replace(self, what: str) -> None:
        active = [instance for instance in self.desk.standing() if instance.state == "active"]
        if active:
            kind = service_events.ServiceCutOver if what == "cutover" else service_events.ServiceFailedOver
            self.tell(kind("ada", "web", self.chance.choice(active).instance_id))

    def check(self) -> None:
        now = self.desk.now
        for instance in self.desk.state.instances.values():
            self.slots[instance.instance_id] = instance.slot
        serving = [
            (self.slots[instance_id], instance_id)
            for cell in self.cells.values()
            for instance_id in cell.serving
            if cell.can_serve(instance_id, now)
        ]
        slots = [slot for slot, _ in serving]
        assert len(slots) == len(set(slots)), f"two of one replica can serve: {serving}"
        standing = [instance.slot for instance in self.desk.standing()]
        assert len(standing) == len(set(standing))


HAPPENINGS = ("silent", "cut", "heal", "heal", "kill", "crash", "restart", "cutover", "failover")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    story=st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 45)), min_size=1, max_size=12),
)
def test_no_two_of_one_replica_can_serve_whatever_happens(seed: int, story: list[tuple[str, int]]) -> None:
    world = PlayedWorld(seed)
    world.tell(service_events.ServiceDeployed("ada", world.desk.spec(2)))
    for what, seconds in story:
        world.happen(what)
        for _ in range(seconds):
            world.second()
    for cell in world.cells.values():
        world.heal(cell)
    for _ in range(90):
        world.second()
    assert [instance.state for instance in world.desk.standing()] == ["active", "active"], "it did not recover"
