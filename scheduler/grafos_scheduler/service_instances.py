"""The life of an instance.

It is *planned* while it waits to be started again on its cell, *starting* from the moment its leases are asked for, and
*active* once its guest listens. *draining* it takes no new session, and ends with its last one or at its deadline. When
it may not serve any more but nobody has seen its end, it is *fenced*: its leases are being taken down. It has *ended*
when it surely cannot serve: its cell said so (an end, the listener lease taken down, a daemon that started anew), or
all its leases have run out by any clock.

A slot of a service has one instance at most that has not ended. So no two of one slot can ever serve, whatever happens
to cells and links: a replacement is placed only when the end of the one before is sure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import CODES
from grafos_scheduler import frames, leases, rows, service_money, service_shortages
from grafos_scheduler.effects import InstanceMoved
from grafos_scheduler.service_frames import DrainInstance, StopInstance
from grafos_scheduler.service_rows import INSTANCE, INSTANCE_LOG, LOAD, Instance, Service

if TYPE_CHECKING:
    from grafos_core.receipts import InstanceReceipt
    from grafos_scheduler.draft import Draft

PLANNED, STARTING, ACTIVE = "planned", "starting", "active"
DRAINING, FENCED, ENDED = "draining", "fenced", "ended"

NEXT: dict[str, frozenset[str]] = {
    PLANNED: frozenset({STARTING, FENCED, ENDED}),
    STARTING: frozenset({ACTIVE, FENCED, ENDED}),
    ACTIVE: frozenset({DRAINING, FENCED, ENDED}),
    DRAINING: frozenset({FENCED, ENDED}),
    FENCED: frozenset({ENDED}),
    ENDED: frozenset(),
}
"""Which state may follow which."""

DEPLOY, FAILOVER, CUTOVER, RESTART = "deploy", "failover", "cutover", "restart"
"""What an instance is provisioned for."""
SCALED, REMOVED = "scaled", "removed"
"""Why one drains that is not replaced, beside the codes of errors."""

FENCE_MARGIN_S = 1.0
"""Beyond the difference of the clocks: a cell looks at its leases every second."""
DRAIN_MARGIN_S = 5.0
"""What a cell gets after the drain's deadline to say that the instance has ended, before it is fenced."""
ENDED_KEPT_MAX = 100
"""Of each service; more than it has slots, so that each slot knows what was in it last."""
WORDS_CHARACTERS_MAX = 500


def moved(instance: Instance, state: str) -> Instance:
    """The instance in its next state; a step that is not in the table is a bug."""
    assert state in NEXT[instance.state], f"an instance does not go from {instance.state} to {state}"
    return replace(instance, state=state)


def put(draft: Draft, instance: Instance) -> None:
    """The instance as it is now, and word to whoever has sessions in it."""
    if instance.state in (DRAINING, FENCED, ENDED) and not instance.left_at:
        instance = replace(instance, left_at=draft.now)
    draft.put_instance(instance)
    draft.do(InstanceMoved(instance.instance_id))


def change_topology(draft: Draft, service_key: str) -> None:
    """Who may serve is another from now on."""
    service = draft.service(service_key)
    if service is not None:
        put_service(draft, replace(service, generation=service.generation + 1))


def put_service(draft: Draft, service: Service) -> None:
    draft.put_service(service)


def drain(draft: Draft, instance: Instance, code: str, what: str, deadline_s: float) -> None:
    """No new session, and the end when the last one has ended. One that has not begun to serve has nothing to drain:
    it ends at once, or, where its cell may have started it, as soon as its listener lease is taken down."""
    if instance.state == PLANNED:
        end(draft, instance, code, what)
    elif instance.state == STARTING:
        fence(draft, instance, code, what)
    if instance.state != ACTIVE:
        return
    told = replace(moved(instance, DRAINING), code=code, what=words(what), drain_until=draft.now + deadline_s)
    put(draft, told)
    change_topology(draft, instance.service_key)
    if code == CUTOVER:
        note(draft, AuditKind.CUTOVER_STARTED, instance)
    send_drain(draft, told)


def send_drain(draft: Draft, instance: Instance) -> None:
    """Tells the cell to drain it, with the time that is left."""
    left_s = max(0.0, instance.drain_until - draft.now)
    service = draft.service(instance.service_key)
    generation = service.generation if service else 0
    draft.send(instance.cell_id, DrainInstance(instance.instance_id, generation, left_s))


