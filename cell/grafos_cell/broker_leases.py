"""The leases of a cell: granted, renewed, revoked, torn down, fenced, and cleared by an operator.

A renewal is a grant in the next generation: the lease goes on under its run, and what was minted before opens nothing.
A revocation warns, waits for its grace to pass or for the run to end by itself, and only then tears down; the states
are those of ``grafos_core.revoking``. Nothing is given back while a worker may still use it.
"""

from __future__ import annotations

from msgspec.structs import replace

from grafos_cell import broker_instances, broker_runs, holdings
from grafos_cell.broker_draft import Draft
from grafos_cell.broker_events import InstanceOver, Renewed, Unbind, Unbound, WorkerEnded
from grafos_cell.broker_tokens import mint_token
from grafos_cell.holdings import BOUND, CLOSED, CLOSING, FENCED, GOING, HeldLease, TakenInstance, TakenRun
from grafos_core.errors import GrafosError
from grafos_core.resources import KINDS_ON_DISK, LISTENER
from grafos_core.revoking import GRACE_S_MAX, RevokeState, moved
from grafos_scheduler import frames

LEASE_TTL_S_MAX = 2 * 3600.0
"""The longest lease: a scheduler that does not renew leases for an hour's run and the time to start it."""
PORT_MAX = 65_535
TEARDOWN_WITHIN_S = 10.0
"""How long a teardown may take before the lease is fenced; a killed process is gone in a fraction of that."""


# --- granting and renewing ----------------------------------------------------------------------------------------


def grant(draft: Draft, frame: frames.GrantLease) -> None:
    """Binds the lease and mints a token for it. The same generation again gives a fresh token and nothing more."""
    lease = draft.state.leases.get(frame.lease_id)
    try:
        _check_grant(draft, frame, lease)
    except GrafosError as refusal:
        draft.report(frames.LeaseRefused(frame.lease_id, frame.generation, refusal.code, refusal.what))
        return
    if lease is None or lease.generation < frame.generation:
        lease = HeldLease(
            lease_id=frame.lease_id,
            tenant=frame.tenant,
            kind=frame.kind,
            amount=frame.amount,
            generation=frame.generation,
            expires_at=frame.expires_at,
            run_id=lease.run_id if lease else "",
            shared=frame.shared,
        )
        draft.put_lease(lease)
    token = mint_token(draft.state, lease, draft.now)
    draft.report(frames.LeaseGranted(lease.lease_id, lease.generation, token))
    if lease.run_id:
        draft.renew(Renewed(lease.run_id, lease.lease_id, token))


def _check_grant(draft: Draft, frame: frames.GrantLease, known: HeldLease | None) -> None:
    if frame.kind == LISTENER:
        _check_port(draft, frame)
    elif not draft.settings.total.of_kind(frame.kind):
        raise GrafosError("unsupported", f"this cell has no {frame.kind!r} to lease")
    if frame.shared and frame.kind != "mem":
        raise GrafosError("request_invalid", f"a region is memory, and no {frame.kind!r}")
    if frame.amount <= 0:
        raise GrafosError("request_invalid", f"a lease of {frame.amount} is no lease")
    if not draft.now < frame.expires_at <= draft.now + LEASE_TTL_S_MAX:
        raise GrafosError("lease_expired", f"the lease would end {frame.expires_at - draft.now:.0f} s from now")
    if known is not None:
        _check_known(frame, known)
    if frame.shared and frame.generation > 1 and (known is None or known.state == CLOSED):
        raise GrafosError("lease_expired", "the region is gone, and its bytes with it: there is nothing to renew")
    others = draft.state.leased - holdings.taken_by(known)
    wanted = HeldLease(frame.lease_id, frame.tenant, frame.kind, frame.amount, frame.generation, 0.0).resources
    lacking = wanted.lacking(draft.settings.total - others)
    if lacking:
        raise GrafosError("placement_failed", f"no room for {', '.join(lacking)}")


def _check_port(draft: Draft, frame: frames.GrantLease) -> None:
    """A port is of one lease alone, until that is closed; one that is fenced keeps its port."""
    if frame.amount > PORT_MAX:
        raise GrafosError("request_invalid", f"{frame.amount} is no port")
    for lease in draft.state.leases.values():
        is_other = lease.lease_id != frame.lease_id
        if is_other and (lease.kind, lease.amount) == (LISTENER, frame.amount) and lease.state != CLOSED:
            raise GrafosError("port_taken", f"another lease of this cell has port {frame.amount}")


