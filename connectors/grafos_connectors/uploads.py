"""The bytes of a disk on their way into a cloud: which parts are sent, which need not be, which were sent before.

A cloud's place for a disk (a snapshot, a bucket, an empty disk) is made by ``begin_create`` as everything else is, and
then *filled*, which no create call can do: hundreds of parts, several at once, for minutes. So filling may be killed
anywhere and repeated. Sending a part again is harmless, and ``Sent`` spares what an earlier process sent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import msgspec

from grafos_connectors.contract import CloudError, Connector, Ref

FILLED = "filled"
"""The attribute of a place for a disk: ``yes`` once all bytes are in it for good, else ``no``."""
YES, NO = "yes", "no"
MIB = 1 << 20
GIB = 1 << 30
READ_BYTES = 4 * MIB


class Part(NamedTuple):
    """A part of a disk that is not all zeros; the last one is filled up with zeros to its full size."""

    number: int
    data: bytes


class Disk:
    """A raw disk image, read by its path; holes in the file are never read. Close it, or use it in a ``with``.

    ``cloud_invalid`` when it cannot be read, is empty, or is cut off while it is read.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        self.path, self.sha256 = path, sha256
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error
        self.size_bytes = os.fstat(self._file).st_size
        if not self.size_bytes:
            os.close(self._file)
            raise _unreadable(path, "it is empty")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    @property
    def size_gib(self) -> int:
        """In whole GiB, rounded up: the clouds' disks have no other sizes."""
        return -(-self.size_bytes // GIB)

    def parts(self, part_bytes: int) -> Iterator[Part]:
        """The parts of that size that are not all zeros, in order."""
        zeros = bytes(part_bytes)
        for index in self._indexes(part_bytes):
            data = self.read(index * part_bytes, part_bytes).ljust(part_bytes, b"\0")
            if data != zeros:
                yield Part(index, data)

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there on; less only at the disk's end."""
        wanted = min(length, self.size_bytes - offset)
        data = bytearray()
        while len(data) < wanted:
            try:
                more = os.pread(self._file, wanted - len(data), offset + len(data))
            except OSError as error:
                raise _unreadable(self.path, error.strerror or str(error)) from error
            if not more:
                raise _unreadable(self.path, "it became shorter while it was read")
            data += more
        return bytes(data)

    def _indexes(self, part_bytes: int) -> Iterator[int]:
        """Those of parts that are not all hole, as far as the file system tells."""
        following = 0
        for start, end in self._extents():
            first = max(following, start // part_bytes)
            following = max(following, -(-end // part_bytes))
            yield from range(first, following)

    def _extents(self) -> Iterator[tuple[int, int]]:
        offset = 0
        while offset < self.size_bytes:
            try:
                start = os.lseek(self._file, offset, os.SEEK_DATA)
            except OSError:  # no data after this
                return
            offset = os.lseek(self._file, start, os.SEEK_HOLE)
            yield start, min(offset, self.size_bytes)


class Sent:
    """Which parts of one place were sent, one line each: so that a killed upload goes on and does not begin anew.

    It is no more than a help. What is missing in it is sent again, and lines about another place or another disk are
    thrown away; a last line that a crash cut off counts for nothing.
    """

    def __init__(self, path: Path, ref: Ref, sha256: str) -> None:
        self._path = path
        self._head = f"{ref.kind.value} {ref.id} {sha256}\n"
        lines = self._lines()
        self._indexes = {int(line) for line in lines if line.isdecimal()}
        self.note = next((line[1:] for line in reversed(lines) if line.startswith("=")), "")
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if not lines:
            os.truncate(self._file, 0)
            os.write(self._file, self._head.encode())
        else:
            os.write(self._file, b"\n")  # after what may be half a line

    def __contains__(self, index: int) -> bool:
        return index in self._indexes

    def add(self, index: int) -> None:
        """That the cloud has the part; call it in one thread."""
        self._indexes.add(index)
        os.write(self._file, f"{index}\n".encode())

    def keep(self, note: str) -> None:
        """One line of text that a later process reads as ``note``: where it goes on."""
        self.note = note
        os.write(self._file, f"={note}\n".encode())

    def beside(self, suffix: str) -> Path:
        """A place for what is made of the disk to be sent; it lasts as long as the note does."""
        return self._path.with_name(self._path.name + suffix)

    def close(self) -> None:
        os.close(self._file)

    def _lines(self) -> list[str]:
        try:
            text = self._path.read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return []
        return text[: text.rfind("\n") + 1].splitlines() if text.startswith(self._head) else []


def forget_sent(path: Path) -> None:
    """Nothing is to be sent there any more: removes the note of what was, and all that was made beside it."""
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink(missing_ok=True)


class Filled(msgspec.Struct, frozen=True):
    """What a filling did: parts and bytes that went over the wire now, parts that had gone before, and bytes of the
    disk that no part holds because they are zeros."""

    parts_sent: int
    bytes_sent: int
    parts_kept: int
    bytes_skipped: int


Told = Callable[[int, int], object]
"""Hears how many parts are there, and how many bytes were sent."""


def send_parts(
    parts: Iterator[Part], send: Callable[[Part], object], sent: Sent, disk: Disk, told: Told, at_once: int
) -> Filled:
    """Sends what was not sent before, so many parts at once; the first failure ends it when those under way have."""
    kept = sent_now = bytes_sent = nonzero = 0
    under_way: dict[Future[object], Part] = {}
    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="upload") as pool:

        def settle() -> None:
            nonlocal sent_now, bytes_sent
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for one in done:
                part = under_way.pop(one)
                one.result()
                sent.add(part.number)
                sent_now, bytes_sent = sent_now + 1, bytes_sent + len(part.data)
                told(kept + sent_now, bytes_sent)

        try:
            for part in parts:
                nonzero += len(part.data)
                if part.number in sent:
                    kept += 1
                    continue
                while len(under_way) >= at_once:
                    settle()
                under_way[pool.submit(send, part)] = part
            while under_way:
                settle()
        except BaseException:
            _note_finished(under_way, sent)
            raise
    return Filled(sent_now, bytes_sent, kept, max(0, disk.size_bytes - nonzero))


def _note_finished(under_way: dict[Future[object], Part], sent: Sent) -> None:
    """What was under way when another part failed, and got through."""
    for one, part in under_way.items():
        one.cancel()
        with contextlib.suppress(CloudError):
            if not one.cancelled():
                one.result()
                sent.add(part.number)


class KeepingPrice(msgspec.Struct, frozen=True):
    """What keeping one GiB of an image's data costs for a month, in micro-cents; ``as_of`` as 2026-11-21."""

    region: str
    per_gib_month: int
    source: str
    as_of: str
    fictional: bool


class ImageConnector(Connector, Protocol):
    """A connector to a cloud that takes disk images."""

    def fill(self, ref: Ref, disk: Disk, sent: Sent, told: Told) -> Filled:
        """Sends the disk into the place that ``begin_create`` made, and says that this is all.

        To be repeated after any failure. Whether the cloud has taken it over then tells the attribute ``FILLED``. No
        sleep, but for the SDK's own few repeats of a part that the cloud had no time for.
        """
        ...

    def keeping_price(self, region: str) -> KeepingPrice:
        """What the cloud asks for keeping an image there, or ``price_missing``."""
        ...


def _unreadable(path: Path, why: str) -> CloudError:
    return CloudError("cloud_invalid", f"The disk image {path.name} cannot be read.", where=str(path), why=why)
