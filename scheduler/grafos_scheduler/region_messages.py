"""REST bodies about shared regions of leased memory; see ``messages`` for the others."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_scheduler.messages import END, Name

REGION_TTL_S_MIN, REGION_TTL_S_MAX = 10.0, 3600.0
"""How long a region may last from the moment at which it is made or renewed: as long as the longest run."""
REGION_BYTES_MIN = 8
"""One word for the atomic operations."""
REGION_BYTES_MAX = 4 * 1024**3
"""What a slot of a run can address; the cell's memory is the closer bound."""

Ttl = Annotated[float, msgspec.Meta(ge=REGION_TTL_S_MIN, le=REGION_TTL_S_MAX)]


class RegionRequest(msgspec.Struct, frozen=True):
    """``key`` was made by the client before it asked: the same key never leases or charges twice. With a ``cell_id`` it
    is to be that cell of the provider and no other."""

    key: Annotated[str, msgspec.Meta(min_length=16, max_length=64, pattern=f"^[A-Za-z0-9_-]+{END}")]
    provider: Name
    size_bytes: Annotated[int, msgspec.Meta(ge=REGION_BYTES_MIN, le=REGION_BYTES_MAX)]
    ttl_s: Ttl
    cell_id: Annotated[str, msgspec.Meta(max_length=40)] = ""


class RegionRenewal(msgspec.Struct, frozen=True):
    """The region is to last so long from now on; never shorter than it does."""

    ttl_s: Ttl


class RegionView(msgspec.Struct, frozen=True):
    """A region as its tenant and the operator see it. ``state``: asked, held or ended; ``code`` and ``what`` tell why
    it ended, where nobody asked for that. ``ref`` is the text that tasklets attach by; it is no secret. Money is
    exact."""

    lease_id: str
    tenant: str
    provider: str
    cell_id: str
    size_bytes: int
    state: str
    generation: int
    created_at: float
    expires_at: float
    ended_at: float
    code: str
    what: str
    ref: str
    rate_micro_cents_per_hour: int
    share: str
    held_micro_cents: int
    cost_micro_cents: int


class RegionList(msgspec.Struct, frozen=True):
    regions: list[RegionView]
