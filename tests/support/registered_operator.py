"""A person with a fabric, a project and an emulated cloud on which cells are registered ones, that join nothing unless
that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash_sweep import Abort

from grafos_connectors.registry import open_connector
from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.extending import Extended, Wish, extend
from grafos_stacks.inviting import Patience
from grafos_stacks.journal import Journal
from grafos_stacks.plan import StackPlan
from grafos_stacks.progress import Step
from grafos_stacks.provision import PATIENCE, prepare, provision
from grafos_stacks.records import CellRecord
from grafos_stacks.spec import NOT_AT_ALL, CellSpec
from grafos_stacks.teardown import TornDownCell, teardown

REGIONS = {"gcp": "us-central1", "azure": "eastus"}
QUICK = LifecycleTimes(starting_s=0.05, stopping_s=0.05, ending_s=0.05)
CELL = "one"


@dataclass
class RegisteredOperator:
    """See the module. ``stop_at`` ends the process at its n-th step."""

    provider: str
    clouds: EmulatedClouds
    fabric: Fabric
    project: Path
    steps: list[Step] = field(default_factory=list, repr=False)
    stop_at: int | None = None
    sleep: Callable[[float], object] = time.sleep
    joining: str = NOT_AT_ALL
    bundles: Bundles = field(default_factory=Bundles, repr=False)
    patience: Patience = PATIENCE

    def told(self, step: Step) -> None:
        self.steps.append(step)
        if self.stop_at is not None and step.state != "waiting":
            self.stop_at -= 1
            if self.stop_at < 0:
                raise Abort

    def hands(self) -> Hands:
        clock = SystemClock()
        region = REGIONS[self.provider]
        connector = open_connector(self.provider, region, environment=self.clouds.environment())
        return Hands(self.fabric, connector, Journal(self.fabric, clock), clock, self.sleep, self.told)

    def asked(self, cell_id: str = CELL, **inputs: Any) -> CellSpec:
        return CellSpec(self.provider, cell_id, REGIONS[self.provider], "", **{"joining": self.joining, **inputs})

    def plan(self, cell_id: str = CELL, **inputs: Any) -> StackPlan:
        return prepare(self.hands(), self.asked(cell_id, **inputs), self.bundles).plan

    def provision(self, cell_id: str = CELL, **inputs: Any) -> CellRecord:
        hands = self.hands()
        plan = prepare(hands, self.asked(cell_id, **inputs), self.bundles).plan
        return provision(hands, plan, self.bundles, self.project, patience=self.patience)

    def extend(self, **wish: Any) -> Extended:
        return extend(self.hands(), CELL, Wish(**wish), self.project)

    def teardown(self, cell_id: str = CELL) -> TornDownCell:
        return teardown(self.hands(), cell_id, self.project, REGIONS[self.provider], self.provider)

    def kinds(self) -> list[str]:
        """What the cloud itself has, in its own words."""
        return sorted(thing.kind for thing in self.clouds.world())

    def machines(self) -> dict[str, str]:
        """The state of each machine there is, by id."""
        kind = {"gcp": "instance", "azure": "virtualMachine"}[self.provider]
        return {thing.id: thing.state for thing in self.clouds.world() if thing.kind == kind}
