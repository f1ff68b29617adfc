"""Which known name somebody may have meant who mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(typed: str, known: Iterable[str]) -> str:
    """The most alike of the known names, of which there is one at least; of equals the first by name."""
    return max(sorted(known), key=lambda name: _likeness(typed, name))


def _likeness(typed: str, known: str) -> float:
    """How near two names are; letters that only changed places count as right."""
    return sum(
        difflib.SequenceMatcher(None, one, other).ratio()
        for one, other in ((typed, known), (sorted(typed), sorted(known)))
    )
