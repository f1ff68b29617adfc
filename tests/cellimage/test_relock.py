"""A lock whose packages Debian has dropped: a mirror on loopback has the newer ones alone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from baking import Silent, kept, software_of
from comparing import differing_images
from debian_mirror import DebianMirror, shown
from forked import GRAFOS
from own_mounts import with_own_mounts

from grafos_cellimage.bake import Baker, base_of
from grafos_cellimage.lock import Lock, changes, open_lock, write_lock
from grafos_cellimage.plan import plan_for
from grafos_cellimage.record import list_images, read_record
from grafos_cellimage.relock import Locked, bake_or_relock, copy_at, relock
from grafos_cellimage.resolving import KEYRING, resolve_packages
from grafos_core.errors import GrafosError
from grafos_stacks.bundle import STRIPPED

pytestmark = [pytest.mark.needs("image"), pytest.mark.timeout(900)]

PLAN = plan_for("amd64")
OTHER_KEY = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
LATER = "Sat, 02 Jan 2027 03:04:05 UTC"


def stale() -> Locked:
    """grafos' own lock as it might have been earlier: one of its packages had another version, and other bytes."""
    lock, _ = open_lock(PLAN)
    packages = [earlier(package) if package.name == "netbase" else package for package in lock.packages]
    told = msgspec.structs.replace(lock, packages=tuple(packages))
    return told, hashlib.sha256(write_lock(told).encode()).hexdigest()


def earlier(package):
    path = package.path.replace(package.version, "6.0")
    return msgspec.structs.replace(package, version="6.0", path=path, sha256=hashlib.sha256(b"6.0").hexdigest())


def newer_netbase(lock: Lock) -> list[str]:
    return [f"netbase 6.0 -> {package.version}" for package in lock.packages if package.name == "netbase"]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DebianMirror, dict[str, str]]]:
    """With the packages of grafos' own lock."""
    folder = tmp_path_factory.mktemp("mirror")
    made = DebianMirror(folder, open_lock(PLAN)[0], kept() / "packages")
    with shown(folder) as url:
        yield made, made.addresses(url)


def test_what_debian_has_dropped_is_taken_newer_and_everything_else_as_it_was(mirror, tmp_path: Path) -> None:
    made, addresses = mirror
    lock, _ = open_lock(PLAN)
    was, _ = asked = stale()
    fresh, sha256 = relock(PLAN, asked, addresses, tmp_path / "images", made.keyring)
    copy = copy_at(PLAN, asked[1], sha256, tmp_path / "images")
    assert (fresh.packages, fresh.wheels, fresh.epoch_s) == (lock.packages, was.wheels, lock.epoch_s)
    assert changes(was, fresh) == newer_netbase(lock)
    assert (sha256, open_lock(PLAN, copy)) == (hashlib.sha256(copy.read_bytes()).hexdigest(), (fresh, sha256))


def test_a_later_copy_leaves_the_earlier_one_to_the_images_that_were_baked_from_it(mirror, tmp_path: Path) -> None:
    made, addresses = mirror
    earlier = copy_at(PLAN, stale()[1], "0" * 64, tmp_path)
    earlier.write_text("what another image was baked from")
    _, sha256 = relock(PLAN, stale(), addresses, tmp_path, made.keyring)
    assert earlier.read_text() == "what another image was baked from"
    assert copy_at(PLAN, stale()[1], sha256, tmp_path) != earlier
    assert len(list(tmp_path.glob("*.lock"))) == 2


def test_a_list_that_debian_has_not_signed_is_believed_in_nothing(mirror) -> None:
    _, addresses = mirror
    with pytest.raises(GrafosError) as refused:
        resolve_packages(PLAN, addresses)
    assert refused.value.code == "bake_failed"
    assert "not signed" in refused.value.why or "NO_PUBKEY" in refused.value.why


@pytest.mark.deep
def test_a_bake_goes_on_with_a_copy_says_so_and_the_next_takes_the_same_one(mirror, tmp_path: Path) -> None:
    """Also when Debian's lists are of another day by then; and in a place that has nothing of the first bake but the
    copy."""
    made, addresses = mirror
    asked, images = stale(), []
    for name in ("one", "other"):
        folder = tmp_path / name / "images"
        if images:
            folder.mkdir(parents=True)
            (copy,) = images[0].path.parent.glob("*.lock")
            shutil.copyfile(copy, folder / copy.name)
            made.publish({archive.suite: LATER for archive in asked[0].archives})
        with software_of(PLAN) as software:
            baker = Baker(tmp_path / name, addresses, Silent())
            images.append(bake_or_relock(baker, PLAN, asked, software, folder, made.keyring).image)
    assert differing_images(*images) == []
    for image in images:
        told = read_record(image.path)
        copy = copy_at(PLAN, asked[1], told.lock_sha256, image.path.parent)
        assert (told.relocked_from, list(told.lock_changes)) == (asked[1], newer_netbase(open_lock(PLAN)[0]))
        assert told.lock_sha256 == hashlib.sha256(copy.read_bytes()).hexdigest()


def test_the_command_names_what_differs_and_the_record_has_it(mirror, tmp_path: Path) -> None:
    """With the base of the newer lock there already; the mirror's key takes the place of Debian's for this program."""
    made, _ = mirror
    was, _ = stale()
    asked, cache = tmp_path / "asked.lock", tmp_path / "cache" / "grafos" / "images"
    asked.write_text(write_lock(was))
    cache.mkdir(parents=True)
    (cache / "packages").symlink_to(kept() / "packages")
    with shown(made.folder) as url:
        _, sha256 = relock(PLAN, stale(), made.addresses(url), tmp_path / "other", made.keyring)
        base = base_of(PLAN, sha256, STRIPPED, cache)
        base.parent.mkdir()
        base.symlink_to(base_of(PLAN, open_lock(PLAN)[1], STRIPPED, kept()))
        words = ("--lock", str(asked), "--mirror", f"{url}/debian", "--folder", str(tmp_path / "images"))
        bake = ("env", f"XDG_CACHE_HOME={cache.parent.parent}", str(GRAFOS), "cloud", "image", "bake", *words)
        done = with_own_mounts(OTHER_KEY, str(made.keyring), str(KEYRING), *bake, home=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = newer_netbase(open_lock(PLAN)[0])
    assert f"  {line}\n" in done.stderr
    (image,) = list_images(tmp_path / "images")
    assert (image.lock_sha256, list(image.lock_changes)) == (sha256, [line])
    assert open_lock(PLAN, asked)[0] == was
