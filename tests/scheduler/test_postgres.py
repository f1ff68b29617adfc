"""The store in PostgreSQL, through the suite of all stores and against a real server, and who may write to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import store_suite as suite
from postgresql import PASSWORD, USER, Server

from grafos_core import trust
from grafos_core.changes import Change
from grafos_core.errors import GrafosError
from grafos_core.rowstore import GroupStore, Store
from grafos_scheduler.database_url import DatabaseUrl
from grafos_scheduler.postgresql import ROWS_PER_PAGE, RowDatabase

pytestmark = pytest.mark.needs("postgresql")

SECRET = PASSWORD.replace("/", "%2F")
LONG_S = 60.0
"""A lease that no test outlasts."""
ADDRESS = "https://127.0.0.1:1"


class Database:
    """A database as a store's disk. Its leases are over at once, so that each opening takes over, as with a file."""

    def __init__(self, server: Server, name: str = "store") -> None:
        self.server = server
        self.name = server.make(name)

    def rows(self, lease_ttl_s: float = 0.0, **url: str) -> RowDatabase:
        given = DatabaseUrl(self.server.url(self.name, **{"password": SECRET, **url}))
        return RowDatabase(given, suite.CODEC, noun="store under test", address=ADDRESS, lease_ttl_s=lease_ttl_s)

    def open(self, lease_ttl_s: float = 0.0) -> Store:
        rows = self.rows(lease_ttl_s)
        try:
            return GroupStore(rows)
        except GrafosError:
            rows.close()
            raise

    def sql(self, *statements: str) -> str:
        return self.server.sql(self.name, *statements).strip()


@pytest.fixture
def disk(database_server: Server) -> Database:
    return Database(database_server)


def refused(action: Any) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action()
    return caught.value


class TestPostgresStore(suite.StoreSuite):
    pass


# --- rows -------------------------------------------------------------------------------------------------------


def test_rows_are_loaded_in_order_whatever_their_characters_and_page_by_page(disk: Database) -> None:
    names = ["a'b", "ü", "\U0001f600", "%", "Z", "a", "_", "~", *(f"{n:05}" for n in range(ROWS_PER_PAGE + 1))]

    async def story(store: Store) -> None:
        await store.commit(tuple(suite.lamp(name) for name in names), store.epoch)

    suite.play(disk, story)
    assert [key for _, key, _ in suite.kept(disk)] == sorted(names)


def test_replicas_that_start_at_once_make_the_tables_once(disk: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: disk.rows(), range(4)))
    for rows in opened:
        rows.close()
    assert disk.sql("SELECT count(*) FROM grafos.leader") == "1"


def test_tables_of_a_newer_schema_are_refused_and_left_alone(disk: Database) -> None:
    suite.kept(disk)
    disk.sql("UPDATE grafos.meta SET schema_version = 99")
    assert refused(disk.open).code == "schema_newer"
    assert disk.sql("SELECT schema_version FROM grafos.meta") == "99"


@pytest.mark.parametrize(
    "damage",
    [
        "DROP SCHEMA grafos CASCADE; CREATE SCHEMA grafos; CREATE TABLE grafos.recipes (name text)",
        "DROP TABLE grafos.rows",
        "UPDATE grafos.rows SET body = '\\xc1'",
        "UPDATE grafos.rows SET kind = 'ghost'",
        "DELETE FROM grafos.leader",
        "DELETE FROM grafos.meta",
    ],
)
def test_what_is_damaged_or_of_another_program_is_one_clear_error(disk: Database, damage: str) -> None:
    suite.play(disk, lambda store: store.commit((suite.lamp("desk"),), store.epoch))
    disk.sql(*damage.split(";"))
    error = refused(lambda: suite.kept(disk))
    assert (error.code, error.where) == ("store_invalid", f"postgresql://{USER}@127.0.0.1:{disk.server.port}/store")


def test_a_role_for_whom_commits_are_not_durable_gets_durable_ones_all_the_same(disk: Database) -> None:
    disk.sql("ALTER DATABASE store SET synchronous_commit = off")
    rows = disk.rows()
    assert rows._wait(rows._connection.fetchval("SHOW synchronous_commit")) == "on"
    rows.close()


