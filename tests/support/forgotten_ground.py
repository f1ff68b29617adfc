"""An emulated cloud with a cell that nobody will ever look after, made as far as the cloud goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registered_operator import CELL, QUICK, REGIONS

from grafos_connectors.registry import open_connector
from grafos_core.clock import Clock, VirtualClock
from grafos_core.fabric import open_fabric
from grafos_core.receipts import TeardownReceipt
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.direct import Hands
from grafos_stacks.extending import Wish, extend
from grafos_stacks.inviting import user_data_of
from grafos_stacks.journal import Journal
from grafos_stacks.making import make_stack
from grafos_stacks.plan import BundlePin, StackPlan
from grafos_stacks.planner import plan_cell, read_facts
from grafos_stacks.records import BOOTED, CellHome, CellRecord
from grafos_stacks.spec import BY_TOKEN, NOT_AT_ALL, CellSpec
from grafos_stacks.teardown import teardown

HOUR_S = 3600
PLACES = {**REGIONS, "aws": "us-east-1"}
MACHINES = {"aws": "instance", "gcp": "instance", "azure": "virtualMachine"}


class Ground:
    """An emulated cloud, a fabric, and a plan of a cell that nobody will ever look after."""

    def __init__(self, provider: str, clouds: EmulatedClouds, clock: Clock, folder: Path) -> None:
        self.provider, self.clouds, self.clock, self.folder = provider, clouds, clock, folder
        self.fabric = open_fabric(clock)

    def hands(self) -> Hands:
        environment, region = self.clouds.environment(), PLACES[self.provider]
        connector = open_connector(self.provider, region, environment=environment, clock=self.clock)
        return Hands(self.fabric, connector, Journal(self.fabric, self.clock), self.clock, self.sleep)

    def sleep(self, seconds: float) -> None:
        if isinstance(self.clock, VirtualClock):
            self.clock.advance(seconds)
        else:
            time.sleep(seconds)

    def plan(self, **inputs: int) -> StackPlan:
        hands = self.hands()
        address = "127.0.0.1/32" if self.provider == "aws" else ""
        joining = BY_TOKEN if self.provider == "aws" else NOT_AT_ALL
        asked = CellSpec(self.provider, CELL, PLACES[self.provider], address, joining=joining, **inputs)
        facts = read_facts(hands.connector, asked, lambda *_: BundlePin("ab" * 32, 1000))
        return plan_cell(asked, facts, self.fabric.id, self.clock.now())

    def make(self, plan: StackPlan) -> None:
        hands = self.hands()
        with hands.journal.lock(CELL):
            make_stack(hands, plan, user_data_of(hands, plan))

    def extended(self, plan: StackPlan) -> int:
        """The end after two more hours, of a cell that has told that it booted; the emulated machine says nothing."""
        record = CellRecord(
            CELL, plan.fabric, plan.spec.provider, plan.spec.region, "", 1, float(plan.expires_at), 0.0, state=BOOTED
        )
        CellHome(self.fabric, CELL).keep_record(record)
        return int(extend(self.hands(), CELL, Wish(more_s=2 * HOUR_S), self.folder).record.expires_at)

    def states(self) -> list[str]:
        return [thing.state for thing in self.clouds.world() if thing.kind == MACHINES[self.provider]]

    def billing(self) -> list[str]:
        """The kinds of all that costs money now, as the cloud counts them."""
        return sorted(thing.kind for thing in self.clouds.world() if thing.billable)

    def torn_down(self) -> TeardownReceipt:
        """By a person who comes back."""
        return teardown(self.hands(), CELL, self.folder, PLACES[self.provider], self.provider).receipt


@contextmanager
def ground(provider: str, folder: Path, clock: Clock, *, boots: bool) -> Iterator[Ground]:
    settings = Settings(clouds=(provider,), times=QUICK, boots=boots)
    with EmulatedClouds(folder / "cloud", settings, clock=clock) as clouds:
        yield Ground(provider, clouds, clock, folder / "project")
