from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_mirror import shown

from grafos_cellimage.fetching import fetch
from grafos_cellimage.lock import SYSTEM, Package
from grafos_cellimage.mirrors import mirrors
from grafos_core.errors import GrafosError


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A mirror on loopback, and the folder that it shows."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with shown(folder) as url:
        yield url, folder


def package(name: str, data: bytes) -> Package:
    digest = hashlib.sha256(data).hexdigest()
    return Package(name, "1.0+deb13u1", SYSTEM, "debian", f"pool/{name}_1.0+deb13u1.deb", len(data), digest)


def put(folder: Path, one: Package, data: bytes) -> None:
    place = folder / one.path
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)


def test_packages_come_once_and_are_kept_by_their_digest(mirror: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = mirror
    one = package("libc6", b"library")
    put(folder, one, b"library")
    for place in ({"debian": url}, {"debian": "http://127.0.0.1:9"}):
        files = fetch([one], place, tmp_path / "kept", lambda _: None)
        assert files[one].read_bytes() == b"library"


def test_other_bytes_than_those_of_the_lock_are_refused_and_not_kept(mirror: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = mirror
    one = package("libc6", b"library")
    put(folder, one, b"Library")
    with pytest.raises(GrafosError) as refused:
        fetch([one], {"debian": url}, tmp_path / "kept", lambda _: None)
    assert refused.value.code == "bake_failed"
    assert list((tmp_path / "kept").iterdir()) == []


def test_packages_that_debian_has_dropped_are_all_named(mirror: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = mirror
    there, gone, also_gone = package("a", b"a"), package("b", b"b"), package("c", b"c")
    put(folder, there, b"a")
    with pytest.raises(GrafosError) as refused:
        fetch([there, gone, also_gone], {"debian": url}, tmp_path / "kept", lambda _: None)
    assert (refused.value.code, refused.value.context["packages"]) == ("lock_stale", ["b", "c"])
    assert "lock refresh" in refused.value.next


def test_a_damaged_copy_in_the_cache_is_fetched_anew(mirror: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = mirror
    one = package("libc6", b"library")
    put(folder, one, b"library")
    fetch([one], {"debian": url}, tmp_path / "kept", lambda _: None)[one].write_bytes(b"lib")
    assert fetch([one], {"debian": url}, tmp_path / "kept", lambda _: None)[one].read_bytes() == b"library"


def test_a_mirror_that_is_named_counts_and_its_security_archive_lies_beside_it() -> None:
    assert mirrors("https://mirror.example/debian/") == {
        "debian": "https://mirror.example/debian/",
        "debian-security": "https://mirror.example/debian-security",
    }
    assert mirrors("https://a.example/debian", "https://b.example/s")["debian-security"] == "https://b.example/s"


@pytest.mark.parametrize("url", ["mirror.example/debian", "https://a b/", "https://x]\ndeb evil", "ftp://x/debian"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(GrafosError) as refused:
        mirrors(url, "https://b.example/s")
    assert refused.value.code == "config_invalid"
