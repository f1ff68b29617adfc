"""The tiers of a run: which of two gives way to the other where there is no room for both."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """How firmly a run holds what it leases; the value is the word on the wire, in a manifest and behind ``--tier``.

    The names and their meaning are those of the public design: guaranteed is never preempted, standard yields to
    guaranteed, scavenger to both.
    """

    GUARANTEED = "guaranteed"
    STANDARD = "standard"
    SCAVENGER = "scavenger"

    def yields_to(self, other: Tier) -> bool:
        """Whether leases of this tier are taken back for a run of the other one."""
        return _FIRMNESS[self] < _FIRMNESS[other]


_FIRMNESS = {Tier.SCAVENGER: 0, Tier.STANDARD: 1, Tier.GUARANTEED: 2}
