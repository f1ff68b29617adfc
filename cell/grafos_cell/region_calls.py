"""What a worker asks the daemon about shared regions that its run has attached to, and what it is answered.

The operations are those of ``grafos_scheduler.region_frames``. A region is named by its place in the order in which the
run attached; the daemon keeps its own list, so a worker can name none but those of its run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from grafos_cell import abi


class RegionWish(msgspec.Struct, frozen=True, tag="region_wish"):
    """``attach`` brings the text of a reference as ``data``, all others the ``place`` of the region."""

    operation: str
    place: int = 0
    offset: int = 0
    length: int = 0
    data: bytes = b""
    value: int = 0
    new: int = 0


class RegionReply(msgspec.Struct, frozen=True, tag="region_reply"):
    """``status`` as host calls answer it, and where it is no ``OK``, ``note``: code and words for the run's log.

    An ``attach`` brings the ``place``, the size, and the text of the reference as ``data``.
    """

    status: int
    data: bytes = b""
    found: int = 0
    place: int = 0
    size_bytes: int = 0
    note: str = ""


_U64 = 0xFFFF_FFFF_FFFF_FFFF

AskRegions = Callable[[RegionWish], RegionReply]
"""How the worker asks: it waits, as the guest does."""
RegionDesk = Callable[[RegionWish], Awaitable[RegionReply]]
"""Where the daemon answers."""


def no_regions(_: RegionWish) -> RegionReply:
    """For runs without a daemon: there is nothing to attach to."""
    return RegionReply(abi.UNSUPPORTED)


async def no_region_desk(wish: RegionWish) -> RegionReply:
    """The same at a pool without a daemon."""
    return no_regions(wish)


def after_atomic(adds: bool, found: int, value: int, new: int) -> int:  # noqa: FBT001  # one of two operations
    """What a fetch-add (which wraps) or else a compare-exchange leaves of a word in which it ``found`` this."""
    if adds:
        return (found + value) & _U64
    return new if found == value else found
