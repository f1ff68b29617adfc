"""Dying at every call of a cloud: what a sweep consists of, on whichever cloud.

A *ground* is what outlives a process: the disk (a fabric in its home) and the cloud. A *fuse* lets a process die at
one moment, before a call, after its effect or after its reply: from then on every call raises ``Abort``, which no
handler of the code under test catches, and all memory of the run is thrown away. What exists is counted in the cloud's
own world. ``crash_cases`` walks through the moments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from grafos_connectors.contract import Connector, Desired, Kind, Operation
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_stacks import rebuilding, sweeping
from grafos_stacks.bootstrap import render
from grafos_stacks.direct import Hands
from grafos_stacks.making import make_stack, note_made, pinned_plan
from grafos_stacks.plan import BundlePin, Planned, StackPlan
from grafos_stacks.planner import plan_cell, read_facts
from grafos_stacks.spec import CellSpec
from grafos_stacks.teardown import TornDownCell, teardown

CELL = "aws-one"
REGION = "us-east-1"
REGIONS = {"aws": REGION, "gcp": "us-central1", "azure": "westeurope"}
TTL_S = 8 * 3600
CASE_PREFIX = "case-"
"""Of the names of homes that share one fabric's key."""
MOMENTS_MAX = 1000
CALLS = ("identity", "offers", "price", "image", "find", "begin_create", "begin_delete", "poll", "observe", "list")


class Abort(BaseException):
    """The process is dead. Not an Exception, so that no handler goes on after it."""


class Fuse:
    """Burns at its ``point``-th moment; counts moments when it has none."""

    def __init__(self, point: int | None = None, death: type[BaseException] = Abort) -> None:
        self.point = point
        self.death = death
        self.moments = 0
        self.burnt = False

    def moment(self, *_: Any, **__: Any) -> None:
        """To be called before and after every call of the cloud."""
        if self.burnt and self.death is Abort:
            raise Abort
        if self.moments == self.point and not self.burnt:
            self.burnt = True
            raise self.death
        self.moments += 1


