"""The people of a simulated fabric: command lines that ask until they are answered, under the same key each time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from grafos_core.errors import GrafosError
from grafos_core.tiers import Tier
from grafos_scheduler import effects, events, messages, runs
from grafos_testkit.processes import PROVIDER

if TYPE_CHECKING:
    from grafos_testkit.world import World

MIB = 1 << 20
TIERS = (Tier.GUARANTEED, Tier.STANDARD, Tier.STANDARD, Tier.SCAVENGER)
TRIES_MAX = 8
"""How often somebody asks again who was refused for something that may pass."""
MODULE_SHA256, INPUT_SHA256 = "a" * 64, "b" * 64


class Person(ABC):
    """Somebody who wants one thing. ``over``: it has come to its end, and they know."""

    def __init__(self, world: World, name: str, tenant: str) -> None:
        self.world = world
        self.name = name
        self.tenant = tenant
        self.over = False
        self.tries = 0
        self.refusal: GrafosError | None = None

    def begin(self) -> None:
        self.world.later(self.world.chance.uniform(1.0, 0.8 * self.world.faults.until_s), "", self.ask)

    def ask(self) -> None:
        """The request may be lost, and so may its answer; then it is made again, with the same key."""
        if self.over:
            return
        world = self.world
        world.later(world.chance.uniform(1.0, 3.0), "", self.ask)
        event = self.wish()
        if event is not None:
            self.call(event, self._told)

    def call(self, event: events.Event, then: Callable[[effects.Decision], None]) -> None:
        """One request over the net."""
        world, scheduler = self.world, self.world.scheduler
        if not scheduler.alive or world.happens(world.faults.lose):
            return

        def arrive() -> None:
            try:
                scheduler.handle(event, then)
            except GrafosError as refusal:
                self._refused(refusal)

        world.later(world.chance.uniform(0.001, 0.05), "", scheduler.guarded(arrive))

    def _told(self, decision: effects.Decision) -> None:
        if self.over or self.world.happens(self.world.faults.lose):
            return
        if decision.refusal is not None:
            self._refused(decision.refusal)
        else:
            self.tries = 0
            self.told(decision)

    def _refused(self, refusal: GrafosError) -> None:
        self.world.say(f"{self.name} refused: {refusal}")
        self.tries += 1
        self.refusal = refusal
        if not refusal.retryable or self.tries >= TRIES_MAX:
            self.gives_up()

    @abstractmethod
    def wish(self) -> events.Event | None:
        """What to ask for next; nothing while there is nothing to ask."""

    @abstractmethod
    def told(self, decision: effects.Decision) -> None:
        """The answer came."""

    def gives_up(self) -> None:
        """It was refused for good, or too often."""
        self.over = True


class RunClient(Person):
    """Wants one run."""

    def __init__(self, world: World, name: str, tenant: str, request: messages.RunRequest) -> None:
        super().__init__(world, name, tenant)
        self.request = request
        self.run_id = ""
        self.view: messages.RunView | None = None

    def wish(self) -> events.Event | None:
        return events.RunRequested(self.tenant, self.request)

    def told(self, decision: effects.Decision) -> None:
        view = decision.answer
        assert isinstance(view, messages.RunView)
        self.world.say(f"{self.name} sees {view.run_id} {view.state}")
        self.world.ghost.client_saw(self, view)
        self.run_id, self.view = view.run_id, view
        self.over = view.state in runs.ENDED


def a_run(world: World, key: str, reservation: str = "") -> messages.RunRequest:
    """Some run of the scene."""
    chance, scene = world.chance, world.scene
    return messages.RunRequest(
        run_key=key,
        provider=PROVIDER,
        program="program",
        tasklet="main",
        module_sha256=MODULE_SHA256,
        input_sha256=INPUT_SHA256,
        lease_mem_bytes=chance.choice([0, 65536, MIB]),
        lease_block_bytes=chance.choice([0, 0, 4096]),
        deadline_s=scene.deadline_s or chance.choice([1.0, 3.0, 10.0, 45.0]),
        tier=Tier.STANDARD if scene.well_behaved else chance.choice(TIERS),
        reservation=reservation,
    )
