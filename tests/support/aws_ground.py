"""A ground on the emulated AWS: real SDK, real HTTP, and machines that are states only.

A process dies before or after a single request of the SDK, not of the connector: ``before-send`` and
``response-received`` are the SDK's own events around each of them. One connector serves all imagined processes, since
it remembers nothing; journal, ledger and engine are made anew for each.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from crash_sweep import REGION, Fuse

from grafos_connectors.aws.connector import AwsConnector
from grafos_core.clock import VirtualClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_emulators.emulator import EmulatedAws, Settings
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal

AT_ONCE = LifecycleTimes(starting_s=0.0, stopping_s=0.0, ending_s=0.0)
UNCOUNTED = ("security_group_rule", "route")
_NAMES = itertools.count()


class Cloud:
    """One emulated account with the connector to it; ``fuse`` is the process that is alive."""

    def __init__(self, state: Path, *, lag_s: float) -> None:
        self.aws = EmulatedAws(state, Settings(times=AT_ONCE, boots=False))
        self.aws.start()
        self.fuse: Fuse | None = None
        self.clock = VirtualClock(time.time())
        self.connector = AwsConnector(REGION, environment=self.aws.environment(), clock=self.clock, listing_lag_s=lag_s)
        events: Any = self.connector._calls._session
        events.register("before-send", self._moment)
        events.register("response-received", self._moment)

    def _moment(self, **_: Any) -> None:
        if self.fuse is not None:
            self.fuse.moment()

    def close(self) -> None:
        self.aws.close()


class AwsGround:
    """A fresh fabric, and the account that all cases share; none sees another's resources."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.fabric: Fabric = open_fabric(cloud.clock, f"aws{next(_NAMES)}")

    def hands(self, fuse: Fuse | None = None) -> Hands:
        self.cloud.fuse = fuse
        clock = self.cloud.clock
        return Hands(self.fabric, self.cloud.connector, Journal(self.fabric, clock), clock, clock.advance)

    def lose_journal(self) -> None:
        for path in self.fabric.home.glob("journal.db*"):
            path.unlink()

    def live(self) -> list[str]:
        """What the emulator itself says exists of this fabric, or of nobody: also what lost its tags would show."""
        mine = [
            thing
            for thing in self.cloud.aws.world()
            if thing.tags.get("grafos:fabric") in (self.fabric.id, None) and thing.kind not in UNCOUNTED
        ]
        return sorted(f"{thing.kind} {thing.id}" for thing in mine)