def _check_known(frame: frames.GrantLease, known: HeldLease) -> None:
    """A lease that was granted before may be asked for again, in its generation or the next."""
    if known.state == FENCED:
        raise GrafosError("fenced", "the lease is fenced until an operator clears it")
    if known.is_revoked:
        raise GrafosError("lease_revoked", "the lease was revoked, and is not given again")
    if frame.generation < known.generation:
        raise GrafosError("generation_stale", f"the lease is in generation {known.generation}")
    asked = (frame.tenant, frame.kind, frame.amount, frame.shared)
    if asked != (known.tenant, known.kind, known.amount, known.shared):
        raise GrafosError("request_invalid", "the lease was granted for something else")
    if known.state == CLOSING or (known.state == CLOSED and frame.generation == known.generation):
        raise GrafosError("lease_expired", "the lease has been torn down")


# --- revoking -----------------------------------------------------------------------------------------------------


def revoke(draft: Draft, frame: frames.RevokeLease) -> None:
    """Warns the lease's holder, once; asked again, it tells how far the revocation has come."""
    lease = draft.state.leases.get(frame.lease_id)
    if lease is None or lease.state in (CLOSED, FENCED):
        tear_down(draft, frames.TearDownLease(frame.lease_id, frame.generation))
    elif lease.is_revoked:
        draft.report(frames.LeaseRevoked(lease.lease_id, lease.generation, lease.revoke))
    elif lease.state == BOUND:
        grace_s = min(max(0.0, frame.grace_s), GRACE_S_MAX)
        _step(draft, replace(lease, grace_until=draft.now + grace_s), RevokeState.REVOKE_WARNING)
        user = _user(draft, lease)
        if isinstance(user, TakenInstance) and lease.kind == LISTENER:
            # A grace is for work that comes to an end by itself.
            broker_instances.stop(draft, user, broker_instances.FENCED)


def _step(draft: Draft, lease: HeldLease, later: RevokeState) -> HeldLease:
    """The lease one state further on its way out; told to the scheduler when it is a revocation."""
    lease = replace(lease, revoke=moved(lease.revoke, later))
    draft.put_lease(lease)
    if lease.is_revoked:
        draft.report(frames.LeaseRevoked(lease.lease_id, lease.generation, lease.revoke))
    return lease


# --- tearing down -------------------------------------------------------------------------------------------------


def tear_down(draft: Draft, frame: frames.TearDownLease) -> None:
    """Begins the teardown, or says again what became of it. A lease that is unknown here is gone."""
    known = draft.state.leases.get(frame.lease_id)
    lease = known and _in_generation(draft, known, frame.generation)
    if lease is not None and lease.state == FENCED:
        draft.report(frames.LeaseTornDown(lease.lease_id, frame.generation, fenced=True))
    elif lease is None or frame.generation < lease.generation or lease.state == CLOSED:
        draft.report(frames.LeaseTornDown(frame.lease_id, frame.generation))
    elif lease.state == BOUND:
        if lease.is_revoked:
            is_used = _user(draft, lease) is not None
            lease = _step(draft, lease, RevokeState.FORCED_TEARDOWN if is_used else RevokeState.CHECKPOINT_REPORTED)
        _close(draft, lease)
    elif lease != known and _user(draft, lease) is None:
        draft.do(Unbind(lease.lease_id, lease.generation, lease.kind))  # the answer to the one before is old news now


def clear_fence(draft: Draft, frame: frames.ClearFence) -> None:
    """An operator says that nothing uses the resource any more: the teardown is tried once more."""
    lease = draft.state.leases.get(frame.lease_id)
    if lease is None or lease.state == CLOSED:
        draft.report(frames.LeaseTornDown(frame.lease_id, frame.generation))
    elif lease.state == FENCED:
        lease = _in_generation(draft, lease, frame.generation)
        draft.put_lease(replace(lease, state=CLOSING, closing_since=draft.now))
        draft.do(Unbind(lease.lease_id, lease.generation, lease.kind))


def _in_generation(draft: Draft, lease: HeldLease, generation: int) -> HeldLease:
    """The lease in the generation that the scheduler speaks of, if it is a later one whose grant was lost on the way.

    Should that come yet, it must not be honoured; and what was told of an earlier one is passed over there.
    """
    if generation <= lease.generation:
        return lease
    lease = replace(lease, generation=generation)
    draft.put_lease(lease)
    return lease


def let_go(draft: Draft, lease: HeldLease) -> None:
    """Who used the lease has ended. What waited for that is unbound; what is being revoked has thereby been given
    back."""
    lease = replace(lease, run_id="")
    draft.put_lease(lease)
    if lease.state == BOUND and lease.is_revoked:
        _close(draft, _step(draft, lease, RevokeState.CHECKPOINT_REPORTED))
    elif lease.state == CLOSING:
        draft.do(Unbind(lease.lease_id, lease.generation, lease.kind))


def unbound(draft: Draft, event: Unbound) -> None:
    """How taking the binding down went."""
    lease = draft.state.leases.get(event.lease_id)
    if lease is None or lease.generation != event.generation or lease.state != CLOSING:
        return
    _closed(draft, lease, gone=event.gone)


