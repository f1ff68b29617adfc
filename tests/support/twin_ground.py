"""A ground on the in-memory twin: the fabric's disk, the small cloud, and a clock that only moves when it is told."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from crash_sweep import REGION, Decoy, Fuse, Fused

from grafos_connectors.contract import TAG_KEY, Desired, Found, Kind
from grafos_connectors.twin import FaultPlan, Limits, Timings, TwinCloud, TwinConnector
from grafos_core.clock import VirtualClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal
from grafos_stacks.progress import Step

MACHINE_TYPES = {"t3.medium": ("amd64", 2, 4 << 30, 4_160_000), "t4g.medium": ("arm64", 2, 4 << 30, 3_360_000)}
UNCOUNTED = (Kind.GATEWAY_ATTACHMENT, Kind.ROUTE, Kind.FIREWALL_RULE)
"""Parts that go with what they hang on; no cloud counts them as things of their own."""
_NAMES = itertools.count()


class AsAws(TwinConnector):
    """The twin behaves as EC2 does, and cells are planned for it as for EC2."""

    @property
    def provider(self) -> str:
        return "aws"


class TwinGround:
    """See the module. ``steps`` is what the engine told."""

    whole: Mapping[str, int] = dict.fromkeys(("network", "gateway", "subnet", "firewall", "machine", "disk", "nic"), 1)

    def __init__(self, *, lag_s: float = 0.0, limits: Limits | None = None, fabric: Fabric | None = None) -> None:
        self.clock = VirtualClock()
        self.cloud = TwinCloud(self.clock, timings=Timings(listing_lag_s=lag_s), limits=limits)
        self.fabric = fabric or open_fabric(self.clock, f"f{next(_NAMES)}")
        self.faults = FaultPlan()
        self.steps: list[Step] = []
        self._planted: dict[str, str] = {}

    def connector(self) -> TwinConnector:
        return AsAws(self.cloud, faults=self.faults, regions=(REGION, "eu-west-1"), machine_types=MACHINE_TYPES)

    def hands(self, fuse: Fuse | None = None) -> Hands:
        connector: Any = Fused(self.connector(), fuse) if fuse else self.connector()
        journal = Journal(self.fabric, self.clock)
        return Hands(self.fabric, connector, journal, self.clock, self.clock.advance, self.steps.append)

    def lose_journal(self) -> None:
        for path in self.fabric.home.glob("journal.db*"):
            path.unlink()

    def found(self) -> list[Found]:
        """Everything that truly exists, whoever made it."""
        return list(self.cloud.world())

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def live(self) -> list[str]:
        counted = [one for one in self.cloud.world() if one.ref.kind not in UNCOUNTED]
        return sorted(f"{one.ref.kind.value} {one.ref.id}" for one in counted if one.ref.id not in self._planted)

    def plant(self, decoys: Iterable[Decoy]) -> None:
        before = len(self.cloud.things())
        for kind, tags, name in decoys:
            self.cloud.plant(Desired(tags.get(TAG_KEY, "0" * 32), kind, name, REGION, tags=dict(tags)))
        self._planted |= {thing.id: str(thing.desired) for thing in self.cloud.things()[before:]}

    def decoys(self) -> Mapping[str, str]:
        there = [thing for thing in self.cloud.things() if thing.id in self._planted and thing.ends_at is None]
        return {thing.id: str(thing.desired) for thing in there}

    def untouched(self) -> bool:
        return self.decoys() == self._planted
