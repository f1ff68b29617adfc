"""Placement decisions at 10,000 and at 100,000 cells, beside a naive scan of the same fleet.

    python benchmarks/placement.py [--quick] [--json]

One turn places runs and lets older ones end, so that the fleet stays about half full: each is one choice (with the
readiness of the cell at that moment and all vetoes) and two changes of the index. The peer is a plain loop over plain
records, with the same conditions as a single expression, floats for the score, and two changed numbers for a place or
an end; nothing that our scan does to word a refusal. Beside it, our own exact scan. CPU time of the process; the fleet
is one provider's: four machine types, two prices each.
"""

from __future__ import annotations

import gc
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import table

from grafos_core.changes import Change
from grafos_core.ledger import Account
from grafos_core.resources import Resources
from grafos_scheduler import judging, leases, messages, placement, rows
from grafos_scheduler.state import Settings, State

GIB, MIB = 1 << 30, 1 << 20
TYPES = ((2, 4), (4, 16), (8, 32), (16, 64))
"""Cores and GiB."""
RATES = (1_000_000, 1_150_000)
"""Micro-cents an hour for a core."""
ASKED_MIB = (128, 256, 512, 1024)
NOW = 1_000_000_000.0
PURSE = 10**15
DEADLINE_S = 10.0
UNTIL = NOW + 100.0
QUOTA = Resources(*[10**18] * 5)
HELD = 256
"""Runs of the benchmark that are under way at once."""
SILENCE_MAX_S, STEADY_S = 15.0, 30.0


@dataclass(slots=True)
class Plain:
    """What the naive scan knows of a cell."""

    cell_id: str
    cores: int
    mem: int
    free_cores: int
    free_mem: int
    rate: int
    ends_at: float
    linked: bool
    draining: bool
    beat_at: float
    steady_since: float


