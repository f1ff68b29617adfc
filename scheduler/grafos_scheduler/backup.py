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

from grafos_core.backup_archive import ABOUT, POSTGRESQL, ROWS, SQLITE, About
from grafos_core.errors import GrafosError
from grafos_core.rowfile import copy_rows
from grafos_scheduler.machine_messages import BACKUP_BYTES_MAX, BACKUP_DRAFT
from grafos_scheduler.settings import Settings

PIECE_BYTES = 256 * 1024


class Backup:
    """A backup in a file without a name: nobody else sees it, and it is gone with whoever holds it open."""

    def __init__(self, settings: Settings, blobs: Iterable[tuple[str, str]], now: float) -> None:
        """``blobs``: the tenant and the hash of each that is needed. Takes its time: for a thread."""
        try:
            self._file = tempfile.TemporaryFile(dir=settings.state, prefix=BACKUP_DRAFT)  # noqa: SIM115  sent piece by piece
            try:
                self._pack(settings, blobs, now)
                self.size_bytes = self._file.tell()
                if self.size_bytes > BACKUP_BYTES_MAX:
                    raise GrafosError(
                        "limit_exceeded",
                        f"the backup has {self.size_bytes} bytes, and at most {BACKUP_BYTES_MAX} are sent",
                        next="end the orchestrator, and copy its folders --state and --trust",
                    )
                self._file.seek(0)
            except BaseException:
                self.discard()
                raise
        except OSError as error:
            where = str(settings.state)
            raise GrafosError("store_failed", "the backup cannot be made", where=where, why=str(error)) from error

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The bytes; after the last one, or when nobody takes them any more, the file is gone."""
        try:
            while piece := self._file.read(PIECE_BYTES):
                yield piece
        finally:
            self.discard()

    def discard(self) -> None:
        self._file.close()

    def _pack(self, settings: Settings, blobs: Iterable[tuple[str, str]], now: float) -> None:
        store = SQLITE if settings.database is None else POSTGRESQL
        about = About(settings.fabric, settings.scheduler_id, version("grafos-scheduler"), now, store)
        with tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, ABOUT, msgspec.json.encode(about))
            for file in sorted(settings.trust.iterdir()):
                if file.is_file() and not file.name.startswith("."):  # a draft that a crash left is nobody's key
                    _add(archive, f"trust/{file.name}", file.read_bytes())
            if settings.database is None:
                with tempfile.TemporaryDirectory(dir=settings.state, prefix=BACKUP_DRAFT) as folder:
                    copy = Path(folder) / "scheduler.db"
                    copy_rows(settings.database_file, copy)
                    _add(archive, ROWS, copy.read_bytes())
            for tenant, sha256 in sorted(blobs):
                blob = settings.blobs / tenant / sha256
                if blob.is_file():
                    _add(archive, f"state/blobs/{tenant}/{sha256}", blob.read_bytes())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    archive.addfile(entry, io.BytesIO(data))
