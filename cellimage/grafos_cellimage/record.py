"""A baked image: one disk file, and beside it a record of what it is and what it was made from.

The SHA-256 of the disk is the image's identity: the same bytes are booted here and published to every cloud.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.paths import cache_home, write_private

ARCHITECTURES = ("amd64", "arm64")
GIB = 1 << 30
BLOCK_BYTES = 1 << 20
"""What is read of a disk at a time."""
RECORD_SUFFIX = ".json"


class BakedImage(msgspec.Struct, frozen=True, kw_only=True):
    """A raw disk and what is known of it. In the record ``path`` is the disk's bare name, so both can move.

    ``lock_sha256`` is of the lock with its packages and wheels, ``own_sha256`` of our own code and settings in it,
    ``settings_sha256`` of the choices that no lock and no package has,
    ``uki_sha256`` of the one program that the firmware starts. ``contents_sha256`` is of what that program consists of:
    the image bears it inside, so that a cell can say of which image it is. ``unsigned_sha256`` and
    ``unsigned_uki_sha256`` are of the image that this one was before its program was signed for Secure Boot, with the
    certificate ``certificate_sha256``. What nobody knows is empty.
    """

    path: Path
    sha256: str
    size_bytes: int
    arch: str
    suite: str
    lock_sha256: str = ""
    own_sha256: str = ""
    settings_sha256: str = ""
    uki_sha256: str = ""
    uki_bytes: int = 0
    contents_sha256: str = ""
    sbom_sha256: str = ""
    unsigned_sha256: str = ""
    unsigned_uki_sha256: str = ""
    certificate_sha256: str = ""
    relocked_from: str = ""
    lock_changes: tuple[str, ...] = ()
    """The lock that was asked for, if it no longer resolved, and a line for each package that differs from it: the one
    that was used lies beside the disk."""
    tools: dict[str, str] = {}
    """The programs that wrote it, with their versions: another version may write other bytes."""

    @property
    def record(self) -> Path:
        return self.path.with_suffix(RECORD_SUFFIX)


def images_home() -> Path:
    """Where images are kept unless somebody says otherwise; all of it can be baked again."""
    return cache_home() / "images"


def write_record(image: BakedImage) -> None:
    """Writes the record beside the disk, whole or not at all."""
    write_private(image.record, msgspec.json.format(_encode(image), indent=2) + b"\n")


def read_record(place: Path) -> BakedImage:
    """The image with that disk or record; ``image_invalid`` if there is none, or the disk is not as long as it says.

    The disk's bytes are not read: ``verify`` does that.
    """
    record = place.with_suffix(RECORD_SUFFIX)
    try:
        image = msgspec.json.decode(record.read_bytes(), type=BakedImage, dec_hook=_path)
        image = msgspec.structs.replace(image, path=record.parent / image.path.name)
        size = image.path.stat().st_size
    except (OSError, msgspec.DecodeError) as error:
        why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
        raise invalid(place, f"it has no readable disk and record: {why}") from error
    if size != image.size_bytes or not re.fullmatch(r"[0-9a-f]{64}", image.sha256):
        raise invalid(place, f"the record says {image.size_bytes} bytes, the disk has {size}")
    return image


def verify(image: BakedImage) -> None:
    """Reads the whole disk; ``image_invalid`` if it is not the one that the record tells of."""
    found = sha256_of(image.path)
    if found != image.sha256:
        raise invalid(image.path, f"its SHA-256 is {found}, and the record says {image.sha256}")


def list_images(folder: Path) -> list[BakedImage]:
    """The images in a folder, by name; what cannot be read is none."""
    images = []
    for record in sorted(folder.glob(f"*{RECORD_SUFFIX}")):
        try:
            images.append(read_record(record))
        except GrafosError:
            continue
    return images


def sha256_of(path: Path) -> str:
    """The digest of a file of any size. Holes are not read: the kernel would fill its memory with their zeros, which
    takes longer than all else."""
    whole, zeros, at = hashlib.sha256(), bytes(BLOCK_BYTES), 0
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            if (data := next_data(file.fileno(), at)) < 0:
                data = size
            while at < data:
                whole.update(zeros[: data - at])
                at = min(at + BLOCK_BYTES, data)
            file.seek(at)
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE) if at < size else size
            file.seek(at)
            while at < end and (block := file.read(min(BLOCK_BYTES, end - at))):
                whole.update(block)
                at += len(block)
    return whole.hexdigest()


def next_data(handle: int, at: int) -> int:
    """Where the next byte is that may not be zero; -1 if there is none. What is a hole need not be read."""
    try:
        return os.lseek(handle, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return -1


def invalid(place: Path, why: str) -> GrafosError:
    return GrafosError(
        "image_invalid", "this is no image of a cell", where=str(place), why=why, next="grafos cloud image bake"
    )


def _encode(image: BakedImage) -> bytes:
    bare = msgspec.structs.replace(image, path=Path(image.path.name))
    return msgspec.json.encode(bare, enc_hook=str)


def _path(kind: type, value: object) -> object:
    """What msgspec cannot read by itself is the one path; only a bare name is one here."""
    if kind is not Path or not isinstance(value, str) or value != Path(value).name:
        raise ValueError(f"{value!r} is no name of a disk")
    return Path(value)
