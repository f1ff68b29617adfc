"""Amounts as people write them."""

from __future__ import annotations

import re

from grafos_cell.abi import BLOCK_BYTES
from grafos_core.durations import read_duration
from grafos_core.errors import GrafosError

__all__ = ["read_duration", "read_size", "size_text", "whole_blocks"]

_SIZE = re.compile(r"([0-9]+)(k|m|g|)(?:i?b)?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def read_size(flag: str, text: str) -> int:
    """Bytes of ``4096``, ``128k``, ``16m`` or ``1g`` (powers of 1024), else ``usage``."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise GrafosError("usage", f"{text[:40]!r} is no size", where=flag, next="write it like 32768, 128k or 16m")
    return int(found[1]) * _FACTORS[found[2].lower()]


def whole_blocks(size_bytes: int) -> int:
    """The next multiple of a block: blocks are leased whole."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def size_text(size_bytes: int) -> str:
    """``128 KiB``, ``16 MiB``; exact or rounded down."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size_bytes >= factor:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} bytes"
