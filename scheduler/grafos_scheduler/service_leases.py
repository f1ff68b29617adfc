"""The leases of an instance: one of its listener's port, one of its cores, one of its memory; see ``leases``.

They are asked for together, renewed together at half their life, and torn down together. They are short, since what a
cell without a link still serves it serves as long as they last.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ids
from grafos_core.audit_chain import AuditKind
from grafos_core.errors import CODES, GrafosError
from grafos_core.renewal import RenewalPolicy, jitter_seed
from grafos_core.resources import FIELD_OF_KIND, LISTENER
from grafos_core.revoking import RevokeState
from grafos_core.revoking import moved as revoke_moved
from grafos_scheduler import frames, leases, rows, service_instances, service_money, service_shortages
from grafos_scheduler.service_frames import StartInstance
from grafos_scheduler.service_instances import ACTIVE, ENDED, FENCED, PLANNED, STARTING
from grafos_scheduler.service_messages import ServiceSpec

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.service_rows import Instance
    from grafos_scheduler.state import State

POLICY = RenewalPolicy(renew_at_fraction=0.5, jitter_fraction=0.1, min_renew_secs=1.0)
"""Half of a short life is enough for a few more attempts."""
AboutLease = frames.LeaseGranted | frames.LeaseRefused | frames.LeaseTornDown


def is_of_instance(state: State, frame: AboutLease) -> bool:
    """Whether the frame is about a lease that is an instance's."""
    lease = state.leases.get(frame.lease_id)
    return lease is not None and lease.is_of_instance


def ask_first(draft: Draft, instance: Instance, chance: random.Random) -> Instance:
    """Makes and asks for the leases of an instance that is placed; gives it with them."""
    wanted, cell = instance.spec.resources, draft.state.cells[instance.cell_id]
    amounts = {LISTENER: instance.spec.listener_port} | {kind: wanted.of_kind(kind) for kind in FIELD_OF_KIND}
    expires_at = draft.now + draft.state.settings.service_lease_s
    made = [
        leases.first(
            draft,
            cell,
            ids.new_lease_id(kind, chance),
            (kind, amount),
            expires_at,
            tenant=instance.tenant,
            run_id=instance.instance_id,
        )
        for kind, amount in amounts.items()
        if amount
    ]
    for lease in made:
        leases.ask(draft, lease)
    return replace(instance, lease_ids=tuple(lease.lease_id for lease in made), serves_until=expires_at)


def ask_again(draft: Draft, instance: Instance) -> None:
    """Asks once more, in the same generation, for what an instance is to be started with; fresh tokens come back."""
    for lease in service_instances.leases_of(draft, instance):
        if lease.state in (leases.ASKED, leases.HELD):
            draft.remember(rows.TOKEN, lease.lease_id, None)
            leases.send_grant(draft, lease)


def heard(draft: Draft, cell_id: str, frame: AboutLease) -> None:
    """What a cell says of a lease of an instance."""
    lease = draft.state.leases[frame.lease_id]
    if lease.cell_id != cell_id:
        return
    match frame:
        case frames.LeaseGranted():
            _granted(draft, lease, frame)
        case frames.LeaseRefused():
            _refused(draft, lease, frame)
        case frames.LeaseTornDown():
            _torn_down(draft, lease, frame)


def revoke(draft: Draft, lease: rows.Lease, why: str) -> rows.Lease:
    """Takes a lease of an instance back; the instance is fenced at once, whatever the grace. Gives it as it is then."""
    if lease.state not in (leases.ASKED, leases.HELD):
        return lease
    label = revoke_moved(lease.revoke, RevokeState.REVOKE_WARNING)
    taken = replace(lease, revoke=label, revoke_why=why)
    draft.note_lease(AuditKind.LEASE_REVOKED, taken, run_id=lease.run_id, grace_ms=0, why=why)
    instance = draft.state.instances.get(lease.run_id)
    if instance is not None:
        what = f"its {lease.kind} lease was revoked" + (f": {why}" if why else "")
        service_instances.fence(draft, instance, "lease_revoked", what)
    taken = replace(taken, state=leases.TEARING)
    draft.put_lease(taken)
    return taken


def renew_due(draft: Draft, instance: Instance) -> None:
    """Asks for the next generation of all leases of the instance when it is time, and again where no answer came.
    ``budget_exceeded`` from the money for it."""
    held = service_instances.leases_of(draft, instance)
    if not held or draft.state.link_of(instance.cell_id) == 0 or draft.now >= instance.serves_until:
        return
    if all(lease.state == leases.HELD for lease in held):
        first = held[0]
        seed = jitter_seed(first.lease_id, first.generation)
        if draft.now >= POLICY.renewal_deadline(first.asked_at, first.expires_at, seed):
            _renew(draft, instance, held)
        return
    for lease in held:
        if lease.state == leases.ASKED and lease.generation > 1:
            _ask_pending(draft, lease)


def _renew(draft: Draft, instance: Instance, held: list[rows.Lease]) -> None:
    """The longer life is paid for and durable here before it is asked for."""
    paid = service_money.hold_next(draft, instance)
    expires_at = draft.now + draft.state.settings.service_lease_s
    service_instances.put(draft, replace(paid, serves_until=max(expires_at, instance.serves_until)))
    for lease in held:
        renewed = replace(
            leases.moved(lease, leases.ASKED),
            generation=lease.generation + 1,
            asked_at=draft.now,
            expires_at=expires_at,
        )
        draft.put_lease(renewed)
        leases.send_grant(draft, renewed)
        _note_attempt(draft, lease.lease_id, 1)


