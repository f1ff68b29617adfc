"""Grounds on emulated clouds: real SDK, real HTTP, and machines that are states only.

A process dies before a request, when its effect is there and its answer is not read, or when the connector's answer is:
the first two around each request on the wire, the third around each call of the contract. One connector serves all
imagined processes, since it remembers nothing; journal, ledger and engine are made anew for each. The emulator's clock
is the processes' own, so a lag of 30 seconds and an expiry in hours take no time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crash_sweep import CASE_PREFIX, Decoy, Fuse, Fused

from grafos_connectors.contract import Connector, Kind
from grafos_core.clock import VirtualClock
from grafos_core.fabric import Fabric, fabric_home, open_fabric
from grafos_core.paths import private_folder, write_private_once
from grafos_emulators.census import Thing
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.lifecycle import LifecycleTimes
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal

AT_ONCE = LifecycleTimes(starting_s=0.0, stopping_s=0.0, ending_s=0.0)
TOKENS_LAST_S = 2 * 3600.0
"""After this no cloud remembers a token; the region's network has the same one in each case."""
START = 1_795_262_400.0
"""21 November 2026: what is signed or priced is dated."""
_NAMES = itertools.count()


class EmulatedCloud:
    """One emulated account with connectors to it; ``fuse`` is the process that is alive. Each cloud has a subclass."""

    provider = ""
    whole: Mapping[str, int] = {}
    """What one cell consists of, in the cloud's own words."""
    whole_orchestrator: Mapping[str, int] = {}
    """The same of the machine of an orchestrator."""
    uncounted: tuple[str, ...] = ()
    """Kinds that go with what they hang on."""
    plantable: tuple[Kind, ...] = ()

    def __init__(self, state: Path) -> None:
        self.clock = VirtualClock(START)
        settings = Settings(clouds=(self.provider,), times=AT_ONCE, boots=False, vcpu_limit=100_000)
        self.clouds = EmulatedClouds(state, settings, clock=self.clock)
        self.clouds.start()
        self.master = open_fabric(self.clock, f"{self.provider}-master")
        self.fuse: Fuse | None = None
        self.planted: dict[str, str] = {}
        self._connectors: dict[float, Connector] = {}

    def connector(self, lag_s: float) -> Connector:
        """The connector that believes the cloud to lag so much; the cloud does."""
        self.show_after(lag_s)
        if lag_s not in self._connectors:
            self._connectors[lag_s] = self.open(lag_s)
        return self._connectors[lag_s]

    def open(self, lag_s: float) -> Connector:
        """A new connector, with ``moment`` around each of its requests."""
        raise AssertionError("each cloud opens its own")

    def show_after(self, lag_s: float) -> None:
        """From now on listings show what is made only after so many seconds."""

    def plant(self, kind: Kind, tags: Mapping[str, str], name: str) -> None:
        """Puts one decoy there."""
        raise AssertionError("each cloud plants its own")

    def moment(self, *_: Any, **__: Any) -> None:
        """Before and after each request."""
        if self.fuse is not None:
            self.fuse.moment()

    def things(self) -> tuple[Thing, ...]:
        """All that exists, but for what goes with something else."""
        return tuple(thing for thing in self.clouds.world() if thing.kind not in self.uncounted)

    def planting(self, before: set[str]) -> None:
        """Notes what is there now and was not."""
        self.planted |= {thing.id: _looks(thing) for thing in self.clouds.world() if thing.id not in before}

    def close(self) -> None:
        self.clouds.close()


class EmulatedGround:
    """A fresh home of the account's one fabric: so what bears copies of its tags is planted once for all cases.

    Each has a cell of its own name, since the tokens of another would be used up.
    """

    def __init__(self, cloud: EmulatedCloud, lag_s: float = 0.0, whole: Mapping[str, int] | None = None) -> None:
        self.cloud = cloud
        self.whole = cloud.whole if whole is None else whole
        cloud.clock.advance(TOKENS_LAST_S)
        name = f"{CASE_PREFIX}{next(_NAMES)}"
        key = cloud.master.home / "fabric-key.pem"
        write_private_once(private_folder(fabric_home(name)) / key.name, key.read_bytes())
        self.fabric: Fabric = open_fabric(cloud.clock, name)
        self.connector = cloud.connector(lag_s)
        self.clock = cloud.clock

    def hands(self, fuse: Fuse | None = None) -> Hands:
        self.cloud.fuse = fuse
        clock = self.cloud.clock
        connector: Any = Fused(self.connector, fuse, before=False) if fuse else self.connector
        return Hands(self.fabric, connector, Journal(self.fabric, clock), clock, clock.advance)

    def lose_journal(self) -> None:
        for path in self.fabric.home.glob("journal.db*"):
            path.unlink()

    def pass_time(self, seconds: float) -> None:
        self.cloud.clock.advance(seconds)

    def live(self) -> list[str]:
        """What the emulator itself says exists of this fabric, or of nobody: also what lost its tags would show."""
        mine = [
            thing
            for thing in self.cloud.things()
            if thing.id not in self.cloud.planted and fabric_of(thing) in (self.fabric.id, "")
        ]
        return sorted(f"{thing.kind} {thing.id}" for thing in mine)

    def plant(self, decoys: Iterable[Decoy]) -> None:
        before = {thing.id for thing in self.cloud.clouds.world()}
        for decoy in decoys:
            self.cloud.plant(decoy.kind, decoy.tags, decoy.name)
        self.cloud.planting(before)

    def decoys(self) -> Mapping[str, str]:
        return {thing.id: _looks(thing) for thing in self.cloud.clouds.world() if thing.id in self.cloud.planted}

    def untouched(self) -> bool:
        return self.decoys() == self.cloud.planted


def _looks(thing: Thing) -> str:
    """All that could be changed about it by somebody who takes it for ours."""
    return f"{thing.kind} {thing.region} {sorted(thing.tags.items())}"


def fabric_of(thing: Thing) -> str:
    """Whose tag it bears; labels are spelt with an underscore where a cloud takes no colon."""
    return thing.tags.get("grafos:fabric") or thing.tags.get("grafos_fabric", "")
