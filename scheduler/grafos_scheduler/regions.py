"""Shared regions: memory of one cell that a tenant leases for itself, for its runs on any cell to reach.

A region is *asked* for, *held* once the cell has granted its lease, and *ended*. Its worst case is held from the moment
in which it is asked for to its end, and settled when it ends, for the time that it was there. What the cell lost costs
nothing. Its lease is one without a run: it counts against the tenant's quota, is taken back like any other, gives way
to nobody, and lasts as long as it was asked for unless it is renewed. A renewal is the next generation, and the bytes
stay.

Which run may attach to a region is said here (``check_call``); what it may do then is the owning cell's affair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ledger
from grafos_core.errors import CODES, GrafosError
from grafos_core.lease_refs import LeaseRef
from grafos_core.money import cost_micro_cents
from grafos_core.revoking import RevokeState
from grafos_scheduler import frames, leases, rows, runs
from grafos_scheduler.region_frames import ATTACH, RegionCall
from grafos_scheduler.region_messages import RegionView
from grafos_scheduler.region_rows import REGION, Region
from grafos_scheduler.retention import KEY_KEPT_S

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

ASKED, HELD, ENDED = "asked", "held", "ended"

NEXT: dict[str, frozenset[str]] = {
    ASKED: frozenset({HELD, ENDED}),
    HELD: frozenset({HELD, ENDED}),
    ENDED: frozenset(),
}
"""Which state may follow which; ``held`` again is a renewal."""

ENDED_KEPT_MAX = 100
"""Ended regions of one tenant that can still be asked about, once their keys are not asked for any more."""
ENDED_KEPT_S = 86400.0


def view(
    state: State, region: Region, lease: rows.Lease | None = None, held_micro_cents: int | None = None
) -> RegionView:
    """The region as it stands; ``lease`` and ``held_micro_cents`` are those of a decision in the making."""
    lease = lease or state.leases.get(region.lease_id)
    generation = lease.generation if lease else 1
    fabric = state.claim.fabric if state.claim else "-"
    held = state.ledger.holds.get(region.lease_id)
    if held_micro_cents is None:
        held_micro_cents = held.amount_micro_cents if held else 0
    return RegionView(
        lease_id=region.lease_id,
        tenant=region.tenant,
        provider=region.provider,
        cell_id=region.cell_id,
        size_bytes=region.size_bytes,
        state=region.state,
        generation=generation,
        created_at=region.since,
        expires_at=region.expires_at,
        ended_at=region.ended_at,
        code=region.code,
        what=region.what,
        ref=LeaseRef(fabric, region.cell_id, region.lease_id, generation).to_json().decode(),
        rate_micro_cents_per_hour=region.rate_micro_cents_per_hour,
        share=region.share,
        held_micro_cents=held_micro_cents if region.state != ENDED else 0,
        cost_micro_cents=region.cost_micro_cents,
    )


def known(state: State, tenant: str, lease_id: str) -> Region:
    """The region, if the tenant (or an operator: empty) may know of it; else ``lease_unknown``."""
    region = state.regions.get(lease_id)
    if region is None or (tenant and region.tenant != tenant):
        raise GrafosError("lease_unknown", f"there is no region {lease_id[:80]!r} here", next="grafos lease ls")
    return region


# --- what the cell says ----------------------------------------------------------------------------------------------


def granted(draft: Draft, lease: rows.Lease) -> None:
    """The cell holds the region's lease, for the first time or for longer. Tokens are minted when a run attaches."""
    region = draft.state.regions[lease.lease_id]
    if region.state == ASKED:
        draft.put_region(moved(region, HELD))


def refused(draft: Draft, lease: rows.Lease, frame: frames.LeaseRefused) -> None:
    """The cell turned the lease down: there is no region. If it was a renewal, there is none any more, and what counts
    is the time up to when that was asked for: nobody here knows how much longer it was there."""
    region = draft.region(lease.lease_id)
    if region is None or region.state == ENDED:
        return
    code = frame.code if frame.code in CODES else "answer_invalid"
    seconds = lease.asked_at - region.since if region.state == HELD else 0.0
    region = end(draft, region, code, f"cell {lease.cell_id} refused the lease: {frame.what}", seconds=seconds)
    tear_down(draft, region)


def binding_gone(draft: Draft, lease: rows.Lease) -> None:
    """The bytes are gone, or out of reach for ever: so is the region, if it was not before."""
    region = draft.region(lease.lease_id)
    if region is None or region.state == ENDED:
        return
    if lease.revoke != RevokeState.ACTIVE:
        end(draft, region, "lease_revoked", "it was taken back" + (f": {lease.revoke_why}" if lease.revoke_why else ""))
    elif lease.state == leases.LAPSED or lease.expires_at - draft.now <= draft.state.settings.clock_skew_max_s:
        end(draft, region, "lease_expired", "its time ran out")
    else:
        end(draft, region, "cell_lost", f"cell {lease.cell_id} restarted or left, and kept no memory", seconds=0.0)


# --- as time passes ---------------------------------------------------------------------------------------------------


def time_passed(draft: Draft) -> None:
    """Ends regions whose time is up or whose cell does not answer, and forgets the ones that ended long ago."""
    for region in _standing(draft):
        if region.expires_at <= draft.now:
            end(draft, region, "lease_expired", "its time ran out")
            tear_down(draft, region)
        elif region.state == ASKED and region.since + runs.GRANT_WITHIN_S <= draft.now:
            what = f"cell {region.cell_id} did not grant the lease within {runs.GRANT_WITHIN_S:g} s"
            end(draft, region, "placement_failed", what, seconds=0.0)
            tear_down(draft, region)
    for ended in draft.state.ended_regions.values():
        _forget(draft, ended)


