"""A person with a fabric and an emulated cloud, who has its orchestrator made there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash_sweep import Abort

from grafos_connectors.contract import Kind
from grafos_connectors.registry import open_connector
from grafos_core import trust
from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_scheduler.enrolment_messages import BootstrapRequest
from grafos_scheduler.orchestrator_client import OrchestratorClient, enrol
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.far_books import FarBooks
from grafos_stacks.journal import Journal, Life
from grafos_stacks.orchestrator_machine import STACK, orchestrator_spec
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.plan import StackPlan
from grafos_stacks.progress import Step
from grafos_stacks.provision import prepare
from grafos_stacks.raising import Raised, raise_orchestrator
from grafos_stacks.records import OPERATOR

REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}
KINDS = {"aws": "instance", "gcp": "instance", "azure": "virtualMachine"}
QUICK = LifecycleTimes(starting_s=0.05, stopping_s=0.05, ending_s=0.05)
HOUR_S = 3600


def reachable_fabric() -> Fabric:
    """A fabric whose ledger is reached wherever it is."""
    return open_fabric(SystemClock(), elsewhere=FarBooks)


@dataclass
class OrchestratorOperator:
    """See the module. ``stop_at`` ends the process at its n-th step, ``stop_on`` at one of that name and state."""

    provider: str
    clouds: EmulatedClouds
    fabric: Fabric
    bundles: Bundles
    project: Path
    steps: list[Step] = field(default_factory=list, repr=False)
    stop_at: int | None = None
    stop_on: tuple[str, str] | None = None

    def told(self, step: Step) -> None:
        self.steps.append(step)
        if (step.name, step.state) == self.stop_on:
            raise Abort
        if self.stop_at is not None and step.state != "waiting":
            self.stop_at -= 1
            if self.stop_at < 0:
                raise Abort

    def hands(self) -> Hands:
        clock = SystemClock()
        connector = open_connector(self.provider, REGIONS[self.provider], environment=self.clouds.environment())
        return Hands(self.fabric, connector, Journal(self.fabric, clock), clock, time.sleep, self.told)

    def plan(self, *, anew: bool = False, **inputs: Any) -> StackPlan:
        spec = orchestrator_spec(self.provider, REGIONS[self.provider], **{"ttl_s": HOUR_S, **inputs})
        return prepare(self.hands(), spec, self.bundles, anew=anew).plan

    def up(self, archive: bytes = b"", **inputs: Any) -> Raised:
        return raise_orchestrator(self.hands(), self.plan(**inputs), self.bundles, archive)

    @property
    def home(self) -> OrchestratorHome:
        return OrchestratorHome(self.fabric)

    def client(self) -> OrchestratorClient:
        return self.home.client(OPERATOR)

    def enrol(self, cell_id: str) -> None:
        """A cell of a cloud that is nowhere, which enrols and says nothing more."""
        with self.client() as client:
            granted = client.bootstrap(BootstrapRequest("gcp", cell_id, "here", 1))
        enrol(self.home.known().url, granted.ca_pem, granted.token, trust.make_csr(trust.new_key(), cell_id))

    def machines(self) -> list[str]:
        return [thing.id for thing in self.clouds.world() if thing.kind == KINDS[self.provider]]

    def states(self) -> list[str]:
        return [thing.state for thing in self.clouds.world() if thing.kind == KINDS[self.provider]]


def lose_the_machine(operator: OrchestratorOperator) -> None:
    """Somebody deletes it in the cloud's console."""
    hands = operator.hands()
    [row] = [row for row in hands.journal.resources(STACK).values() if row.kind is Kind.MACHINE]
    assert row.ref is not None
    assert row.life is Life.READY
    hands.connector.begin_delete(row.ref)
    while operator.machines():
        time.sleep(0.05)
