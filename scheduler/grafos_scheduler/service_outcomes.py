"""What a cell says about an instance, and what becomes of one whose cell dials anew."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.audit_chain import AuditKind
from grafos_core.errors import CODES
from grafos_scheduler import (
    frames,
    service_instances,
    service_leases,
    service_provisioning,
    service_shortages,
    standing,
)
from grafos_scheduler.service_events import InstanceReported, InstanceSaid
from grafos_scheduler.service_frames import InstanceEndedNoted, InstanceListening, InstanceLoad
from grafos_scheduler.service_instances import ACTIVE, CUTOVER, DRAINING, ENDED, FENCED, STARTING
from grafos_scheduler.service_rows import INSTANCE_LOG, LOAD, Instance, InstanceLog
from grafos_scheduler.service_rows import InstanceLoad as LoadRow

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft


def said(draft: Draft, event: InstanceSaid) -> None:
    """It listens, or tells how much it has to do."""
    instance = draft.state.instances.get(event.frame.instance_id)
    if instance is None or instance.cell_id != event.cell_id or instance.state == ENDED:
        return
    if isinstance(event.frame, InstanceLoad):
        load = LoadRow(instance.instance_id, event.frame.sessions, event.frame.fuel_used)
        draft.remember(LOAD, instance.instance_id, load)
    else:
        assert isinstance(event.frame, InstanceListening)
        _listens(draft, instance)


def _listens(draft: Draft, instance: Instance) -> None:
    if instance.state != STARTING:
        return
    service_instances.put(draft, replace(service_instances.moved(instance, ACTIVE), active_at=draft.now))
    service_instances.change_topology(draft, instance.service_key)
    if instance.why == CUTOVER:
        service_instances.note(draft, AuditKind.CUTOVER_COMPLETED, instance, follows=instance.follows)


def reported(draft: Draft, event: InstanceReported, chance: random.Random) -> None:
    """The cell's last word on an instance. Always acknowledged, so that the cell may forget it."""
    ended, receipt = event.ended, event.receipt
    instance = draft.state.instances.get(ended.instance_id)
    if instance is not None and instance.cell_id == event.cell_id:
        shown = (receipt.instance_id, receipt.tenant, receipt.cell_id, receipt.module_sha256, receipt.code)
        due = (instance.instance_id, instance.tenant, instance.cell_id, instance.spec.module_hash, ended.code)
        draft.put(INSTANCE_LOG, instance.instance_id, InstanceLog(instance.instance_id, ended.log, ended.receipt))
        if instance.state != ENDED:
            is_whole = shown == due
            if not is_whole:
                what = f"cell {instance.cell_id} signed a receipt that is not for this instance"
                standing.faulted(draft, instance.cell_id, "receipt_invalid", f"{what} ({instance.instance_id})")
            _ended(draft, instance, event, chance, is_whole=is_whole)
    draft.send(event.cell_id, InstanceEndedNoted(ended.instance_id))


def _ended(draft: Draft, instance: Instance, event: InstanceReported, chance: random.Random, *, is_whole: bool) -> None:
    """Whoever was not told to end has crashed: it is started again where it was, if that can be."""
    code = event.ended.code if event.ended.code in CODES else "program_error"
    receipt = event.receipt if is_whole else None
    has_crashed = instance.state not in (DRAINING, FENCED)
    what = event.ended.what or "the service returned"
    is_back = has_crashed and code not in NOT_ON_THIS_CELL and service_provisioning.start_again(draft, instance, chance)
    if has_crashed and not is_back:
        service_instances.note(draft, AuditKind.FAILOVER_STARTED, instance, code=code, what=what[:200])
    service_instances.end(draft, instance, code, what, receipt=receipt, keeps_leases=is_back)


def link_opened(draft: Draft, cell_id: str, hello: frames.Hello, *, restarted: bool) -> None:
    """Says again whatever the cell may have missed, and ends what died with its daemon."""
    kept_ends = frozenset(hello.unacknowledged)
    service_shortages.forget_all(draft)
    for instance in list(draft.state.instances_at(cell_id)):
        what = f"cell {cell_id} restarted while the instance was on it"
        if instance.instance_id in kept_ends:
            if restarted:
                service_instances.fence(draft, instance, "cell_lost", what)  # its report, with the receipt, follows
        elif restarted:
            if instance.state not in (DRAINING, FENCED):
                service_instances.note(draft, AuditKind.FAILOVER_STARTED, instance, code="cell_lost", what=what)
            service_instances.end(draft, instance, "cell_lost", what)
        elif instance.state == STARTING:
            service_leases.ask_again(draft, instance)
        elif instance.state == DRAINING:
            service_instances.send_drain(draft, instance)
        elif instance.state == FENCED:
            service_instances.send_stop(draft, instance)


NOT_ON_THIS_CELL = frozenset({"lease_expired", "lease_revoked", "cell_lost", "blob_missing", "port_taken"})
"""Ends after which it would not go better there."""
