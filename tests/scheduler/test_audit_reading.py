"""Whoever reads the audit log hears of everything that somebody did to it on the disk, and where."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from postgresql import PASSWORD, Server

from grafos_core.audit_chain import AuditInput, assemble_record
from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_core.rowfile import RowFile
from grafos_core.rowstore import GroupStore, RowKeeper
from grafos_scheduler import audit_reading, events, rows
from grafos_scheduler.audit_messages import AuditPage, AuditQuery
from grafos_scheduler.database_url import DatabaseUrl
from grafos_scheduler.postgresql import RowDatabase
from grafos_scheduler.shell import Shell
from grafos_scheduler.state import Settings, State
from grafos_scheduler.store import CODEC, load

START = 1_000_000.0


def play(
    keeper: Callable[[], RowKeeper], story: Callable[[Shell, VirtualClock], Awaitable[Any]], **rules: float
) -> Any:
    """One life of a scheduler on this disk."""

    async def whole() -> Any:
        store = GroupStore(keeper())
        clock = VirtualClock(START)
        settings = Settings("sched", frozenset({"aws"}), **rules)
        stored, _ = load(store)
        shell = Shell(State.load(settings, stored, clock.now()), store, clock, random.Random(1))
        try:
            return await story(shell, clock)
        finally:
            await store.close()

    return asyncio.run(whole())


def noting(count: int, pause_s: float = 1.0) -> Callable[[Shell, VirtualClock], Awaitable[None]]:
    """So many records, one a second: terms of cells, each cell in its turn, and every tenth a tenant."""

    async def story(shell: Shell, clock: VirtualClock) -> None:
        several: list[events.Event] = []
        for number in range(count):
            several.append(events.TermsSet(f"cell-{number % 3}", number, 0.0))
            if pause_s or len(several) == 500:
                await shell.handle_all(several)
                several.clear()
            clock.advance(pause_s)
        await shell.handle_all(several)

    return story


def asking(**query: Any) -> Callable[[Shell, VirtualClock], Awaitable[AuditPage]]:
    return lambda shell, _: audit_reading.read_page(shell, AuditQuery(**query))


@pytest.fixture
def file(tmp_path: Path) -> Callable[[], RowFile]:
    return lambda: RowFile(tmp_path / "scheduler.db", CODEC, noun="store")


@pytest.fixture
def disk(file: Callable[[], RowFile]) -> Callable[[], RowFile]:
    play(file, noting(20))
    return file


def places(page: AuditPage) -> list[int]:
    return [record.sequence for record in page.records]


def test_pages_go_on_from_where_the_one_before_ended(disk: Callable[[], RowFile]) -> None:
    first = play(disk, asking(limit=12))
    assert (places(first), first.after, first.more) == (list(range(1, 13)), 12, True)
    second = play(disk, asking(limit=12, after=first.after))
    assert (places(second), second.after, second.more) == (list(range(13, 21)), 20, False)
    assert second.records[-1].current_event_hash == second.head_event_hash
    beyond = play(disk, asking(after=900))
    assert (places(beyond), beyond.after, beyond.more) == ([], 20, False)


def test_filters_show_some_and_verify_all(disk: Callable[[], RowFile]) -> None:
    assert places(play(disk, asking(cell_id="cell-1"))) == [2, 5, 8, 11, 14, 17, 20]
    assert places(play(disk, asking(kind="Claimed"))) == []
    assert places(play(disk, asking(tenant="ada"))) == []
    window = play(disk, asking(since=START + 5, until=START + 8))
    assert (places(window), window.more) == ([6, 7, 8], False)


@pytest.mark.parametrize("rest", [{}, {"kind": "Claimed"}])
def test_a_long_log_is_looked_through_bit_by_bit(file: Callable[[], RowFile], rest: dict[str, Any]) -> None:
    play(file, noting(audit_reading.LOOKED_AT_MAX + 50, pause_s=0.0))
    first = play(file, asking(**rest, limit=1000))
    assert first.more
    assert first.after == (audit_reading.LOOKED_AT_MAX if rest else 1000)
    second = play(file, asking(**rest, after=first.after))
    assert second.after > first.after


# --- what somebody does to the disk -------------------------------------------------------------------------------


def sql(disk: Callable[[], RowFile], statement: str, *values: Any) -> None:
    with sqlite3.connect(disk().path) as connection:
        connection.execute(statement, values)
    connection.close()


def key(sequence: int) -> str:
    return f"{sequence:016d}"


def forged(disk: Callable[[], RowFile], sequence: int, **changes: Any) -> bytes:
    """The record's row, changed and with a hash that fits."""
    row = disk().read(rows.AUDIT, key(sequence))
    given = AuditInput(row.kind, row.by, row.subject, row.tenant, row.cell_id, row.details)
    given = msgspec.structs.replace(given, **changes)
    return CODEC.encode(assemble_record(given, sequence, row.at_ms, row.prev_event_hash))


UPDATE = "UPDATE rows SET body = ? WHERE kind = 'audit' AND key = ?"
DELETE = "DELETE FROM rows WHERE kind = 'audit' AND key >= ? AND key <= ?"
INSERT = "INSERT INTO rows VALUES ('audit', ?, ?)"


def change_a_field(disk: Callable[[], RowFile]) -> int:
    row = disk().read(rows.AUDIT, key(7))
    sql(disk, UPDATE, CODEC.encode(msgspec.structs.replace(row, by="operator/eve")), key(7))
    return 7


def change_it_with_its_hash(disk: Callable[[], RowFile]) -> int:
    sql(disk, UPDATE, forged(disk, 7, by="operator/eve"), key(7))
    return 8


