"""The frames of the cell link that are about shared regions of leased memory.

A run's cell asks, its scheduler looks whether the run may, and passes the question on to the cell that holds the
region, which alone checks the token and lets the effect happen. Both directions have the same two frames; ``number`` is
of whoever sent the call over that link, and comes back with the answer.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

REGION_MOVE_BYTES_MAX = 64 * 1024
"""Bytes that one call reads or writes; a call takes effect whole, and must not hold up a link."""
REGION_ANSWER_S_MAX = 5.0
"""How long a scheduler waits for the cell that holds a region before it answers ``cell_lost`` for it."""

ATTACH, SIZE, READ, WRITE = "attach", "size", "read", "write"
COMPARE_EXCHANGE, FETCH_ADD = "compare_exchange", "fetch_add"
CHANGES = frozenset({WRITE, COMPARE_EXCHANGE, FETCH_ADD})
"""The operations that must not take effect twice."""

_Id = Annotated[str, msgspec.Meta(max_length=128)]
_U64 = Annotated[int, msgspec.Meta(ge=0)]
_Data = Annotated[bytes, msgspec.Meta(max_length=REGION_MOVE_BYTES_MAX)]


class RegionCall(msgspec.Struct, frozen=True, tag="region_call"):
    """One operation of a run on a region. ``attach`` bears no token and asks for one.

    ``sequence`` counts the run's calls on this region from 1: the same number again is the same call, of which the
    effect happens once; once a later one was done, an earlier one is done no more. ``value`` is what is expected by a
    compare-exchange, whose ``new`` is put in its place, and what a fetch-add adds.
    """

    number: _U64
    operation: _Id
    fabric: _Id
    cell_id: _Id
    lease_id: _Id
    generation: _U64
    run_id: _Id
    token: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    sequence: _U64 = 0
    offset: _U64 = 0
    length: _U64 = 0
    data: _Data = b""
    value: _U64 = 0
    new: _U64 = 0


class RegionAnswer(msgspec.Struct, frozen=True, tag="region_answer"):
    """``code`` is empty, or the error code that refuses the call, with ``what`` in words. ``found`` is what an atomic
    operation found; ``token``, ``size_bytes`` and ``generation`` come with an ``attach``."""

    number: _U64
    code: _Id = ""
    what: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    data: _Data = b""
    found: _U64 = 0
    size_bytes: _U64 = 0
    generation: _U64 = 0
    token: Annotated[str, msgspec.Meta(max_length=4096)] = ""
