"""The capability broker: the cell's own mind about its leases, decided purely, an event at a time.

    decision = decide(state, event, clock.now())     # pure
    state.apply(decision.batch)
    commit decision.batch to the cell's disk          # durable
    ...only now carry out decision.effects, in order

The broker is the last word on its cell, whoever asks for what. It leases out no more than the cell has; for each lease
its generation only grows, and nothing granted or minted under an older one, or before the daemon's last start, is
honoured; every token is checked against all of that at the very use. A lease ends at its time by the cell's own clock,
with nobody told and nobody asked, and takes a run that still stands on it along:

    (none) --grant--> bound --expiry or teardown--> closing --binding gone--> closed --expiry--> (forgotten)
                        |                              `--could not be taken down--> fenced (out of use until an
                        `--next generation--> bound                                   operator clears it)

A run is durable here before its worker starts, so the same run never starts twice; its end is durable before it is
reported, and kept until the scheduler has noted it. A daemon that starts again ends the runs that were going.
"""

from __future__ import annotations

from collections import ChainMap
from typing import assert_never

import msgspec
from msgspec.structs import replace

from grafos_cell import holdings
from grafos_cell.broker_events import (
    Booted,
    Decision,
    Effect,
    Event,
    LinkUp,
    Report,
    Reportable,
    StartWorker,
    StopWorker,
    Tick,
    Told,
    Unbind,
    Unbound,
    WorkerEnded,
)
from grafos_cell.holdings import BOUND, CLOSED, CLOSING, ENDED, FENCED, GOING, BrokerState, HeldLease, TakenRun
from grafos_core.changes import Change, last_of_each
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.receipts import RunReceipt
from grafos_core.tokens import CAPABILITY_TTL_MAX_S, CapabilityClaims, Use, check_capability, mint_capability
from grafos_scheduler import messages

LEASE_TTL_S_MAX = 2 * 3600.0
"""The longest lease: an hour is the longest run, and the time to start it comes on top."""
OVERRUN_S = 20.0
"""What a worker gets beyond its run's deadline, to fetch, to compile and to notice the deadline by itself."""
TEARDOWN_WITHIN_S = 10.0
"""How long a teardown may take before the lease is fenced; a killed process is gone in a fraction of that."""

START = "start"
"""The operation that a token is presented for when a run starts."""


def decide(state: BrokerState, event: Event, now: float) -> Decision:
    """What ``event`` comes to at ``now`` (Unix seconds). Changes nothing, and never refuses: refusals are reports."""
    draft = _Draft(state, now)
    match event:
        case Told():
            _told(draft, event)
        case WorkerEnded():
            _worker_ended(draft, event)
        case Unbound():
            _unbound(draft, event)
        case Tick():
            _tick(draft)
        case LinkUp():
            for run in state.runs.values():
                if run.ended is not None:
                    draft.report(run.ended)
        case Booted():
            _booted(draft)
        case _:
            assert_never(event)
    return draft.decision()


def check_token(state: BrokerState, token: str, use: Use, now: float) -> HeldLease:
    """The lease that ``token`` opens for ``use`` at this very moment.

    ``capability_refused`` (not ours, altered, of an earlier start, or narrowed to something else), ``token_expired``,
    ``generation_stale``, ``lease_expired`` or ``fenced`` says why not.
    """
    claims = check_capability(state.settings.token_key, token, use, now)
    if claims.audience != state.settings.cell_id:
        raise GrafosError("capability_refused", f"the token is for cell {claims.audience}")
    if claims.boot_epoch != state.epoch:
        raise GrafosError("capability_refused", "the token is from before this cell's last start")
    lease = state.leases.get(claims.lease_id)
    if lease is None or (lease.tenant, lease.kind) != (claims.tenant, claims.kind):
        raise GrafosError("capability_refused", f"this cell holds no such lease {claims.lease_id}")
    if lease.generation != claims.generation:
        raise GrafosError("generation_stale", f"lease {lease.lease_id} is in generation {lease.generation} by now")
    if lease.state == FENCED:
        raise GrafosError("fenced", f"lease {lease.lease_id} is fenced")
    if lease.state != BOUND or lease.expires_at <= now:
        raise GrafosError("lease_expired", f"lease {lease.lease_id} has ended")
    return lease


def hello(state: BrokerState, agent_version: str) -> messages.Hello:
    """What the cell says of itself when it opens a link."""
    return messages.Hello(
        cell_id=state.settings.cell_id,
        boot_epoch=state.epoch,
        agent_version=agent_version,
        unacknowledged=state.unacknowledged,
        fenced=state.fenced,
    )


