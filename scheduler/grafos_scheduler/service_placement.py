"""Which cells get the instances of a service: hard vetoes first, then the best score (see ``placement``).

``Spread`` is a veto: no cell has two instances of one service. So are the node constraint, services to stay away from
(in either's spec), and the port, which one instance on a cell has alone.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from typing import TYPE_CHECKING

from grafos_core.errors import GrafosError
from grafos_core.money import cost_micro_cents
from grafos_core.resources import LISTENER, Resources
from grafos_scheduler import cells, image_demands, messages, placement, rows, tenants

if TYPE_CHECKING:
    from grafos_scheduler.service_messages import ServiceSpec
    from grafos_scheduler.state import State

PORT_TAKEN = "port "
"""How the veto of a taken port begins."""


def choose(
    state: State,
    tenant: rows.Tenant,
    spec: ServiceSpec,
    count: int,
    now: float,
    *,
    busy: Collection[str] = (),
    anew: bool = False,
) -> list[rows.Cell]:
    """``count`` cells for an instance each, the best first; or the refusal that says what each cell lacks.

    ``busy`` cells get nothing now. ``anew``: as if no instance of this service were anywhere, for a spec that is
    judged before anything else of it changes.
    """
    if rows.WHOLE_SCHEDULER in state.drains:
        raise GrafosError("draining", "this scheduler admits nothing new", next="deploy to another cell")
    wanted = spec.resources
    known = [cell for cell in state.cells.values() if _is_meant(cell, spec)]
    signals = {cell.cell_id: cells.readiness(state, cell, now) for cell in known}
    ready = [cell for cell in known if cells.is_ready(signals[cell.cell_id])]
    unmet = {
        cell.cell_id: ", ".join(cells.unmet(signals[cell.cell_id]).values()) for cell in known if cell not in ready
    }
    if not ready:
        said = f": {placement.told(unmet)}" if unmet else ""
        raise GrafosError(
            "no_eligible_provider_cells",
            f"no cell that {spec.name} may be on is ready{said}",
            next="provision a cell, wait until one is healthy, or loosen the node constraint",
        )
    vetoed = {cell.cell_id: _vetoes(state, tenant.name, cell, spec, wanted, now, anew=anew) for cell in ready}
    fit = [cell for cell in ready if not vetoed[cell.cell_id] and cell.cell_id not in busy]
    if len(fit) < count:
        raise _too_few(spec, count, len(fit), {name: "; ".join(why) for name, why in vetoed.items() if why} | unmet)
    tenants.check_quota(state, tenant, _times(wanted, count))
    fit.sort(key=lambda cell: cell.cell_id)
    fit.sort(key=lambda cell: _score(state, cell, wanted), reverse=True)
    return fit[:count]


def check_affordable(state: State, tenant: rows.Tenant, spec: ServiceSpec, chosen: list[rows.Cell], now: float) -> None:
    """``budget_exceeded`` unless the first lease period of all of them together can be held."""
    seconds = state.settings.service_lease_s + state.settings.clock_skew_max_s
    wanted = spec.resources
    total = sum(
        cost_micro_cents(wanted.share_of(cell.total), state.terms[cell.cell_id].rate_micro_cents_per_hour, seconds)
        for cell in chosen
    )
    tenants.check_affordable(tenant, tenants.purses(state, tenant, now + state.settings.service_lease_s), total)


def _is_meant(cell: rows.Cell, spec: ServiceSpec) -> bool:
    """Whether the node constraint lets the cell be one of the service's."""
    limit = spec.node_constraint
    return (
        limit.provider in ("", "any", cell.provider)
        and limit.region in ("", cell.region)
        and (not limit.cell_ids or cell.cell_id in limit.cell_ids)
    )


def _vetoes(
    state: State, tenant: str, cell: rows.Cell, spec: ServiceSpec, wanted: Resources, now: float, *, anew: bool
) -> list[str]:
    """Every reason why no instance can go there."""
    against = []
    if state.protocol_of(cell.cell_id) < messages.SERVICES_SINCE:
        against.append("its software is too old for services")
    if state.draining(cell.cell_id):
        against.append("draining")
    if image_veto := image_demands.veto(state, cell):
        against.append(image_veto)
    ends_at = state.terms[cell.cell_id].expires_at
    if ends_at and ends_at < now + state.settings.service_lease_s:
        against.append("the cell is about to end")
    instances = {instance.instance_id for instance in state.instances_of(f"{tenant}/{spec.name}")}
    own = instances if anew else set()
    own_leases = [lease for lease in state.leases_at(cell.cell_id) if lease.run_id in own]
    leased = state.leased_by_cell.get(cell.cell_id, Resources())
    for lease in own_leases:
        leased -= lease.resources
    free = cell.total - leased
    against += [
        f"{kind}: {getattr(wanted, kind)} wanted, {max(0, getattr(free, kind))} free" for kind in wanted.lacking(free)
    ]
    against += _neighbours(state, tenant, cell.cell_id, spec, own)
    for lease in state.leases_at(cell.cell_id):
        if lease.kind == LISTENER and lease.amount == spec.listener_port and lease.run_id not in instances:
            against.append(f"{PORT_TAKEN}{spec.listener_port} is taken by another service")
            break
    return against


def _neighbours(state: State, tenant: str, cell_id: str, spec: ServiceSpec, own: Collection[str]) -> list[str]:
    """Instances there that the spec stays away from, or that stay away from it."""
    against = []
    for other in state.instances_at(cell_id):
        if other.tenant != tenant or other.instance_id in own:
            continue
        if other.service == spec.name:
            against.append("it has an instance of this service")
        elif other.service in spec.anti_affinity_services or spec.name in other.spec.anti_affinity_services:
            against.append(f"service {other.service} is there")
    return against


def _too_few(spec: ServiceSpec, count: int, there: int, why: dict[str, str]) -> GrafosError:
    said = placement.told(why)
    if why and there == 0 and all(text.startswith(PORT_TAKEN) for text in why.values()):
        return GrafosError(
            "port_taken",
            f"port {spec.listener_port} is taken on every cell that {spec.name} may be on: {said}",
            next="listen on another port, or provision a cell",
        )
    return GrafosError(
        "placement_failed",
        f"{spec.name} needs {count} {'cell' if count == 1 else 'cells'} of its own, and {there} can take an instance"
        + (f": {said}" if said else ""),
        next="ask for fewer replicas or less for each, or provision more cells",
        context={"wanted": count, "there": there},
    )


def _score(state: State, cell: rows.Cell, wanted: Resources) -> tuple[Fraction, Fraction]:
    """Higher is better: fewer instances of any service, then the share of memory that stays free."""
    after = cell.total - state.leased_by_cell.get(cell.cell_id, Resources()) - wanted
    there = len(list(state.instances_at(cell.cell_id)))
    return Fraction(-there), Fraction(after.mem_bytes, max(1, cell.total.mem_bytes))


def _times(wanted: Resources, count: int) -> Resources:
    return Resources(*(amount * count for amount in wanted.amounts()))
