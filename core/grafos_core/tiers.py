"""The tiers of a run: which of two gives way to the other where there is no room for both."""

from __future__ import annotations

from enum import StrEnum

from grafos_core.errors import GrafosError


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


def tier_named(word: str, where: str) -> Tier:
    """The tier of that name, which stood at ``where``; ``usage``."""
    if word not in (*Tier,):
        raise GrafosError("usage", f"There is no tier {word[:40]!r}", where=where, next=f"name {', '.join(Tier)}")
    return Tier(word)


_FIRMNESS = {Tier.SCAVENGER: 0, Tier.STANDARD: 1, Tier.GUARANTEED: 2}
