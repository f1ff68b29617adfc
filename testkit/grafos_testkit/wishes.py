"""What people of a simulated fabric want beside single runs: whole programs, shared regions, services and sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.errors import GrafosError
from grafos_scheduler import effects, events, messages, regions, runs, service_events
from grafos_scheduler.region_events import RegionAsked, RegionEndAsked, RegionRenewalAsked
from grafos_scheduler.region_messages import RegionRequest, RegionView
from grafos_scheduler.reservation_events import ReservationAsked, ReservationEnded
from grafos_scheduler.reservation_messages import ReservationView
from grafos_scheduler.service_frames import SessionData, SessionEnd
from grafos_scheduler.service_messages import ServiceSpec
from grafos_scheduler.service_rows import Instance, Service
from grafos_scheduler.session_frames import SessionHello
from grafos_scheduler.session_relay import Relayed
from grafos_testkit.people import Person, RunClient

if TYPE_CHECKING:
    from grafos_scheduler.session_relay import Session
    from grafos_testkit.world import World

LATE_S = 6.0
"""Before its end a region is renewed by who renews late."""
Graph = Mapping[str, tuple[str, ...]]
"""Which tasklets a tasklet needs, by its name."""


class ProgramClient(Person):
    """Wants a whole program: has its worst case reserved, runs each tasklet after those that it needs, and ends the
    reservation. When one tasklet does not finish, those that need it are not asked for. ``is_impatient``: it ends the
    reservation as soon as it has asked for the first one."""

    def __init__(
        self, world: World, name: str, tenant: str, key: str, graph: Graph, request: messages.RunRequest, hold: int
    ) -> None:
        super().__init__(world, name, tenant)
        self.key = key
        self.graph = dict(graph)
        self.request = request
        self.hold_micro_cents = hold
        self.is_impatient = False
        self.view: ReservationView | None = None
        self.tasks: dict[str, RunClient] = {}

    def wish(self) -> events.Event | None:
        if self.view is None:
            until = self.world.clock.now() + 600.0
            return ReservationAsked(self.tenant, self.key, self.hold_micro_cents, until)
        for name in self.graph:
            if name not in self.tasks and self._may_begin(name):
                self.tasks[name] = self._task(name)
                self.world.later(0.0, "", self.tasks[name].ask)
        gives_up = self.is_impatient and bool(self.tasks)
        return ReservationEnded(self.tenant, self.key) if gives_up or self._is_at_rest() else None

    def told(self, decision: effects.Decision) -> None:
        view = decision.answer
        assert isinstance(view, ReservationView)
        self.world.ghost.reservation_shown(self.tenant, view)
        self.view, self.over = view, view.closed and self._is_at_rest()

    @property
    def finished(self) -> bool:
        """Whether every tasklet has finished."""
        ends = [task.view for task in self.tasks.values()]
        return len(ends) == len(self.graph) and all(view is not None and view.state == runs.FINISHED for view in ends)

    def _task(self, name: str) -> RunClient:
        request = replace(self.request, run_key=f"{self.key}-{name}", tasklet=name, reservation=self.key)
        return RunClient(self.world, f"{self.name} {name}", self.tenant, request)

    def _may_begin(self, name: str) -> bool:
        needed = [self.tasks.get(needs) for needs in self.graph[name]]
        return all(task is not None and task.view is not None and task.view.state == runs.FINISHED for task in needed)

    def _is_at_rest(self) -> bool:
        asked = [task for task in self.tasks.values() if not task.over]
        return not asked and not any(name not in self.tasks and self._may_begin(name) for name in self.graph)


class RegionClient(Person):
    """Wants a shared region, perhaps for longer, and perhaps ends it before its time."""

    def __init__(
        self, world: World, name: str, tenant: str, request: RegionRequest, *, renewals: int = 0, ends: bool = True
    ) -> None:
        super().__init__(world, name, tenant)
        self.request = request
        self.view: RegionView | None = None
        self.renewals_left = renewals
        self.ends = ends
        self.renews_late = False

    def wish(self) -> events.Event | None:
        view = self.view
        if view is None or view.state == regions.ASKED:
            return RegionAsked(self.tenant, self.request)
        left_s = view.expires_at - self.world.clock.now()
        if self.renews_late and self.renewals_left > 0 and left_s > LATE_S:
            return RegionAsked(self.tenant, self.request)
        if self.renewals_left > 0:
            return RegionRenewalAsked(self.tenant, view.lease_id, self.request.ttl_s)
        if self.ends:
            return RegionEndAsked(self.tenant, view.lease_id)
        return RegionAsked(self.tenant, self.request)

    def told(self, decision: effects.Decision) -> None:
        view = decision.answer
        assert isinstance(view, RegionView)
        if self.view is not None and view.expires_at > self.view.expires_at:
            self.renewals_left -= 1
        self.world.say(f"{self.name} sees {view.lease_id} {view.state} until {view.expires_at - self.world.start:.3f}")
        self.world.ghost.region_shown(view)
        self.view, self.over = view, view.state == regions.ENDED

    def renew(self) -> None:
        """Wants it to last its time once more, from when that is asked."""
        self.renewals_left += 1

    def end(self) -> None:
        """Wants it no more, after the renewals that were asked for."""
        self.ends = True

    def gives_up(self) -> None:
        """A renewal that is refused leaves the region as it is; it then runs out by itself."""
        if self.view is None:
            self.over = True
        else:
            self.renewals_left, self.ends, self.tries = 0, False, 0


class ServiceClient(Person):
    """Wants a service kept alive until ``remove`` is called; ``asked`` are the changes that are still to be told."""

    def __init__(self, world: World, name: str, tenant: str, spec: ServiceSpec) -> None:
        super().__init__(world, name, tenant)
        self.spec = spec
        self.asked: list[events.Event] = [service_events.ServiceDeployed(tenant, spec)]
        self.view: Service | None = None
        self.is_removing = False

    @property
    def key(self) -> str:
        return f"{self.tenant}/{self.spec.name}"

    def deploy(self, spec: ServiceSpec) -> None:
        """Another spec, to which instance after instance is cut over."""
        self.asked.append(service_events.ServiceDeployed(self.tenant, spec))

    def scale(self, replica_count: int) -> None:
        self.asked.append(service_events.ServiceScaled(self.tenant, self.spec.name, replica_count))

    def cut_over(self, instance_id: str = "") -> None:
        """Replaces one instance as planned; without a name each one in its turn."""
        self.asked.append(service_events.ServiceCutOver(self.tenant, self.spec.name, instance_id))

    def fail_over(self, instance_id: str = "") -> None:
        """Fences one instance at once (the only one, where none is named), and has it replaced."""
        self.asked.append(service_events.ServiceFailedOver(self.tenant, self.spec.name, instance_id))

    @property
    def instances(self) -> list[Instance]:
        """Those that have not ended, by their slots, as the scheduler sees them."""
        standing = self.world.scheduler.state.instances_of(self.key)
        return sorted(standing, key=lambda instance: (instance.slot, instance.instance_id))

    def remove(self, *, at_once: bool = False) -> None:
        self.is_removing = True
        self.asked = [service_events.ServiceRemoved(self.tenant, self.spec.name, at_once)]

    def wish(self) -> events.Event | None:
        return self.asked[0] if self.asked else None

    def told(self, decision: effects.Decision) -> None:
        service = decision.answer
        assert isinstance(service, Service)
        self.world.say(f"{self.name} sees {service.key} in generation {service.generation}")
        self.world.ghost.services.shown(service)
        self.view = service
        self.spec = service.spec
        if not self.is_removing and self.asked:
            self.asked.pop(0)

    def gives_up(self) -> None:
        """What was refused for good is asked no more; a service that is not there needs no removal."""
        code = self.refusal.code if self.refusal is not None else ""
        self.tries = 0
        if code == "service_unknown" or (self.view is None and not self.is_removing):
            self.over = True
        elif not self.is_removing:
            self.asked = self.asked[1:]


class Visitor:
    """A client of a service: it connects, asks, and is answered, or hears that it is not; it never stops coming."""

    def __init__(self, world: World, name: str, tenant: str, service: str) -> None:
        self.world = world
        self.name = name
        self.tenant = tenant
        self.service = service
        self.answers = 0
        self.failures: Counter[str] = Counter()
        self._connection: Connection | None = None

    def begin(self) -> None:
        self.world.later(self.world.chance.uniform(1.0, 5.0), "", self.visit)

    def visit(self) -> None:
        """Opens a session, and says something in it."""
        world, scheduler = self.world, self.world.scheduler
        world.later(world.chance.uniform(1.0, 8.0), "", self.visit)
        if scheduler.alive:
            scheduler.guarded(self._connect)()

    def _connect(self) -> None:
        sessions = self.world.scheduler.sessions
        if self._connection is not None and self._connection.life == self.world.scheduler.life:
            sessions.client_gone(self._connection.session)
        connection = self._connection = Connection(self)
        try:
            connection.session, _ = sessions.open(self.tenant, SessionHello(self.service, "token"), connection)
        except GrafosError as refusal:
            self.failures[refusal.code] += 1
            self._connection = None
            return
        sessions.from_client(connection.session, SessionData(connection.session.session_id, b"ping"))


class Connection:
    """One session of a visitor, as the relay sees its client."""

    session: Session

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self.life = visitor.world.scheduler.life

    def pass_on(self, frame: Relayed) -> None:
        if isinstance(frame, SessionData):
            self._visitor.answers += 1
            self._visitor.world.say(f"{self._visitor.name} is answered")
        elif isinstance(frame, SessionEnd) and frame.code:
            self._visitor.failures[frame.code] += 1

    def over(self, *, lingers: bool = False) -> None:
        """The session has ended; the next visit opens another."""
