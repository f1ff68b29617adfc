"""How a run of a higher tier gets room from runs of lower ones, where it fits nowhere otherwise.

The runs that give way are warned and have a grace; their leases come back with the cell's word, as with any
revocation, and they are charged for what they used. The run that needs the room is admitted at once and *waits*: its
leases are rows and take up their room from the start, so nobody else gets it meanwhile, and its cell is asked for them
only when the last lease that it waits for is gone. Where one of those is fenced there will be no room: it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from msgspec.structs import replace as changed

from grafos_core.resources import Resources
from grafos_core.revoking import GRACE_S_DEFAULT, RevokeState
from grafos_core.tiers import Tier
from grafos_scheduler import leases, placement, revoking, rows, runs
from grafos_scheduler.placement import Candidate, Demand

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

GRACE_S = GRACE_S_DEFAULT
"""What a run that gives way has from the warning on."""
WAIT_S_MAX = GRACE_S + runs.GRANT_WITHIN_S
"""How long the run that needs the room waits for it: the grace, and time for the cell to tear down and to say so."""

Judge = Callable[[rows.Cell], Candidate | None]
"""A cell as a candidate, whatever is leased there; None for one that is not ready."""


@dataclass(frozen=True, slots=True)
class Room:
    """A cell where the demand fits once ``giving_way`` have ended. ``waits_for`` are the leases to be gone first."""

    candidate: Candidate
    giving_way: tuple[rows.Run, ...]
    waits_for: tuple[str, ...]


def room_for(state: State, tier: Tier, demand: Demand, cells: Iterable[rows.Cell], judge: Judge) -> Room | None:
    """The room that costs least: no run of the tier just below if one further down will do, then the fewest runs, then
    the best score. None where runs of lower tiers are not what is in the way."""
    found = [room for cell in cells if (room := _room_at(state, tier, demand, cell, judge)) is not None]
    if not found:
        return None

    def price(room: Room) -> tuple[int, int]:
        return sum(run.request.tier is Tier.STANDARD for run in room.giving_way), len(room.giving_way)

    cheapest = min(map(price, found))
    equal = sorted((room for room in found if price(room) == cheapest), key=lambda room: room.candidate.cell_id)
    return max(equal, key=lambda room: placement.score(room.candidate, demand))


def give_way(draft: Draft, room: Room, tier: Tier) -> None:
    """Takes back the leases of the runs that are in the way."""
    for run in room.giving_way:
        revoking.take_back_run(draft, run, GRACE_S, f"a run of the tier {tier} needs the room")


def ask_where_there_is_room(draft: Draft) -> None:
    """Asks for the leases of each run that waited, once the room is there."""
    for run_id in draft.state.waiting:
        run = draft.state.runs[run_id]
        left = [lease for lease_id in run.waits_for if (lease := draft.state.leases.get(lease_id)) is not None]
        fenced = [lease for lease in left if lease.state in leases.OUT_OF_USE]
        if fenced:
            what = f"the room on cell {run.cell_id} did not become free: lease {fenced[0].lease_id} is fenced"
            runs.end(draft, run, runs.REFUSED, "placement_failed", what)
            leases.tear_down_all(draft, run)
        elif not any(leases.counts(lease) for lease in left):
            draft.put_run(changed(run, waits_for=(), give_up_at=draft.now + runs.GRANT_WITHIN_S))
            for lease in draft.state.leases_of(run):
                leases.ask_now(draft, lease, run)


def _room_at(state: State, tier: Tier, demand: Demand, cell: rows.Cell, judge: Judge) -> Room | None:
    lower = _lower_leases(state, cell.cell_id, tier)
    if not lower or (candidate := judge(cell)) is None:
        return None
    leaving = {run_id: held for run_id, held in lower.items() if _is_leaving(state, run_id, held)}
    staying = [state.runs[run_id] for run_id in lower if run_id not in leaving]
    staying.sort(key=lambda run: (run.request.tier.yields_to(Tier.STANDARD), run.created_at, run.run_id), reverse=True)
    giving_way: list[rows.Run] = []
    free = _sum_of(leaving.values())
    while not _fits(candidate, free, demand):
        if not staying:
            return None
        giving_way.append(staying.pop(0))
        free += _sum_of([lower[giving_way[-1].run_id]])
    for run in giving_way[:-1]:  # what gave too little, and was made good by a later one
        without = free - _sum_of([lower[run.run_id]])
        if _fits(candidate, without, demand):
            giving_way, free = [other for other in giving_way if other is not run], without
    gone = [*leaving, *(run.run_id for run in giving_way)]
    waits_for = tuple(lease.lease_id for run_id in gone for lease in lower[run_id])
    return Room(replace(candidate, leased=candidate.leased - free), tuple(giving_way), waits_for)


def _lower_leases(state: State, cell_id: str, tier: Tier) -> dict[str, list[rows.Lease]]:
    """The leases at the cell that are or were those of runs of lower tiers, by run; what is fenced gives no room."""
    found: dict[str, list[rows.Lease]] = {}
    for lease in state.leases_at(cell_id):
        run = state.runs.get(lease.run_id)
        if run is None or not run.request.tier.yields_to(tier):
            continue
        if leases.counts(lease) and lease.state not in leases.OUT_OF_USE:
            found.setdefault(run.run_id, []).append(lease)
    return found


def _is_leaving(state: State, run_id: str, held: list[rows.Lease]) -> bool:
    """Whether the run's leases come back by themselves: it has ended, or one of them is being taken from it."""
    if state.runs[run_id].state not in runs.UNDER_WAY:
        return True
    return any(lease.state == leases.TEARING or lease.revoke != RevokeState.ACTIVE for lease in held)


def _fits(candidate: Candidate, free: Resources, demand: Demand) -> bool:
    return not placement.vetoes(replace(candidate, leased=candidate.leased - free), demand)


def _sum_of(held: Iterable[list[rows.Lease]]) -> Resources:
    return reduce(add, (lease.resources for each in held for lease in each), Resources())
