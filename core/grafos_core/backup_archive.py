"""What a backup of an orchestrator consists of, and the one way to take it apart.

A tar file: first ``about.json``, then plain files below ``trust`` and ``state``, and nothing else. Whoever takes one
looks at all of it before it counts: the orchestrator that is given one, its supervisor, and a person's own machine.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from grafos_core import paths
from grafos_core.errors import GrafosError

FORMAT = 1
SQLITE, POSTGRESQL = "sqlite", "postgresql"
ABOUT, CA, ROWS = "about.json", "trust/ca.pem", "state/scheduler.db"
NAMES = re.compile(r"trust/[^/]+|state/[^/]+|state/[^/]+/[^/]+/[^/]+")


class About(msgspec.Struct, frozen=True):
    """What a backup is of. ``made_at`` is in Unix seconds; ``store`` says where the rows are that are not in it."""

    fabric: str
    name: str
    version: str
    made_at: float
    store: str
    format: int = FORMAT


def about_in(archive: bytes) -> About:
    """What a backup is of; ``backup_invalid``."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as packed:
            return _about(packed)
    except (tarfile.TarError, msgspec.MsgspecError, ValueError) as error:
        raise _invalid(str(error)) from error


def check_backup(archive: bytes) -> About:
    """The same, once all of it was looked at."""
    return _read(io.BytesIO(archive), lambda *_: None)


def unpack_backup(archive: Path, target: Path) -> About:
    """Puts a backup's ``trust`` and ``state`` into the folder ``target``, which becomes private; every file is on disk
    when this returns. ``backup_invalid`` for what is none, ``OSError`` where it cannot be read or written."""
    paths.private_folder(target)

    def put(name: str, data: bytes) -> None:
        path = target / name
        for folder in reversed(path.relative_to(target).parents[:-1]):
            paths.private_folder(target / folder)
        paths.write_private(path, data)

    with archive.open("rb") as file:
        return _read(file, put)


def refuse_newer(about: About, version: str) -> None:
    """``backup_invalid`` for one whose rows software of this ``version`` may not be able to read."""
    if _release(about.version) > _release(version):
        raise GrafosError(
            "backup_invalid",
            f"the backup was made by version {about.version[:40]}, and this is {version}",
            next=f"install {about.version[:40]} or later, then run this again",
        )


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    begins = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in begins[0].split(".")) if begins else ()


def _read(file: IO[bytes], take: Callable[[str, bytes], None]) -> About:
    """Gives each file of it to ``take``, in order; ``backup_invalid`` as soon as something is wrong."""
    names = set()
    try:
        with tarfile.open(fileobj=file, mode="r:") as packed:
            about = _about(packed)
            for member in packed:
                if member.name != ABOUT:
                    take(member.name, _data_of(packed, member))
                    names.add(member.name)
    except (tarfile.TarError, msgspec.MsgspecError, ValueError) as error:
        raise _invalid(str(error)) from error
    missing = {CA, *((ROWS,) if about.store == SQLITE else ())} - names
    if missing:
        raise _invalid(f"{min(missing)} is not in it")
    return about


def _about(packed: tarfile.TarFile) -> About:
    member = packed.next()
    file = packed.extractfile(member) if member is not None and member.name == ABOUT else None
    if file is None:
        raise ValueError("it does not begin with what it is of")
    about = msgspec.json.decode(file.read(), type=About)
    if about.format != FORMAT:
        raise ValueError(f"its format is {about.format}, and this version reads {FORMAT}")
    return about


def _data_of(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    plain = member.isreg() and NAMES.fullmatch(member.name) and ".." not in member.name.split("/")
    file = packed.extractfile(member) if plain else None
    if file is None:
        raise ValueError(f"it holds {member.name[:80]!r}, which no backup has")
    return file.read()


def _invalid(why: str) -> GrafosError:
    return GrafosError("backup_invalid", "that is no backup of an orchestrator, or a damaged one", why=why)