def heartbeat(state: BrokerState) -> messages.Heartbeat:
    """What the cell says at every beat."""
    return messages.Heartbeat(leased=state.leased, fenced=state.fenced)


class _Draft:
    """A decision in the making. ``leases`` and ``runs`` show what this event has changed so far."""

    def __init__(self, state: BrokerState, now: float) -> None:
        self.state = state
        self.settings = state.settings
        self.now = now
        self.leases: ChainMap[str, HeldLease] = ChainMap({}, state.leases)
        self.runs: ChainMap[str, TakenRun] = ChainMap({}, state.runs)
        self._batch: list[Change] = []
        self._effects: list[Effect] = []

    def put_lease(self, lease: HeldLease) -> None:
        self.leases[lease.lease_id] = lease
        self._put(holdings.LEASE, lease.lease_id, lease)

    def put_run(self, run: TakenRun) -> None:
        self.runs[run.run_id] = run
        self._put(holdings.RUN, run.run_id, run)

    def put_boot(self, boot: holdings.Boot) -> None:
        self._put(holdings.BOOT, holdings.THE_BOOT, boot)

    def forget(self, kind: str, key: str) -> None:
        self._put(kind, key, None)

    def report(self, frame: Reportable) -> None:
        self.do(Report(frame))

    def do(self, effect: Effect) -> None:
        self._effects.append(effect)

    def decision(self) -> Decision:
        return Decision(last_of_each(self._batch), tuple(self._effects))

    def _put(self, kind: str, key: str, row: msgspec.Struct | None) -> None:
        self._batch.append(Change(kind, key, row))


def _booted(draft: _Draft) -> None:
    """The next epoch. Bindings and workers died with the process that had them; fences and generations stay."""
    draft.put_boot(holdings.Boot(draft.state.epoch + 1))
    for lease in draft.state.leases.values():
        if lease.state in (BOUND, CLOSING):
            draft.put_lease(replace(lease, state=CLOSED, run_id=""))
    for run in draft.state.runs.values():
        if run.state == GOING:
            # Nobody saw how long it really ran, so the receipt shows no time, and it costs its tenant nothing.
            lost = WorkerEnded(run.run_id, "cell_lost", "the cell's daemon restarted while the run was going")
            _end(draft, run, lost, ended_at=run.started_at)


def _told(draft: _Draft, event: Told) -> None:
    match event.frame:
        case messages.GrantLease():
            _grant(draft, event.frame)
        case messages.StartRun():
            _start(draft, event.frame)
        case messages.TearDownLease():
            _tear_down(draft, event.frame)
        case messages.RunEndedNoted():
            run = draft.state.runs.get(event.frame.run_id)
            if run is not None and run.state == ENDED:
                draft.forget(holdings.RUN, run.run_id)
        case _:
            assert_never(event.frame)


# --- granting ---------------------------------------------------------------------------------------------------


def _grant(draft: _Draft, frame: messages.GrantLease) -> None:
    """Binds the lease and mints a token for it. The same generation again gives a fresh token and nothing more."""
    known = draft.state.leases.get(frame.lease_id)
    try:
        _check_grant(draft, frame, known)
    except GrafosError as refusal:
        draft.report(messages.LeaseRefused(frame.lease_id, frame.generation, refusal.code, refusal.what))
        return
    lease = known
    if lease is None or lease.generation < frame.generation:
        lease = HeldLease(
            lease_id=frame.lease_id,
            tenant=frame.tenant,
            kind=frame.kind,
            amount=frame.amount,
            generation=frame.generation,
            expires_at=frame.expires_at,
            run_id=lease.run_id if lease else "",
        )
        draft.put_lease(lease)
    draft.report(messages.LeaseGranted(lease.lease_id, lease.generation, _token(draft, lease)))


def _check_grant(draft: _Draft, frame: messages.GrantLease, known: HeldLease | None) -> None:
    if frame.kind not in holdings.KINDS_LEASED:
        raise GrafosError("unsupported", f"this cell leases no {frame.kind!r}")
    if frame.amount <= 0:
        raise GrafosError("request_invalid", f"a lease of {frame.amount} is no lease")
    if not draft.now < frame.expires_at <= draft.now + LEASE_TTL_S_MAX:
        raise GrafosError("lease_expired", f"the lease would end {frame.expires_at - draft.now:.0f} s from now")
    if known is not None:
        _check_known(frame, known)
    others = holdings.total_of(lease for lease in draft.state.leases.values() if lease.lease_id != frame.lease_id)
    wanted = HeldLease(frame.lease_id, frame.tenant, frame.kind, frame.amount, frame.generation, 0.0).resources
    lacking = wanted.lacking(draft.settings.total - others)
    if lacking:
        raise GrafosError("placement_failed", f"no room for {', '.join(lacking)}")


