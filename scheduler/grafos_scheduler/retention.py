"""How long ended runs and what they left are kept, so that a scheduler that lives for years does not grow for ever.

A run goes, with its artifacts and its run key, when it ended long ago, or when its tenant has more ended runs than are
kept, the oldest first; but not in its first hour, in which its asker may still repeat the request, nor as long as a
lease of it is there. Money stays counted: what a run cost is in its slice's account. What was brought home before is
the fabric's own, with its receipt and the certificates that verify it. Refused runs have a bound of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_scheduler import rows

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft

KEY_KEPT_S = 3600.0
"""A client that lost the answer repeats its request within minutes; the same key must find the same run."""
COLLECTED_AT_ONCE_MAX = 100
"""Per tick; bounds the batch that a tick makes durable."""


def collect(draft: Draft) -> None:
    """Removes what has been kept long enough."""
    state, left = draft.state, COLLECTED_AT_ONCE_MAX
    for ended in state.ended_by_tenant.values():
        surplus = len(ended) - state.settings.runs_kept_max
        for run_id in ended:
            run = state.runs[run_id]
            age_s = draft.now - run.ended_at
            is_due = age_s > state.settings.runs_kept_s or (surplus > 0 and age_s > KEY_KEPT_S)
            if not is_due or left == 0:
                break
            if not state.leases_of(run):
                draft.remove(rows.RUN, run_id)
                draft.remove(rows.ARTIFACT, run_id)
                if run.signed_by:
                    draft.remove(rows.ORDER, run_id)
                surplus, left = surplus - 1, left - 1
