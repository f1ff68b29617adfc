"""What a row of the table of routes is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from grafos_scheduler import handlers
from grafos_scheduler.authorize import Gate

JSON_BYTES_MAX = 64 * 1024
"""A JSON body: the largest is a tenant's request with its certificate request and signed slice."""

BODY_S_MAX = 60.0
"""For the whole of a request's body."""

Answer = msgspec.Struct | bytes | handlers.Stream
Handler = Callable[[handlers.Services, handlers.Request], Awaitable[Answer]]


class Route(NamedTuple):
    """One row. ``gate`` None: anybody may ask, also without a certificate. ``body`` is a struct read from JSON, or
    ``bytes``, or None for no body; ``query`` a struct of the query's fields; ``answer`` a struct, or ``bytes``
    (whole, or as a ``Stream``). ``only`` is the one mode of the scheduler that answers it; empty: both."""

    method: str
    path: str
    gate: Gate | None
    handler: Handler
    summary: str
    answer: type
    body: type | None = None
    query: type[msgspec.Struct] | None = None
    body_bytes_max: int = JSON_BYTES_MAX
    body_s_max: float = BODY_S_MAX
    media_type: str = "application/json"
    only: str = ""


def gate(right: str, *kinds: str) -> Gate:
    """Only these identity kinds, with this right in their token."""
    return Gate(frozenset(kinds), right)