def let_go_of_slice(draft: Draft, slice_id: str) -> None:
    """The slice is to be settled: regions that are held on it end."""
    for region in _standing(draft):
        held = draft.state.ledger.holds.get(region.lease_id)
        if held is not None and held.account == slice_id:
            end(draft, region, "draining", "the budget slice that it is held on was closed")
            tear_down(draft, region)


def _standing(draft: Draft) -> Iterator[Region]:
    """The regions that have not ended, in this very decision neither."""
    return (region for region in draft.state.all_regions() if draft.region(region.lease_id) is region)


def moved(region: Region, state: str) -> Region:
    """The region in its next state; a step that is not in the table is a bug."""
    assert state in NEXT[region.state], f"a region does not go from {region.state} to {state}"
    return replace(region, state=state)


def end(draft: Draft, region: Region, code: str, what: str, *, seconds: float | None = None) -> Region:
    """Ends and settles the region, for the time that it was there or for ``seconds``. The caller sees to its lease."""
    there_s = min(draft.now, region.expires_at) - region.since
    actual = cost(region, max(0.0, there_s if seconds is None else seconds))
    actual = min(actual, draft.ledger.holds[region.lease_id].amount_micro_cents)
    draft.book(ledger.settle(draft.ledger, region.lease_id, actual))
    draft.remove(ledger.HOLD, region.lease_id)
    what = what[: runs.WHAT_CHARACTERS_MAX]
    ended = replace(moved(region, ENDED), code=code, what=what, ended_at=draft.now, cost_micro_cents=actual)
    draft.put_region(ended)
    return ended


def tear_down(draft: Draft, region: Region) -> None:
    """Asks the cell to take the binding down; the room comes back with its word."""
    lease = draft.state.leases.get(region.lease_id)
    if lease is None or lease.state in leases.OUT_OF_USE:
        return
    if lease.state in (leases.ASKED, leases.HELD):
        draft.put_lease(leases.moved(lease, leases.TEARING))
    draft.send(lease.cell_id, frames.TearDownLease(lease.lease_id, lease.generation))


def _forget(draft: Draft, ended: Collection[str]) -> None:
    """Forgets what ended long ago of these regions of one tenant, the oldest first, or is one of too many; but not in
    its first hour, in which its asker may repeat the request, nor while its lease is there."""
    state = draft.state
    surplus = len(ended) - ENDED_KEPT_MAX
    for lease_id in ended:
        age_s = draft.now - state.regions[lease_id].ended_at
        if age_s < (KEY_KEPT_S if surplus > 0 else ENDED_KEPT_S):
            break
        if lease_id not in state.leases:
            draft.remove(REGION, lease_id)
            surplus -= 1


def cost(region: Region, seconds: float) -> int:
    """What so much time of the region costs, in micro-cents."""
    return cost_micro_cents(Fraction(region.share), region.rate_micro_cents_per_hour, seconds)


# --- who may reach it ---------------------------------------------------------------------------------------------


class ForeignRegionError(GrafosError):
    """A run named the region of another tenant. The guest is told no more than of a region that never was."""

    def __init__(self, lease: rows.Lease, tenant: str) -> None:
        super().__init__("lease_unknown", f"there is no region {lease.lease_id!r} here")
        self.lease = lease
        self.tenant = tenant


def check_call(state: State, cell_id: str, call: RegionCall) -> rows.Lease:
    """The lease that a run on this cell may use, or the refusal.

    ``cross_fabric`` for one of another trust domain, ``lease_unknown``, ``lease_expired`` or ``lease_revoked`` for one
    that is not there (any more), ``fenced``; ``capability_refused`` for a run that is not under way on the cell.
    """
    run = state.runs.get(call.run_id)
    if run is None or run.cell_id != cell_id or run.state not in runs.UNDER_WAY:
        raise GrafosError("capability_refused", f"no run {call.run_id[:80]!r} is under way on cell {cell_id}")
    fabric = state.claim.fabric if state.claim else ""
    if call.fabric != fabric or call.cell_id not in state.cells:
        raise GrafosError(
            "cross_fabric",
            f"cell {call.cell_id[:40]!r} of fabric {call.fabric[:40]!r} is of another trust domain than the run",
            next="use a region of a cell that belongs to the same orchestrator",
        )
    lease, region = state.leases.get(call.lease_id), state.regions.get(call.lease_id)
    if region is not None and region.tenant != run.tenant and lease is not None:
        raise ForeignRegionError(lease, run.tenant)
    if region is None or region.tenant != run.tenant or region.cell_id != call.cell_id:
        raise GrafosError("lease_unknown", f"there is no region {call.lease_id[:80]!r} here")
    if lease is not None and lease.state in leases.OUT_OF_USE:
        raise GrafosError("fenced", f"region {region.lease_id} is fenced")
    if region.state == ENDED or lease is None:
        code = region.code if region.code == "lease_revoked" else "lease_expired"
        raise GrafosError(code, f"region {region.lease_id} has ended")
    if call.operation == ATTACH and (region.state == ASKED or call.generation > lease.generation):
        raise GrafosError("lease_unknown", f"there is no region {region.lease_id} in generation {call.generation} yet")
    return lease
