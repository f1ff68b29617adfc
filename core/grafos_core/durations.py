"""Lengths of time as people write them."""

from __future__ import annotations

import re

from grafos_core.errors import GrafosError

_DURATION = re.compile(r"([0-9]+)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_duration(where: str, text: str) -> int:
    """Seconds of ``90s``, ``30m``, ``8h`` or ``2d``, else ``usage``; ``where`` is the flag or setting."""
    found = _DURATION.fullmatch(text.strip().lower())
    if not found:
        raise GrafosError(
            "usage", f"{text[:40]!r} is no duration", where=where, next="write it like 90s, 30m, 8h or 2d"
        )
    return int(found[1]) * _SECONDS[found[2]]
