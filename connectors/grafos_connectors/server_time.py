"""The clock of whoever answered, as the head of an HTTP answer tells it."""

from __future__ import annotations

from email.utils import parsedate_to_datetime


def server_time(date_header: str) -> float:
    """Unix seconds of a ``Date`` header, whole ones; 0 when it tells nothing. Source: RFC 9110, 6.6.1."""
    try:
        return parsedate_to_datetime(date_header).timestamp()
    except (TypeError, ValueError):
        return 0.0