def test_a_dump_restored_elsewhere_is_the_same_state_and_goes_on(disk: Database, database_server: Server) -> None:
    async def story(store: Store) -> int:
        await store.commit((suite.lamp("desk"), Change("shelf", "top", suite.Shelf(("a", "b")))), store.epoch)
        return store.epoch

    epoch = suite.play(disk, story)
    dump = database_server.dump(disk.name)
    suite.play(disk, lambda store: store.commit((suite.lamp("later"),), store.epoch))
    elsewhere = Database(database_server, "elsewhere")
    database_server.restore(elsewhere.name, dump)

    async def after(store: Store) -> int:
        assert [key for _, key, _ in store.load()] == ["desk", "top"]
        await store.commit((suite.lamp("hall"),), store.epoch)
        return store.epoch

    assert suite.play(elsewhere, after) > epoch


# --- who leads ---------------------------------------------------------------------------------------------------


def test_while_one_leads_another_is_told_who_and_leads_at_once_when_the_lease_is_given_back(disk: Database) -> None:
    async def story(leader: Store) -> None:
        error = refused(disk.open)
        assert (error.code, error.context) == ("not_leader", {"leader": ADDRESS})
        await leader.close()
        second = disk.open(LONG_S)
        assert second.epoch > leader.epoch
        await second.close()

    asyncio.run(story(disk.open(LONG_S)))


def test_a_lease_lasts_as_long_as_its_holder_commits_and_then_its_time(disk: Database) -> None:
    ttl_s = 0.4

    async def story(leader: Store) -> None:
        until = time.monotonic() + 3 * ttl_s
        while time.monotonic() < until:
            await leader.commit((), leader.epoch)
            left_s = disk.sql("SELECT extract(epoch FROM until - clock_timestamp()) FROM grafos.leader")
            assert float(left_s) <= ttl_s
        disk.sql("UPDATE grafos.leader SET until = clock_timestamp() - interval '1 s'")
        second = disk.open(LONG_S)
        assert await suite.code_of(leader.commit((suite.lamp("late"),), leader.epoch)) == "store_fenced"
        await leader.close()
        assert refused(disk.open).code == "not_leader", "whoever was fenced gives back no lease of another's"
        await second.close()

    asyncio.run(story(disk.open(ttl_s)))
    assert suite.kept(disk) == []


def test_of_a_stale_epochs_commit_nothing_lands(disk: Database) -> None:
    """Also when the epoch moves while the commit waits for the leader's row."""

    async def story(leader: Store) -> str:
        await leader.commit((suite.lamp("desk"), suite.lamp("hall")), leader.epoch)
        disk.sql("UPDATE grafos.leader SET until = '-infinity'")
        rival = disk.rows()
        with held_open(rival):
            rival.take()
            change = (suite.lamp("desk", lit=True), Change("lamp", "hall", None), suite.lamp("attic"))
            late = asyncio.ensure_future(suite.code_of(leader.commit(change, leader.epoch)))
            await _until_waiting(disk, 1)
        code = await late
        await leader.close()
        rival.close()
        return code

    assert asyncio.run(story(disk.open(LONG_S))) == "store_fenced"
    assert [row for _, _, row in suite.kept(disk)] == [suite.Lamp("desk"), suite.Lamp("hall")]


def test_who_takes_the_lead_waits_for_the_commit_that_is_under_way_and_sees_it(disk: Database) -> None:
    """Else it would load, and then the older leader's commit would land behind its back."""

    async def story(leader: Store) -> list[Any]:
        await leader.commit((suite.lamp("desk"),), leader.epoch)
        disk.sql("UPDATE grafos.leader SET until = '-infinity'")
        stranger, rival = disk.rows(), disk.rows()
        with held_open(stranger):
            stranger._wait(stranger._connection.execute("SELECT * FROM grafos.rows FOR UPDATE"))
            commit = asyncio.ensure_future(leader.commit((suite.lamp("desk", lit=True),), leader.epoch))
            await _until_waiting(disk, 1)
            taking = asyncio.ensure_future(asyncio.to_thread(rival.take))
            await _until_waiting(disk, 2)
        await commit
        await taking
        seen = [row for _, _, row in rival.load()]
        for opened in (leader.close(), asyncio.to_thread(stranger.close), asyncio.to_thread(rival.close)):
            await opened
        return seen

    assert asyncio.run(story(disk.open(LONG_S))) == [suite.Lamp("desk", lit=True)]


@contextlib.contextmanager
def held_open(rows: RowDatabase) -> Iterator[None]:
    """What is done in here is done in one transaction, which ends with it."""
    transaction = rows._connection.transaction()
    rows._wait(transaction.start())
    yield
    rows._wait(transaction.commit())


