"""Which rows of the transition tables a story has taken, seen from what was committed.

A table says which state may follow which; a step that it has not is an ``AssertionError``. A revocation may go several
steps in one commit: then each counts, if there is but one shortest way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from grafos_cell import holdings
from grafos_core import revoking
from grafos_core.changes import Batch
from grafos_scheduler import leases, regions, reservations, rows, runs, service_instances
from grafos_scheduler.region_rows import REGION
from grafos_scheduler.service_rows import INSTANCE

State = str
Row = tuple[str, State, State]
"""A row of a table, by the table's name."""


class Table(NamedTuple):
    """``of`` reads the state off a row; a row that comes into being goes from ``first`` to its state, and one that is
    removed to ``last`` (None: nothing is counted). ``is_again`` tells whether a row in the same state took a step.
    ``leaps``: one commit may take several steps."""

    name: str
    following: Mapping[State, frozenset[State]]
    of: Callable[[Any], State]
    first: State | None = None
    last: State | None = None
    is_again: Callable[[Any, Any], bool] = lambda before, after: before != after
    leaps: bool = False

    def rows(self) -> list[Row]:
        """All of the table."""
        return [(self.name, before, after) for before, later in self.following.items() for after in sorted(later)]


Tables = Mapping[str, tuple[Table, ...]]
"""By the kind of row."""


def _is_next_generation(before: Any, after: Any) -> bool:
    return bool(after.generation > before.generation)


def _is_asked_anew_or_put(before: Any, after: Any) -> bool:
    """Asked again is the next generation; in any other state each word of the cell counts."""
    return after.state != leases.ASKED or _is_next_generation(before, after)


def _state(row: Any) -> State:
    return str(row.state)


REVOKING = {state.value: frozenset(later.value for later in revoking.NEXT[state]) for state in revoking.NEXT}

SCHEDULER_TABLES: Tables = {
    rows.RUN: (Table("run", runs.NEXT, _state, first=runs.PLANNED),),
    rows.LEASE: (Table("lease", leases.NEXT, _state, last=leases.GONE, is_again=_is_asked_anew_or_put),),
    INSTANCE: (Table("instance", service_instances.NEXT, _state, first=service_instances.PLANNED),),
    REGION: (Table("region", regions.NEXT, _state),),
    rows.RESERVATION: (Table("reservation", reservations.NEXT, reservations.state_of),),
}
CELL_TABLES: Tables = {
    holdings.LEASE: (
        Table(
            "lease of a cell",
            holdings.NEXT_OF_LEASE,
            _state,
            last=holdings.FORGOTTEN,
            is_again=_is_next_generation,
        ),
        Table("revocation", REVOKING, lambda row: str(row.revoke), leaps=True),
    ),
    holdings.RUN: (Table("run of a cell", holdings.NEXT_OF_TAKEN, _state, last=holdings.FORGOTTEN),),
    holdings.INSTANCE: (Table("instance of a cell", holdings.NEXT_OF_TAKEN, _state, last=holdings.FORGOTTEN),),
}


def all_rows() -> list[Row]:
    """Every row of every table."""
    every = [*SCHEDULER_TABLES.values(), *CELL_TABLES.values()]
    return [row for tables in every for table in tables for row in table.rows()]


class Transitions:
    """``taken`` counts each row of each table; ``pairs`` which steps commits took, one or several rows at a time."""

    def __init__(self) -> None:
        self.taken: Counter[Row] = Counter()
        self._known: dict[tuple[int, str, str], Any] = {}

    def committed(self, tables: Tables, owner: int, batch: Batch) -> None:
        """Takes in what became durable at the process of that number."""
        for kind, key, row in batch:
            if kind not in tables:
                continue
            place = owner, kind, key
            before = self._known.get(place)
            if row is None:
                self._known.pop(place, None)
            else:
                self._known[place] = row
            for table in tables[kind]:
                self.taken.update(_steps(table, before, row))

    def forget(self, owner: int) -> None:
        """Its disk is gone."""
        for place in [place for place in self._known if place[0] == owner]:
            del self._known[place]


def _steps(table: Table, before: Any, after: Any) -> Iterable[Row]:
    was = table.first if before is None else table.of(before)
    now = table.last if after is None else table.of(after)
    if was is None or now is None:
        return ()
    if was == now:
        may = now in table.following[was]
        is_step = before is None or (after is not None and table.is_again(before, after))
        return ((table.name, was, now),) if may and is_step else ()
    if now in table.following[was]:
        return ((table.name, was, now),)
    if after is None:
        return ()  # struck out: whoever had the row, nobody's word counts for it any more
    assert table.leaps, f"no {table.name} goes from {was} to {now}"
    return [(table.name, *step) for step in _way(_frozen(table.following), was, now)]


Frozen = tuple[tuple[State, frozenset[State]], ...]


def _frozen(following: Mapping[State, frozenset[State]]) -> Frozen:
    return tuple(following.items())


@cache
def _way(following: Frozen, was: State, now: State) -> tuple[tuple[State, State], ...]:
    """The only shortest way, nothing if there are several, and an ``AssertionError`` if there is none."""
    table = dict(following)
    ways: list[tuple[State, ...]] = [(was,)]
    for _ in table:
        ways = [(*way, later) for way in ways for later in sorted(table[way[-1]]) if later not in way]
        there = [way for way in ways if way[-1] == now]
        if there:
            return tuple(zip(there[0], there[0][1:], strict=False)) if len(there) == 1 else ()
    raise AssertionError(f"no way leads from {was} to {now}")
