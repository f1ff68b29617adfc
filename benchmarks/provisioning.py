"""What provisioning and teardown cost by themselves: 1 and 64 cells on a cloud in memory that answers at once.

    python benchmarks/provisioning.py [--quick] [--json]

From the first question of the preflight to the last machine that runs: plan, holds, journal, every call; then the
teardown of all in one batch, with proof and receipts. What a cell does on its machine is not in it. The floor of the
same run is what durability alone takes: each changing call is on the disk before it is made, and its outcome after
it, so two appended and synced blocks for each, one after the other, in the same folder. Cells that are made at once
share syncs, so many may take less than the floor.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import table

from grafos_connectors.contract import Kind
from grafos_connectors.twin import Timings, TwinCloud, TwinConnector
from grafos_core.clock import SystemClock
from grafos_core.fabric import OPERATOR_ACCOUNT, Fabric, open_fabric
from grafos_core.ledger import set_cap
from grafos_core.money import from_cents
from grafos_stacks.batch import Target, teardown_batch
from grafos_stacks.bundle import Bundles
from grafos_stacks.candidates import Provided, chosen, weigh
from grafos_stacks.direct import Hands
from grafos_stacks.failover import make_somewhere
from grafos_stacks.fleet import each, names_of, plans_for
from grafos_stacks.journal import Journal
from grafos_stacks.making import hold_all, note_made
from grafos_stacks.plan import BundlePin, Planned, StackPlan
from grafos_stacks.records import CellRecord
from grafos_stacks.side_by_side import HandsOf
from grafos_stacks.spec import CellSpec

REGION = "us-east-1"
TYPES = {"t3.medium": ("amd64", 2, 4 << 30, 4_160_000), "t4g.medium": ("arm64", 2, 4 << 30, 3_360_000)}
GOALS_S = {1: 0.3, 64: 3.0}
TEARDOWN_GOALS_S = {64: 5.0}
BLOCK = b"\0" * 4096
CAP_CENTS = 10**6


class Figures(NamedTuple):
    """Seconds of one run, and how many changing calls it made."""

    provision_s: float
    teardown_s: float
    floor_s: float
    created: int
    deleted: int


class AsAws(TwinConnector):
    """The cloud in memory, for which cells are planned as for EC2."""

    @property
    def provider(self) -> str:
        return "aws"


class Pinned(Bundles):
    """Software that is built already."""

    def pin(self, arch: str, python: str) -> BundlePin:
        del arch, python
        return BundlePin("ab" * 32, 1 << 20)


def run(count: int, folder: Path) -> Figures:
    """One run in a fabric of its own."""
    os.environ["XDG_DATA_HOME"] = str(folder)
    clock = SystemClock()
    fabric = open_fabric(clock)
    fabric.book(lambda ledger: set_cap(ledger, OPERATOR_ACCOUNT, from_cents(CAP_CENTS)))
    cloud = TwinCloud(clock, timings=Timings(machine_start_s=0.0, machine_end_s=0.0))
    connector = AsAws(cloud, regions=(REGION,), machine_types=TYPES)
    hands = Hands(fabric, connector, Journal(fabric, clock), clock, time.sleep)
    names = names_of("bench", count)
    provision_s = _timed(lambda: provision(hands, names))
    machines = [one for one in cloud.world() if one.ref.kind is Kind.MACHINE]
    assert len(machines) == count, f"{len(machines)} machines of {count}"
    created = sum(cloud.changing_calls.values())
    teardown_s = _timed(lambda: teardown(hands, names, folder))
    assert cloud.world() == (), "something is left"
    hands.journal.close()
    deleted = sum(cloud.changing_calls.values()) - created
    return Figures(provision_s, teardown_s, floor(folder, 2 * created), created, deleted)


def provision(hands: Hands, names: Sequence[str]) -> None:
    """As ``grafos cloud provision --count`` does it, up to machines that run."""
    hands_of = {"aws": hands}
    spec = CellSpec("aws", names[0], REGION, "127.0.0.1/32")
    found = weigh(hands_of, [spec], Pinned(), count=len(names))
    cells = plans_for([one.plan for one in chosen(found, "it")], names)
    hold_all(hands_of, [plans[0] for plans in cells])
    outcomes = each(hands_of, cells, _made)
    assert not [one.error for one in outcomes if one.error], outcomes


def _made(hands_of: HandsOf, plans: Sequence[StackPlan]) -> Provided:
    hands, plan = hands_of["aws"], plans[0]

    def late(what: Planned, attempt: int) -> dict[str, str]:
        return {"user_data": f"{plan.stack} {attempt}"} if what.kind is Kind.MACHINE else {}

    with hands.journal.lock(plan.stack):
        made = make_somewhere(hands, plan, lambda _: late)
        note_made(hands, plan.stack)
    return Provided(_record(hands.fabric, made.machine.ref.id, plan), ())


def _record(fabric: Fabric, machine_id: str, plan: StackPlan) -> CellRecord:
    return CellRecord(plan.stack, str(fabric.id), "aws", REGION, "", 0, 0.0, 0.0, machine_id=machine_id)


def teardown(hands: Hands, names: Sequence[str], project: Path) -> None:
    """As ``grafos cloud teardown`` does it with several cells."""
    outcomes = teardown_batch(hands, [Target(name, "aws", REGION) for name in names], project)
    assert not [one.error for one in outcomes if one.error], outcomes


def floor(folder: Path, syncs: int) -> float:
    """Seconds for so many appended blocks, each synced before the next."""
    handle = os.open(folder / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        began = time.perf_counter()
        for _ in range(syncs):
            os.write(handle, BLOCK)
            os.fdatasync(handle)
        return time.perf_counter() - began
    finally:
        os.close(handle)


def _timed(act: object) -> float:
    assert callable(act)
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows of the table of all benchmarks, as they are measured."""
    for count in (1,) if quick else (1, 64):
        turns = []
        for _ in range(1 if quick else 3):
            with tempfile.TemporaryDirectory() as folder:
                turns.append(run(count, Path(folder)))
        what, floors = f"{{}} of {count} on a cloud that answers at once", [one.floor_s for one in turns]
        for name, goals, ours in (
            ("provision", GOALS_S, [one.provision_s for one in turns]),
            ("teardown", TEARDOWN_GOALS_S, [one.teardown_s for one in turns]),
        ):
            goal = table.Goal(figure=goals[count]) if count in goals else None
            pairs = list(zip(ours, floors, strict=True))
            yield table.paired(what.format(name), "two synced blocks a call made", "s", pairs, goal=goal)


if __name__ == "__main__":
    table.run(__doc__, table_rows)
