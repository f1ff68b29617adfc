"""How instances come to be: placed in an empty slot, or started again where the one before has crashed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ids
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import rows, service_instances, service_leases, service_money
from grafos_scheduler.service_instances import (
    CUTOVER,
    DEPLOY,
    FAILOVER,
    PLANNED,
    REMOVED,
    RESTART,
    SCALED,
    STARTING,
    moved,
)
from grafos_scheduler.service_rows import Instance, Service

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

BACK_OFF_FIRST_S = 1.0
BACK_OFF_MOST_S = 30.0
RESTARTS_ON_ONE_CELL_MAX = 5
"""After so many crashes in a row another cell is tried."""
STEADY_AFTER_S = 60.0
"""Who served so long has not crashed in a row."""
ORDERLY = frozenset({CUTOVER, SCALED, REMOVED, "service_fenced"})
"""Ends that somebody wanted: what comes after them need not wait."""


def last_in_slot(state: State, service: Service, slot: int) -> Instance | None:
    """Which instance of the slot ended last."""
    ended = (state.instances[instance_id] for instance_id in reversed(state.ended_instances.get(service.key, {})))
    return next((instance for instance in ended if instance.slot == slot), None)


def backed_off_until(last: Instance | None) -> float:
    """When a slot may have its next instance (Unix seconds)."""
    if last is None or last.code in ORDERLY:
        return 0.0
    return last.ended_at + back_off_s(restarts_after(last))


def back_off_s(restarts: int) -> float:
    """How long to wait before the next one: from one second on, doubling."""
    return min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * float(1 << min(10, max(0, restarts - 1))))


def restarts_after(before: Instance) -> int:
    """The crashes in a row, with the end of this one."""
    served_s = before.ended_at - before.active_at if before.active_at else 0.0
    return 1 if served_s >= STEADY_AFTER_S else before.restarts + 1


def provision(draft: Draft, service: Service, slot: int, cell: rows.Cell, chance: random.Random) -> None:
    """Places an instance in the slot and asks for its leases; ``budget_exceeded`` without money for a first period."""
    last, state = last_in_slot(draft.state, service, slot), draft.state
    planned = Instance(
        instance_id=_new_id(state, chance),
        service=service.name,
        tenant=service.tenant,
        slot=slot,
        revision=service.revision,
        spec=service.spec,
        state=PLANNED,
        cell_id=cell.cell_id,
        provider=cell.provider,
        region=cell.region,
        why=_why(last, service),
        created_at=draft.now,
        follows=last.instance_id if last is not None else "",
        rate_micro_cents_per_hour=state.terms[cell.cell_id].rate_micro_cents_per_hour,
        share=str(service.spec.resources.share_of(cell.total)),
        restarts=restarts_after(last) if last is not None and last.code not in ORDERLY else 0,
    )
    paid = service_money.hold_next(draft, planned)
    asked = service_leases.ask_first(draft, moved(paid, STARTING), chance)
    service_instances.put(draft, asked)
    service_instances.note(
        draft,
        AuditKind.INSTANCE_PROVISIONED,
        asked,
        why=asked.why,
        revision=asked.revision,
        lease_ids=" ".join(asked.lease_ids),
    )


def start_again(draft: Draft, before: Instance, chance: random.Random) -> bool:
    """Plans the next instance on the same cell and under the same leases, which are intact; whether that could be."""
    restarts = restarts_after(replace(before, ended_at=draft.now))
    if restarts > RESTARTS_ON_ONE_CELL_MAX or not service_leases.can_be_taken_over(draft, before):
        return False
    planned = replace(
        before,
        instance_id=_new_id(draft.state, chance),
        state=PLANNED,
        why=RESTART,
        follows=before.instance_id,
        created_at=draft.now,
        again_at=draft.now + back_off_s(restarts),
        restarts=restarts,
        hold_id="",
        holds=0,
        active_at=0.0,
        drain_until=0.0,
        left_at=0.0,
        code="",
        what="",
        ended_at=0.0,
        fuel_used=0,
        sessions_served=0,
        cost_micro_cents=0,
    )
    try:
        paid = service_money.hold_next(draft, planned)
    except GrafosError:
        return False
    service_leases.take_over(draft, before, planned.instance_id)
    service_instances.put(draft, paid)
    service_instances.note(
        draft, AuditKind.INSTANCE_PROVISIONED, paid, why=RESTART, revision=paid.revision, restarts=restarts
    )
    return True


def _why(last: Instance | None, service: Service) -> str:
    if last is None or last.code in (SCALED, REMOVED) or last.service_key != service.key:
        return DEPLOY
    return CUTOVER if last.code == CUTOVER else FAILOVER


def _new_id(state: State, chance: random.Random) -> str:
    fabric = state.claim.fabric if state.claim else ""
    return ids.new_instance_id(ids.FabricId(fabric), state.settings.scheduler, chance)