def fleet(count: int) -> tuple[State, list[Plain]]:
    """So many cells, about half of whose cores and a third of whose memory is leased; for us, and for the peer."""
    chance, plain = random.Random(count), list[Plain]()  # noqa: S311  # a fleet, no secret
    state = State(Settings("bench", frozenset({"aws"})), NOW - 1000)
    gc.disable()
    for number in range(count):
        cores, gib = TYPES[number % len(TYPES)]
        cell_id, rate = f"cell-{number:06}", cores * RATES[number // len(TYPES) % len(RATES)]
        total, ends_at = Resources(cpu_cores=cores, mem_bytes=gib * GIB), NOW + chance.uniform(600, 10**6)
        taken = {"cpu": chance.randrange(cores + 1), "mem": chance.randrange(gib * 2 // 3) * GIB}
        changes = [
            Change(rows.CELL, cell_id, rows.Cell(cell_id, "aws", "here", "1", total, "key", 0.0, 1)),
            Change(rows.TERMS, cell_id, rows.Terms(cell_id, rate, ends_at)),
            Change(rows.PRESENCE, cell_id, rows.Presence(cell_id, number + 1, NOW - 1, NOW - 500)),
        ]
        for kind, amount in taken.items():
            lease = rows.Lease(f"{cell_id}-{kind}", "run", "ada", cell_id, kind, amount, 1, 1, leases.ASKED, 0.0)
            changes += [Change(rows.LEASE, lease.lease_id, lease)] if amount else []
        state.apply(changes)
        free = cores - taken["cpu"], gib * GIB - taken["mem"]
        plain.append(Plain(cell_id, cores, gib * GIB, *free, rate, ends_at, True, False, NOW - 1, NOW - 500))
    gc.enable()
    return state, plain


def naive(cells: list[Plain], cores: int, mem: int) -> Plain:
    """The best cell by a look at each one."""
    best: Plain | None = None
    best_score = -1.0, -1.0
    for cell in cells:
        if (
            cell.linked
            and not cell.draining
            and cell.free_cores >= cores
            and cell.free_mem >= mem
            and cell.ends_at >= UNTIL
            and NOW - cell.beat_at <= SILENCE_MAX_S
            and NOW - cell.steady_since >= STEADY_S
            and max(cores / cell.cores, mem / cell.mem) * cell.rate * DEADLINE_S / 3600 <= PURSE
        ):
            score = (cell.free_mem - mem) / cell.mem, (cell.free_cores - cores) / cell.cores
            if score > best_score:
                best, best_score = cell, score
    assert best is not None
    return best


class Ours:
    """The index, in the scheduler's state, asked as admission asks it."""

    def __init__(self, state: State) -> None:
        self.state, self.held = state, deque[tuple[str, Resources]]()
        self.asked = [request(mib) for mib in ASKED_MIB]

    def rate(self, count: int) -> float:
        """Decisions a second."""
        began = time.process_time()
        for number in range(count):
            asked = self.asked[number % len(self.asked)]
            demand = placement.Demand("aws", judging.wanted_resources(asked), UNTIL, PURSE)
            chosen = judging.by_index(self.state, asked, demand, NOW)
            assert chosen is not None
            self._lease(chosen.cell_id, chosen.leased + demand.wanted)
            self.held.append((chosen.cell_id, demand.wanted))
            if len(self.held) > HELD:
                cell_id, ended = self.held.popleft()
                self._lease(cell_id, self.state.leased_by_cell[cell_id] - ended)
        return count / (time.process_time() - began)

    def scan_rate(self, count: int) -> float:
        """Decisions a second by our own exact scan, which changes nothing."""
        tenant = rows.Tenant("ada", QUOTA)
        purse = [Account("slice", PURSE)]
        began = time.process_time()
        for number in range(count):
            asked = self.asked[number % len(self.asked)]
            demand = placement.Demand("aws", judging.wanted_resources(asked), UNTIL, PURSE)
            judging.by_scan(self.state, tenant, asked, demand, purse, NOW)
        return count / (time.process_time() - began)

    def _lease(self, cell_id: str, leased: Resources) -> None:
        self.state.leased_by_cell[cell_id] = leased
        self.state.placement.put(cell_id, self.state.placement.places[cell_id][0], leased)


class Theirs:
    """The naive scan."""

    def __init__(self, cells: list[Plain]) -> None:
        self.cells, self.held = cells, deque[tuple[Plain, int]]()

    def rate(self, count: int) -> float:
        began = time.process_time()
        for number in range(count):
            mem = ASKED_MIB[number % len(ASKED_MIB)] * MIB
            cell = naive(self.cells, 1, mem)
            cell.free_cores, cell.free_mem = cell.free_cores - 1, cell.free_mem - mem
            self.held.append((cell, mem))
            if len(self.held) > HELD:
                cell, mem = self.held.popleft()
                cell.free_cores, cell.free_mem = cell.free_cores + 1, cell.free_mem + mem
        return count / (time.process_time() - began)


def request(mib: int) -> messages.RunRequest:
    return messages.RunRequest(
        run_key="a-key-of-the-run",
        provider="aws",
        program="bench",
        tasklet="main",
        module_sha256="a" * 64,
        input_sha256="b" * 64,
        deadline_s=DEADLINE_S,
        lease_mem_bytes=mib * MIB,
    )


def table_rows(*, quick: bool) -> Iterator[table.Row]:
    """The rows, as they are measured."""
    small, large = (200, 2000) if quick else (10_000, 100_000)
    turns, count, few = (2, 50, 10) if quick else (9, 3000, 20)
    table.tell(f"making fleets of {small:,} and {large:,} cells")
    ours, theirs = Ours((of_small := fleet(small))[0]), Theirs(of_small[1])
    ours_large, theirs_large = Ours((of_large := fleet(large))[0]), Theirs(of_large[1])
    gc.freeze()  # the fleets stay; without this each collection would walk them all, in ours and the peer alike
    for cells, mine, scan, looks in ((small, ours, theirs, few), (large, ours_large, theirs_large, max(2, few // 10))):
        yield table.compare(
            f"placement, {cells:,} cells",
            "naive scan",
            "/s",
            partial(mine.rate, count),
            partial(scan.rate, looks),
            turns=turns,
            goal=table.Goal(80.0, is_least=True) if cells == small else None,
        )
    yield table.compare(
        f"placement, {large:,} cells",
        f"placement, {small:,} cells",
        "/s",
        partial(ours_large.rate, count),
        partial(ours.rate, count),
        turns=turns,
        goal=table.Goal(0.5, is_least=True),
    )
    yield table.compare(
        f"placement, {small:,} cells",
        "our scan, which words refusals",
        "/s",
        partial(ours.rate, count),
        partial(ours.scan_rate, 1),
        turns=2,
    )


if __name__ == "__main__":
    table.run(__doc__, table_rows)
