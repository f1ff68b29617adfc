"""Moments and durations for people; documents have moments in ISO 8601 (see ``terminal``)."""

from __future__ import annotations

import time

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
NEVER = "-"


def moment_text(moment: float, *, seconds: bool = False) -> str:
    """Local time, with its zone, to the minute or the second; a dash for never."""
    form = "%Y-%m-%d %H:%M:%S %Z" if seconds else "%Y-%m-%d %H:%M %Z"
    return time.strftime(form, time.localtime(moment)) if moment else NEVER


def age_text(seconds: float) -> str:
    """How long that is, in the largest unit that it fills, and below a day with the next smaller one: ``3d``,
    ``7h59m``, ``12m``, ``5s``. What lies in the future by a clock that is ahead is ``0s``."""
    whole = max(0, int(seconds))
    if whole >= DAY_S:
        return f"{whole // DAY_S}d"
    if whole >= HOUR_S:
        minutes = whole % HOUR_S // MINUTE_S
        return f"{whole // HOUR_S}h{minutes}m" if minutes else f"{whole // HOUR_S}h"
    return f"{whole // MINUTE_S}m" if whole >= MINUTE_S else f"{whole}s"


def when_text(moment: float, now: float) -> str:
    """A moment as people think of it: ``in 7h59m``, ``5m ago``, ``now``; a dash for never."""
    if not moment:
        return NEVER
    if abs(moment - now) < 1:
        return "now"
    return f"in {age_text(moment - now)}" if moment > now else f"{age_text(now - moment)} ago"
