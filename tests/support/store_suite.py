"""What every store of the scheduler must do; each kind of store runs these same claims.

A kind of store is told by a ``Disk``: something that keeps rows, from which a store is opened again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
import pytest

from grafos_core.changes import Batch, Change, RowCodec
from grafos_core.errors import GrafosError
from grafos_core.rowstore import Store


class Lamp(msgspec.Struct, frozen=True):
    name: str
    lit: bool = False


class Shelf(msgspec.Struct, frozen=True):
    books: tuple[str, ...]


CODEC = RowCodec({"lamp": Lamp, "shelf": Shelf})


class Disk(Protocol):
    def open(self) -> Store: ...


def lamp(name: str, *, lit: bool = False) -> Change:
    return Change("lamp", name, Lamp(name, lit))


def play(disk: Disk, story: Callable[[Store], Awaitable[Any]]) -> Any:
    """Runs a story on a store opened from the disk, and closes it."""

    async def whole() -> Any:
        store = disk.open()
        try:
            return await story(store)
        finally:
            await store.close()

    return asyncio.run(whole())


def kept(disk: Disk) -> list[tuple[str, str, Any]]:
    """What is on the disk, as the next process will find it."""

    async def read(store: Store) -> list[tuple[str, str, Any]]:
        return list(store.load())

    return play(disk, read)


async def code_of(action: Awaitable[Any]) -> str:
    with pytest.raises(GrafosError) as caught:
        await action
    return caught.value.code


class StoreSuite:
    """Subclasses give the fixture ``disk``."""

    def test_a_new_store_is_empty(self, disk: Disk) -> None:
        assert kept(disk) == []

    def test_a_committed_batch_is_there_after_a_restart(self, disk: Disk) -> None:
        batch: Batch = (lamp("desk"), Change("shelf", "top", Shelf(("a", "b"))))
        play(disk, lambda store: store.commit(batch, store.epoch))
        assert kept(disk) == [("lamp", "desk", Lamp("desk")), ("shelf", "top", Shelf(("a", "b")))]

    def test_the_last_change_of_a_row_wins_within_a_batch_and_across_batches(self, disk: Disk) -> None:
        async def story(store: Store) -> None:
            await store.commit((lamp("desk"), lamp("desk", lit=True), Change("lamp", "hall", None)), store.epoch)
            await store.commit((lamp("hall"), Change("lamp", "hall", None), lamp("attic")), store.epoch)
            await store.commit((Change("lamp", "attic", None), lamp("attic", lit=True)), store.epoch)

        play(disk, story)
        assert kept(disk) == [("lamp", "attic", Lamp("attic", lit=True)), ("lamp", "desk", Lamp("desk", lit=True))]

    def test_a_removed_row_stays_away_and_removing_it_again_is_harmless(self, disk: Disk) -> None:
        async def story(store: Store) -> None:
            await store.commit((lamp("desk"),), store.epoch)
            await store.commit((Change("lamp", "desk", None),), store.epoch)
            await store.commit((Change("lamp", "desk", None),), store.epoch)

        play(disk, story)
        assert kept(disk) == []

    def test_batches_become_durable_in_the_order_in_which_they_were_handed_in(self, disk: Disk) -> None:
        async def story(store: Store) -> list[int]:
            done: list[int] = []

            async def write(number: int) -> None:
                await store.commit((Change("lamp", "desk", Lamp(str(number))),), store.epoch)
                done.append(number)

            await asyncio.gather(*(write(number) for number in range(200)))
            return done

        assert play(disk, story) == list(range(200))
        assert kept(disk) == [("lamp", "desk", Lamp("199"))]

    def test_an_empty_batch_waits_for_all_that_were_handed_in_before_it(self, disk: Disk) -> None:
        async def story(store: Store) -> bool:
            first = asyncio.ensure_future(store.commit((lamp("desk"),), store.epoch))
            await asyncio.sleep(0)
            await store.commit((), store.epoch)
            return first.done()

        assert play(disk, story) is True

    def test_cold_kinds_are_left_on_disk_and_read_when_asked_for(self, disk: Disk) -> None:
        async def story(store: Store) -> tuple[Any, ...]:
            await store.commit((lamp("desk"), Change("shelf", "top", Shelf(("a",)))), store.epoch)
            loaded = list(store.load(without={"shelf"}))
            return loaded, await store.read("shelf", "top"), await store.read("shelf", "none")

        assert play(disk, story) == ([("lamp", "desk", Lamp("desk"))], Shelf(("a",)), None)

    def test_a_stretch_of_one_kind_is_read_by_key_from_wherever_asked(self, disk: Disk) -> None:
        async def story(store: Store) -> list[list[str]]:
            await store.commit((*map(lamp, ("d", "b", "a", "c")), Change("shelf", "b", Shelf(()))), store.epoch)
            asked = (("", 9), ("b", 2), ("bb", 9), ("e", 9))
            return [[key for key, _ in await store.read_from("lamp", *each)] for each in asked]

        assert play(disk, story) == [["a", "b", "c", "d"], ["b", "c"], ["c", "d"], []]

    def test_every_opening_takes_a_newer_epoch(self, disk: Disk) -> None:
        async def epoch(store: Store) -> int:
            return store.epoch

        assert play(disk, epoch) < play(disk, epoch) < play(disk, epoch)

    def test_an_older_writer_is_fenced_by_a_newer_one(self, disk: Disk) -> None:
        """Two processes may believe that they own the state; only the newer one may write it."""

        async def story() -> tuple[str, str]:
            older, newer = disk.open(), disk.open()
            await newer.commit((lamp("desk"),), newer.epoch)
            first = await code_of(older.commit((lamp("hall"),), older.epoch))
            second = await code_of(older.commit((), older.epoch))
            await older.close()
            await newer.close()
            return first, second

        first, second = asyncio.run(story())
        assert first == "store_fenced"
        assert second == "store_fenced", "whoever asks later hears why, too"
        assert kept(disk) == [("lamp", "desk", Lamp("desk"))]

    def test_a_commit_in_the_name_of_another_epoch_is_refused(self, disk: Disk) -> None:
        play(disk, lambda store: code_of(store.commit((lamp("desk"),), store.epoch - 1)))
        assert kept(disk) == []

    def test_a_closed_store_takes_nothing_and_closing_twice_is_harmless(self, disk: Disk) -> None:
        async def story(store: Store) -> str:
            await store.commit((lamp("desk"),), store.epoch)
            await store.close()
            await store.close()
            return await code_of(store.commit((lamp("hall"),), store.epoch))

        assert play(disk, story) == "store_failed"
        assert kept(disk) == [("lamp", "desk", Lamp("desk"))]

    def test_a_caller_that_gives_up_waiting_harms_nobody_else(self, disk: Disk) -> None:
        async def story(store: Store) -> None:
            given_up = asyncio.ensure_future(store.commit((lamp("desk"),), store.epoch))
            await asyncio.sleep(0)
            given_up.cancel()
            await store.commit((lamp("hall"),), store.epoch)

        play(disk, story)
        assert ("lamp", "hall", Lamp("hall")) in kept(disk)
