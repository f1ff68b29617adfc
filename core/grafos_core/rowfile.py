"""Rows in one SQLite file: the form that durable state takes wherever a process keeps it by itself.

One table ``rows(kind, key, body)`` holds everything, one table ``meta`` the schema version and the writer's epoch. Two
kinds of owner share it:

* one process that keeps its state in memory (``take``, ``load``, then ``commit``): whoever had the file before is
  fenced by the newer epoch, and its next commit is refused;
* many processes that each come for a moment (``transaction`` with ``load`` and ``write``): nobody else is inside.

Either way rows are on the disk when the call returns (WAL, ``synchronous=FULL``), all of them or none.

A file that cannot be read is one clear error, never a guess: nothing is repaired, dropped or overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from grafos_core.changes import Batch, RowCodec, decoded_or_none, last_of_each
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder

SCHEMA_VERSION = 1
"""The version of the tables and of what their rows mean; a newer file is refused."""
APPLICATION_ID = 0x67726166
"""Stands in the file's header ("graf"), so that another program's database is not taken for ours."""
BUSY_TIMEOUT_S = 5.0
"""How long a commit waits for another process that writes to the same file."""
BUSY_ASK_EVERY_S = 0.002
"""Making a new file takes milliseconds."""

_TABLES = """
CREATE TABLE rows (kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema_version', %d), ('epoch', 0);
PRAGMA application_id = %d;
"""
_LOAD = """
SELECT kind, key, body FROM rows WHERE kind NOT IN (SELECT value FROM json_each(?)) ORDER BY kind, key
"""
_SCAN = "SELECT key, CAST(body AS BLOB) FROM rows WHERE kind = ? AND key >= ? ORDER BY key LIMIT ?"
_PUT = "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body"
_REMOVE = "DELETE FROM rows WHERE kind = ? AND key = ?"

LAST_CHARACTER = "\U0010ffff"
"""Sorts after every other, so it ends the range of keys with a prefix."""
_PRIMARY_CODE = 0xFF
"""SQLite's extended result codes have the primary code in their lowest byte."""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)
"""What tells of a damaged file (``SQLITE_ERROR``: a table is missing); anything else is the disk or another process."""


class RowFile:
    """The open file. One thread at a time may use it, and one more may ``read``.

    ``invalid_code`` is the error code for a file that cannot be read; ``noun`` names the file in messages; ``wait_s``
    is how long to wait for other processes. Opening makes a file that is missing; ``invalid_code``, ``store_failed`` or
    ``schema_newer`` when that cannot be.
    """

    def __init__(
        self,
        path: Path,
        codec: RowCodec,
        *,
        noun: str,
        invalid_code: str = "store_invalid",
        wait_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self.path = path
        self._codec = codec
        self._noun = noun
        self._invalid_code = invalid_code
        self._wait_s = wait_s
        self._reader: sqlite3.Connection | None = None
        self._connection = self._connect()
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def take(self) -> int:
        """Takes the file over: the next epoch, which fences older writers."""
        with self._explained(), self.transaction():
            self._connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
            return self._meta("epoch")

    def load(self, without: Collection[str] = ()) -> Iterator[tuple[str, str, Any]]:
        """Every row as ``(kind, key, row)``, ordered by kind and key, but for the kinds in ``without``.

        ``invalid_code`` for a row that does not decode.
        """
        with self._explained():
            for kind, key, body in self._connection.execute(_LOAD, (json.dumps(list(without)),)):
                yield kind, key, self._decode(kind, body)

    def read(self, kind: str, key: str) -> Any:
        """One durable row, or None. Has a connection of its own, so that it may run beside a commit."""
        found = self._read("SELECT body FROM rows WHERE kind = ? AND key = ?", (kind, key))
        return self._decode(kind, found[0][0]) if found else None

    def read_from(self, kind: str, key: str, count: int) -> list[tuple[str, Any]]:
        """Durable rows of one kind as ``(key, row)``, by key: at most ``count``, the first at ``key`` or after it.

        None stands for a row that does not decode: whoever reads a stretch wants to know which one. As ``read``, it
        may run beside a commit.
        """
        found = self._read(_SCAN, (kind, key, count))
        return [(key, decoded_or_none(self._codec, kind, body)) for key, body in found]

    def scan(self, kind: str, prefix: str = "") -> list[Any]:
        """The rows of one kind whose keys begin with ``prefix``, by key; those of an open ``transaction`` too."""
        query = "SELECT body FROM rows WHERE kind = ? AND key >= ? AND key < ? ORDER BY key"
        with self._explained():
            bodies = self._connection.execute(query, (kind, prefix, f"{prefix}{LAST_CHARACTER}")).fetchall()
        return [self._decode(kind, body) for (body,) in bodies]

    def check_pages(self) -> None:
        """Looks at every page, in about a millisecond per MB: a file that was cut reads as if rows had never been."""
        with self._explained():
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise self._invalid(found)

    def commit(self, changes: Batch, epoch: int) -> None:
        """Makes ``changes`` durable, all or none, in the name of the ``epoch`` that ``take`` gave.

        ``store_fenced`` when a newer writer took the file over, ``store_failed`` when the disk does not take it.
        """
        with self._explained(), self.transaction():
            if self._meta("epoch") != epoch:
                raise GrafosError(
                    "store_fenced",
                    f"a newer process has taken over the {self._noun}",
                    where=str(self.path),
                    next="stop this process; the newer one has all that was acknowledged",
                )
            self.write(changes)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Nobody else writes inside this block; what was written is durable when it ends, all or none.

        An exception inside leaves the file as it was. ``store_failed`` when the disk does not take it.
        """
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._explained():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def write(self, changes: Batch) -> None:
        """Puts and removes rows, inside a ``transaction``."""
        assert self._connection.in_transaction, "rows are written inside a transaction"
        last = last_of_each(changes)
        puts = [(kind, key, self._codec.encode(row)) for kind, key, row in last if row is not None]
        removals = [(kind, key) for kind, key, row in last if row is None]
        with self._explained():
            self._connection.executemany(_PUT, puts)
            self._connection.executemany(_REMOVE, removals)

    def close(self) -> None:
        """Closes the file; closing twice is harmless."""
        self._connection.close()
        if self._reader is not None:
            self._reader.close()

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._explained():
            if self._reader is None:
                self._reader = self._connect()
            return self._reader.execute(query, values).fetchall()

    def _connect(self) -> sqlite3.Connection:
        with self._explained():
            private_folder(self.path.parent)
            # SQLite would make the file with the process's umask; ours are for their owner alone. One that is there is
            # never opened past SQLite: closing it would give up the locks of this process's other connections, and the
            # next process to leave would take away the log from under them.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            # Autocommit (isolation_level None): each transaction stands in this module, none is opened unseen.
            return sqlite3.connect(self.path, timeout=self._wait_s, isolation_level=None, check_same_thread=False)

    def _prepare(self) -> None:
        """Makes the tables in a new file and checks an old one; writes nothing to a file that is not ours."""
        with self._explained():
            if not self._is_empty():
                self._check_owner()
            self._enter_wal()
            self._connection.execute("PRAGMA synchronous = FULL")
            if self._is_empty():
                self._make_tables()
            self._refuse_newer(self._meta("schema_version"))

    def _enter_wal(self) -> None:
        """SQLite itself does not wait here when somebody else opens a new file at the same moment."""
        until = time.monotonic() + self._wait_s
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as cause:
                busy = cause.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > until:
                    raise
            time.sleep(BUSY_ASK_EVERY_S)

    def _make_tables(self) -> None:
        with self.transaction():
            if self._is_empty():  # and nobody else was faster
                for statement in (_TABLES % (SCHEMA_VERSION, APPLICATION_ID)).split(";"):
                    self._connection.execute(statement)

    def _is_empty(self) -> bool:
        return not self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]

    def _check_owner(self) -> None:
        if self._connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise self._invalid("it is the database of another program")

    def _refuse_newer(self, version: int) -> None:
        if version > SCHEMA_VERSION:
            raise GrafosError(
                "schema_newer",
                f"the {self._noun} was written by a newer grafos (schema {version}, this one knows {SCHEMA_VERSION})",
                where=str(self.path),
                next="install the newer grafos, or restore the backup from before the upgrade",
            )

    def _meta(self, name: str) -> int:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None or not isinstance(row[0], int):
            raise self._invalid(f"its table of versions has no {name}")
        return int(row[0])

    def _decode(self, kind: str, body: bytes) -> Any:
        try:
            return self._codec.decode(kind, body)
        except (msgspec.MsgspecError, KeyError, TypeError) as cause:
            raise self._invalid(cause) from cause

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what SQLite and the operating system raise into errors of ours: a damaged file, or one in trouble."""
        try:
            yield
        except OSError as cause:
            raise self._failed(cause) from cause
        except sqlite3.Error as cause:
            is_damage = getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DAMAGE
            raise (self._invalid if is_damage else self._failed)(cause) from cause

    def _failed(self, cause: Exception) -> GrafosError:
        return GrafosError(
            "store_failed",
            f"the {self._noun} could not be read or written",
            where=str(self.path),
            why=str(cause),
            next="check that the disk has room, is writable and nobody else holds the file, then start again",
        )

    def _invalid(self, cause: object) -> GrafosError:
        return GrafosError(
            self._invalid_code,
            f"the {self._noun} cannot be read",
            where=str(self.path),
            why=str(cause) or type(cause).__name__,
            next="restore it from a backup, or move it away to start without what it held",
        )


class RowMemory:
    """The twin in memory: what a ``RowFile`` would have on disk, for tests and simulators.

    It outlives whoever writes to it, as a disk does. ``broken`` makes every commit fail with ``store_failed``.
    """

    def __init__(self, codec: RowCodec) -> None:
        self._codec = codec
        self._bodies: dict[tuple[str, str], bytes] = {}
        self.epoch = 0
        self.broken = False

    def copy(self) -> RowMemory:
        """What a copy of the disk has now."""
        other = RowMemory(self._codec)
        other._bodies, other.epoch = dict(self._bodies), self.epoch
        return other

    def take(self) -> int:
        """Opens it anew: the next epoch, which fences older writers."""
        self.epoch += 1
        return self.epoch

    def load(self, without: Collection[str] = ()) -> Iterable[tuple[str, str, Any]]:
        """As ``RowFile.load``."""
        bodies = sorted(self._bodies.items())
        return [(kind, key, self._codec.decode(kind, body)) for (kind, key), body in bodies if kind not in without]

    def read(self, kind: str, key: str) -> Any:
        """As ``RowFile.read``."""
        body = self._bodies.get((kind, key))
        return None if body is None else self._codec.decode(kind, body)

    def read_from(self, kind: str, key: str, count: int) -> list[tuple[str, Any]]:
        """As ``RowFile.read_from``."""
        keys = sorted(other for of, other in self._bodies if of == kind and other >= key)[:count]
        return [(key, decoded_or_none(self._codec, kind, self._bodies[kind, key])) for key in keys]

    def commit(self, changes: Batch, epoch: int) -> None:
        """As ``RowFile.commit``."""
        if epoch != self.epoch:
            raise GrafosError("store_fenced", "a newer process has taken over the state in memory")
        if self.broken:
            raise GrafosError("store_failed", "the state in memory could not be written", why="told to fail")
        for kind, key, row in last_of_each(changes):
            if row is None:
                self._bodies.pop((kind, key), None)
            else:
                self._bodies[kind, key] = self._codec.encode(row)


def copy_rows(file: Path, copy: Path) -> None:
    """The rows of one moment, while somebody else writes them, as a file that needs no other beside it;
    ``store_failed``."""
    try:
        source = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        with contextlib.closing(source), contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise GrafosError("store_failed", "the rows cannot be copied", where=str(file), why=str(error)) from error
