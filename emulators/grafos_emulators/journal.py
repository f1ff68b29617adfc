"""What was asked of an emulated cloud, in order: tests count calls here, and find what had no token."""

from __future__ import annotations

import threading
from collections import deque

import msgspec

MAX_CALLS = 100_000  # the newest are kept; a long-lived demo must not grow without end


class Call(msgspec.Struct, frozen=True):
    """One call of a cloud's API.

    ``at`` is unix seconds, ``action`` the cloud's own word for the operation. ``result`` is ``ok``, the cloud's error
    code, or ``dropped`` when the connection was broken instead of answering. ``mutating``: the call may change
    something (a dry run may not).
    """

    at: float
    provider: str
    service: str
    action: str
    region: str
    token: str
    mutating: bool
    dry_run: bool
    status: int
    result: str
    request_id: str


class Journal:
    """The calls so far, oldest first; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=MAX_CALLS)

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def calls(self) -> tuple[Call, ...]:
        with self._lock:
            return tuple(self._calls)
