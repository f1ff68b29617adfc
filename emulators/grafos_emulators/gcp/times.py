"""Time as Compute Engine writes and reads it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from grafos_emulators.gcp.errors import invalid

GOOGLE_OFFSET = timezone(timedelta(hours=-8))  # Compute Engine writes times of California, not of Greenwich


def rfc3339(unix_s: float) -> str:
    """RFC 3339 with milliseconds and an offset."""
    return datetime.fromtimestamp(unix_s, GOOGLE_OFFSET).isoformat(timespec="milliseconds")


def unix_s(text: str, where: str) -> float:
    """Unix seconds of an RFC 3339 time; ``invalid`` for anything else, also for a time without an offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(where, text, "Must be an RFC 3339 time.") from None
    if moment.tzinfo is None:
        raise invalid(where, text, "Must be an RFC 3339 time with an offset.")
    return moment.timestamp()
