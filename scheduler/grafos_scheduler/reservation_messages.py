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
    The key was made and stored by the client before it asked: the same key never holds twice. ``program`` is shown to
    whoever lists them."""

    reservation_key: RunKey
    micro_cents: MicroCents
    ttl_s: Annotated[float, msgspec.Meta(gt=0, le=TTL_S_MAX)]
    program: Annotated[str, msgspec.Meta(max_length=128)] = ""


class ReservationView(msgspec.Struct, frozen=True):
    """``held`` is what its runs under way may still cost, ``spent`` what those that ended came to; what is left of
    ``amount`` goes back to the tenant once it is ``closed`` and nothing is held. ``expires_at``: Unix seconds.
    ``state`` is open, closing (it is closed, and runs still hold of it) or settled. ``run_ids`` are its runs under way,
    told to whoever lists reservations."""

    reservation_key: str
    amount_micro_cents: int
    held_micro_cents: int
    spent_micro_cents: int
    expires_at: float
    closed: bool
    tenant: str = ""
    program: str = ""
    state: str = ""
    run_ids: tuple[str, ...] = ()


class ReservationList(msgspec.Struct, frozen=True):
    """``GET /api/v1/reservations``: those that stand, and those that were settled within the hour."""

    reservations: list[ReservationView]
