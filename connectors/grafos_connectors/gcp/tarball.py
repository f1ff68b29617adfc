"""A raw disk as Compute Engine takes it: ``disk.raw`` in a tar of the old GNU form, compressed by gzip.

Holes of the disk are holes of the archive, as ``tar --format=oldgnu -S`` writes it: a gibibyte of which most is zeros
is read and compressed by what it holds. The same disk gives the same archive: no time, no name of a person is in it.
Source: https://cloud.google.com/compute/docs/import/import-existing-image (requirements), and the manual of GNU tar on
its old sparse form.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from grafos_connectors.uploads import GIB, Disk

MEMBER = b"disk.raw"
RECORD = 512
SEGMENT_BYTES = 64 * 1024
HEADER_ENTRIES, FURTHER_ENTRIES = 4, 21  # of the map of what is no hole, in the header and in each record after it
GZIP = 16 + zlib.MAX_WBITS
LEVEL = 6


class Segment(NamedTuple):
    """A part of the disk that is no hole."""

    offset: int
    length: int


class Archive(NamedTuple):
    """A finished archive; ``md5`` in base64, as Cloud Storage compares it."""

    path: Path
    size_bytes: int
    md5: str


def archive_of(disk: Disk, path: Path) -> Archive:
    """Writes the archive there, whole or not at all; one that is there is taken for it."""
    if not path.exists():
        unfinished = path.with_name(path.name + ".part")
        with unfinished.open("wb") as file:
            packer = zlib.compressobj(LEVEL, wbits=GZIP)
            for piece in _tar(disk):
                file.write(packer.compress(piece))
            file.write(packer.flush())
        unfinished.replace(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, hashlib.md5)
    return Archive(path, path.stat().st_size, base64.b64encode(digest.digest()).decode())


def _tar(disk: Disk) -> Iterator[bytes]:
    size_bytes = disk.size_gib * GIB  # Compute Engine takes whole gibibytes alone
    segments = list(_segments(disk))
    entries = [*segments, Segment(size_bytes, 0)]  # the last one says where the file ends
    yield _header(entries, sum(segment.length for segment in segments), size_bytes)
    for start in range(HEADER_ENTRIES, len(entries), FURTHER_ENTRIES):
        following = entries[start : start + FURTHER_ENTRIES]
        further = b"\1" if start + FURTHER_ENTRIES < len(entries) else b"\0"
        yield (_map(following, FURTHER_ENTRIES) + further).ljust(RECORD, b"\0")
    for segment in segments:
        for offset in range(segment.offset, segment.offset + segment.length, SEGMENT_BYTES):
            yield disk.read(offset, SEGMENT_BYTES).ljust(SEGMENT_BYTES, b"\0")
    yield bytes(2 * RECORD)


def _segments(disk: Disk) -> Iterator[Segment]:
    """Neighbours are one."""
    start = end = 0
    for part in disk.parts(SEGMENT_BYTES):
        offset = part.number * SEGMENT_BYTES
        if end and offset != end:
            yield Segment(start, end - start)
        start, end = (start if end == offset and end else offset), offset + SEGMENT_BYTES
    if end:
        yield Segment(start, end - start)


def _header(entries: list[Segment], stored_bytes: int, size_bytes: int) -> bytes:
    """The record of one sparse member: ``size`` is what is stored, ``realsize`` what it unpacks to."""
    fields = [
        MEMBER.ljust(100, b"\0"),
        b"0000644\0",
        b"0000000\0" * 2,
        _octal(stored_bytes),
        _octal(0),
        b" " * 8,  # stands for the checksum while that is made
        b"S",
        bytes(100),
        b"ustar  \0",
        bytes(32 + 32 + 8 + 8 + 12 + 12 + 12 + 4 + 1),
        _map(entries[:HEADER_ENTRIES], HEADER_ENTRIES),
        b"\1" if len(entries) > HEADER_ENTRIES else b"\0",
        _octal(size_bytes),
    ]
    record = b"".join(fields).ljust(RECORD, b"\0")
    checksum = f"{sum(record):06o}\0 ".encode()
    return record[:148] + checksum + record[156:]


def _map(entries: list[Segment], room: int) -> bytes:
    return b"".join(_octal(number) for entry in entries for number in entry).ljust(room * 24, b"\0")


def _octal(number: int) -> bytes:
    return f"{number:011o}\0".encode()