def booted(draft: Draft) -> None:
    """Bindings died with the process that had them, but for blocks, which are on the disk; fences and generations
    stay. A teardown of blocks that was under way begins again."""
    for lease in draft.state.leases.values():
        if lease.kind in KINDS_ON_DISK:
            if lease.state == BOUND:
                draft.put_lease(replace(lease, run_id=""))
            elif lease.state == CLOSING:
                draft.put_lease(replace(lease, run_id="", closing_since=draft.now))
                draft.do(Unbind(lease.lease_id, lease.generation, lease.kind))
        elif lease.state in (BOUND, CLOSING):
            ended = RevokeState.FAILED_CLOSED
            label = lease.revoke if lease.revoke in ENDED_ALREADY else moved(lease.revoke, ended)
            draft.put_lease(replace(lease, state=CLOSED, run_id="", revoke=label))


ENDED_ALREADY = frozenset({RevokeState.ACTIVE.value, RevokeState.FENCED.value})
"""Labels that a restart leaves alone: nobody revokes the lease, or its teardown was being tried once more."""


def tick(draft: Draft) -> None:
    """Ends what has had its time: leases, graces, teardowns that do not come to an end, memories of closed leases."""
    for lease_id in draft.state.leases:
        lease = draft.leases[lease_id]
        if lease.state == BOUND:
            _tick_bound(draft, lease)
        elif lease.state == CLOSING and draft.now - lease.closing_since >= TEARDOWN_WITHIN_S:
            _fence(draft, lease)
        elif lease.state == CLOSED and lease.expires_at <= draft.now:
            # Asked for again, its generation would be refused as expired anyway; so it need not be remembered.
            draft.forget(holdings.LEASE, lease.lease_id)


def _tick_bound(draft: Draft, lease: HeldLease) -> None:
    if lease.expires_at <= draft.now:
        _close(draft, _step(draft, lease, RevokeState.EXPIRED))
    elif lease.revoke == RevokeState.REVOKE_WARNING:
        _step(draft, lease, RevokeState.GRACE_RUNNING)
    elif lease.revoke == RevokeState.GRACE_RUNNING and lease.grace_until <= draft.now:
        _close(draft, _step(draft, lease, RevokeState.FORCED_TEARDOWN))


def _close(draft: Draft, lease: HeldLease) -> None:
    """From here on no token of the lease is honoured. Its binding goes when no worker uses it any more."""
    draft.put_lease(replace(lease, state=CLOSING, closing_since=draft.now))
    user = _user(draft, lease)
    code = "lease_revoked" if lease.is_revoked else "lease_expired"
    if isinstance(user, TakenRun):
        broker_runs.stop(draft, user, code)
    elif isinstance(user, TakenInstance):
        broker_instances.stop(draft, user, broker_instances.FENCED if broker_instances.is_fenced(draft, user) else code)
    else:
        draft.do(Unbind(lease.lease_id, lease.generation, lease.kind))


def _user(draft: Draft, lease: HeldLease) -> TakenRun | TakenInstance | None:
    """The run or instance that goes on this lease."""
    user = draft.runs.get(lease.run_id) or draft.instances.get(lease.run_id)
    return user if user is not None and user.state == GOING else None


def _closed(draft: Draft, lease: HeldLease, *, gone: bool) -> None:
    lease = replace(lease, state=CLOSED if gone else FENCED, run_id="")
    if lease.revoke in (RevokeState.REVOKE_WARNING, RevokeState.GRACE_RUNNING):
        lease = replace(lease, revoke=moved(lease.revoke, RevokeState.FORCED_TEARDOWN))
    if RevokeState(lease.revoke).is_terminal or lease.revoke == RevokeState.ACTIVE:
        draft.put_lease(lease)
    elif not gone:
        _step(draft, lease, RevokeState.FENCED)
    else:
        has_expired = lease.revoke == RevokeState.EXPIRED
        _step(draft, lease, RevokeState.FAILED_CLOSED if has_expired else RevokeState.TORNDOWN)
    draft.report(frames.LeaseTornDown(lease.lease_id, lease.generation, fenced=not gone))


def _fence(draft: Draft, lease: HeldLease) -> None:
    """The teardown took too long: nothing new may land there, and a run that would not stop is over all the same.

    Its worker may still use every lease of the run, so none of them is ever given back as free.
    """
    user = _user(draft, lease)
    if user is None:
        _closed(draft, lease, gone=False)
        return
    what = "the worker could not be stopped"
    if isinstance(user, TakenRun):
        broker_runs.end(draft, user, WorkerEnded(user.run_id, "worker_lost", what), draft.now)
    else:
        broker_instances.end(draft, user, InstanceOver(user.instance_id, "worker_lost", what), draft.now)
    for lease_id in user.lease_ids:
        _closed(draft, draft.leases[lease_id], gone=False)
