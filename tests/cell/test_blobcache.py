from __future__ import annotations

import os
from pathlib import Path

from grafos_cell.blobcache import BlobCache
from grafos_core.ids import sha256_of


def put(cache: BlobCache, data: bytes, age_s: float = 0.0) -> str:
    sha256 = sha256_of(data)
    cache.put(sha256, data)
    if age_s:
        path = cache._folder / sha256
        used = path.stat().st_mtime - age_s
        os.utime(path, (used, used))
    return sha256


def test_what_was_put_is_there_for_the_next_process_too(tmp_path: Path) -> None:
    sha256 = put(BlobCache(tmp_path), b"module")
    assert BlobCache(tmp_path).get(sha256) == b"module"


def test_a_damaged_file_is_as_good_as_none_and_goes(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path)
    sha256 = put(cache, b"module")
    (tmp_path / sha256).write_bytes(b"m0dule")
    assert cache.get(sha256) is None
    assert not (tmp_path / sha256).exists()


def test_when_it_is_full_the_longest_unused_goes(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, bytes_max=10)
    old, used = put(cache, b"aaaa", age_s=100), put(cache, b"bbbb", age_s=200)
    assert cache.get(used)
    new = put(cache, b"cccc")
    assert (cache.get(old), cache.get(used), cache.get(new)) == (None, b"bbbb", b"cccc")


def test_a_folder_that_cannot_be_written_is_no_harm(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    sha256 = put(cache, b"module")
    assert cache.get(sha256) is None
