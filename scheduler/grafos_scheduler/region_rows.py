"""The row of a shared region; see ``rows`` for the others."""

from __future__ import annotations

import msgspec

REGION = "region"


class Region(msgspec.Struct, frozen=True):
    """Leased memory that no run has for itself, under the id of its lease. ``key`` was made by whoever asked for it.

    What it may cost from ``since`` to ``expires_at`` is held under ``lease_id``. ``code`` and ``what`` tell why it
    ended, where nobody asked for that; ``cost_micro_cents`` is what was settled.
    """

    lease_id: str
    tenant: str
    key: str
    provider: str
    cell_id: str
    size_bytes: int
    ttl_s: float
    state: str
    since: float
    expires_at: float
    rate_micro_cents_per_hour: int
    share: str
    code: str = ""
    what: str = ""
    ended_at: float = 0.0
    cost_micro_cents: int = 0


KINDS: dict[str, type[msgspec.Struct]] = {REGION: Region}
