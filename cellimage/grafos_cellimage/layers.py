"""Layers: archives of files that the kernel unpacks one over the other into memory, which is the whole system then.

A layer is made as a tar, whose bytes depend on its files alone, and becomes what the kernel reads: newc, compressed.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from grafos_cellimage import tools

ZSTD_LEVEL = 12
"""Level 19 saves a tenth and takes a minute."""
PLAIN_FILE, PROGRAM, FOLDER = 0o644, 0o755, 0o755
SET_ID = stat.S_ISUID | stat.S_ISGID
"""Rights that a program takes from its owner; nobody in a cell is to get any."""


class Node(NamedTuple):
    """A file of ours in a layer: its bytes, or where it links to. It belongs to root."""

    data: bytes = b""
    link: str = ""
    mode: int = PLAIN_FILE


Tree = Mapping[str, Node]
"""Nodes by their place below the root: ``etc/machine-id``. The folders above them come by themselves."""


def pack(tree: Tree, target: Path, epoch_s: int) -> None:
    """Writes a tree as a tar, sorted, all with one time."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for folder in sorted({str(parent) for name in tree for parent in list(PurePosixPath(name).parents)[:-1]}):
            entry = _entry(folder, FOLDER, epoch_s)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, node in sorted(tree.items()):
            entry = _entry(name, node.mode, epoch_s)
            if node.link:
                entry.type, entry.linkname = tarfile.SYMTYPE, node.link
                archive.addfile(entry)
            else:
                entry.size = len(node.data)
                archive.addfile(entry, io.BytesIO(node.data))


def digest(tree: Tree) -> str:
    """A tree as one SHA-256, whatever it is packed into."""
    whole = hashlib.sha256()
    for name, node in sorted(tree.items()):
        whole.update(f"{name}\0{node.link}\0{node.mode:o}\0{hashlib.sha256(node.data).hexdigest()}\n".encode())
    return whole.hexdigest()


def trim(source: Path, target: Path, dropped: Sequence[str], epoch_s: int) -> None:
    """A tar without what the patterns name, in the order of names, with one time and no rights that come from an owner.

    Hard links whose first name is dropped go with it; the patterns are ours, and a boot shows what is missing.
    """
    with tarfile.open(source) as given, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        kept = {_bare(entry.name): entry for entry in given if is_kept(_bare(entry.name), entry, dropped)}
        for name, entry in sorted(kept.items()):
            if entry.islnk() and _bare(entry.linkname) not in kept:
                continue
            entry.name, entry.mtime, entry.mode = name, epoch_s, entry.mode & ~SET_ID
            entry.linkname = _bare(entry.linkname) if entry.islnk() else entry.linkname
            entry.uname = entry.gname = ""
            entry.pax_headers = {}
            archive.addfile(entry, given.extractfile(entry) if entry.isreg() else None)


def is_kept(name: str, entry: tarfile.TarInfo, dropped: Sequence[str]) -> bool:
    """A folder stays when only its contents are dropped; of documents the copyrights stay."""
    if name in ("", ".") or entry.isdev() or entry.isfifo():
        return False
    if name.startswith("usr/share/doc/"):
        return name.endswith("/copyright") or entry.isdir()
    return not any(fnmatchcase(name, pattern) for pattern in dropped)


def members(source: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | str]]:
    """Files (their bytes) and links (where they lead) of a tar, by their names."""
    with tarfile.open(source) as given:
        for entry in given:
            name = _bare(entry.name)
            if not wanted(name):
                continue
            if entry.issym():
                yield name, entry.linkname
            elif entry.isreg() or entry.islnk():
                file = given.extractfile(entry)
                assert file is not None, "a regular file has bytes"
                yield name, file.read()


def compress(sources: Sequence[Path], target: Path, epoch_s: int) -> None:
    """Tars, one after the other, as one archive that the kernel unpacks as it starts."""
    with draft(target) as part:
        plain = part.with_suffix(".newc")
        try:
            with plain.open("wb") as file:
                for source in sources:
                    # bsdtar keeps the owners that the tar names, so that nobody has to be root.
                    tools.run(("bsdtar", "--format=newc", "-cf", "-", f"@{source}"), epoch_s=epoch_s, output=file)
            tools.run(("zstd", "--quiet", "--force", f"-{ZSTD_LEVEL}", "-T0", plain, "-o", part), epoch_s=epoch_s)
        finally:
            plain.unlink(missing_ok=True)


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """A name beside ``target`` for the block to write to; the real name only if nothing went wrong."""
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _bare(name: str) -> str:
    return name.removeprefix("./").strip("/")


def _entry(name: str, mode: int, epoch_s: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = mode, epoch_s
    return entry
