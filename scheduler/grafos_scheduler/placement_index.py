"""Which cells to look at first: all that may take a run, in the order of the scan's score while leases come and go.

The index knows only what holds until a row changes: shape, leases, link, drain. Whoever asks judges a cell for the
moment (heartbeats, its end) with the scan's own rules; so index and scan choose the same cell, and the index never
has to be told that time passed. Where it finds none, the scan words the refusal.

Cells of one total and one price form a shape. Within it they lie in columns by how much is free of each kind but
memory, in powers of two, so that a column either may hold a cell with enough or surely holds none; within a column in
the order of the score. A choice looks at the head of each column, not at the cells behind it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from heapq import merge
from typing import NamedTuple

from grafos_core.resources import Resources
from grafos_scheduler.placement import Candidate, Demand, worst_case_micro_cents

BUCKET_CELLS_MAX = 512
"""Above this a bucket is split: what moves when a cell comes or goes stays a few KiB, however many cells there are."""


class Shape(NamedTuple):
    """What cells that differ only in their leases and their end have in common."""

    provider: str
    total: Resources
    rate_micro_cents_per_hour: int


class Rank(NamedTuple):
    """A cell's place among those of its shape; lower is better: the order of ``placement.score``, then of names."""

    mem_bytes_leased: int
    cpu_cores_leased: int
    cell_id: str


Classes = tuple[int, int, int, int]
"""The powers of two of which so much is free: cores, block bytes, GPUs, network interfaces."""

Judge = Callable[[str], Candidate | None]
"""The cell as a candidate for this run at this moment, or None if it is not ready or has a veto."""


class Column:
    """Ranks in order, in buckets of bounded size; no bucket is empty, and ``first`` is the best rank."""

    __slots__ = ("_buckets", "_lasts", "first")

    def __init__(self, rank: Rank) -> None:
        self.first = rank
        self._buckets = [[rank]]
        self._lasts = [rank]

    def __iter__(self) -> Iterator[Rank]:
        for bucket in self._buckets:
            yield from bucket

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def add(self, rank: Rank) -> None:
        at = min(bisect_left(self._lasts, rank), len(self._lasts) - 1)
        bucket = self._buckets[at]
        insort(bucket, rank)
        if len(bucket) > BUCKET_CELLS_MAX:
            half = len(bucket) // 2
            self._buckets[at : at + 1] = bucket[:half], bucket[half:]
            self._lasts.insert(at, bucket[half - 1])
            at += 1
        self._lasts[at] = self._buckets[at][-1]
        self.first = self._buckets[0][0]

    def remove(self, rank: Rank) -> None:
        """Takes the rank out. A column that has none any more is to be thrown away."""
        at = bisect_left(self._lasts, rank)
        bucket = self._buckets[at]
        del bucket[bisect_left(bucket, rank)]
        if bucket:
            self._lasts[at] = bucket[-1]
        else:
            del self._buckets[at], self._lasts[at]
        if self._buckets:
            self.first = self._buckets[0][0]


