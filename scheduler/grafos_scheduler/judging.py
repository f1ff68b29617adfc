"""Whether a run may start, where, and at whose cost: said to whoever asks for it, and to whoever only asks what if.

In this order, each with its own refusal: the scheduler admits at all (`draining`), the tenant may ask for the tier
(`quota_exceeded`), the provider has a healthy cell (`runtime_not_ready`), one of them meets all six signals
(`no_eligible_provider_cells`), the tenant has quota left (`quota_exceeded`) and money for the worst case
(`budget_exceeded`), and one cell has no veto (`placement_failed`). Where it fits nowhere, and only because runs of
lower tiers are in the way, those give way and it waits for their room (see ``preempting``). Nothing is changed.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from grafos_core.errors import GrafosError
from grafos_core.money import format_cents
from grafos_core.resources import Resources
from grafos_core.tiers import Tier
from grafos_scheduler import (
    cells,
    image_demands,
    leases,
    messages,
    placement,
    preempting,
    reservations,
    rows,
    runs,
    standing,
    tenants,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafos_core.ledger import Account
    from grafos_scheduler.state import State

KINDS_NOT_EVERYWHERE = ("block", "gpu", "net")
"""Each cell has cores, and memory in one amount or another."""


class Verdict(NamedTuple):
    """Where the run goes, the accounts that may pay for it, and the room that others make for it, if they must."""

    candidate: placement.Candidate
    purse: list[Account]
    room: preempting.Room | None = None


def judge(state: State, tenant: rows.Tenant, asked: messages.RunRequest, now: float) -> Verdict:
    """What would become of the run if it were asked for now; raises its refusal."""
    if rows.WHOLE_SCHEDULER in state.drains:
        raise GrafosError("draining", "this scheduler admits no new runs", next="deploy to another cell")
    tenants.check_tier(tenant, asked.tier)
    demand, purse = demanded(state, tenant, asked, now)
    chosen = _pinned(state, tenant, asked, demand, now) if asked.cell_id else by_index(state, asked, demand, now)
    if chosen is not None:
        tenants.check_quota(state, tenant, demand.wanted)
        return Verdict(chosen, purse)
    try:
        return Verdict(by_scan(state, tenant, asked, demand, purse, now), purse)
    except GrafosError as refusal:
        verdict = _with_room(state, tenant, asked, now) if refusal.code == "placement_failed" else None
        if verdict is None:
            raise
        return verdict


def wanted_resources(request: messages.RunRequest) -> Resources:
    """What a run leases: one core, since its worker runs on one, and what else it asks for."""
    return Resources(
        cpu_cores=1,
        mem_bytes=request.lease_mem_bytes,
        block_bytes=request.lease_block_bytes,
        gpu_count=request.lease_gpu_count,
        nic_count=request.lease_nic_count,
    )


def demanded(
    state: State, tenant: rows.Tenant, asked: messages.RunRequest, begins_at: float
) -> tuple[placement.Demand, list[Account]]:
    """What the run needs if its leases are asked for at ``begins_at`` (Unix seconds), and the accounts that may pay."""
    until = begins_at + runs.GRANT_WITHIN_S + leases.needed_s(asked) + state.settings.clock_skew_max_s
    paid_until = until + runs.REPORT_WITHIN_S
    if asked.reservation:
        purse = reservations.purse(state, tenant.name, asked.reservation, paid_until)
    else:
        purse = tenants.purses(state, tenant, paid_until)
    most = max((account.free_micro_cents for account in purse), default=-1)  # of no account, not even a free run
    if asked.max_micro_cents is not None:
        most = min(most, asked.max_micro_cents)
    return placement.Demand(asked.provider, wanted_resources(asked), until, most), purse


def _with_room(state: State, tenant: rows.Tenant, asked: messages.RunRequest, now: float) -> Verdict | None:
    """Where the run may wait for the room of others; None where it cannot, or its reservation does not last so long."""
    try:
        demand, purse = demanded(state, tenant, asked, now + preempting.WAIT_S_MAX)
    except GrafosError:
        return None
    room = _room_for(state, tenant, asked, demand, now)
    return None if room is None else Verdict(room.candidate, purse, room)


def _room_for(
    state: State, tenant: rows.Tenant, asked: messages.RunRequest, demand: placement.Demand, now: float
) -> preempting.Room | None:
    """Where runs of lower tiers can give way to this one; None where that is of no use."""
    if asked.tier is Tier.SCAVENGER:
        return None

    def judged(cell: rows.Cell) -> placement.Candidate | None:
        is_ready = cells.is_ready(_readiness(state, cell, asked, tenant.name, now))
        return _candidate_of(state, cell, asked, demand.wanted) if is_ready else None

    return preempting.room_for(state, asked.tier, demand, known_cells(state, asked), judged)


def by_index(
    state: State, asked: messages.RunRequest, demand: placement.Demand, now: float
) -> placement.Candidate | None:
    """The best cell, without a look at each; that there is one settles all but the quota."""

    def judged(cell_id: str) -> placement.Candidate | None:
        cell = state.cells[cell_id]
        # What bars a cell stands in rows, so the index has no such cell; only the moment is judged here.
        if not cells.is_ready(cells.readiness(state, cell, now, on_trial=True)):
            return None
        candidate = _candidate_of(state, cell, asked, demand.wanted)
        return None if placement.vetoes(candidate, demand) else candidate

    return state.placement.best(demand, asked.deadline_s, judged)


def _pinned(
    state: State, tenant: rows.Tenant, asked: messages.RunRequest, demand: placement.Demand, now: float
) -> placement.Candidate | None:
    """The one cell that was named, if it may take the run."""
    for cell in known_cells(state, asked):
        if cells.is_ready(_readiness(state, cell, asked, tenant.name, now)):
            candidate = _candidate_of(state, cell, asked, demand.wanted)
            return None if placement.vetoes(candidate, demand) else candidate
    return None


def _readiness(
    state: State, cell: rows.Cell, asked: messages.RunRequest, tenant: str, now: float
) -> dict[str, messages.Signal]:
    """The cell's six signals for this run: who was let try the cell names it."""
    on_trial = bool(asked.cell_id) and standing.is_on_trial(state, cell.cell_id, tenant, now)
    return cells.readiness(state, cell, now, on_trial=on_trial)


