"""Has a run end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from grafos_scheduler import messages

if TYPE_CHECKING:
    from grafos_scheduler.client import SchedulerClient

UNDER_WAY = ("planned", "admitted", "placed", "running")


def cancel_and_wait(client: SchedulerClient, run_id: str) -> messages.RunView:
    """Has the run end and waits for that; gives it as it is after ``messages.WAIT_S_MAX`` at the latest."""
    view = client.cancel_run(run_id)
    return client.run(run_id, wait_s=messages.WAIT_S_MAX) if view.state in UNDER_WAY else view


def cancel_all_and_wait(client: SchedulerClient, run_ids: Sequence[str]) -> list[messages.RunView]:
    """The same for several: each is told to end before any is waited for, or the last would go on, and cost."""
    for run_id in run_ids:
        client.cancel_run(run_id)
    return [cancel_and_wait(client, run_id) for run_id in run_ids]
