"""How durable state changes: rows under ``(kind, key)``, and batches of changes to them.

Everything in grafos that must survive a crash is a set of rows, each an immutable struct. Deciding gives a ``Batch``;
state is the fold of all batches in order, in memory and on disk alike. So a restart that replays the rows is, by
construction, where the last acknowledged decision left it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec


class Change(NamedTuple):
    """Puts ``row`` under ``(kind, key)``; ``None`` removes what is there."""

    kind: str
    key: str
    row: msgspec.Struct | None


Batch = tuple[Change, ...]


class RowCodec:
    """Turns rows into bytes and back, by kind.

    ``kinds`` maps each kind to its struct. Bytes are msgpack; fields that a newer version added have defaults, so
    that an older row still decodes.
    """

    def __init__(self, kinds: dict[str, type[msgspec.Struct]]) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoders = {kind: msgspec.msgpack.Decoder(struct) for kind, struct in kinds.items()}

    def encode(self, row: msgspec.Struct) -> bytes:
        return self._encoder.encode(row)

    def decode(self, kind: str, body: bytes) -> Any:
        """The row, or ``msgspec.DecodeError`` / ``KeyError`` for bytes or a kind that this version does not know."""
        try:
            return self._decoders[kind].decode(body)
        except UnicodeDecodeError as error:  # which msgspec lets through for a text that is none
            raise msgspec.DecodeError(str(error)) from error


def decoded_or_none(codec: RowCodec, kind: str, body: Any) -> Any:
    """The row, or None for a body that is none."""
    try:
        return codec.decode(kind, body)
    except (msgspec.MsgspecError, KeyError, TypeError):
        return None


def last_of_each(changes: Iterable[Change]) -> Batch:
    """One change per ``(kind, key)``: the last one wins, in the order of first appearance."""
    seen: dict[tuple[str, str], Change] = {}
    for change in changes:
        seen[change.kind, change.key] = change
    return tuple(seen.values())
