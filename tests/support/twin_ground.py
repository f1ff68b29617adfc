"""A ground on the in-memory twin: the fabric's disk, the small cloud, and a clock that only moves when it is told."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from crash_sweep import REGION, Fuse

from grafos_connectors.contract import Connector, Found, Kind
from grafos_connectors.twin import FaultPlan, Limits, Timings, TwinCloud, TwinConnector
from grafos_core.clock import VirtualClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal
from grafos_stacks.progress import Step

MACHINE_TYPES = {"t3.medium": ("amd64", 2, 4 << 30, 4_160_000), "t4g.medium": ("arm64", 2, 4 << 30, 3_360_000)}
CALLS = ("identity", "offers", "price", "image", "find", "begin_create", "begin_delete", "poll", "observe", "list")
UNCOUNTED = (Kind.GATEWAY_ATTACHMENT, Kind.ROUTE, Kind.FIREWALL_RULE)
"""Parts that go with what they hang on; no cloud counts them as things of their own."""
_NAMES = itertools.count()


class Fused:
    """A connector whose process may die before or after each of its calls."""

    def __init__(self, connector: Connector, fuse: Fuse) -> None:
        self._connector = connector
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._connector, name)
        return self._fused(value) if name in CALLS else value

    def _fused(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def fused(*args: Any, **kwargs: Any) -> Any:
            self._fuse.moment()
            answer = call(*args, **kwargs)
            answer = iter(list(answer)) if isinstance(answer, Iterator) else answer
            self._fuse.moment()
            return answer

        return fused


class AsAws(TwinConnector):
    """The twin behaves as EC2 does, and cells are planned for it as for EC2."""

    @property
    def provider(self) -> str:
        return "aws"


class TwinGround:
    """See the module. ``steps`` is what the engine told."""

    def __init__(self, *, lag_s: float = 0.0, limits: Limits | None = None, fabric: Fabric | None = None) -> None:
        self.clock = VirtualClock()
        self.cloud = TwinCloud(self.clock, timings=Timings(listing_lag_s=lag_s), limits=limits)
        self.fabric = fabric or open_fabric(self.clock, f"f{next(_NAMES)}")
        self.faults = FaultPlan()
        self.steps: list[Step] = []

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

    def live(self) -> list[str]:
        counted = [one for one in self.cloud.world() if one.ref.kind not in UNCOUNTED]
        return sorted(f"{one.ref.kind.value} {one.ref.id}" for one in counted)
