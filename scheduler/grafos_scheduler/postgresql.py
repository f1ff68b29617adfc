"""Rows in a PostgreSQL database, and which of several schedulers may write them.

The schema ``grafos`` holds the same rows as a ``RowFile``, and one row that says who leads: the epoch, the leader's
address, and until when its lease lasts, by the database's own clock. Who finds the lease lapsed takes it with the next
epoch; who holds it renews it beside its commits, so that it lasts as long as its holder can really decide and write,
and gives it back when it closes.

The lease only keeps replicas from contending. What keeps the state whole is the epoch: each commit is one statement
that locks the leader's row and writes nothing unless the epoch still stands there.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Collection, Coroutine, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg
import msgspec

from grafos_core.changes import Batch, RowCodec, decoded_or_none, last_of_each
from grafos_core.errors import GrafosError
from grafos_scheduler.database_url import DatabaseUrl

LEASE_TTL_S = 10.0
"""How long nobody leads after a leader fell silent without a word. The shell commits twice a second when it is idle."""
RENEW_AT_FRACTION = 1 / 3
"""A commit renews the lease once so much of it is over."""
CONNECT_S_MAX = 10.0
COMMIT_S_MAX = 10.0
"""For one statement. A database that does not answer within a lease's time has lost its leader anyway."""
CLOSE_S_MAX = 2.0
"""For giving the lease back and saying goodbye; a database that is gone hears neither."""
TURNS_TO_REST = 5
"""Of a loop; a transport needs two after it was told to close."""
REFUSED_REST_S = 0.2
"""One over TLS also needs the server's goodbye: so long a refused connection is waited for before its loop goes."""
ROWS_PER_PAGE = 10_000
"""Loaded at once: some MB, so that the rows are never in memory twice."""
ONE_AT_A_TIME = 0x67726166
"""The advisory lock ("graf") of whoever makes or migrates the tables."""

