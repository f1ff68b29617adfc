"""Amounts as people write them."""

from __future__ import annotations

import re

from grafos_cell.abi import BLOCK_BYTES
from grafos_core.errors import GrafosError

_SIZE = re.compile(r"([0-9]+)(k|m|g|)(?:i?b)?", re.IGNORECASE)
_DURATION = re.compile(r"([0-9]+)(s|m|h|d)")
_FACTORS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_size(flag: str, text: str) -> int:
    """Bytes of ``4096``, ``128k``, ``16m`` or ``1g`` (powers of 1024), else ``usage``."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise GrafosError("usage", f"{text[:40]!r} is no size", where=flag, next="write it like 32768, 128k or 16m")
    return int(found[1]) * _FACTORS[found[2].lower()]


def whole_blocks(size_bytes: int) -> int:
    """The next multiple of a block: blocks are leased whole."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def read_duration(flag: str, text: str) -> int:
    """Seconds of ``90s``, ``30m``, ``8h`` or ``2d``, else ``usage``."""
    found = _DURATION.fullmatch(text.strip().lower())
    if not found:
        raise GrafosError("usage", f"{text[:40]!r} is no duration", where=flag, next="write it like 90s, 30m, 8h or 2d")
    return int(found[1]) * _SECONDS[found[2]]


def size_text(size_bytes: int) -> str:
    """``128 KiB``, ``16 MiB``; exact or rounded down."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size_bytes >= factor:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} bytes"
