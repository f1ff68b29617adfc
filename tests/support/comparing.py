"""Where two images differ, by the names of the files in which they do."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from grafos_cellimage.plan import Sizes, plan_for
from grafos_cellimage.record import BakedImage

ZSTD = b"\x28\xb5\x2f\xfd"
CHUNK_BYTES = 1 << 24


def newc(data: bytes) -> dict[str, bytes]:
    """The files of an archive as the kernel reads it, each with its head."""
    found, at = {}, 0
    while at < len(data):
        if data[at : at + 6] != b"070701":
            at += 4
            continue
        sizes = [int(data[at + 6 + 8 * field : at + 14 + 8 * field], 16) for field in range(13)]
        name_end = at + 110 + sizes[11]
        start = -(-name_end // 4) * 4
        name = data[at + 110 : name_end - 1].decode()
        # Its number differs when a file before it comes or goes, and says nothing of this one.
        found[name] = data[at + 14 : at + 110] + data[start : start + sizes[6]]
        at = -(-(start + sizes[6]) // 4) * 4
    return found


def files_of(layers: bytes) -> dict[str, bytes]:
    """The files of compressed layers that stand one after the other."""
    return newc(b"".join(_plain(frame) for frame in _frames(layers)))


def differing(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """The names of what is not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def differing_layers(one: Path, other: Path) -> list[str]:
    """The files that are not the same in two compressed layers."""
    return differing(*(files_of(path.read_bytes()) for path in (one, other)))


def differing_images(one: BakedImage, other: BakedImage) -> list[str]:
    """The files that are not the same in two disks; of what is no file, the part of the disk; nothing if all is."""
    if one.sha256 == other.sha256:
        return []
    sizes = plan_for(one.arch).sizes
    found = [name for name, told in _parts(sizes).items() if told(one.path) != told(other.path)]
    if "boot partition" not in found:
        return found
    first, second = (sections(program_of(image)) for image in (one, other))
    names = differing(first, second)
    in_layers = differing(*(files_of(told.get(".initrd", b"")) for told in (first, second)))
    others = [f"section {name}" for name in names if name != ".initrd" or not in_layers]
    return [*(name for name in found if name != "boot partition" or not names), *others, *in_layers]


def program_of(image: BakedImage) -> bytes:
    """The one program of an image."""
    plan = plan_for(image.arch)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "cell.efi"
        place = f"{image.path}@@{plan.sizes.lead}"
        subprocess.run(["mcopy", "-i", place, f"::/EFI/BOOT/{plan.machine.boot_file}", target], check=True)
        return target.read_bytes()


def sections(program: bytes) -> dict[str, bytes]:
    """The named parts of a program in the firmware's format."""
    head = struct.unpack_from("<I", program, 0x3C)[0]
    count, options = struct.unpack_from("<H", program, head + 6)[0], struct.unpack_from("<H", program, head + 20)[0]
    found = {}
    for number in range(count):
        name, size, _, stored, place = struct.unpack_from("<8sIIII", program, head + 24 + options + 40 * number)
        found[name.rstrip(b"\0").decode()] = program[place : place + min(size, stored)]
    return found


def _parts(sizes: Sizes) -> dict[str, Callable[[Path], list[int]]]:
    """Of a disk, by what they are; each is told as digests of its pieces."""
    starts = {"partition table": 0, "boot partition": sizes.lead, "state partition": sizes.lead + sizes.boot}
    ends = (sizes.lead, sizes.lead + sizes.boot, sizes.disk)
    return {name: _piece(start, end) for (name, start), end in zip(starts.items(), ends, strict=True)}


def _piece(start: int, end: int) -> Callable[[Path], list[int]]:
    def told(disk: Path) -> list[int]:
        with disk.open("rb") as file:
            file.seek(start)
            return [hash(file.read(min(CHUNK_BYTES, end - at))) for at in range(start, end, CHUNK_BYTES)]

    return told


def _frames(data: bytes) -> Iterator[bytes]:
    """Each compressed frame (RFC 8878); between them there may be zeros."""
    at = data.find(ZSTD)
    while at >= 0:
        end = _frame_end(data, at)
        yield data[at:end]
        at = data.find(ZSTD, end)


def _frame_end(data: bytes, start: int) -> int:
    described = data[start + 4]
    is_single, has_checksum = bool(described & 0x20), bool(described & 0x04)
    content = (int(is_single), 2, 4, 8)[described >> 6]
    at = start + 5 + (not is_single) + (0, 1, 2, 4)[described & 3] + content
    while True:
        head = int.from_bytes(data[at : at + 3], "little")
        at += 3 + (1 if (head >> 1) & 3 == 1 else head >> 3)
        if head & 1:
            return at + 4 * has_checksum


def _plain(frame: bytes) -> bytes:
    return subprocess.run(["zstd", "-dcq"], input=frame, capture_output=True, check=True).stdout