_MIGRATIONS = (
    """
    CREATE TABLE grafos.rows (
        kind text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, body bytea NOT NULL, PRIMARY KEY (kind, key)
    );
    CREATE TABLE grafos.leader (epoch bigint NOT NULL, address text NOT NULL, until timestamptz NOT NULL);
    CREATE UNIQUE INDEX only_one ON grafos.leader ((true));
    INSERT INTO grafos.leader VALUES (0, '', '-infinity');
    CREATE TABLE grafos.meta (schema_version bigint NOT NULL);
    INSERT INTO grafos.meta VALUES (0);
    """,
)
"""From each version of the tables to the next; the first makes them."""
SCHEMA_VERSION = len(_MIGRATIONS)
_FOREIGN = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('grafos')"
_STAY_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
_LOAD = """
SELECT kind, key, body FROM grafos.rows
WHERE (kind, key) > ($1, $2) AND kind <> ALL ($3::text[]) ORDER BY kind, key LIMIT $4
"""
_SCAN = "SELECT key, body FROM grafos.rows WHERE kind = $1 AND key >= $2 ORDER BY key LIMIT $3"
_TAKE = """
UPDATE grafos.leader SET epoch = epoch + 1, address = $1, until = clock_timestamp() + $2::interval
WHERE until <= clock_timestamp() RETURNING epoch
"""
_RENEW = "UPDATE grafos.leader SET until = clock_timestamp() + $2::interval WHERE epoch = $1"
_GIVE_BACK = "UPDATE grafos.leader SET until = '-infinity' WHERE epoch = $1"
_STILL_LEADS = "SELECT count(*) FROM grafos.leader WHERE epoch = $1"
"""For a batch without rows, which a read of the state waits for: it locks nothing, so nothing has to reach a disk."""
_COMMIT = """
WITH fence AS (SELECT epoch FROM grafos.leader WHERE epoch = $1 FOR SHARE),
put AS (
    INSERT INTO grafos.rows SELECT given.* FROM fence, unnest($2::text[], $3::text[], $4::bytea[]) AS given
    ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body
),
removed AS (
    DELETE FROM grafos.rows USING fence, unnest($5::text[], $6::text[]) AS given (kind, key)
    WHERE rows.kind = given.kind AND rows.key = given.key
)
SELECT count(*) FROM fence
"""
_DAMAGE = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.DataCorruptedError,
    asyncpg.IndexCorruptedError,
)
"""What tells of tables that are not ours or not whole."""
_TROUBLE = (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Anything else: the server, the way to it, or a URL that the driver cannot use."""

Result = TypeVar("Result")


class RowDatabase:
    """The open database, for a ``GroupStore``. Its calls wait, so no event loop of the caller's may run in them.

    ``address`` is where clients reach this process when it leads; ``noun`` names the rows in messages. Opening makes or
    migrates the tables; ``store_invalid``, ``store_failed`` or ``schema_newer`` when that cannot be.
    """

    def __init__(
        self, url: DatabaseUrl, codec: RowCodec, *, noun: str, address: str, lease_ttl_s: float = LEASE_TTL_S
    ) -> None:
        self._url = url
        self._codec = codec
        self._noun = noun
        self._address = address
        self._lease_ttl_s = lease_ttl_s
        self._renew_at = 0.0
        self._epoch = 0
        self._reader: asyncpg.Connection | None = None
        self._loop = _LoopOnAThread()
        try:
            self._connection: asyncpg.Connection = self._wait(self._open())
        except BaseException:
            self._loop.close(REFUSED_REST_S)
            raise

    def take(self) -> int:
        """The next epoch, which fences older writers; ``not_leader``, with the leader's address, while it has one."""
        return self._wait(self._take())

    def load(self, without: Collection[str] = ()) -> Iterator[tuple[str, str, Any]]:
        """As ``RowFile.load``; for the leader, since nobody else writes then."""
        kind = key = ""
        while page := self._wait(self._connection.fetch(_LOAD, kind, key, list(without), ROWS_PER_PAGE, timeout=None)):
            for kind, key, body in page:  # and the next page begins after its last row
                yield kind, key, self._decode(kind, body)

    def read(self, kind: str, key: str) -> Any:
        """As ``RowFile.read``, over a connection of its own."""
        found = self._wait(self._read("SELECT body FROM grafos.rows WHERE kind = $1 AND key = $2", kind, key))
        return self._decode(kind, found[0]["body"]) if found else None

    def read_from(self, kind: str, key: str, count: int) -> list[tuple[str, Any]]:
        """As ``RowFile.read_from``, over the same connection as ``read``."""
        found = self._wait(self._read(_SCAN, kind, key, count))
        return [(key, decoded_or_none(self._codec, kind, body)) for key, body in found]

    def commit(self, changes: Batch, epoch: int) -> None:
        """As ``RowFile.commit``; also renews the lease when that is due."""
        last = last_of_each(changes)
        puts = [(kind, key, self._codec.encode(row)) for kind, key, row in last if row is not None]
        removals = [(kind, key) for kind, key, row in last if row is None]
        if not self._wait(self._commit(epoch, [*_columns(puts, 3), *_columns(removals, 2)])):
            raise GrafosError(
                "store_fenced",
                f"a newer process has taken over the {self._noun}",
                where=str(self._url),
                next="start this process again; it waits until it may lead, and the newer one has all that was "
                "acknowledged",
            )

    def close(self) -> None:
        """Gives the lease back, so that another may lead at once, and lets go. Closing twice is harmless."""
        if self._loop.is_closed:
            return
        with contextlib.suppress(GrafosError):
            self._wait(self._let_go())
        self._loop.close()

    # --- what runs in the loop ---

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._url.text,
            timeout=CONNECT_S_MAX,
            command_timeout=COMMIT_S_MAX,
            server_settings={"application_name": f"grafos {self._address}"},
        )

    async def _open(self) -> asyncpg.Connection:
        connection = await self._connect()
        try:
            await connection.execute(_STAY_DURABLE)
            await self._prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        """Makes the tables, or brings them to this version; one process at a time, all or none."""
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", ONE_AT_A_TIME)
            version = await self._schema_version(connection)
            if version > SCHEMA_VERSION:
                raise GrafosError(
                    "schema_newer",
                    f"the {self._noun} was written by a newer grafos (schema {version}, this one knows "
                    f"{SCHEMA_VERSION})",
                    where=str(self._url),
                    next="install the newer grafos, or restore the backup from before the upgrade",
                )
            if version < SCHEMA_VERSION:
                for step in _MIGRATIONS[version:]:
                    await connection.execute(step)
                await connection.execute("UPDATE grafos.meta SET schema_version = $1", SCHEMA_VERSION)

    async def _schema_version(self, connection: asyncpg.Connection) -> int:
        """0 for a database without our tables; a schema of our name with other tables is somebody else's."""
        if await connection.fetchval("SELECT to_regclass('grafos.meta')") is None:
            if await connection.fetchval(_FOREIGN):
                raise self._invalid("its schema grafos is that of another program, or not whole")
            # Asked for only where it is missing: an owner may have made it for a role that may make none.
            if await connection.fetchval("SELECT to_regnamespace('grafos')") is None:
                await connection.execute("CREATE SCHEMA grafos")
            return 0
        version = await connection.fetchval("SELECT schema_version FROM grafos.meta")
        if not isinstance(version, int):
            raise self._invalid("it does not say its version")
        return version

    async def _take(self) -> int:
        epoch = await self._connection.fetchval(_TAKE, self._address, timedelta(seconds=self._lease_ttl_s))
        if epoch is None:
            raise not_leader(await self._leader())
        self._epoch = int(epoch)
        self._renew_at = time.monotonic() + self._lease_ttl_s * RENEW_AT_FRACTION
        return self._epoch

    async def _leader(self) -> str:
        address = await self._connection.fetchval("SELECT address FROM grafos.leader")
        if address is None:
            raise self._invalid("it does not say who leads")
        return str(address)

    async def _commit(self, epoch: int, columns: list[list[Any]]) -> bool:
        if time.monotonic() >= self._renew_at:
            await self._connection.execute(_RENEW, epoch, timedelta(seconds=self._lease_ttl_s))
            self._renew_at = time.monotonic() + self._lease_ttl_s * RENEW_AT_FRACTION
        if not any(columns):
            return bool(await self._connection.fetchval(_STILL_LEADS, epoch))
        return bool(await self._connection.fetchval(_COMMIT, epoch, *columns))

    async def _read(self, query: str, *values: Any) -> list[asyncpg.Record]:
        if self._reader is None or self._reader.is_closed():
            self._reader = await self._connect()
        found: list[asyncpg.Record] = await self._reader.fetch(query, *values)
        return found

    async def _let_go(self) -> None:
        connections = [connection for connection in (self._connection, self._reader) if connection is not None]
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                if self._epoch:
                    await self._connection.execute(_GIVE_BACK, self._epoch)
                for connection in connections:
                    await connection.close()
        finally:
            for connection in connections:
                connection.terminate()

    # --- what went wrong, in our words ---

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What the work gives, and whatever driver and network raise as errors of ours."""
        try:
            return self._loop.run(work)
        except _DAMAGE as cause:
            raise self._invalid(str(cause)) from None
        except _TROUBLE as cause:
            # "from None": what the driver says about a URL may hold its password.
            raise self._failed(str(cause) or type(cause).__name__) from None

    def _decode(self, kind: str, body: bytes) -> Any:
        try:
            return self._codec.decode(kind, body)
        except (msgspec.MsgspecError, KeyError, TypeError) as cause:
            raise self._invalid(str(cause) or type(cause).__name__) from cause

    def _failed(self, why: str) -> GrafosError:
        return GrafosError(
            "store_failed",
            f"the {self._noun} could not be read or written",
            where=str(self._url),
            why=self._url.without_secrets(why),
            next="check that the database runs, can be reached and takes this role, then start again",
        )

    def _invalid(self, why: str) -> GrafosError:
        return GrafosError(
            "store_invalid",
            f"the {self._noun} cannot be read",
            where=str(self._url),
            why=self._url.without_secrets(why),
            next="restore it from a backup, or name an empty database to start without what it held",
        )


class _LoopOnAThread:
    """An event loop of its own, so that callers in any thread can wait for what runs in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="database", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self.is_closed:
            work.close()
            raise asyncpg.InterfaceError("it is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self, rest_s: float = 0.0) -> None:
        asyncio.run_coroutine_threadsafe(_come_to_rest(rest_s), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _come_to_rest(rest_s: float) -> None:
    """Ends what still runs in this loop, and lets connections that are being closed be gone: a refused one is let go
    of a turn or two after its refusal, or within ``rest_s``."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for _ in range(TURNS_TO_REST):
        await asyncio.sleep(rest_s / TURNS_TO_REST)


def not_leader(leader: str) -> GrafosError:
    """The refusal of a replica that does not lead, with the address of the one that does."""
    return GrafosError(
        "not_leader",
        f"another replica of this scheduler leads: {leader}",
        where=leader,
        next="ask it",
        context={"leader": leader},
    )


def _columns(rows: list[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[place] for row in rows] for place in range(width)]
