"""Reads BER (ITU-T X.690) as far as signed messages need it, and writes it again as DER.

AWS encodes its signatures with indefinite lengths and with texts in pieces, which no DER reader takes. Whatever is read
here is bounded by its own size; anything that is not well formed is a ``ValueError``.
"""

from __future__ import annotations

from dataclasses import dataclass

SEQUENCE, SET, OCTETS, INTEGER, OID = 0x30, 0x31, 0x04, 0x02, 0x06
CONSTRUCTED = 0x20
DEPTH_MAX = 24
_END = b"\x00\x00"


@dataclass(frozen=True)
class Node:
    """One value: its tag with class and form, and either its ``content`` or what is inside."""

    tag: int
    content: bytes = b""
    inside: tuple[Node, ...] = ()

    @property
    def der(self) -> bytes:
        """The value with the shortest definite lengths."""
        content = b"".join(node.der for node in self.inside) if self.tag & CONSTRUCTED else self.content
        return bytes((self.tag,)) + _length(len(content)) + content

    def as_tag(self, tag: int) -> Node:
        """The same content under another tag, as an implicit tag stands for the one it hides."""
        return Node(tag, self.content, self.inside)

    def expect(self, tag: int) -> Node:
        """Itself, if it has this tag."""
        if self.tag != tag:
            raise ValueError(f"tag {self.tag:#04x} where {tag:#04x} belongs")
        return self

    def child(self, index: int, tag: int) -> Node:
        """The value at this place inside, which must have this tag."""
        if index >= len(self.inside):
            raise ValueError("a part is missing")
        return self.inside[index].expect(tag)


def read(data: bytes) -> Node:
    """The one value that ``data`` is."""
    node, end = _node(data, 0, 0)
    if end != len(data):
        raise ValueError("something follows the message")
    return node


def _node(data: bytes, at: int, depth: int) -> tuple[Node, int]:
    if depth > DEPTH_MAX:
        raise ValueError("nested too deep")
    tag = _byte(data, at)
    if tag & 0x1F == 0x1F:
        raise ValueError("a tag of several bytes")
    size, at = _size(data, at + 1)
    if size is None:
        if not tag & CONSTRUCTED:
            raise ValueError("a plain value of indefinite length")
        inside, at = _until_end(data, at, depth)
        return _joined(tag, inside), at
    end = at + size
    if end > len(data):
        raise ValueError("it ends too soon")
    if not tag & CONSTRUCTED:
        return Node(tag, data[at:end]), end
    inside_list: list[Node] = []
    while at < end:
        node, at = _node(data, at, depth + 1)
        inside_list.append(node)
    if at != end:
        raise ValueError("a part is longer than its whole")
    return _joined(tag, tuple(inside_list)), end


def _until_end(data: bytes, at: int, depth: int) -> tuple[tuple[Node, ...], int]:
    inside: list[Node] = []
    while data[at : at + 2] != _END:
        node, at = _node(data, at, depth + 1)
        inside.append(node)
    return tuple(inside), at + 2


def _joined(tag: int, inside: tuple[Node, ...]) -> Node:
    """A text in pieces becomes one; everything else stays."""
    if tag != OCTETS | CONSTRUCTED:
        return Node(tag, inside=inside)
    return Node(OCTETS, b"".join(node.expect(OCTETS).content for node in inside))


def _size(data: bytes, at: int) -> tuple[int | None, int]:
    """The length that stands here, None for an indefinite one, and what follows it."""
    first = _byte(data, at)
    if first < 0x80:
        return first, at + 1
    count = first & 0x7F
    if count == 0:
        return None, at + 1
    if count > 4 or at + 1 + count > len(data):
        raise ValueError("a length that cannot be")
    return int.from_bytes(data[at + 1 : at + 1 + count]), at + 1 + count


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise ValueError("it ends too soon")
    return data[at]


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes((size,))
    digits = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((0x80 | len(digits),)) + digits
