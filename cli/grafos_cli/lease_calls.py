"""Asks for a shared region under a key that is on the disk first: a command that was killed leases nothing twice."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from grafos_cli.pending import PendingFile
from grafos_cli.run_keys import RUN_KEY_BYTES
from grafos_cli.running import NO_ANSWER
from grafos_core.errors import GrafosError
from grafos_scheduler.region_messages import REGION_TTL_S_MAX, RegionRequest, RegionView

if TYPE_CHECKING:
    from grafos_cli.reach import Reach
    from grafos_scheduler.client import SchedulerClient

GRANTED_WITHIN_S = 45.0
"""The scheduler gives a cell 30 s to grant the lease, and then says itself that it did not."""
LOOK_EVERY_S = 0.1
AGAIN = "run the same command again: it finds this lease, and nothing is charged twice"
ASKED, ENDED = "asked", "ended"


class PendingLease(msgspec.Struct, frozen=True):
    """``asked_at`` is Unix seconds."""

    key: str
    asked_at: float


def lease_memory(
    client: SchedulerClient,
    reach: Reach,
    project: Path,
    size_bytes: int,
    ttl_s: float,
    sleep: Callable[[float], object] = time.sleep,
) -> RegionView:
    """The region once its cell holds it. Whoever asks again before having seen that gets the same one."""
    asked = {
        "scheduler": f"{reach.fabric.id}/{reach.cell_id}/{reach.provider}",
        "size_bytes": size_bytes,
        "ttl_s": ttl_s,
    }
    # No region lasts longer than that without having been seen.
    keys = PendingFile(project, "lease", asked, PendingLease, REGION_TTL_S_MAX)
    key, view = _asked_for(client, keys, lambda key: RegionRequest(key, reach.provider, size_bytes, ttl_s))
    for _ in range(round(GRANTED_WITHIN_S / LOOK_EVERY_S)):
        if view.state != ASKED:
            break
        sleep(LOOK_EVERY_S)
        view = client.region(view.lease_id)
    if view.state == ASKED:
        what = f"Cell {view.cell_id} has neither granted nor refused lease {view.lease_id} yet"
        raise GrafosError("cell_not_ready", what, where=client.url, next=AGAIN, context={"lease_id": view.lease_id})
    keys.done(key)
    if view.state == ENDED:
        what = f"Cell {view.cell_id} did not lease the memory: {view.what or 'it was ended meanwhile'}"
        raise GrafosError(view.code or "placement_failed", what, next="grafos lease ls")
    return view


def _asked_for(
    client: SchedulerClient, keys: PendingFile[PendingLease], request: Callable[[str], RegionRequest]
) -> tuple[str, RegionView]:
    """The region of the pending key if there is one, else a new one; with its key. One that has ended meanwhile is not
    what somebody wants who asks again."""
    while True:
        known = keys.find()
        pending = known or keys.begin(PendingLease(secrets.token_hex(RUN_KEY_BYTES), time.time()))
        try:
            view = client.create_region(request(pending.key))
        except GrafosError as error:
            if error.code not in NO_ANSWER:
                keys.done(pending.key)
            raise
        if known is None or view.state != ENDED:
            return pending.key, view
        keys.done(pending.key)
