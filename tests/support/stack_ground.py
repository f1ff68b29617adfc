"""What the tests of provisioning stand on: a fabric in an empty home, and a cloud that outlives each imagined process.

``Crasher`` wraps a connector so that the process "dies" at a chosen call: from then on every call of the cloud raises
``Abort``, a ``BaseException``, as a dead process makes no more calls. All memory of the run is thrown away with it;
what remains is what a disk and a cloud remember.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from grafos_connectors.contract import Connector, Found, Kind
from grafos_connectors.twin import Timings, TwinCloud, TwinConnector
from grafos_core.clock import VirtualClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_stacks.direct import Hands
from grafos_stacks.journal import Journal
from grafos_stacks.plan import BundlePin, Planned, StackPlan
from grafos_stacks.planner import plan_cell, read_facts
from grafos_stacks.spec import CellSpec

REGION = "us-east-1"
MACHINE_TYPES = {"t3.medium": ("amd64", 2, 4 << 30, 4_160_000), "t4g.medium": ("arm64", 2, 4 << 30, 3_360_000)}
CALLS = ("identity", "offers", "price", "image", "find", "begin_create", "begin_delete", "poll", "observe", "list")


class Abort(BaseException):
    """The process is dead. Not an Exception, so that no handler of the code under test can go on after it."""


class Crasher:
    """A connector that lets the process die at its ``point``-th moment: even ones before a call, odd ones after it."""

    def __init__(self, connector: Connector, point: int | None = None, death: type[BaseException] = Abort) -> None:
        self._connector = connector
        self._point = point
        self._death = death
        self.moments = 0
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._connector, name)
        if name not in CALLS:
            return value
        return lambda *args, **kwargs: self._call(value, *args, **kwargs)

    def _call(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._moment()
        answer = call(*args, **kwargs)
        if isinstance(answer, Iterator):
            answer = iter(list(answer))
        self._moment()
        return answer

    def _moment(self) -> None:
        if self.dead and self._death is Abort:
            raise Abort
        self.moments += 1
        if self._point is not None and self.moments > self._point and not self.dead:
            self.dead = True
            raise self._death


@dataclass
class Ground:
    """A cloud, a clock and a fabric; ``hands`` gives what one process works with."""

    clock: VirtualClock
    cloud: TwinCloud
    fabric: Fabric

    def connector(self) -> TwinConnector:
        return TwinConnector(self.cloud, regions=(REGION, "eu-west-1"), machine_types=MACHINE_TYPES)

    def hands(self, connector: Any = None) -> Hands:
        return Hands(
            fabric=self.fabric,
            connector=connector or self.connector(),
            journal=Journal(self.fabric, self.clock),
            clock=self.clock,
            sleep=self.clock.advance,
        )

    def lose_journal(self) -> None:
        for path in self.fabric.home.glob("journal.db*"):
            path.unlink()

    def live(self, stack: str = "") -> list[Found]:
        """What truly exists, whoever made it."""
        return [found for found in self.cloud.world() if stack in ("", found.tags.get("grafos:stack"))]


def ground(*, lag_s: float = 0.0, name: str = "default") -> Ground:
    clock = VirtualClock()
    return Ground(clock, TwinCloud(clock, timings=Timings(listing_lag_s=lag_s)), open_fabric(clock, name))


def spec(cell_id: str = "aws-one", **inputs: Any) -> CellSpec:
    return CellSpec(provider="aws", cell_id=cell_id, region=REGION, operator_cidr="203.0.113.7/32", **inputs)


def plan(hands: Hands, asked: CellSpec) -> StackPlan:
    facts = read_facts(hands.connector, asked, lambda arch, python: BundlePin("ab" * 32, 1000))
    return plan_cell(asked, facts, hands.fabric.id, hands.clock.now())


def late(what: Planned, attempt: int) -> dict[str, str]:
    return {"user_data": f"#!/bin/sh\n# {what.key} {attempt}\n"} if what.kind is Kind.MACHINE else {}


def surplus(found: list[Found]) -> list[Found]:
    """Resources of which there is another one with the same key: what must never be."""
    firsts: set[tuple[Kind, str]] = set()
    twice = []
    for one in found:
        place = (one.ref.kind, one.tags.get("grafos:key", "") + one.attributes.get("machine", ""))
        if place in firsts and one.ref.key:
            twice.append(one)
        firsts.add(place)
    return twice


