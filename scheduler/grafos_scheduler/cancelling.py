"""How a run is cancelled.

A run that still waits for its leases ends at once. One whose cell may have begun it is *asked* to end: its leases are
torn down, which stops its worker, and the cell's own word, with a receipt for the time that was used, ends and settles
it as *cancelled*. A run that finished before the word reached its cell has finished. When the cell never began it, the
teardown of its leases is all that comes back, and ends it too; when the cell says nothing, its time does.

Cancelling again, or cancelling what has ended, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from grafos_core.errors import GrafosError
from grafos_scheduler import leases, messages, runs, views

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.events import RunCancelAsked

CODE = "cancelled"
WHAT = "its tenant cancelled the run"


def asked(draft: Draft, event: RunCancelAsked) -> messages.RunView:
    """The run as it is now: cancelled, on its way there, or ended before. ``run_unknown`` for anybody else's run."""
    run = draft.state.runs.get(event.run_id)
    if run is None or run.tenant != event.tenant:
        raise GrafosError("run_unknown", f"there is no run {event.run_id[:80]!r} here")
    if run.state in runs.UNDER_WAY and not run.cancelled_at:
        run = replace(run, cancelled_at=draft.now)
        if run.state == runs.ADMITTED:
            run = runs.end(draft, run, runs.CANCELLED, CODE, WHAT)
        else:
            draft.put_run(run)
        leases.tear_down_all(draft, run)
    return views.run_view(draft.state, run)
