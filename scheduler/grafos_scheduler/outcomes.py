"""What a cell says about a run, and what happens when it says nothing.

Here the lives of a run and of its leases meet: whatever ends a run also tears its leases down, in one decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.errors import CODES
from grafos_core.receipts import RunReceipt
from grafos_core.revoking import RevokeState
from grafos_scheduler import cancelling, frames, leases, messages, revoking, rows, standing
from grafos_scheduler.runs import (
    ADMITTED,
    CANCELLED,
    EXPIRED,
    FAILED,
    FINISHED,
    GRANT_WITHIN_S,
    PLACED,
    RECONNECT_WITHIN_S,
    REFUSED,
    RUNNING,
    end,
    moved,
)

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft


def started(draft: Draft, cell_id: str, frame: frames.RunStarted) -> None:
    """The cell took the run on. Said again, or of a run that has moved on, it changes nothing."""
    run = draft.state.runs.get(frame.run_id)
    if run is not None and run.cell_id == cell_id and run.state == PLACED:
        draft.put_run(moved(run, RUNNING))


def reported(draft: Draft, cell_id: str, ended: frames.RunEnded, receipt: RunReceipt) -> None:
    """The cell's last word on a run. Always acknowledged, so that the cell may forget it."""
    run = draft.state.runs.get(ended.run_id)
    if run is not None and run.cell_id == cell_id and run.state in (PLACED, RUNNING):
        state, code, what = _outcome(draft, run, ended, receipt)
        artifact = rows.Artifact(run.run_id, ended.response_json, ended.output, ended.log, ended.receipt)
        draft.put(rows.ARTIFACT, run.run_id, artifact)
        seconds = min(max(0.0, receipt.ended_at - receipt.started_at), run.request.deadline_s)
        end(draft, replace(run, fuel_used=ended.fuel_used), state, code, what, lease_seconds=seconds)
        leases.tear_down_all(draft, run)
    draft.send(cell_id, frames.RunEndedNoted(ended.run_id))


def never_began(draft: Draft, cell_id: str, frame: frames.LeaseTornDown) -> None:
    """Ends a placed run that its cell has not begun and cannot begin any more: it was cancelled and nothing of it is
    left there, or a lease of it was taken back. A run that began reports its end before a lease of it is gone."""
    lease = draft.state.leases.get(frame.lease_id)
    run = draft.state.runs.get(lease.run_id) if lease is not None and lease.cell_id == cell_id else None
    if lease is None or run is None or run.state != PLACED or frame.fenced or frame.generation < lease.generation:
        return
    if not run.cancelled_at and lease.revoke != RevokeState.ACTIVE:
        end(draft, run, FAILED, "lease_revoked", revoking.words(lease))
        leases.tear_down_all(draft, run)
    elif run.cancelled_at and all(other.lease_id == lease.lease_id for other in draft.state.leases_of(run)):
        end(draft, run, CANCELLED, cancelling.CODE, cancelling.WHAT)


def give_up_overdue(draft: Draft) -> None:
    """Ends every run whose cell has said nothing for too long."""
    # On either side of the start: a clock that is set back would else hold every run until it has caught up.
    if abs(draft.now - draft.state.started_at) < RECONNECT_WITHIN_S:
        return
    overdue = [run for run in draft.state.runs_under_way() if run.give_up_at <= draft.now]
    for run in overdue:
        if run.state == ADMITTED:
            what = f"cell {run.cell_id} did not grant the leases within {GRANT_WITHIN_S:g} s"
            end(draft, run, REFUSED, "placement_failed", what)
        elif run.cancelled_at:
            end(draft, run, CANCELLED, cancelling.CODE, f"{cancelling.WHAT}, and cell {run.cell_id} reported no end")
        else:
            end(draft, run, EXPIRED, "lease_expired", f"the leases ran out, and cell {run.cell_id} reported no end")
        leases.tear_down_all(draft, run)


def _outcome(draft: Draft, run: rows.Run, ended: frames.RunEnded, receipt: RunReceipt) -> tuple[str, str, str]:
    """State, code and words of a run's end; a receipt for something else than this run makes it a failure."""
    shown = (receipt.run_id, receipt.tenant, receipt.cell_id, receipt.module_sha256, receipt.input_sha256, receipt.code)
    asked = run.request
    if shown != (run.run_id, run.tenant, run.cell_id, asked.module_sha256, asked.input_sha256, ended.code):
        what = f"cell {run.cell_id} signed a receipt that is not for this run"
        standing.faulted(draft, run.cell_id, "receipt_invalid", f"{what} ({run.run_id})")
        return FAILED, "receipt_invalid", what
    if ended.code == "finished":
        return FINISHED, "", ""
    if run.cancelled_at:
        return CANCELLED, cancelling.CODE, cancelling.WHAT
    taken = [lease for lease in draft.state.leases_of(run) if lease.revoke != RevokeState.ACTIVE]
    knows_why = draft.protocol_of(run.cell_id) >= messages.REVOKING_SINCE
    if ended.code == "lease_revoked" or (ended.code == "lease_expired" and taken and not knows_why):
        return FAILED, "lease_revoked", "; ".join(revoking.words(lease) for lease in taken) or ended.what
    if ended.code not in CODES:
        standing.faulted(draft, run.cell_id, "answer_invalid", f"it ended run {run.run_id} with no code that there is")
        return FAILED, "answer_invalid", f"{ended.code[:60]}: {ended.what}"
    return (EXPIRED if ended.code == "lease_expired" else FAILED), ended.code, ended.what