def _check_known(frame: messages.GrantLease, known: HeldLease) -> None:
    """A lease that was granted before may be asked for again, in its generation or the next."""
    if known.state == FENCED:
        raise GrafosError("fenced", "the lease is fenced until an operator clears it")
    if frame.generation < known.generation:
        raise GrafosError("generation_stale", f"the lease is in generation {known.generation}")
    if (frame.tenant, frame.kind, frame.amount) != (known.tenant, known.kind, known.amount):
        raise GrafosError("request_invalid", "the lease was granted for something else")
    if known.state == CLOSING or (known.state == CLOSED and frame.generation == known.generation):
        raise GrafosError("lease_expired", "the lease has been torn down")


def _token(draft: _Draft, lease: HeldLease) -> str:
    claims = CapabilityClaims(
        audience=draft.settings.cell_id,
        tenant=lease.tenant,
        kind=lease.kind,
        lease_id=lease.lease_id,
        generation=lease.generation,
        boot_epoch=draft.state.epoch,
        expires_at=min(lease.expires_at, draft.now + CAPABILITY_TTL_MAX_S),
    )
    return mint_capability(draft.settings.token_key, claims)


# --- running ----------------------------------------------------------------------------------------------------


def _start(draft: _Draft, frame: messages.StartRun) -> None:
    """Takes the run on, once. A start that its tokens do not cover is an end, reported like any other."""
    known = draft.state.runs.get(frame.run_id)
    if known is not None:
        draft.report(known.ended or messages.RunStarted(known.run_id))
        return
    try:
        leases = _leases_for(draft, frame)
    except GrafosError as refusal:
        _end(draft, _taken(draft, frame, ()), WorkerEnded(frame.run_id, refusal.code, refusal.what), draft.now)
        return
    for lease in leases:
        draft.put_lease(replace(lease, run_id=frame.run_id))
    draft.put_run(_taken(draft, frame, tuple(leases)))
    draft.report(messages.RunStarted(frame.run_id))
    draft.do(StartWorker(frame))


def _leases_for(draft: _Draft, frame: messages.StartRun) -> list[HeldLease]:
    """The leases that the tokens open: all of this tenant, free of other runs, one CPU among them."""
    use = Use(START, frame.run_id, frame.tasklet)
    leases = [check_token(draft.state, token, use, draft.now) for token in frame.tokens]
    if any(lease.tenant != frame.tenant for lease in leases):
        raise GrafosError("capability_refused", "a token belongs to another tenant")
    if any(lease.run_id for lease in leases) or len({lease.lease_id for lease in leases}) < len(leases):
        raise GrafosError("capability_refused", "a lease serves one run, and one of these is taken")
    if [lease.kind for lease in leases].count("cpu") != 1:
        raise GrafosError("capability_refused", "a run needs the token of one CPU lease")
    return leases


def _taken(draft: _Draft, frame: messages.StartRun, leases: tuple[HeldLease, ...]) -> TakenRun:
    return TakenRun(
        run_id=frame.run_id,
        tenant=frame.tenant,
        provider=frame.provider,
        region=frame.region,
        tasklet=frame.tasklet,
        module_sha256=frame.module_sha256,
        input_sha256=frame.input_sha256,
        boot_epoch=draft.state.epoch,
        lease_ids=tuple(lease.lease_id for lease in leases),
        started_at=draft.now,
        stop_at=draft.now + frame.deadline_s + OVERRUN_S,
    )


def _worker_ended(draft: _Draft, event: WorkerEnded) -> None:
    """The run's end becomes durable and is reported; leases whose teardown waited for it go on with that."""
    run = draft.state.runs.get(event.run_id)
    if run is None or run.state != GOING:
        return
    if run.stop_code:
        event = WorkerEnded(run.run_id, run.stop_code, "the cell stopped the run", log=event.log)
    _end(draft, run, event, draft.now)
    for lease_id in run.lease_ids:
        lease = replace(draft.leases[lease_id], run_id="")
        draft.put_lease(lease)
        if lease.state == CLOSING:
            draft.do(Unbind(lease.lease_id, lease.generation, lease.kind))


