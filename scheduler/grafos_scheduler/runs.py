"""The life of a run.

A request is *planned* until it is decided upon: it is *admitted* (its worst case held, a cell chosen, leases asked for)
or *refused*. When the cell has granted every lease it is *placed*, and the cell is told to start it; once the cell has
made the start durable it is *running*. It ends *finished* or *failed* by the cell's word, backed by a receipt; or
*failed* with ``cell_lost`` when the cell's daemon restarted and keeps no end of it; or *expired* when its leases ran
out without a word; or *cancelled* when its tenant wanted that (see ``cancelling``). The cell may still turn the leases
down: then an admitted run is *refused* after all; nothing ran.

A refused run is a record, so that a person sees it among the runs. Its run key may be asked again: a refusal that can
pass by itself (``retryable``) is decided anew under the same run id, any other is answered as it was. All other ends
are final, whatever is reported later.

What an ended run cost is settled with its end, in the same batch: for the seconds that the cell's receipt shows, and
never above what was held. A run without a receipt costs its tenant nothing. The hold goes with the end, since the run
tells what it came to. Its leases are torn down by the same decision, and each gives its room back only when it is
really gone (see ``leases``).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core import ledger
from grafos_core.errors import CODES
from grafos_core.money import cost_micro_cents
from grafos_scheduler import rows

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft

PLANNED, ADMITTED, PLACED, RUNNING = "planned", "admitted", "placed", "running"
FINISHED, FAILED, REFUSED, EXPIRED, CANCELLED = "finished", "failed", "refused", "expired", "cancelled"

UNDER_WAY = frozenset({ADMITTED, PLACED, RUNNING})
ENDED = frozenset({FINISHED, FAILED, EXPIRED, CANCELLED})

NEXT: dict[str, frozenset[str]] = {
    PLANNED: frozenset({ADMITTED, REFUSED}),
    ADMITTED: frozenset({PLACED, REFUSED, FAILED, CANCELLED}),
    PLACED: frozenset({RUNNING, FINISHED, FAILED, EXPIRED, CANCELLED}),
    RUNNING: frozenset({FINISHED, FAILED, EXPIRED, CANCELLED}),
    REFUSED: frozenset({ADMITTED, REFUSED}),
    FINISHED: frozenset(),
    FAILED: frozenset(),
    EXPIRED: frozenset(),
    CANCELLED: frozenset(),
}
"""Which state may follow which. ``planned`` is never stored."""

GRANT_WITHIN_S = 30.0
"""How long an admitted run waits for its cell to grant the leases: a reconnect or a restart of the cell fits in."""
REPORT_WITHIN_S = 15.0
"""How long after its leases ran out a run waits for the cell's last word."""
RECONNECT_WITHIN_S = 30.0
"""How long a scheduler that has just started waits for cells to dial in before it gives any run up; longer than a
cell's longest pause between two attempts."""
REFUSED_RUNS_KEPT_MAX = 100
"""Refused runs kept for each tenant, whoever refused them; they cost nothing, so only this bounds them."""
WHAT_CHARACTERS_MAX = 2000
"""Of a cell's words on why a run failed."""


def moved(run: rows.Run, state: str) -> rows.Run:
    """The run in its next state; a step that is not in the table is a bug."""
    assert state in NEXT[run.state], f"a run does not go from {run.state} to {state}"
    return replace(run, state=state)


def end(draft: Draft, run: rows.Run, state: str, code: str, what: str, *, lease_seconds: float = 0.0) -> rows.Run:
    """Ends a run and settles it; gives it as it is then. The caller sees to its leases."""
    actual = cost_micro_cents(Fraction(run.share), run.rate_micro_cents_per_hour, lease_seconds)
    held = draft.ledger.holds[run.hold_id].amount_micro_cents
    actual = min(actual, held)
    draft.book(ledger.settle(draft.ledger, run.hold_id, actual))
    draft.remove(ledger.HOLD, run.hold_id)
    ended = replace(
        moved(run, state),
        code="" if state == FINISHED else code,
        what=what[:WHAT_CHARACTERS_MAX],
        retryable=state == REFUSED and CODES[code].retryable,
        ended_at=draft.now,
        give_up_at=0.0,
        lease_seconds=lease_seconds,
        cost_micro_cents=actual,
    )
    if state == REFUSED:
        put_refused(draft, ended)
    else:
        draft.put_run(ended)
    return ended


def put_refused(draft: Draft, run: rows.Run) -> None:
    """Keeps the refused run, and drops the tenant's oldest ones beyond the number that is kept."""
    draft.put_run(run)
    kept = [draft.state.runs[run_id] for run_id in draft.state.refused_by_tenant.get(run.tenant, ())]
    others = sorted((each for each in kept if each.run_id != run.run_id), key=lambda each: (each.ended_at, each.run_id))
    for each in others[: max(0, len(others) + 1 - REFUSED_RUNS_KEPT_MAX)]:
        draft.remove(rows.RUN, each.run_id)
        if each.signed_by:
            draft.remove(rows.ORDER, each.run_id)