async def _until_waiting(disk: Database, count: int) -> None:
    """Until so many connections wait for somebody else's lock."""
    await _until(lambda: disk.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == str(count))


# --- trouble -----------------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_a_server_that_is_killed_in_the_middle_of_commits(disk: Database) -> None:
    acknowledged: list[int] = []

    async def story(store: Store) -> None:
        async def write(number: int) -> str:
            try:
                await store.commit(
                    (suite.lamp(str(number)), Change("shelf", str(number), suite.Shelf(()))), store.epoch
                )
            except GrafosError as error:
                return error.code
            acknowledged.append(number)
            return ""

        async def writer(first: int) -> str:
            for number in range(first, 1_000_000, 8):
                if code := await write(number):
                    return code
            return "never"

        writers = [asyncio.ensure_future(writer(first)) for first in range(8)]
        await _until(lambda: len(acknowledged) > 200)
        await asyncio.to_thread(disk.server.kill)
        assert set(await asyncio.gather(*writers)) == {"store_failed"}
        await asyncio.to_thread(disk.server.start)
        assert await suite.code_of(store.commit((), store.epoch)) == "store_failed", "memory is ahead of the database"

    try:
        suite.play(disk, story)
    finally:
        disk.server.start()
    found = suite.kept(disk)
    lamps, shelves = ({key for kind, key, _ in found if kind == one} for one in ("lamp", "shelf"))
    assert lamps == shelves, "a batch is there whole or not at all"
    assert {str(number) for number in acknowledged} <= lamps


def test_a_connection_that_is_lost_ends_the_store_as_a_full_disk_does(disk: Database) -> None:
    async def story(store: Store) -> list[str]:
        await store.commit((suite.lamp("desk"),), store.epoch)
        disk.sql("SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name LIKE 'grafos %'")
        return [await suite.code_of(store.commit((suite.lamp("hall"),), store.epoch)) for _ in range(2)]

    assert suite.play(disk, story) == ["store_failed", "store_failed"]
    assert len(suite.kept(disk)) == 1


def test_reading_goes_on_over_a_new_connection_when_its_own_was_lost(disk: Database) -> None:
    async def story(store: Store) -> Any:
        await store.commit((Change("shelf", "top", suite.Shelf(("a",))),), store.epoch)
        await store.read("shelf", "top")
        disk.sql(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
            "WHERE application_name LIKE 'grafos %' AND query LIKE 'SELECT body%'"
        )
        with contextlib.suppress(GrafosError):  # the driver may have noticed by itself already
            await store.read("shelf", "top")
        await store.commit((), store.epoch)
        return await store.read("shelf", "top")

    assert suite.play(disk, story) == suite.Shelf(("a",))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://grafos:hushhush@127.0.0.1:{port}/store", "password authentication failed"),
        ("postgresql://grafos:pass:word%2F4711@127.0.0.1:{port}/nowhere", "does not exist"),
        ("postgresql://grafos:hushhush@127.0.0.1:1/store", "onnect"),
        ("postgresql://grafos:hushhush@127.0.0.1:{port}/store?sslmode=perhaps", "sslmode"),
        ("postgresql://grafos:hush:hush@127.0.0.1:none/store", ""),
    ],
)
def test_a_database_that_cannot_be_used_is_told_without_its_password(disk: Database, url: str, why: str) -> None:
    given = url.format(port=disk.server.port)
    error = refused(lambda: RowDatabase(DatabaseUrl(given), suite.CODEC, noun="store", address=ADDRESS))
    assert error.code == "store_failed"
    assert why in error.why
    told = error.last_words() + str(error.to_wire())
    assert not [secret for secret in ("hush", "4711", "pass:word") if secret in told]


def test_tls_is_what_the_url_says(disk: Database, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    stranger.write_text(trust.make_ca(trust.new_key(), "a stranger's", time.time()))
    over_tls = disk.rows(sslmode="verify-full", sslrootcert=str(disk.server.ca_file))
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert over_tls._wait(over_tls._connection.fetchval(query)) is True
    over_tls.close()
    error = refused(lambda: disk.rows(sslmode="verify-full", sslrootcert=str(stranger)))
    assert error.code == "store_failed"
    assert "certificate verify failed" in error.why


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(60.0):
        while not is_so():  # noqa: ASYNC110 - nobody tells when the database has come so far
            await asyncio.sleep(0.01)