class Line:
    """The cells of one shape that may have enough of every kind, the best at the head. Most choices need no more."""

    __slots__ = ("_behind", "_columns", "_leased_bytes_max", "head", "shape")

    def __init__(self, shape: Shape, columns: list[Column], leased_bytes_max: int) -> None:
        self.shape = shape
        self.head = min([column.first for column in columns])
        self._columns = columns
        self._leased_bytes_max = leased_bytes_max
        self._behind: Iterator[Rank] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the head has enough memory free; if not, none behind it has."""
        return self.head.mem_bytes_leased <= self._leased_bytes_max

    def advance(self) -> bool:
        """Passes the head over; whether there is another."""
        if self._behind is None:
            self._behind = merge(*self._columns)
            next(self._behind)
        head = next(self._behind, None)
        if head is None:
            return False
        self.head = head
        return self.is_open


class PlacementIndex:
    """The cells that may be given runs. ``put`` and ``drop`` keep it; ``best`` chooses; ``places`` is for reading."""

    def __init__(self) -> None:
        self._shapes: defaultdict[str, dict[Shape, dict[Classes, Column]]] = defaultdict(dict)
        self.places: dict[str, tuple[Shape, Classes, Rank]] = {}

    def put(self, cell_id: str, shape: Shape, leased: Resources) -> None:
        """The cell is of this shape, and so much of it is leased."""
        rank = Rank(leased.mem_bytes, leased.cpu_cores, cell_id)
        place = shape, _classes(shape.total, leased), rank
        before = self.places.get(cell_id)
        if place == before:
            return
        if before is not None:
            self.drop(cell_id)
        self.places[cell_id] = place
        columns = self._shapes[shape.provider].setdefault(shape, {})
        column = columns.get(place[1])
        if column is None:
            columns[place[1]] = Column(rank)
        else:
            column.add(rank)

    def drop(self, cell_id: str) -> None:
        """The cell takes no runs for now, if it did before."""
        place = self.places.pop(cell_id, None)
        if place is None:
            return
        shape, classes, rank = place
        of_provider = self._shapes[shape.provider]
        columns = of_provider[shape]
        columns[classes].remove(rank)
        if not columns[classes]:
            del columns[classes]
            if not columns:
                del of_provider[shape]
                if not of_provider:
                    del self._shapes[shape.provider]

    def best(self, demand: Demand, deadline_s: float, judge: Judge) -> Candidate | None:
        """The cell that ``placement.choose`` would choose, or None where it would refuse."""
        lines = list(self._lines(demand, deadline_s))
        while lines:
            first = lines[0]
            for line in lines[1:]:
                if _is_better(line, first, demand.wanted):
                    first = line
            candidate = judge(first.head.cell_id)
            if candidate is not None:
                return candidate
            if not first.advance():
                lines.remove(first)
        return None

    def _lines(self, demand: Demand, deadline_s: float) -> Iterator[Line]:
        """Of each shape that can be paid for, those of its cells that may have enough of everything."""
        wanted = demand.wanted
        cores, block, gpus, nics = _classes(wanted, Resources())
        for shape, columns in self._shapes.get(demand.provider, {}).items():
            cost = worst_case_micro_cents(shape.total, shape.rate_micro_cents_per_hour, wanted, deadline_s)
            if cost > demand.purse_micro_cents:
                continue
            may_do = [
                column
                for (of_cores, of_block, of_gpus, of_nics), column in columns.items()
                if of_cores >= cores and of_block >= block and of_gpus >= gpus and of_nics >= nics
            ]
            if may_do:
                line = Line(shape, may_do, shape.total.mem_bytes - wanted.mem_bytes)
                if line.is_open:
                    yield line


def _classes(total: Resources, leased: Resources) -> Classes:
    return (
        max(0, total.cpu_cores - leased.cpu_cores).bit_length(),
        max(0, total.block_bytes - leased.block_bytes).bit_length(),
        max(0, total.gpu_count - leased.gpu_count).bit_length(),
        max(0, total.nic_count - leased.nic_count).bit_length(),
    )


def _is_better(line: Line, best: Line, wanted: Resources) -> bool:
    """Whether the head's score is higher, or equal and its name lower. Shares are compared crosswise: whole numbers."""
    rank, best_rank, total, best_total = line.head, best.head, line.shape.total, best.shape.total
    ours = (total.mem_bytes - rank.mem_bytes_leased - wanted.mem_bytes) * max(1, best_total.mem_bytes)
    theirs = (best_total.mem_bytes - best_rank.mem_bytes_leased - wanted.mem_bytes) * max(1, total.mem_bytes)
    if ours == theirs:
        ours = (total.cpu_cores - rank.cpu_cores_leased - wanted.cpu_cores) * max(1, best_total.cpu_cores)
        theirs = (best_total.cpu_cores - best_rank.cpu_cores_leased - wanted.cpu_cores) * max(1, total.cpu_cores)
    if ours == theirs:
        return rank.cell_id < best_rank.cell_id
    return ours > theirs
