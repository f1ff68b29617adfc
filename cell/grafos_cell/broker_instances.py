"""The instances of services on a cell: taken on once, ended once, the end kept until the scheduler has noted it.

An instance stands on its leases: when one of them ends, so does it, and with its listener lease at once and fenced. It
may be told to drain, and has until then to end by itself.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from grafos_cell import broker_leases, holdings
from grafos_cell.broker_draft import Draft
from grafos_cell.broker_events import DrainServing, ForInstances, InstanceOver, StartServing, StopServing, TellServing
from grafos_cell.broker_tokens import START, check_token
from grafos_cell.holdings import BOUND, ENDED, GOING, HeldLease, TakenInstance
from grafos_core.errors import CODES, GrafosError
from grafos_core.receipts import InstanceReceipt
from grafos_core.resources import LISTENER
from grafos_core.tokens import Use
from grafos_scheduler.service_frames import (
    DrainInstance,
    InstanceEnded,
    InstanceEndedNoted,
    StartInstance,
    StopInstance,
)

FENCED = "service_fenced"
"""How an instance ends whose listener lease does."""
WHY = {
    FENCED: "the instance's listener lease has ended",
    "deadline_exceeded": "the instance had sessions when its drain was to be over",
    "finished": "",
    "lease_expired": "a lease of the instance ran out",
    "lease_revoked": "a lease of the instance was revoked",
    "service_not_listening": "the instance did not call svc_listen in time",
}
"""What the cell says of an end of its own making."""
KINDS = frozenset({LISTENER, "cpu", "mem", "block"})
"""Of the leases that an instance may stand on; of the first two exactly one each."""


def told(draft: Draft, frame: ForInstances) -> None:
    """What the scheduler wants of an instance."""
    match frame:
        case StartInstance():
            _start(draft, frame)
        case DrainInstance():
            _drain(draft, frame)
        case StopInstance():
            instance = draft.state.instances.get(frame.instance_id)
            if instance is not None:
                stop(draft, instance, frame.code if frame.code in CODES else "cancelled")
        case InstanceEndedNoted():
            noted = draft.state.instances.get(frame.instance_id)
            if noted is not None and noted.state == ENDED:
                draft.forget(holdings.INSTANCE, noted.instance_id)
        case _:
            assert_never(frame)


def _start(draft: Draft, frame: StartInstance) -> None:
    """Takes the instance on, once. A start that its tokens do not cover is an end, reported like any other."""
    known = draft.state.instances.get(frame.instance_id)
    if known is not None:
        if known.ended is not None:
            draft.report(known.ended)
        else:
            draft.do(TellServing(known.instance_id))
        return
    try:
        leases = _leases_for(draft, frame)
    except GrafosError as refusal:
        refused = InstanceOver(frame.instance_id, refusal.code, refusal.what)
        end(draft, _taken(draft, frame, ()), refused, draft.now)
        return
    for lease in leases:
        draft.put_lease(replace(lease, run_id=frame.instance_id))
    draft.put_instance(_taken(draft, frame, frame.leases))
    draft.do(StartServing(frame))


def _drain(draft: Draft, frame: DrainInstance) -> None:
    """The first drain counts, and a later one only when it ends sooner."""
    instance = draft.state.instances.get(frame.instance_id)
    until = draft.now + frame.deadline_s
    if instance is None or instance.state != GOING or 0.0 < instance.drain_until <= until:
        return
    draft.put_instance(replace(instance, drain_until=until))
    draft.do(DrainServing(instance.instance_id))


def over(draft: Draft, event: InstanceOver) -> None:
    """The end becomes durable and is reported; leases whose teardown waited for it go on with that."""
    instance = draft.state.instances.get(event.instance_id)
    if instance is None or instance.state != GOING:
        return
    end(draft, instance, event, draft.now)
    for lease_id in instance.lease_ids:
        broker_leases.let_go(draft, draft.leases[lease_id])


def stop(draft: Draft, instance: TakenInstance, code: str) -> None:
    """Tells the instance to stop, once; its end will bear ``code``."""
    if instance.state == GOING and not instance.stop_code:
        draft.put_instance(replace(instance, stop_code=code))
        draft.do(StopServing(instance.instance_id, code))


def is_fenced(draft: Draft, instance: TakenInstance) -> bool:
    """Whether its listener lease has ended: whatever else ended with it, that is why it may not serve any more."""
    leases = (draft.leases[lease_id] for lease_id in instance.lease_ids)
    return any(
        lease.kind == LISTENER and (lease.state != BOUND or lease.is_revoked or lease.expires_at <= draft.now)
        for lease in leases
    )


def end(draft: Draft, instance: TakenInstance, event: InstanceOver, ended_at: float) -> None:
    """Makes the end of an instance, with its receipt, and reports it. The caller sees to its leases."""
    code = instance.stop_code or event.code
    receipt = InstanceReceipt(
        fabric=draft.settings.fabric,
        instance_id=instance.instance_id,
        service=instance.service,
        generation=instance.generation,
        tenant=instance.tenant,
        provider=instance.provider,
        cell_id=draft.settings.cell_id,
        region=instance.region,
        module_sha256=instance.module_sha256,
        code=code,
        fuel_used=event.fuel_used,
        sessions_served=event.sessions_served,
        started_at=instance.started_at,
        ended_at=max(ended_at, instance.started_at),
        boot_epoch=instance.boot_epoch,
    )
    ended = InstanceEnded(
        instance_id=instance.instance_id,
        code=code,
        what=event.what if event.what and not instance.stop_code else WHY.get(code, "the cell stopped the instance"),
        fuel_used=event.fuel_used,
        sessions_served=event.sessions_served,
        log=event.log,
        receipt=draft.settings.sign(receipt),
    )
    draft.put_instance(replace(instance, state=ENDED, ended=ended))
    draft.report(ended)


def booted(draft: Draft) -> None:
    """Processes died with the daemon that had them. Nobody saw for how long they really served."""
    for instance in draft.state.instances.values():
        if instance.state == GOING:
            what = "the cell's daemon restarted while the instance was going"
            end(draft, instance, InstanceOver(instance.instance_id, "cell_lost", what), instance.started_at)


def link_up(draft: Draft) -> None:
    """Everything that the scheduler has not noted yet is told."""
    for instance in draft.state.instances.values():
        if instance.ended is not None:
            draft.report(instance.ended)


def tick(draft: Draft) -> None:
    """Ends what should have drained by now."""
    for instance_id in draft.state.instances:
        instance = draft.instances[instance_id]
        if instance.state == GOING and 0.0 < instance.drain_until <= draft.now:
            stop(draft, instance, "deadline_exceeded")


def _leases_for(draft: Draft, frame: StartInstance) -> list[HeldLease]:
    """The leases that the tokens open: all of this tenant, free of others, a CPU and a listener of the port among
    them."""
    if len(frame.tokens) != len(frame.leases) or len(set(frame.leases)) < len(frame.leases):
        raise GrafosError("request_invalid", "an instance needs one token for each of its leases")
    use = Use(START, frame.instance_id, frame.service, frame.program, frame.module_sha256, draft.settings.hardware)
    leases = [check_token(draft.state, token, use, draft.now) for token in frame.tokens]
    if tuple(lease.lease_id for lease in leases) != frame.leases:
        raise GrafosError("capability_refused", "a token is for another lease than the one beside it")
    if any(lease.tenant != frame.tenant for lease in leases):
        raise GrafosError("capability_refused", "a token belongs to another tenant")
    if any(lease.run_id for lease in leases):
        raise GrafosError("capability_refused", "a lease serves one run or instance, and one of these is taken")
    if any(lease.shared for lease in leases):
        raise GrafosError("capability_refused", "a shared region is no lease of an instance")
    if any(lease.is_revoked for lease in leases):
        raise GrafosError("lease_revoked", "a lease is being revoked, so nothing new begins on it")
    kinds = [lease.kind for lease in leases]
    if kinds.count("cpu") != 1 or not KINDS.issuperset(kinds):
        raise GrafosError("capability_refused", "an instance needs one CPU lease, one listener lease and memory")
    if [lease.amount for lease in leases if lease.kind == LISTENER] != [frame.listener_port]:
        raise GrafosError("capability_refused", f"no token gives a right to listen on port {frame.listener_port}")
    return leases


def _taken(draft: Draft, frame: StartInstance, lease_ids: tuple[str, ...]) -> TakenInstance:
    return TakenInstance(
        instance_id=frame.instance_id,
        service=frame.service,
        generation=frame.generation,
        tenant=frame.tenant,
        provider=frame.provider,
        region=frame.region,
        module_sha256=frame.module_sha256,
        boot_epoch=draft.state.epoch,
        lease_ids=lease_ids,
        started_at=draft.now,
    )
