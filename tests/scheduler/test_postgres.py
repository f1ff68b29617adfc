"""The store in PostgreSQL, through the suite of all stores and against a real server, and who may write to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import store_suite as suite
from postgresql import Server

from grafos_core.rowstore import GroupStore, Store
from grafos_scheduler.database_url import DatabaseUrl
from grafos_scheduler.postgresql import RowDatabase

pytestmark = pytest.mark.needs("postgresql")

LONG_S = 60.0
"""A lease that no test outlasts."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    try:
        yield started.start()
    finally:
        started.discard()


class Database:
    """A database as a store's disk. Its leases are over at once, so that each opening takes over, as with a file."""

    def __init__(self, server: Server, name: str = "store") -> None:
        self.server = server
        self.name = server.make(name)

    def rows(self, lease_ttl_s: float = 0.0, **url: str) -> RowDatabase:
        given = DatabaseUrl(self.server.url(self.name, **{"password": "pass:word%2F4711", **url}))
        address = "https://127.0.0.1:1"
        return RowDatabase(given, suite.CODEC, noun="store under test", address=address, lease_ttl_s=lease_ttl_s)

    def open(self, lease_ttl_s: float = 0.0) -> Store:
        return GroupStore(self.rows(lease_ttl_s))

    def sql(self, *statements: str) -> str:
        return self.server.sql(self.name, *statements)


@pytest.fixture
def disk(server: Server) -> Database:
    return Database(server)


class TestPostgresStore(suite.StoreSuite):
    pass


def test_a_text_that_is_stored_is_found_whatever_its_characters(disk: Database) -> None:
    names = ["a'b", "ü", "\U0001f600", "%", "Z", "a", "_", "~"]

    async def story(store: Store) -> None:
        await store.commit(tuple(suite.lamp(name) for name in names), store.epoch)

    suite.play(disk, story)
    assert [key for _, key, _ in suite.kept(disk)] == sorted(names)
