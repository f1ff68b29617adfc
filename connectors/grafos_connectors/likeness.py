"""Which known name somebody may have meant who mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LIKENESS_MIN = 1.2
"""Of 2: what is less like the mistyped name was not meant. us-central is 1.9 like us-central1, mars-1 is 1.1 like
ap-east-1."""


def did_you_mean(typed: str, known: Iterable[str], otherwise: str) -> str:
    """The next step of whoever named what is not there: the most alike of the known names, of equals the first by name;
    ``otherwise`` where none is much alike."""
    near = max(sorted(known), key=lambda name: _likeness(typed, name), default="")
    return f"Did you mean {near!r}?" if near and _likeness(typed, near) >= LIKENESS_MIN else otherwise


def _likeness(typed: str, known: str) -> float:
    """How near two names are; letters that only changed places count as right."""
    return sum(
        difflib.SequenceMatcher(None, one, other).ratio()
        for one, other in ((typed, known), (sorted(typed), sorted(known)))
    )