class Fused:
    """A connector whose process may die before each of its calls, where ``before``, and after it."""

    def __init__(self, connector: Connector, fuse: Fuse, *, before: bool = True) -> None:
        self._connector = connector
        self._fuse = fuse
        self._before = before

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._connector, name)
        return self._fused(value) if name in CALLS else value

    def _fused(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def fused(*args: Any, **kwargs: Any) -> Any:
            if self._before:
                self._fuse.moment()
            answer = call(*args, **kwargs)
            answer = iter(list(answer)) if isinstance(answer, Iterator) else answer
            self._fuse.moment()
            return answer

        return fused


class Ground(Protocol):
    """What outlives a process. ``whole`` says what one cell consists of, as its cloud counts: kinds and how many."""

    whole: Mapping[str, int]
    fabric: Fabric
    clock: VirtualClock

    def hands(self, fuse: Fuse | None = None) -> Hands: ...

    def lose_journal(self) -> None: ...

    def pass_time(self, seconds: float) -> None: ...

    def live(self) -> list[str]:
        """Every resource of the fabric that exists, one line each: its kind, then its id. Decoys are none of them."""
        ...

    def plant(self, decoys: Iterable[Decoy]) -> None:
        """Puts resources there that somebody else made."""
        ...

    def decoys(self) -> Mapping[str, str]:
        """What was planted and is there, by id, each with all that could be changed about it."""
        ...

    def untouched(self) -> bool:
        """Whether all that was planted is there, as it was."""
        ...


class Decoy(NamedTuple):
    """What somebody else made: the kind, grafos' tags on it, and its name."""

    kind: Kind
    tags: Mapping[str, str]
    name: str


Act = Callable[[Hands], object]

WHOLE = 7
"""Resources of one cell on EC2: network, gateway, subnet, firewall, machine, its disk and its card."""


def cell_of(hands: Hands) -> str:
    """The name of the cell of a sweep. Homes of one fabric have one each."""
    name = hands.fabric.name
    own = name.removeprefix(CASE_PREFIX) if name.startswith(CASE_PREFIX) else "one"
    return f"{hands.connector.provider}-{own}"


def spec(cell_id: str = CELL, provider: str = "aws", **inputs: Any) -> CellSpec:
    reached = {"operator_cidr": "203.0.113.7/32" if provider == "aws" else ""}
    return CellSpec(provider=provider, cell_id=cell_id, region=REGIONS[provider], **{**reached, **inputs})


def plan(hands: Hands, asked: CellSpec) -> StackPlan:
    facts = read_facts(hands.connector, asked, lambda arch, python: BundlePin("ab" * 32, 1000))
    return plan_cell(asked, facts, hands.fabric.id, hands.clock.now())


# --- what processes do ----------------------------------------------------------------------------------------------


def make(hands: Hands, asked: CellSpec | None = None) -> StackPlan:
    """Provision as far as the cloud is concerned: the machine has no software here that could be claimed."""
    provider = hands.connector.provider
    asked = asked or spec(cell_of(hands), provider, ttl_s=TTL_S)
    with hands.journal.lock(asked.cell_id):
        wanted = pinned_plan(hands, asked) or plan(hands, asked)

        def late(what: Planned, attempt: int) -> dict[str, str]:
            return {"user_data": render(hands.fabric, wanted, attempt)} if what.kind is Kind.MACHINE else {}

        made = make_stack(hands, wanted, late)
        note_made(hands, asked.cell_id)
        return made.plan


def orchestrating(act: Callable[[Hands, CellSpec], object]) -> Act:
    """The same act for a machine that others dial, at an address that outlives it."""

    def acted(hands: Hands) -> object:
        provider = hands.connector.provider
        door = {"orchestrates": True, "operator_cidr": "0.0.0.0/0"}
        return act(hands, spec(cell_of(hands), provider, ttl_s=TTL_S, **door))

    return acted


def undo(hands: Hands, cell_id: str = "") -> TornDownCell | None:
    """Teardown; None when there never was anything to tear down."""
    provider = hands.connector.provider
    try:
        cell_id = cell_id or cell_of(hands)
        return teardown(hands, cell_id, Path(hands.fabric.home) / "project", REGIONS[provider], provider)
    except GrafosError as error:
        if error.code != "cell_unknown":
            raise
        return None


def sweep(hands: Hands) -> None:
    """A sweep that leaves nothing of what it found."""
    swept = sweeping.sweep(hands, Path(hands.fabric.home) / "project")
    errors = [outcome.error for outcome in swept.outcomes if outcome.error is not None]
    for error in (*errors, *swept.failures):
        raise error
    assert swept.after.condemned == (), swept.after.condemned


def recover(hands: Hands) -> None:
    """Whatever was interrupted is finished or undone."""

    def finish(wanted: StackPlan) -> None:
        make(hands, wanted.spec)

    done = rebuilding.carry_out(hands, rebuilding.survey(hands), Path(hands.fabric.home) / "project", finish)
    for one in done:
        if one.error is not None:
            raise one.error


class DiesWithMachine:
    """A connector whose process dies when the machine's create call has had its effect."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connector, name)

    def begin_create(self, desired: Desired, token: str) -> Operation:
        operation = self._connector.begin_create(desired, token)
        if desired.kind is Kind.MACHINE:
            raise Abort
        return operation


def make_half(hands: Hands, asked: CellSpec | None = None) -> None:
    """A provision that dies while its machine bills and nobody has written down that it does."""
    half: Any = DiesWithMachine(hands.connector)
    try:
        make(replace(hands, connector=half), asked)
    except Abort:
        return
    pytest.fail("a provision makes a machine")


def dies(ground: Ground, act: Act, fuse: Fuse) -> bool:
    """Whether the process died before the act was over."""
    try:
        act(ground.hands(fuse))
    except fuse.death:
        return True
    except GrafosError as error:
        if error.code != "interrupted":
            raise
        return True
    return False


def points(fresh: Callable[[], Ground], act: Act, pick: Callable[[int], bool]) -> Iterator[tuple[Ground, int]]:
    """A fresh ground for each moment at which the act can die, and the number of the moment."""
    for point in range(MOMENTS_MAX):
        if not pick(point):
            continue
        ground = fresh()
        if not dies(ground, act, Fuse(point)):
            undo(ground.hands())
            return
        yield ground, point
    pytest.fail("the act has more moments than were looked at")


def share(of: int, seed: int) -> Callable[[int], bool]:
    """One in so many points, another share for each seed."""
    return lambda point: (point + seed) % of == 0


# --- what must be true afterwards -----------------------------------------------------------------------------------


def check_gone(ground: Ground, point: int) -> None:
    """Undone to the last resource, and the money too."""
    torn = undo(ground.hands())
    assert ground.live() == [], f"point {point}"
    assert torn is None or torn.receipt.left == 0, f"point {point}"
    assert held(ground) == [], f"point {point}"


def held(ground: Ground) -> list[str]:
    """The holds that are open."""
    with ground.hands().fabric.ledger() as transaction:
        return [hold.hold_id for hold in transaction.ledger.holds.values() if hold.state == "open"]


def check_whole(ground: Ground, point: int) -> None:
    """Everything once."""
    assert kinds(ground) == Counter(ground.whole), f"point {point}: {ground.live()}"


def kinds(ground: Ground) -> Counter[str]:
    """How many there are of each kind."""
    return Counter(line.split()[0] for line in ground.live())