def change_the_last_with_its_hash(disk: Callable[[], RowFile]) -> int:
    sql(disk, UPDATE, forged(disk, 20, by="operator/eve"), key(20))
    return 20


def write_rubbish(disk: Callable[[], RowFile]) -> int:
    sql(disk, UPDATE, b"rubbish", key(7))
    return 7


def take_one_out(disk: Callable[[], RowFile]) -> int:
    sql(disk, DELETE, key(7), key(7))
    return 7


def take_the_first_out(disk: Callable[[], RowFile]) -> int:
    sql(disk, DELETE, key(1), key(3))
    return 1


def take_the_end_out(disk: Callable[[], RowFile]) -> int:
    sql(disk, DELETE, key(18), key(20))
    return 18


def put_one_between(disk: Callable[[], RowFile]) -> int:
    sql(disk, INSERT, key(7) + "a", forged(disk, 7))
    return 8


def put_one_behind(disk: Callable[[], RowFile]) -> int:
    row = disk().read(rows.AUDIT, key(20))
    given = AuditInput("TermsSet", "operator/eve", "cell-1")
    sql(disk, INSERT, key(21), CODEC.encode(assemble_record(given, 21, row.at_ms, row.current_event_hash)))
    return 21


def move_the_head(disk: Callable[[], RowFile]) -> int:
    head = disk().read(rows.AUDIT_HEAD, rows.THE_HEAD)
    body = CODEC.encode(msgspec.structs.replace(head, event_hash="5" * 64))
    sql(disk, "UPDATE rows SET body = ? WHERE kind = 'audit_head'", body)
    return 20


@pytest.mark.parametrize(
    "act",
    [
        change_a_field,
        change_it_with_its_hash,
        change_the_last_with_its_hash,
        write_rubbish,
        take_one_out,
        take_the_first_out,
        take_the_end_out,
        put_one_between,
        put_one_behind,
        move_the_head,
    ],
)
@pytest.mark.parametrize("query", [{}, {"kind": "Claimed"}, {"after": 6}])
def test_what_was_done_to_the_log_is_told_with_its_place(
    disk: Callable[[], RowFile], act: Callable[[Callable[[], RowFile]], int], query: dict[str, Any]
) -> None:
    place = act(disk)
    if place == 1 and query.get("after"):
        return  # a part that is whole is shown
    with pytest.raises(GrafosError) as caught:
        play(disk, asking(**query))
    assert (caught.value.code, caught.value.context) == ("audit_broken", {"sequence": place})


def test_it_is_told_while_the_process_runs_and_work_goes_on(disk: Callable[[], RowFile]) -> None:
    async def story(shell: Shell, _: VirtualClock) -> None:
        take_one_out(disk)
        with pytest.raises(GrafosError, match="changed at record 7"):
            await audit_reading.read_page(shell, AuditQuery())
        await shell.handle(events.TermsSet("cell-9", 9, 0.0))
        assert places(await audit_reading.read_page(shell, AuditQuery(after=19))) == [20, 21]

    play(disk, story)


def test_a_mark_holds_what_was_rewritten_with_all_that_follows(file: Callable[[], RowFile]) -> None:
    """Every hash fits again, up to a head that was moved too; only an anchor, or this, tells."""
    play(file, noting(1010, pause_s=0.0))
    keeper, before = file(), None
    for sequence in range(1, 1011):
        row = keeper.read(rows.AUDIT, key(sequence))
        by = "operator/eve" if sequence == 500 else row.by
        given = AuditInput(row.kind, by, row.subject, row.tenant, row.cell_id, row.details)
        before = assemble_record(given, sequence, row.at_ms, before.current_event_hash if before else "0" * 64)
        sql(file, UPDATE, CODEC.encode(before), key(sequence)) if sequence >= 500 else None
    head = keeper.read(rows.AUDIT_HEAD, rows.THE_HEAD)
    body = CODEC.encode(msgspec.structs.replace(head, event_hash=before.current_event_hash))
    sql(file, "UPDATE rows SET body = ? WHERE kind = 'audit_head'", body)
    assert play(file, asking(limit=999)).more
    with pytest.raises(GrafosError, match="record 1000"):
        play(file, asking(limit=1000))


def test_reading_begins_where_the_log_begins_after_old_records_went(file: Callable[[], RowFile]) -> None:
    play(file, noting(1200, pause_s=0.0))

    async def story(shell: Shell, _: VirtualClock) -> AuditPage:
        await shell.handle(events.Tick())
        return await audit_reading.read_page(shell, AuditQuery(after=3, limit=1000))

    page = play(file, story, audit_kept_max=100)
    assert (places(page), page.kept_from) == (list(range(1001, 1202)), 1001)
    assert page.records[0].prev_event_hash == page.let_go_event_hash


@pytest.mark.needs("postgresql")
def test_a_database_tells_the_same(database_server: Server) -> None:
    url = database_server.url(database_server.make("audit"), password=PASSWORD.replace("/", "%2F"))

    def keeper() -> RowDatabase:
        return RowDatabase(DatabaseUrl(url), CODEC, noun="store", address="https://127.0.0.1:1", lease_ttl_s=0.0)

    play(keeper, noting(20))
    assert places(play(keeper, asking(cell_id="cell-1", after=4))) == [5, 8, 11, 14, 17, 20]
    database_server.sql("audit", "DELETE FROM grafos.rows WHERE kind = 'audit' AND key LIKE '%07'")
    with pytest.raises(GrafosError, match="record 7"):
        play(keeper, asking())
