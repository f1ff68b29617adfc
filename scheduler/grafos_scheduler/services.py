"""Services: what tenants want of them, and how the instances are kept at it.

What is wanted is the service's row; who serves are its instances (see ``service_instances``). Each tick compares the
two: a slot that has nobody gets an instance, and one slot of a service that has an older spec is cut over when all
others serve that can. So nothing has to be remembered of what is under way, and a restart goes on with it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import GrafosError
from grafos_scheduler import leases, service_instances, service_leases, service_placement, service_shortages, tenants
from grafos_scheduler.service_events import (
    ServiceCutOver,
    ServiceDeployed,
    ServiceFailedOver,
    ServiceRemoved,
    ServiceScaled,
)
from grafos_scheduler.service_instances import ACTIVE, CUTOVER, FENCED, PLANNED, REMOVED, SCALED, STARTING
from grafos_scheduler.service_messages import RIGHT_TO_LISTEN, ActiveActive, ServiceSpec
from grafos_scheduler.service_provisioning import backed_off_until, last_in_slot, provision
from grafos_scheduler.service_rows import INSTANCE, INSTANCE_LOG, SERVICE, Instance, Service

if TYPE_CHECKING:
    from grafos_scheduler import rows
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

SERVICES_PER_TENANT_MAX = 100
"""Bounds what one tenant adds to each tick."""
ROLL_ON_AFTER_S = 30.0
"""A replica for which there has been no cell for so long keeps the others on an older spec no longer."""


def of_tenant(state: State, tenant: str, name: str) -> Service:
    """The service, or ``service_unknown``."""
    service = state.services.get(f"{tenant}/{name}")
    if service is None:
        raise GrafosError("service_unknown", f"there is no service {name[:80]!r} here", next="grafos service ls")
    return service


def deployed(draft: Draft, event: ServiceDeployed, chance: random.Random) -> Service:
    """The service with this spec; where it is another than before, instance after instance is cut over to it."""
    state, spec = draft.state, event.spec
    tenant = tenants.living(state, event.tenant)
    _check_spec(state, tenant.name, spec)
    tenants.check_tier(tenant, spec.priority)
    _check_need_not_sign(state, tenant)
    known = state.services.get(f"{tenant.name}/{spec.name}")
    if known is not None and known.removing:
        raise GrafosError("draining", f"service {spec.name} is being removed", next="wait until it is gone")
    if known is not None and known.spec == spec:
        return known
    chosen = service_placement.choose(state, tenant, spec, _must_fit(state, known, spec), draft.now, anew=True)
    service_placement.check_affordable(state, tenant, spec, chosen, draft.now)
    if known is not None:
        service = replace(known, spec=spec, revision=known.revision + 1)
    else:
        service = Service(tenant.name, spec.name, spec, draft.now)
    service_instances.put_service(draft, service)
    service_shortages.forget(draft, service)
    draft.note(
        AuditKind.SERVICE_DEPLOYED,
        spec.name,
        tenant=tenant.name,
        revision=service.revision,
        replicas=spec.replica_count,
        module_sha256=spec.module_hash,
        version=spec.version,
    )
    if known is None:
        for slot, cell in enumerate(chosen):
            provision(draft, service, slot, cell, chance)
    _drain_surplus(draft, service)
    return draft.service(service.key) or service


def _check_need_not_sign(state: State, tenant: rows.Tenant) -> None:
    if tenants.must_sign(state, tenant):
        raise GrafosError(
            "order_refused",
            f"nothing runs at the cost of tenant {tenant.name} that nobody signed, and a service cannot be signed for",
            next="have the operator lift that, or deploy it as runs",
        )


def _must_fit(state: State, known: Service | None, spec: ServiceSpec) -> int:
    """How many cells there must be for the spec: one for each replica. Where as many were wanted before, those that
    are there are enough: a mended spec is not refused because a cell is down."""
    if known is None or spec.replica_count > known.spec.replica_count:
        return spec.replica_count
    return max(1, min(spec.replica_count, len(state.instances_of(known.key))))


def scaled(draft: Draft, event: ServiceScaled) -> Service:
    """As many replicas from now on. It is no new revision: those that are there stay as they are."""
    state = draft.state
    service = _standing(state, event.tenant, event.name)
    spec = replace(service.spec, replication=ActiveActive(event.replica_count))
    more = event.replica_count - service.spec.replica_count
    if more > 0:
        tenant = tenants.living(state, event.tenant)
        _check_need_not_sign(state, tenant)
        chosen = service_placement.choose(state, tenant, spec, more, draft.now)
        service_placement.check_affordable(state, tenant, spec, chosen, draft.now)
    if more:
        service = replace(service, spec=spec)
        service_instances.put_service(draft, service)
        service_shortages.forget(draft, service)
        draft.note(AuditKind.SERVICE_SCALED, service.name, tenant=service.tenant, replicas=event.replica_count)
    _drain_surplus(draft, service)
    return draft.service(service.key) or service


def _drain_surplus(draft: Draft, service: Service) -> None:
    """Those that are too many for what is wanted now."""
    for instance in draft.state.instances_of(service.key):
        if instance.slot >= service.spec.replica_count:
            what = f"the service was scaled to {service.spec.replica_count}"
            service_instances.drain(draft, instance, SCALED, what, service.spec.drain_deadline_s)


def cut_over(draft: Draft, event: ServiceCutOver) -> Service:
    """Replaces one instance as planned; without a name each one in its turn, as for a new revision."""
    service = _standing(draft.state, event.tenant, event.name)
    if not event.instance_id:
        service_instances.put_service(draft, replace(service, revision=service.revision + 1))
    else:
        instance = _instance(draft.state, service, event.instance_id)
        if instance.state != ACTIVE:
            raise GrafosError(
                "plan_stale",
                f"instance {instance.instance_id} is {instance.state}, and only an active one can be cut over",
                next=f"grafos service show {service.name}",
            )
        service_instances.drain(draft, instance, CUTOVER, "a planned cutover", service.spec.drain_deadline_s)
    return draft.service(service.key) or service


def failed_over(draft: Draft, event: ServiceFailedOver) -> Service:
    """Fences one instance at once; what takes its place comes when its end is sure."""
    service = _standing(draft.state, event.tenant, event.name)
    instance = _instance(draft.state, service, event.instance_id)
    if instance.state == PLANNED:
        service_instances.end(draft, instance, "service_fenced", "a failover was asked for")
    else:
        service_instances.fence(draft, instance, "service_fenced", "a failover was asked for")
    return draft.service(service.key) or service


def removed(draft: Draft, event: ServiceRemoved) -> Service:
    """Has the service end. Asked again with ``at_once`` it waits for its sessions no longer."""
    service = of_tenant(draft.state, event.tenant, event.name)
    if not service.removing:
        service = replace(service, removing=True)
        service_instances.put_service(draft, service)
        draft.note(AuditKind.SERVICE_REMOVED, service.name, tenant=service.tenant)
    for instance in draft.state.instances_of(service.key):
        if event.at_once and instance.state != PLANNED:
            service_instances.fence(draft, instance, REMOVED, "the service is being removed")
        else:
            what = "the service is being removed"
            service_instances.drain(draft, instance, REMOVED, what, service.spec.drain_deadline_s)
    return draft.service(service.key) or service


def time_passed(draft: Draft, chance: random.Random) -> None:
    """What is due of every instance, then of every slot. One slot of a tenant is filled at a time, and with one of a
    cell: what an instance takes of quota and room counts from the next tick on."""
    state = draft.state
    for instance in list(state.all_instances()):
        _look_after(draft, instance)
    cells: set[str] = set()
    filled: set[str] = set()
    for service in list(state.services.values()):
        _keep_up(draft, service)
        if service.tenant not in filled and (cell_id := _fill(draft, service, cells, chance)):
            cells.add(cell_id)
            filled.add(service.tenant)


def _look_after(draft: Draft, instance: Instance) -> None:
    """One thing at a time for each instance."""
    now = draft.now
    if now >= service_instances.surely_over_at(draft, instance):
        if instance.state in (PLANNED, STARTING, ACTIVE):
            _note_silence(draft, instance)
        service_instances.end(draft, instance, "lease_expired", _silent(instance))
    elif instance.state == FENCED:
        return
    elif now >= instance.serves_until:
        service_instances.fence(draft, instance, "lease_expired", _silent(instance))
    elif _has_lost_a_lease(draft, instance):
        service_instances.fence(draft, instance, "lease_expired", "a lease of it is gone")
    elif instance.drain_until and now >= instance.drain_until + service_instances.DRAIN_MARGIN_S:
        service_instances.fence(draft, instance, "draining", "its drain took longer than its deadline")
    elif instance.state == ACTIVE and instance.cell_id in draft.state.leaving:
        what = f"cell {instance.cell_id} is being revoked"
        service_instances.drain(draft, instance, CUTOVER, what, instance.spec.drain_deadline_s)
    elif instance.state == PLANNED and now >= instance.again_at:
        service_instances.put(draft, service_instances.moved(instance, STARTING))
        service_leases.ask_again(draft, instance)
    else:
        _renew(draft, instance)


def _renew(draft: Draft, instance: Instance) -> None:
    try:
        service_leases.renew_due(draft, instance)
    except GrafosError as refusal:
        service_leases.drain_without_money(draft, instance, refusal)


def _keep_up(draft: Draft, service: Service) -> None:
    """Begins the next cutover, or lets a service go that has ended. An instance that was renewed or fenced a moment ago
    is taken as it is by now."""
    what = f"revision {service.revision} was deployed"
    standing = {instance.slot: draft.newest(instance) for instance in draft.state.instances_of(service.key)}
    if service.removing:
        if not standing:
            _forget(draft, service)
        return
    slots = range(service.spec.replica_count)
    old = [each for slot in slots if (each := standing.get(slot)) is not None and each.revision != service.revision]
    unborn = [instance for instance in old if instance.state in (PLANNED, STARTING)]
    if unborn:  # it serves nobody, and may never: one that crashes in a circle would keep the mended spec from all
        service_instances.drain(draft, unborn[0], CUTOVER, what, 0.0)
    elif old and all(_lets_roll(draft, service, slot, standing.get(slot)) for slot in slots):
        service_instances.drain(draft, old[0], CUTOVER, what, service.spec.drain_deadline_s)


def _lets_roll(draft: Draft, service: Service, slot: int, instance: Instance | None) -> bool:
    """Whether the slot is no reason to wait with the next cutover: it serves, or nobody can have it anyway."""
    if instance is not None:
        return instance.state == ACTIVE
    last = last_in_slot(draft.state, service, slot)
    left_at = last.ended_at if last is not None else service.created_at
    return service.key in draft.state.shortages and draft.now >= left_at + ROLL_ON_AFTER_S


def _fill(draft: Draft, service: Service, busy: set[str], chance: random.Random) -> str:
    """An instance for one slot that has nobody and may have one already; gives its cell, or nothing where there is no
    cell for it now: then there is none for another slot either."""
    state = draft.state
    taken = {instance.slot for instance in state.instances_of(service.key)}
    empty = [] if service.removing else [slot for slot in range(service.spec.replica_count) if slot not in taken]
    due = (slot for slot in empty if draft.now >= backed_off_until(last_in_slot(state, service, slot)))
    slot = next(due, None)
    if slot is None or service_shortages.holds(state, service, draft.now):
        return ""
    try:
        tenant = tenants.living(state, service.tenant)
        [cell] = service_placement.choose(state, tenant, service.spec, 1, draft.now, busy=busy)
        provision(draft, service, slot, cell, chance)
    except GrafosError as refusal:
        if not busy:  # another tick may have room where this one was busy
            service_shortages.note(draft, service, refusal)
        return ""
    service_shortages.forget(draft, service)
    return cell.cell_id


def _forget(draft: Draft, service: Service) -> None:
    service_shortages.forget(draft, service)
    for instance_id in draft.state.ended_instances.get(service.key, {}):
        draft.remove(INSTANCE, instance_id)
        draft.remove(INSTANCE_LOG, instance_id)
    draft.remove(SERVICE, service.key)


def _note_silence(draft: Draft, instance: Instance) -> None:
    note = service_instances.note
    note(draft, AuditKind.FAILOVER_STARTED, instance, code="lease_expired", what=_silent(instance))


def _silent(instance: Instance) -> str:
    return f"its leases ran out, and cell {instance.cell_id} reported no end"


def _has_lost_a_lease(draft: Draft, instance: Instance) -> bool:
    held = service_instances.leases_of(draft, instance)
    return len(held) < len(instance.lease_ids) or any(lease.state not in (leases.ASKED, leases.HELD) for lease in held)


def _standing(state: State, tenant: str, name: str) -> Service:
    service = of_tenant(state, tenant, name)
    if service.removing:
        raise GrafosError("draining", f"service {name} is being removed", next="wait until it is gone")
    return service


def _instance(state: State, service: Service, instance_id: str) -> Instance:
    """The instance that is named, or the only one of the service."""
    standing = [each for each in state.instances_of(service.key) if each.state != FENCED]
    found = [each for each in standing if instance_id in ("", each.instance_id)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.instance_id for each in standing) or "none"
    what = (
        f"service {service.name} has no instance {instance_id[:80]}" if instance_id else "it is not said which instance"
    )
    raise GrafosError("not_found", what, why=f"it has {names}", next="name one of them")


def _check_spec(state: State, tenant: str, spec: ServiceSpec) -> None:
    if RIGHT_TO_LISTEN not in spec.required_rights or len(set(spec.required_rights)) != 1:
        raise GrafosError(
            "request_invalid",
            f"the rights of a service are {RIGHT_TO_LISTEN}, and not {', '.join(spec.required_rights) or 'none'}"[:300],
            next=f"require {RIGHT_TO_LISTEN} and nothing else",
        )
    others = sum(key.startswith(f"{tenant}/") for key in state.services)
    if f"{tenant}/{spec.name}" not in state.services and others >= SERVICES_PER_TENANT_MAX:
        raise GrafosError(
            "limit_exceeded",
            f"tenant {tenant} has {others} services, which is the most it may",
            next="remove one that is not needed: grafos service rm NAME",
        )
