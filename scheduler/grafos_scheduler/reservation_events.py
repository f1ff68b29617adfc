"""What can happen with reservations; see ``events`` for all else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReservationAsked:
    """A tenant wants so much held for the runs that will name ``key``, until ``expires_at`` (Unix seconds); ``program``
    is what it calls them together. Answer: ``reservation_messages.ReservationView``."""

    tenant: str
    key: str
    micro_cents: int
    expires_at: float
    program: str = ""


@dataclass(frozen=True, slots=True)
class ReservationEnded:
    """A tenant wants no more runs held on that reservation. Answer: ``reservation_messages.ReservationView``."""

    tenant: str
    key: str


OfReservations = ReservationAsked | ReservationEnded
"""What comes to pass with money that is held for several runs."""
