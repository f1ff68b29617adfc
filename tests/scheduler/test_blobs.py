from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_scheduler.blobs import BlobStore
from grafos_scheduler.messages import BLOB_BYTES_MAX


class Shelf:
    """A store on disk, and the hashes that runs under way need."""

    def __init__(self, folder: Path, bytes_max: int = 10_000) -> None:
        self.folder = folder
        self.bytes_max = bytes_max
        self.needed: set[str] = set()
        self.open()

    def open(self) -> None:
        self.store = BlobStore(self.folder, lambda tenant: self.needed, self.bytes_max)

    def put(self, data: bytes, tenant: str = "acme") -> str:
        sha256 = sha256_of(data)
        asyncio.run(self.store.put(tenant, sha256, data))
        return sha256

    def get(self, sha256: str, tenant: str = "acme") -> bytes:
        return asyncio.run(self.store.get(tenant, sha256))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "blobs")


def code_of(action: Awaitable[Any]) -> str:
    with pytest.raises(GrafosError) as caught:
        asyncio.run(action)
    return caught.value.code


def test_a_blob_is_there_after_a_restart(shelf: Shelf) -> None:
    sha256 = shelf.put(b"module")
    shelf.open()
    assert (shelf.get(sha256), shelf.store.size_of("acme", sha256)) == (b"module", 6)


def test_bytes_that_are_not_what_their_hash_says_are_refused_and_leave_nothing(shelf: Shelf) -> None:
    assert code_of(shelf.store.put("acme", "0" * 64, b"module")) == "blob_mismatch"
    assert shelf.store.size_of("acme", "0" * 64) is None
    assert [file for file in shelf.folder.rglob("*") if file.is_file()] == []


def test_a_blob_over_the_limit_is_refused(shelf: Shelf) -> None:
    data = bytes(BLOB_BYTES_MAX + 1)
    assert code_of(shelf.store.put("acme", sha256_of(data), data)) == "body_too_large"


def test_a_tenant_sees_no_blob_of_another(shelf: Shelf) -> None:
    sha256 = shelf.put(b"secret", "acme")
    assert shelf.store.size_of("globex", sha256) is None
    assert code_of(shelf.store.get("globex", sha256)) == "blob_missing"


def test_when_room_is_short_the_longest_unused_goes_and_what_runs_need_stays(shelf: Shelf) -> None:
    first, second = shelf.put(b"a" * 4000), shelf.put(b"b" * 4000)
    shelf.get(first)
    third = shelf.put(b"c" * 4000)
    assert shelf.store.size_of("acme", second) is None
    assert shelf.store.size_of("acme", first)
    shelf.needed = {first, third}
    assert code_of(shelf.store.put("acme", sha256_of(b"d" * 4000), b"d" * 4000)) == "limit_exceeded"
    assert (shelf.get(first), shelf.get(third)) == (b"a" * 4000, b"c" * 4000)


def test_many_uploads_at_once_do_not_outgrow_the_limit_together(shelf: Shelf) -> None:
    blobs = [bytes([number]) * 4000 for number in range(8)]

    async def upload() -> list[Any]:
        puts = [shelf.store.put("acme", sha256_of(data), data) for data in blobs]
        return await asyncio.gather(*puts, return_exceptions=True)

    refused = [error for error in asyncio.run(upload()) if error is not None]
    assert [error.code for error in refused] == ["limit_exceeded"] * 6
    assert sum(file.stat().st_size for file in shelf.folder.rglob("*") if file.is_file()) <= shelf.bytes_max


def test_what_a_run_needs_that_is_admitted_meanwhile_does_not_go(shelf: Shelf) -> None:
    """Whatever is still listed when a run is admitted is there when its cell asks for it."""
    kept = [shelf.put(bytes([number]) * 3000) for number in range(3)]
    large = b"x" * 9000

    async def admit_during_upload() -> list[str]:
        uploading = asyncio.create_task(shelf.store.put("acme", sha256_of(large), large))
        await asyncio.sleep(0)
        listed = [sha256 for sha256 in kept if shelf.store.size_of("acme", sha256)]
        shelf.needed = set(listed)
        await uploading
        return listed

    for sha256 in asyncio.run(admit_during_upload()):
        assert shelf.get(sha256)


def test_where_room_cannot_be_made_nothing_is_thrown_away(shelf: Shelf) -> None:
    unused, needed = shelf.put(b"a" * 2000), shelf.put(b"b" * 8000)
    shelf.needed = {needed}
    assert code_of(shelf.store.put("acme", sha256_of(b"c" * 3000), b"c" * 3000)) == "limit_exceeded"
    assert shelf.get(unused) == b"a" * 2000


def test_a_disk_that_does_not_take_a_blob_is_told_and_the_blob_does_not_count(shelf: Shelf) -> None:
    (shelf.folder / "acme").write_text("no folder")
    assert code_of(shelf.store.put("acme", sha256_of(b"module"), b"module")) == "store_failed"
    assert shelf.store.size_of("acme", sha256_of(b"module")) is None


def test_one_tenant_does_not_push_out_another(shelf: Shelf) -> None:
    theirs = shelf.put(b"x" * 9000, "globex")
    shelf.put(b"y" * 9000, "acme")
    assert shelf.get(theirs, "globex")


def test_a_file_that_a_crash_left_half_written_goes(shelf: Shelf) -> None:
    sha256 = shelf.put(b"module")
    draft = shelf.folder / "acme" / f".{sha256}.abc123"
    draft.write_bytes(b"mod")
    shelf.open()
    assert not draft.exists()
    assert shelf.get(sha256) == b"module"


def test_a_file_that_somebody_removed_is_missing_and_can_be_put_again(shelf: Shelf) -> None:
    sha256 = shelf.put(b"module")
    (shelf.folder / "acme" / sha256).unlink()
    assert code_of(shelf.store.get("acme", sha256)) == "blob_missing"
    assert shelf.put(b"module") == sha256
    assert shelf.get(sha256) == b"module"


def test_what_a_tenant_left_that_is_gone_is_removed_at_the_latest_when_the_scheduler_starts(shelf: Shelf) -> None:
    shelf.put(b"module", "globex")
    kept = shelf.put(b"module")
    shelf.store = BlobStore(shelf.folder, lambda _: (), gone=("globex", "initech"))
    assert [place.name for place in shelf.folder.iterdir()] == ["acme"]
    asyncio.run(shelf.store.forget("globex"))
    assert shelf.get(kept) == b"module"
