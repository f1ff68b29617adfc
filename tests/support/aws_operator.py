"""A person with a fabric, a project and an emulated AWS, who provisions cells and tears them down."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash_sweep import Abort
from tasklets import tasklet

from grafos_connectors.aws.connector import AwsConnector
from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_scheduler.messages import RunRequest, RunView
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal
from grafos_stacks.progress import Step
from grafos_stacks.provision import prepare, provision
from grafos_stacks.records import CellHome, CellRecord, tenant_name
from grafos_stacks.spec import CellSpec
from grafos_stacks.teardown import TornDownCell, teardown

REGION = "us-east-1"
QUICK = LifecycleTimes(starting_s=0.05, stopping_s=0.05, ending_s=0.05)
ANSWER = tasklet()


@dataclass
class Operator:
    """A person with a fabric, a project and an emulated account. ``stop_at`` ends the process at its n-th step."""

    aws: EmulatedClouds
    fabric: Fabric
    bundles: Bundles
    project: Path
    steps: list[Step] = field(default_factory=list, repr=False)
    stop_at: int | None = None
    death: type[BaseException] = Abort

    def told(self, step: Step) -> None:
        self.steps.append(step)
        if self.stop_at is not None and step.state != "waiting":
            self.stop_at -= 1
            if self.stop_at < 0:
                raise self.death

    def hands(self) -> Hands:
        clock = SystemClock()
        connector = AwsConnector(REGION, environment=self.aws.environment())
        return Hands(self.fabric, connector, Journal(self.fabric, clock), clock, time.sleep, self.told)

    def provision(self, cell_id: str = "aws-one", **inputs: Any) -> CellRecord:
        hands = self.hands()
        asked = CellSpec(provider="aws", cell_id=cell_id, region=REGION, operator_cidr="127.0.0.1/32", **inputs)
        return provision(hands, prepare(hands, asked, self.bundles).plan, self.bundles, self.project)

    def teardown(self, cell_id: str = "aws-one") -> TornDownCell:
        return teardown(self.hands(), cell_id, self.project, REGION)

    def run(self, cell_id: str = "aws-one", key: str = "k" * 16) -> RunView:
        with CellHome(self.fabric, cell_id).client(tenant_name("default")) as client:
            module, data = client.put_blob(ANSWER), client.put_blob(b"input")
            view = client.start_run(RunRequest(key, "aws", "test", "answer", module, data))
            while view.state in ("planned", "admitted", "placed", "running"):
                view = client.run(view.run_id, wait_s=5.0)
            return view

    def machines(self) -> list[str]:
        return [thing.id for thing in self.aws.world() if thing.kind == "instance"]
