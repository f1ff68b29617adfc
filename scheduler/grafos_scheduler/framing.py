"""How frames travel over the cell link: four bytes of length (big-endian), and one msgpack map of at most
``FRAME_BYTES_MAX`` whose ``type`` field tells which struct of ``messages`` it is."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from grafos_core.errors import GrafosError

FRAME_HEAD_BYTES = 4
FRAME_BYTES_MAX = 16 * 1024 * 1024
"""A result with its whole output, and room to spare."""


def encode_frame(frame: msgspec.Struct) -> bytes:
    """The frame as it goes over the link; a frame over the limit is a bug of its maker."""
    body = _frame_encoder.encode(frame)
    assert len(body) <= FRAME_BYTES_MAX, f"{type(frame).__name__} has {len(body)} bytes"
    return len(body).to_bytes(FRAME_HEAD_BYTES, "big") + body


class FrameReader:
    """Cuts a stream of bytes into the bodies of frames, holding at most one unfinished frame of ``bytes_max``."""

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._bytes_max = bytes_max

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that are complete now; ``limit_exceeded`` for one that says it is over the limit."""
        self._buffer += data
        while len(self._buffer) >= FRAME_HEAD_BYTES:
            size = int.from_bytes(self._buffer[:FRAME_HEAD_BYTES], "big")
            if size > self._bytes_max:
                raise GrafosError("limit_exceeded", f"a frame says it has {size} bytes, {self._bytes_max} is the most")
            end = FRAME_HEAD_BYTES + size
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[FRAME_HEAD_BYTES:end])
            del self._buffer[:end]
            yield body


_frame_encoder = msgspec.msgpack.Encoder()