def fence(draft: Draft, instance: Instance, code: str, what: str) -> None:
    """It may not serve from now on, whoever still thinks so: it is stopped and its leases are taken down."""
    if instance.state in (FENCED, ENDED):
        return
    was_serving = instance.state in (ACTIVE, DRAINING)
    planned_out = instance.state == DRAINING
    fenced = moved(instance, FENCED)
    if not planned_out:
        fenced = replace(fenced, code=code, what=words(what))
    put(draft, fenced)
    if was_serving:
        change_topology(draft, instance.service_key)
    if not planned_out and code not in (SCALED, REMOVED, CUTOVER):
        note(draft, AuditKind.FAILOVER_STARTED, fenced, code=code, what=words(what)[:200])
    send_stop(draft, fenced)
    tear_down(draft, fenced)


def send_stop(draft: Draft, instance: Instance) -> None:
    draft.send(instance.cell_id, StopInstance(instance.instance_id, stop_code(instance)))


def stop_code(instance: Instance) -> str:
    """What its sessions are told."""
    return instance.code if instance.code in CODES else "service_fenced"


def end(
    draft: Draft,
    instance: Instance,
    code: str,
    what: str,
    *,
    receipt: InstanceReceipt | None = None,
    keeps_leases: bool = False,
) -> Instance:
    """The instance surely serves no more. Settled by the receipt, if there is one; gives it as it is then."""
    was_serving = instance.state in (ACTIVE, DRAINING)
    billed_to = max(instance.billed_from, receipt.ended_at) if receipt is not None else instance.billed_from
    settled = service_money.settle(draft, instance, billed_to)
    if instance.state not in (FENCED, DRAINING):
        settled = replace(settled, code=code, what=words(what))
    ended = replace(moved(settled, ENDED), ended_at=draft.now)
    if receipt is not None:
        ended = replace(ended, fuel_used=receipt.fuel_used, sessions_served=receipt.sessions_served)
    put(draft, ended)
    draft.remember(LOAD, instance.instance_id, None)
    if was_serving:
        change_topology(draft, instance.service_key)
    if not keeps_leases:
        tear_down(draft, instance)
        service_shortages.forget_all(draft)
    note(draft, AuditKind.INSTANCE_ENDED, ended, code=ended.code or "finished")
    _forget_oldest(draft, ended)
    return ended


def tear_down(draft: Draft, instance: Instance) -> None:
    """Asks the cell to tear down every lease that the instance has."""
    for lease in leases_of(draft, instance):
        draft.remember(rows.TOKEN, lease.lease_id, None)
        draft.remember(rows.RENEWAL, lease.lease_id, None)
        if lease.state in (leases.ASKED, leases.HELD):
            draft.put_lease(leases.moved(lease, leases.TEARING))
        if lease.state not in leases.OUT_OF_USE:
            draft.send(lease.cell_id, frames.TearDownLease(lease.lease_id, lease.generation))


def leases_of(draft: Draft, instance: Instance) -> list[rows.Lease]:
    """Those of its leases that still have a row, as this decision has them so far."""
    held = draft.state.leases
    return [draft.newest_lease(held[lease_id]) for lease_id in instance.lease_ids if lease_id in held]


def note(draft: Draft, kind: AuditKind, instance: Instance, **details: str | int) -> None:
    """A record of an instance for the audit log."""
    draft.note(
        kind,
        instance.instance_id,
        tenant=instance.tenant,
        cell_id=instance.cell_id,
        service=instance.service,
        slot=instance.slot,
        **details,
    )


def surely_over_at(draft: Draft, instance: Instance) -> float:
    """From when on no lease of it can be alive, by whatever clock its cell goes."""
    return instance.serves_until + draft.state.settings.clock_skew_max_s + FENCE_MARGIN_S


def words(what: str) -> str:
    return what[:WORDS_CHARACTERS_MAX]


def _forget_oldest(draft: Draft, ended: Instance) -> None:
    kept = draft.state.ended_instances.get(ended.service_key, {})
    for instance_id in list(kept)[: max(0, len(kept) + 1 - ENDED_KEPT_MAX)]:
        draft.remove(INSTANCE, instance_id)
        draft.remove(INSTANCE_LOG, instance_id)
