"""The stores that exist, each through the same suite, and what is peculiar to the one on disk."""

from __future__ import annotations

import asyncio
import itertools
import re
import shlex
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import store_suite as suite

from grafos_core.changes import Change
from grafos_core.errors import GrafosError
from grafos_core.rowfile import RowMemory
from grafos_core.rowstore import MemoryStore, Store, open_sqlite

BACKUP_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md"


class MemoryDisk:
    def __init__(self) -> None:
        self.memory = RowMemory(suite.CODEC)

    def open(self) -> Store:
        return MemoryStore(self.memory)


class SqliteDisk:
    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> Store:
        return open_sqlite(self.path, suite.CODEC, "store under test")


class TestMemoryStore(suite.StoreSuite):
    @pytest.fixture
    def disk(self) -> MemoryDisk:
        return MemoryDisk()

    def test_after_one_failure_nothing_more_is_taken(self, disk: MemoryDisk) -> None:
        async def story(store: Store) -> tuple[str, str]:
            disk.memory.broken = True
            first = await suite.code_of(store.commit((suite.lamp("desk"),), store.epoch))
            disk.memory.broken = False
            return first, await suite.code_of(store.commit((suite.lamp("hall"),), store.epoch))

        assert suite.play(disk, story) == ("store_failed", "store_failed")
        assert suite.kept(disk) == []


class TestSqliteStore(suite.StoreSuite):
    @pytest.fixture
    def disk(self, tmp_path: Path) -> SqliteDisk:
        return SqliteDisk(tmp_path / "state" / "scheduler.db")

    def test_the_file_is_readable_by_its_owner_alone(self, disk: SqliteDisk) -> None:
        async def story(store: Store) -> list[int]:
            await store.commit((suite.lamp("desk"),), store.epoch)
            return [stat.S_IMODE(file.stat().st_mode) for file in disk.path.parent.iterdir()]

        modes = suite.play(disk, story)
        assert len(modes) == 3  # the database, its log and the log's index
        assert set(modes) == {0o600}

    def test_every_commit_is_synced_before_it_is_acknowledged(self, disk: SqliteDisk) -> None:
        """SQLite's documentation of WAL: with synchronous=FULL the log is synced at each commit."""

        async def story(store: Store) -> tuple[object, ...]:
            connection = store._keeper._connection
            return (*connection.execute("PRAGMA synchronous").fetchone(), *connection.execute("PRAGMA journal_mode"))

        assert suite.play(disk, story) == (2, ("wal",))

    def test_waiters_share_one_transaction_and_each_hears_of_it(self, disk: SqliteDisk) -> None:
        async def story(store: Store) -> int:
            statements: list[str] = []
            store._keeper._connection.set_trace_callback(statements.append)
            await asyncio.gather(*(store.commit((suite.lamp(str(n)),), store.epoch) for n in range(400)))
            return statements.count("COMMIT")

        assert 0 < suite.play(disk, story) < 400
        assert len(suite.kept(disk)) == 400

    def test_a_write_that_fails_is_store_failed_and_the_store_takes_nothing_more(self, disk: SqliteDisk) -> None:
        async def story(store: Store) -> tuple[str, str]:
            store._keeper._connection.execute("PRAGMA query_only = ON")
            first = await suite.code_of(store.commit((suite.lamp("desk"),), store.epoch))
            store._keeper._connection.execute("PRAGMA query_only = OFF")
            return first, await suite.code_of(store.commit((suite.lamp("hall"),), store.epoch))

        assert suite.play(disk, story) == ("store_failed", "store_failed")
        assert suite.kept(disk) == []

    @pytest.mark.parametrize("damage", ["text", "half", "foreign", "torn rows", "unknown kind", "no versions"])
    def test_a_damaged_file_is_one_clear_error_and_is_left_as_it_is(self, disk: SqliteDisk, damage: str) -> None:
        suite.play(disk, lambda store: store.commit(tuple(suite.lamp(f"l{n}") for n in range(2000)), store.epoch))
        _damage(disk.path, damage)
        before = disk.path.read_bytes()
        with pytest.raises(GrafosError) as caught:
            suite.kept(disk)
        assert caught.value.code == "store_invalid"
        assert caught.value.where == str(disk.path)
        assert caught.value.next
        if damage in {"text", "half"}:
            assert disk.path.read_bytes() == before

    def test_a_file_of_a_newer_schema_is_refused(self, disk: SqliteDisk) -> None:
        suite.kept(disk)
        _execute(disk.path, "UPDATE meta SET value = 99 WHERE name = 'schema_version'")
        with pytest.raises(GrafosError) as caught:
            disk.open()
        assert caught.value.code == "schema_newer"

    def test_a_backup_made_while_rows_are_written_is_the_state_of_one_moment(
        self, disk: SqliteDisk, tmp_path: Path
    ) -> None:
        [command] = re.findall(r"^python3 (-c .*sqlite3.*)$", BACKUP_PAGE.read_text(), re.MULTILINE)
        words = [sys.executable, *shlex.split(command)]

        async def story(store: Store) -> int:
            async def write() -> None:
                for number in itertools.count():
                    twin = Change("shelf", str(number), suite.Shelf(()))
                    await store.commit((suite.lamp(str(number)), twin), store.epoch)
                    written.append(number)
                    if len(written) == 50:
                        enough.set()

            written: list[int] = []
            enough = asyncio.Event()
            writing = asyncio.ensure_future(write())
            await enough.wait()
            acknowledged = len(written)
            await asyncio.to_thread(subprocess.run, words, cwd=tmp_path, check=True)
            writing.cancel()
            return acknowledged

        acknowledged = suite.play(disk, story)
        restored = suite.kept(SqliteDisk(tmp_path / "backup.db"))
        lamps, shelves = ({key for kind, key, _ in restored if kind == one} for one in ("lamp", "shelf"))
        assert lamps == shelves
        assert {str(number) for number in range(acknowledged)} <= lamps

    def test_an_unfinished_transaction_is_not_there_after_a_restart(self, disk: SqliteDisk) -> None:
        suite.play(disk, lambda store: store.commit((suite.lamp("desk"),), store.epoch))
        connection = sqlite3.connect(disk.path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM rows")
        connection.close()
        assert len(suite.kept(disk)) == 1


def _execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def _damage(path: Path, damage: str) -> None:
    if damage == "text":
        path.write_bytes(b"this is no database\n" * 1000)
    elif damage == "half":
        data = path.read_bytes()
        path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
    elif damage == "foreign":
        path.unlink()
        _execute(path, "CREATE TABLE recipes (name TEXT)")
    elif damage == "torn rows":
        _execute(path, "UPDATE rows SET body = x'c1' WHERE key = 'l7'")
    elif damage == "unknown kind":
        _execute(path, "UPDATE rows SET kind = 'ghost' WHERE key = 'l7'")
    else:
        _execute(path, "DELETE FROM meta")
