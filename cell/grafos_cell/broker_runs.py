"""The runs of a cell: taken on once, ended once, the end kept until the scheduler has noted it."""

from __future__ import annotations

from msgspec.structs import replace

from grafos_cell import broker_leases, holdings
from grafos_cell.broker_draft import Draft
from grafos_cell.broker_events import StartWorker, StopWorker, WorkerEnded
from grafos_cell.broker_tokens import START, check_token
from grafos_cell.holdings import ENDED, GOING, HeldLease, TakenRun
from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_core.receipts import RunReceipt
from grafos_core.tokens import Use
from grafos_scheduler import frames

OVERRUN_S = 20.0
"""What a worker gets beyond its run's deadline, to fetch, to compile and to notice the deadline by itself."""


def start(draft: Draft, frame: frames.StartRun) -> None:
    """Takes the run on, once. A start that its tokens do not cover is an end, reported like any other."""
    known = draft.state.runs.get(frame.run_id)
    if known is not None:
        draft.report(known.ended or frames.RunStarted(known.run_id))
        return
    try:
        leases = _leases_for(draft, frame)
    except GrafosError as refusal:
        end(draft, _taken(draft, frame, ()), WorkerEnded(frame.run_id, refusal.code, refusal.what), draft.now)
        return
    for lease in leases:
        draft.put_lease(replace(lease, run_id=frame.run_id))
    draft.put_run(_taken(draft, frame, tuple(leases)))
    draft.report(frames.RunStarted(frame.run_id))
    draft.do(StartWorker(frame))


def worker_ended(draft: Draft, event: WorkerEnded) -> None:
    """The run's end becomes durable and is reported; leases whose teardown waited for it go on with that."""
    run = draft.state.runs.get(event.run_id)
    if run is None or run.state != GOING:
        return
    if run.stop_code:
        event = WorkerEnded(run.run_id, run.stop_code, "the cell stopped the run", log=event.log)
    end(draft, run, event, draft.now)
    for lease_id in run.lease_ids:
        broker_leases.let_go(draft, draft.leases[lease_id])


def stop(draft: Draft, run: TakenRun, code: str) -> None:
    """Tells the run's worker to stop, once; its end will bear ``code``."""
    if run.state == GOING and not run.stop_code:
        draft.put_run(replace(run, stop_code=code))
        draft.do(StopWorker(run.run_id))


def noted(draft: Draft, frame: frames.RunEndedNoted) -> None:
    """The scheduler has the end of the run on its disk."""
    run = draft.state.runs.get(frame.run_id)
    if run is not None and run.state == ENDED:
        draft.forget(holdings.RUN, run.run_id)


def end(draft: Draft, run: TakenRun, outcome: WorkerEnded, ended_at: float) -> None:
    """Makes the end of a run, with its receipt, and reports it. The caller sees to its leases."""
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
    ended = frames.RunEnded(
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


def _leases_for(draft: Draft, frame: frames.StartRun) -> list[HeldLease]:
    """The leases that the tokens open: all of this tenant, free of other runs, one CPU among them."""
    use = Use(START, frame.run_id, frame.tasklet, frame.program, frame.module_sha256, draft.settings.hardware)
    leases = [check_token(draft.state, token, use, draft.now) for token in frame.tokens]
    if any(lease.tenant != frame.tenant for lease in leases):
        raise GrafosError("capability_refused", "a token belongs to another tenant")
    if any(lease.run_id for lease in leases) or len({lease.lease_id for lease in leases}) < len(leases):
        raise GrafosError("capability_refused", "a lease serves one run, and one of these is taken")
    if any(lease.shared for lease in leases):
        raise GrafosError("capability_refused", "a shared region is no lease of a run, which attaches to it instead")
    if any(lease.is_revoked for lease in leases):
        raise GrafosError("lease_revoked", "a lease is being revoked, so nothing new begins on it")
    if [lease.kind for lease in leases].count("cpu") != 1:
        raise GrafosError("capability_refused", "a run needs the token of one CPU lease")
    return leases


def _taken(draft: Draft, frame: frames.StartRun, leases: tuple[HeldLease, ...]) -> TakenRun:
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
