"""A backup of an orchestrator: its trust folder, its state of one moment, and the blobs that runs under way still need.

    about.json           what it is of
    trust/…              keys and certificates; whoever has them can be the orchestrator
    state/scheduler.db   the rows, copied by SQLite while the orchestrator goes on
    state/blobs/…        modules and inputs of runs that have not ended

Bundles are not in it: whoever makes a machine stores the one that it needs. An orchestrator on PostgreSQL has its rows
there, and ``pg_dump`` copies them; its backup holds the rest.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import AsyncGenerator, Iterable
from importlib.metadata import version
from pathlib import Path

import msgspec

from grafos_core import paths
from grafos_core.errors import GrafosError
from grafos_core.rowfile import copy_rows
from grafos_scheduler.machine_messages import BACKUP_BYTES_MAX
from grafos_scheduler.settings import Settings

FORMAT = 1
PIECE_BYTES = 256 * 1024
SQLITE, POSTGRESQL = "sqlite", "postgresql"


class About(msgspec.Struct, frozen=True):
    """What a backup is of. ``made_at`` is in Unix seconds; ``store`` says where the rows are that are not in it."""

    fabric: str
    name: str
    version: str
    made_at: float
    store: str
    format: int = FORMAT


class Backup:
    """A backup in a file that nobody else sees, which is gone when it was sent."""

    def __init__(self, settings: Settings, blobs: Iterable[tuple[str, str]], now: float) -> None:
        """``blobs``: the tenant and the hash of each that is needed. Takes its time: for a thread."""
        self._folder = Path(tempfile.mkdtemp(prefix="backup-", dir=settings.state))
        self._file = self._folder / "backup.tar"
        try:
            self._pack(settings, blobs, now)
            self.size_bytes = self._file.stat().st_size
            if self.size_bytes > BACKUP_BYTES_MAX:
                raise GrafosError(
                    "limit_exceeded",
                    f"the backup has {self.size_bytes} bytes, and at most {BACKUP_BYTES_MAX} are sent",
                    next="end the orchestrator, and copy its folders --state and --trust",
                )
        except OSError as error:
            self.discard()
            where = str(settings.state)
            raise GrafosError("store_failed", "the backup cannot be made", where=where, why=str(error)) from error
        except BaseException:
            self.discard()
            raise

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The bytes; after the last one, or when nobody takes them any more, the file is gone."""
        try:
            with self._file.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield piece
        finally:
            self.discard()

    def discard(self) -> None:
        self._file.unlink(missing_ok=True)
        (self._folder / "scheduler.db").unlink(missing_ok=True)
        self._folder.rmdir()

    def _pack(self, settings: Settings, blobs: Iterable[tuple[str, str]], now: float) -> None:
        store = SQLITE if settings.database is None else POSTGRESQL
        about = About(settings.fabric, settings.scheduler_id, version("grafos-scheduler"), now, store)
        with tarfile.open(self._file, "w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, "about.json", msgspec.json.encode(about))
            for file in sorted(settings.trust.iterdir()):
                if file.is_file() and not file.name.startswith("."):  # a draft that a crash left is nobody's key
                    _add(archive, f"trust/{file.name}", file.read_bytes())
            if settings.database is None:
                copy = self._folder / "scheduler.db"
                copy_rows(settings.database_file, copy)
                _add(archive, "state/scheduler.db", copy.read_bytes())
                copy.unlink()
            for tenant, sha256 in sorted(blobs):
                blob = settings.blobs / tenant / sha256
                if blob.is_file():
                    _add(archive, f"state/blobs/{tenant}/{sha256}", blob.read_bytes())


def unpack_backup(archive: Path, target: Path) -> About:
    """Puts a backup's ``trust`` and ``state`` into the folder ``target``, which becomes private.

    ``backup_invalid`` for what is none. Nothing but plain files with the names of a backup is taken from it.
    """
    try:
        with tarfile.open(archive, "r:") as packed:
            about = _about(packed)
            paths.private_folder(target)
            for member in packed:
                if member.name != "about.json":
                    _put(packed, member, target)
    except (OSError, tarfile.TarError, msgspec.MsgspecError, ValueError) as error:
        raise GrafosError(
            "backup_invalid",
            "that is no backup of an orchestrator, or a damaged one",
            where=str(archive),
            why=str(error),
        ) from error
    if not (target / "trust" / "ca.pem").is_file():
        raise GrafosError("backup_invalid", "there are no keys in the backup", where=str(archive))
    return about


def about_in(archive: bytes) -> About:
    """What a backup is of; ``backup_invalid``."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as packed:
            return _about(packed)
    except (tarfile.TarError, msgspec.MsgspecError, ValueError) as error:
        raise GrafosError("backup_invalid", "that is no backup of an orchestrator", why=str(error)) from error


def _about(packed: tarfile.TarFile) -> About:
    member = packed.next()
    file = packed.extractfile(member) if member is not None and member.name == "about.json" else None
    if file is None:
        raise ValueError("it does not begin with what it is of")
    about = msgspec.json.decode(file.read(), type=About)
    if about.format != FORMAT:
        raise ValueError(f"its format is {about.format}, and this version reads {FORMAT}")
    return about


def _put(packed: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    parts = member.name.split("/")
    plain = member.isreg() and ".." not in parts and "" not in parts
    if not plain or parts[0] not in ("trust", "state") or len(parts) not in (2, 4):
        raise ValueError(f"it holds {member.name[:80]!r}, which no backup has")
    file = packed.extractfile(member)
    assert file is not None, "a regular file has bytes"
    path = target / member.name
    paths.private_folder(path.parent)
    paths.write_private(path, file.read())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    archive.addfile(entry, io.BytesIO(data))
