"""Services as the wire shows them. Reading takes no decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_scheduler import service_instances
from grafos_scheduler.service_messages import InstanceView, ServiceView
from grafos_scheduler.service_provisioning import backed_off_until, last_in_slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from grafos_scheduler.service_rows import Instance, Service
    from grafos_scheduler.state import State

ENDED_SHOWN_MAX = 20


def service_view(state: State, service: Service, now: float, sessions_of: Callable[[str], int]) -> ServiceView:
    """A service with its topology as of ``now``; ``sessions_of`` counts the sessions of an instance."""
    standing = sorted(state.instances_of(service.key), key=lambda instance: instance.slot)
    shown = [_instance_view(state, instance, sessions_of) for instance in standing]
    ended = [state.instances[instance_id] for instance_id in reversed(state.ended_instances.get(service.key, {}))]
    taken = {instance.slot for instance in standing}
    slots = [] if service.removing else [slot for slot in range(service.spec.replica_count) if slot not in taken]
    return ServiceView(
        name=service.name,
        tenant=service.tenant,
        spec=service.spec,
        revision=service.revision,
        generation=service.generation,
        removing=service.removing,
        created_at=service.created_at,
        healthy=sum(view.state == service_instances.ACTIVE and view.connected for view in shown),
        instances=shown,
        waiting={str(slot): _why_empty(state, service, slot, now) for slot in slots},
        ended=[_instance_view(state, instance, sessions_of) for instance in ended[:ENDED_SHOWN_MAX]],
    )


def _instance_view(state: State, instance: Instance, sessions_of: Callable[[str], int]) -> InstanceView:
    return InstanceView(
        instance_id=instance.instance_id,
        slot=instance.slot,
        state=instance.state,
        cell_id=instance.cell_id,
        region=instance.region,
        listener_port=instance.spec.listener_port,
        revision=instance.revision,
        why=instance.why,
        connected=state.link_of(instance.cell_id) != 0,
        sessions=sessions_of(instance.instance_id),
        restarts=instance.restarts,
        code=instance.code,
        what=instance.what,
        created_at=instance.created_at,
        ended_at=instance.ended_at,
        fuel_used=_fuel_used(state, instance),
        sessions_served=instance.sessions_served,
        cost_micro_cents=instance.cost_micro_cents,
        follows=instance.follows,
        active_at=instance.active_at,
        left_at=instance.left_at,
        drain_until=instance.drain_until,
    )


def _fuel_used(state: State, instance: Instance) -> int:
    load = state.instance_loads.get(instance.instance_id)
    return load.fuel_used if load is not None else instance.fuel_used


def _why_empty(state: State, service: Service, slot: int, now: float) -> str:
    """Why the slot has no instance now."""
    until = backed_off_until(last_in_slot(state, service, slot))
    if now < until:
        return f"the last one ended; the next is due in {until - now:.0f} s"
    short = state.shortages.get(service.key)
    return short.why if short is not None else "it is about to be placed"