def _end(draft: _Draft, run: TakenRun, outcome: WorkerEnded, ended_at: float) -> None:
    receipt = RunReceipt(
        fabric=draft.settings.fabric,
        run_id=run.run_id,
        tenant=run.tenant,
        provider=run.provider,
        cell_id=draft.settings.cell_id,
        region=run.region,
        tasklet=run.tasklet,
        module_sha256=run.module_sha256,
        input_sha256=run.input_sha256,
        code=outcome.code,
        response_sha256=sha256_of(outcome.response_json.encode()),
        output_sha256=sha256_of(outcome.output),
        fuel_used=outcome.fuel_used,
        started_at=run.started_at,
        ended_at=max(ended_at, run.started_at),
        boot_epoch=run.boot_epoch,
    )
    ended = messages.RunEnded(
        run_id=run.run_id,
        code=outcome.code,
        what=outcome.what,
        fuel_used=outcome.fuel_used,
        response_json=outcome.response_json,
        output=outcome.output,
        log=outcome.log,
        receipt=draft.settings.sign(receipt),
    )
    draft.put_run(replace(run, state=ENDED, ended=ended))
    draft.report(ended)


def _stop(draft: _Draft, run: TakenRun, code: str) -> None:
    """Tells the run's worker to stop, once; its end will bear ``code``."""
    if run.state == GOING and not run.stop_code:
        draft.put_run(replace(run, stop_code=code))
        draft.do(StopWorker(run.run_id))


# --- tearing down -----------------------------------------------------------------------------------------------


def _tear_down(draft: _Draft, frame: messages.TearDownLease) -> None:
    """Begins the teardown, or says again what became of it. A lease that is unknown here is gone."""
    lease = draft.state.leases.get(frame.lease_id)
    if lease is not None and frame.generation > lease.generation:
        # The grant of that generation was lost on the way; should it come yet, it must not be honoured.
        lease = replace(lease, generation=frame.generation)
        draft.put_lease(lease)
    if lease is None or frame.generation < lease.generation or lease.state == CLOSED:
        draft.report(messages.LeaseTornDown(frame.lease_id, frame.generation))
    elif lease.state == FENCED:
        draft.report(messages.LeaseTornDown(lease.lease_id, frame.generation, fenced=True))
    elif lease.state == BOUND:
        _close(draft, lease)


def _close(draft: _Draft, lease: HeldLease) -> None:
    """From here on no token of the lease is honoured. Its binding goes when no worker uses it any more."""
    draft.put_lease(replace(lease, state=CLOSING, closing_since=draft.now))
    run = draft.runs.get(lease.run_id)
    if run is not None and run.state == GOING:
        _stop(draft, run, "lease_expired")
    else:
        draft.do(Unbind(lease.lease_id, lease.generation, lease.kind))


def _unbound(draft: _Draft, event: Unbound) -> None:
    lease = draft.state.leases.get(event.lease_id)
    if lease is None or lease.generation != event.generation or lease.state != CLOSING:
        return
    _closed(draft, lease, gone=event.gone)


def _closed(draft: _Draft, lease: HeldLease, *, gone: bool) -> None:
    draft.put_lease(replace(lease, state=CLOSED if gone else FENCED, run_id=""))
    draft.report(messages.LeaseTornDown(lease.lease_id, lease.generation, fenced=not gone))


def _tick(draft: _Draft) -> None:
    """Ends what has had its time: leases, runs, teardowns that do not come to an end, and memories of closed leases."""
    for lease_id in draft.state.leases:
        lease = draft.leases[lease_id]
        if lease.state == BOUND and lease.expires_at <= draft.now:
            _close(draft, lease)
        elif lease.state == CLOSING and draft.now - lease.closing_since >= TEARDOWN_WITHIN_S:
            _fence(draft, lease)
        elif lease.state == CLOSED and lease.expires_at <= draft.now:
            # Asked for again, its generation would be refused as expired anyway; so it need not be remembered.
            draft.forget(holdings.LEASE, lease.lease_id)
    for run_id in draft.state.runs:
        run = draft.runs[run_id]
        if run.state == GOING and run.stop_at <= draft.now:
            _stop(draft, run, "deadline_exceeded")


def _fence(draft: _Draft, lease: HeldLease) -> None:
    """The teardown took too long: nothing new may land there, and a run that would not stop is over all the same.

    Its worker may still use every lease of the run, so none of them is ever given back as free.
    """
    run = draft.runs.get(lease.run_id)
    if run is None or run.state != GOING:
        _closed(draft, lease, gone=False)
        return
    stuck = WorkerEnded(run.run_id, "worker_lost", "the worker could not be stopped")
    _end(draft, run, stuck, draft.now)
    for lease_id in run.lease_ids:
        _closed(draft, draft.leases[lease_id], gone=False)
