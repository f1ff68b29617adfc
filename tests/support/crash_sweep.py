"""Dying at every call of a cloud: what a sweep consists of, on whichever cloud.

A *ground* is what outlives a process: the disk (a fabric in its home) and the cloud. A *fuse* lets a process die at
one moment, before or after one call: from then on every call raises ``Abort``, which no handler of the code under test
catches, and all memory of the run is thrown away. What exists is counted in the cloud's own world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from grafos_core.errors import GrafosError
from grafos_stacks.bootstrap import render
from grafos_stacks.direct import Hands
from grafos_stacks.making import make_stack, note_made, pinned_plan
from grafos_stacks.plan import BundlePin, Planned, StackPlan
from grafos_stacks.planner import plan_cell, read_facts
from grafos_stacks.spec import CellSpec
from grafos_stacks.teardown import TornDownCell, teardown

CELL = "aws-one"
REGION = "us-east-1"
MOMENTS_MAX = 1000


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


class Ground(Protocol):
    """What outlives a process."""

    def hands(self, fuse: Fuse | None = None) -> Hands: ...

    def lose_journal(self) -> None: ...

    def live(self) -> list[str]:
        """Every resource of the fabric that exists, one line each."""
        ...


Act = Callable[[Hands], object]

WHOLE = 7
"""Resources of one cell as a cloud counts them: network, gateway, subnet, firewall, machine, its disk and its card."""


def spec(cell_id: str = CELL, **inputs: Any) -> CellSpec:
    return CellSpec(provider="aws", cell_id=cell_id, region=REGION, operator_cidr="203.0.113.7/32", **inputs)


def plan(hands: Hands, asked: CellSpec) -> StackPlan:
    facts = read_facts(hands.connector, asked, lambda arch, python: BundlePin("ab" * 32, 1000))
    return plan_cell(asked, facts, hands.fabric.id, hands.clock.now())


def make(hands: Hands, asked: CellSpec | None = None) -> StackPlan:
    """Provision as far as the cloud is concerned: the machine has no software here that could be claimed."""
    asked = asked or spec()
    with hands.journal.lock(asked.cell_id):
        wanted = pinned_plan(hands, asked) or plan(hands, asked)

        def late(what: Planned, attempt: int) -> dict[str, str]:
            return {"user_data": render(hands.fabric, wanted, attempt)} if what.name == "machine" else {}

        made = make_stack(hands, wanted, late)
        note_made(hands, asked.cell_id)
        return made.plan


def undo(hands: Hands, cell_id: str = CELL) -> TornDownCell | None:
    """Teardown; None when there never was anything to tear down."""
    try:
        return teardown(hands, cell_id, Path(hands.fabric.home) / "project", REGION)
    except GrafosError as error:
        if error.code != "cell_unknown":
            raise
        return None


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


def points(
    fresh: Callable[[], Ground], act: Act, pick: Callable[[int], bool], before: Act | None = None
) -> Iterator[tuple[Ground, int]]:
    """A fresh ground for each moment at which the act can die, and the number of the moment."""
    for point in range(MOMENTS_MAX):
        if not pick(point):
            continue
        ground = fresh()
        if before is not None:
            before(ground.hands())
        if not dies(ground, act, Fuse(point)):
            undo(ground.hands())
            return
        yield ground, point
    pytest.fail("the act has more moments than were looked at")


def every(point: int) -> bool:
    return True


def share(of: int, seed: int) -> Callable[[int], bool]:
    """One in so many points, another share for each seed."""
    return lambda point: (point + seed) % of == 0


def check_gone(ground: Ground, point: int) -> None:
    """Undone to the last resource, and the money too."""
    torn = undo(ground.hands())
    assert ground.live() == [], f"point {point}"
    assert torn is None or torn.receipt.left == 0, f"point {point}"
    with ground.hands().fabric.ledger() as transaction:
        held = [hold for hold in transaction.ledger.holds.values() if hold.state == "open"]
    assert held == [], f"point {point}"


def check_whole(ground: Ground, point: int) -> None:
    """Everything once."""
    assert len(ground.live()) == WHOLE, f"point {point}: {ground.live()}"


def sweep_provision(
    fresh: Callable[[], Ground], pick: Callable[[int], bool], *, rerun: bool, lose: bool = False
) -> int:
    """Die in a provision; with the journal kept or lost; finish it or not; undo. How many points there were."""
    count = 0
    for ground, point in points(fresh, make, pick):
        if lose:
            ground.lose_journal()
        if rerun:
            make(ground.hands())
            check_whole(ground, point)
        check_gone(ground, point)
        count += 1
    return count


def sweep_teardown(fresh: Callable[[], Ground], pick: Callable[[int], bool], *, lose: bool = False) -> int:
    """Die in a teardown; with the journal kept or lost; undo. How many points there were."""
    count = 0
    for ground, point in points(fresh, undo, pick, before=make):
        if lose:
            ground.lose_journal()
        check_gone(ground, point)
        count += 1
    return count


def sweep_another(fresh: Callable[[], Ground], pick: Callable[[int], bool]) -> int:
    """Die in the teardown of the last cell; make another one over what is left of the network; undo both."""
    count = 0
    for ground, point in points(fresh, undo, pick, before=make):
        make(ground.hands(), spec("aws-two"))
        undo(ground.hands())
        check_whole(ground, point)
        undo(ground.hands(), "aws-two")
        assert ground.live() == [], f"point {point}"
        count += 1
    return count