def by_scan(
    state: State,
    tenant: rows.Tenant,
    asked: messages.RunRequest,
    demand: placement.Demand,
    purse: list[Account],
    now: float,
    protocol_min: int = 0,
) -> placement.Candidate:
    """The best cell by a look at each one, or the refusal that says what each one lacks. A cell whose link does not
    speak ``protocol_min`` is vetoed."""
    judged = {cell.cell_id: _readiness(state, cell, asked, tenant.name, now) for cell in known_cells(state, asked)}
    ready = [state.cells[cell_id] for cell_id, signals in judged.items() if cells.is_ready(signals)]
    if not ready:
        raise _not_ready(asked, judged)
    _check_supported(ready, asked.provider, demand.wanted)
    tenants.check_quota(state, tenant, demand.wanted)
    offers = [_candidate_of(state, cell, asked, demand.wanted, protocol_min) for cell in ready]
    cheapest = min(offer.worst_case_micro_cents for offer in offers)
    _check_allowed(asked, cheapest)
    tenants.check_affordable(tenant, purse, cheapest)
    lacking = {cell_id: cells.unmet(signals) for cell_id, signals in judged.items() if not cells.is_ready(signals)}
    return placement.choose(offers, demand, {cell_id: ", ".join(why.values()) for cell_id, why in lacking.items()})


def _check_allowed(asked: messages.RunRequest, cheapest_micro_cents: int) -> None:
    """``budget_exceeded`` where even the cheapest worst case is more than the run may cost."""
    most = asked.max_micro_cents
    if most is not None and cheapest_micro_cents > most:
        raise GrafosError(
            "budget_exceeded",
            f"the run may cost {format_cents(cheapest_micro_cents)}, and was asked for at {format_cents(most)} at most",
            next="allow more for it, or ask for a shorter deadline",
            context={"asked_micro_cents": cheapest_micro_cents, "most_micro_cents": most},
        )


def known_cells(state: State, asked: messages.RunRequest) -> list[rows.Cell]:
    """The provider's cells, or of them the one that was named."""
    known = state.cells_by_provider.get(asked.provider, {})
    if asked.cell_id:
        return [state.cells[asked.cell_id]] if asked.cell_id in known else []
    return [state.cells[cell_id] for cell_id in known]


def _not_ready(asked: messages.RunRequest, judged: Mapping[str, dict[str, messages.Signal]]) -> GrafosError:
    """The refusal where no cell meets all six signals, with what each one lacks."""
    lacks = {cell_id: cells.unmet(signals) for cell_id, signals in judged.items()}
    said = placement.told({cell_id: ", ".join(why.values()) for cell_id, why in lacks.items()})
    kept = dict(islice(lacks.items(), placement.VETOES_KEPT_MAX))
    provider, context = asked.provider, {"provider": asked.provider, "unmet": kept}
    if not any(signals["healthy_cell"].met for signals in judged.values()):
        what = f"provider {provider} has no healthy cell"
        if asked.cell_id:
            what = f"cell {asked.cell_id} of {provider} is not healthy" if judged else _no_such(asked)
        return GrafosError(
            "runtime_not_ready",
            f"{what}: {said}" if said else what,
            next=f"provision a cell of {provider}, or wait until it is healthy",
            context=context,
        )
    return GrafosError(
        "no_eligible_provider_cells",
        f"no cell of {provider} meets all readiness requirements: {said}",
        next="see to the requirement that is not met",
        context=context,
    )


def _no_such(asked: messages.RunRequest) -> str:
    return f"there is no cell {asked.cell_id} of {asked.provider} here"


def _check_supported(ready: list[rows.Cell], provider: str, wanted: Resources) -> None:
    """``unsupported`` for a kind of which no cell has any at all; of what is only taken, there will be some again."""
    for kind in KINDS_NOT_EVERYWHERE:
        if wanted.of_kind(kind) and not any(cell.total.of_kind(kind) for cell in ready):
            raise GrafosError(
                "unsupported",
                f"no cell of {provider} has any {kind} to lease",
                next=f"ask for a run without {kind}, or provision a cell that has some",
            )


def _candidate_of(
    state: State, cell: rows.Cell, asked: messages.RunRequest, wanted: Resources, protocol_min: int = 0
) -> placement.Candidate:
    """The cell as it stands now, and what this run could cost there."""
    terms = state.terms[cell.cell_id]
    rate = terms.rate_micro_cents_per_hour
    return placement.Candidate(
        cell_id=cell.cell_id,
        total=cell.total,
        leased=state.leased_by_cell.get(cell.cell_id, Resources()),
        ends_at=terms.expires_at,
        draining=state.draining(cell.cell_id),
        worst_case_micro_cents=placement.worst_case_micro_cents(cell.total, rate, wanted, asked.deadline_s),
        image_veto=image_demands.veto(state, cell),
        is_too_old=state.protocol_of(cell.cell_id) < protocol_min,
    )
