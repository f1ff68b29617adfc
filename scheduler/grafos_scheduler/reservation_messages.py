"""REST bodies about reservations; see ``messages`` for the others."""

from __future__ import annotations

from typing import Annotated

import msgspec

from grafos_core.ledger import MicroCents
from grafos_scheduler.messages import RunKey

TTL_S_MAX = 7 * 86400.0
"""What nobody ends is held no longer than this."""


class ReservationRequest(msgspec.Struct, frozen=True):
    """``POST /api/v1/reservations``: so much is held for the runs that name ``reservation_key``, for ``ttl_s`` seconds.
    The key was made and stored by the client before it asked: the same key never holds twice."""

    reservation_key: RunKey
    micro_cents: MicroCents
    ttl_s: Annotated[float, msgspec.Meta(gt=0, le=TTL_S_MAX)]


class ReservationView(msgspec.Struct, frozen=True):
    """``held`` is what its runs under way may still cost, ``spent`` what those that ended came to; what is left of
    ``amount`` goes back to the tenant once it is ``closed`` and nothing is held. ``expires_at``: Unix seconds."""

    reservation_key: str
    amount_micro_cents: int
    held_micro_cents: int
    spent_micro_cents: int
    expires_at: float
    closed: bool