def _ask_pending(draft: Draft, lease: rows.Lease) -> None:
    pending = draft.state.renewals.get(lease.lease_id)
    if pending is None or draft.now >= pending.again_at:
        leases.send_grant(draft, lease)
        _note_attempt(draft, lease.lease_id, pending.attempts + 1 if pending else 1)


def _note_attempt(draft: Draft, lease_id: str, attempts: int) -> None:
    again_at = draft.now + POLICY.pause_s(attempts)
    draft.remember(rows.RENEWAL, lease_id, rows.Renewal(lease_id, attempts, again_at))


def _granted(draft: Draft, lease: rows.Lease, frame: frames.LeaseGranted) -> None:
    """With the last of its tokens an instance is started."""
    instance = draft.state.instances.get(lease.run_id)
    if frame.generation != lease.generation or lease.state not in (leases.ASKED, leases.HELD):
        return
    if lease.state == leases.ASKED:
        draft.put_lease(leases.moved(lease, leases.HELD))
    draft.remember(rows.RENEWAL, lease.lease_id, None)
    if instance is None or instance.state != STARTING:
        return  # a renewal: the cell carries on by itself
    draft.remember(rows.TOKEN, lease.lease_id, rows.LeaseToken(lease.lease_id, lease.generation, frame.token))
    tokens = _tokens(draft.state, instance, frame)
    if tokens is not None:
        draft.send(instance.cell_id, _start(draft, instance, tokens))


def _tokens(state: State, instance: Instance, newest: frames.LeaseGranted) -> tuple[str, ...] | None:
    """The tokens of all its leases, or None while one is missing."""
    found = []
    for lease_id in instance.lease_ids:
        known, lease = state.tokens.get(lease_id), state.leases.get(lease_id)
        if lease_id == newest.lease_id:
            found.append(newest.token)
        elif known is not None and lease is not None and known.generation == lease.generation:
            found.append(known.token)
        else:
            return None
    return tuple(found)


def _start(draft: Draft, instance: Instance, tokens: tuple[str, ...]) -> StartInstance:
    spec: ServiceSpec = instance.spec
    service = draft.service(instance.service_key)
    return StartInstance(
        instance_id=instance.instance_id,
        service=instance.service,
        generation=service.generation if service else 0,
        tenant=instance.tenant,
        program=spec.program,
        module_sha256=spec.module_hash,
        listener_port=spec.listener_port,
        max_sessions=spec.max_sessions,
        memory_bytes=spec.memory_bytes,
        leases=instance.lease_ids,
        tokens=tokens,
        fuel_per_session=spec.fuel_per_session,
        fuel_per_s_max=spec.fuel_per_s_max,
        drain_deadline_s=spec.drain_deadline_s,
        provider=instance.provider,
        region=instance.region,
    )


def _refused(draft: Draft, lease: rows.Lease, frame: frames.LeaseRefused) -> None:
    """The broker turned it down. If that was a renewal, the lease goes on to its end there and no further."""
    if lease.state != leases.ASKED or frame.generation != lease.generation:
        return
    code = frame.code if frame.code in CODES else "answer_invalid"
    instance = draft.state.instances.get(lease.run_id)
    if instance is not None and instance.state not in (FENCED, ENDED):
        what = f"cell {lease.cell_id} refused the {lease.kind} lease: {frame.what}"
        service_instances.fence(draft, instance, code, what)


def _torn_down(draft: Draft, lease: rows.Lease, frame: frames.LeaseTornDown) -> None:
    """Once the listener's binding is gone its instance has ended; without any other of its leases it is fenced."""
    if frame.generation < lease.generation:
        return
    instance = draft.state.instances.get(lease.run_id)
    if instance is not None and instance.state != ENDED:
        _without_lease(draft, instance, lease, frame)
    leases.torn_down(draft, lease.cell_id, frame)
    service_shortages.forget_all(draft)


def _without_lease(draft: Draft, instance: Instance, lease: rows.Lease, frame: frames.LeaseTornDown) -> None:
    taken = lease.revoke != RevokeState.ACTIVE
    code = "lease_revoked" if taken else "lease_expired"
    what = f"its {lease.kind} lease " + ("could not be taken down" if frame.fenced else "is gone")
    if frame.fenced or lease.kind != LISTENER:
        service_instances.fence(draft, instance, code, what)
        return
    if instance.state in (PLANNED, STARTING, ACTIVE):
        service_instances.note(draft, AuditKind.FAILOVER_STARTED, instance, code=code, what=what)
    service_instances.end(draft, instance, code, what)


def can_be_taken_over(draft: Draft, instance: Instance) -> bool:
    """Whether all leases of an instance that crashed are still held, for the next one on the same cell."""
    held = service_instances.leases_of(draft, instance)
    fit = [lease for lease in held if lease.state in (leases.ASKED, leases.HELD) and lease.revoke == RevokeState.ACTIVE]
    return len(fit) == len(instance.lease_ids) and draft.now < instance.serves_until


def take_over(draft: Draft, before: Instance, instance_id: str) -> None:
    """Gives the leases of an instance that crashed to the next one on the same cell."""
    for lease in service_instances.leases_of(draft, before):
        draft.remember(rows.TOKEN, lease.lease_id, None)
        draft.put_lease(replace(lease, run_id=instance_id))


def drain_without_money(draft: Draft, instance: Instance, refusal: GrafosError) -> None:
    """No money for the next period: no new session, and the end with what is paid for."""
    left_s = max(0.0, instance.serves_until - draft.now - draft.state.settings.clock_skew_max_s)
    deadline_s = min(instance.spec.drain_deadline_s, left_s)
    service_instances.drain(draft, instance, refusal.code, refusal.what, deadline_s)
