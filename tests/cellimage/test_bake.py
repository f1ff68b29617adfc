"""Bakes: the same inputs give the same bytes, and a difference is named by the file in which it is."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from baking import NOWHERE, Silent, bake, baked_from_nothing, kept, software_of
from comparing import differing_images, differing_layers, files_of

from grafos_cellimage import layers
from grafos_cellimage.bake import LAYER, Baker, base_of
from grafos_cellimage.disk import UKI_BYTES_MAX
from grafos_cellimage.lock import changes, open_lock, write_lock
from grafos_cellimage.plan import plan_for
from grafos_cellimage.record import GIB, BakedImage, read_record, verify
from grafos_core.errors import GrafosError
from grafos_stacks.bundle import STRIPPED

pytestmark = [pytest.mark.needs("image"), pytest.mark.timeout(900)]

PLAN = plan_for("amd64")


def test_two_bakes_in_two_folders_are_the_same_bytes(image: BakedImage, tmp_path: Path) -> None:
    time.sleep(2.1)  # what a file system counts time in
    again = bake("amd64", tmp_path / "elsewhere")
    assert differing_images(image, again) == []
    assert (again.own_sha256, again.uki_sha256, again.sha256) == (image.own_sha256, image.uki_sha256, image.sha256)
    assert again.path != image.path


def test_a_difference_is_named_by_its_file(tmp_path: Path) -> None:
    for name, text in (("one", b"1"), ("other", b"2")):
        tree = {"etc/same": layers.Node(b"same"), "usr/lib/changed": layers.Node(text)}
        layers.pack(tree, tmp_path / f"{name}.tar", 1)
        layers.compress([tmp_path / f"{name}.tar"], tmp_path / name, 1)
    assert differing_layers(tmp_path / "one", tmp_path / "other") == ["usr/lib/changed"]


def test_an_image_is_small_whole_and_sparse(image: BakedImage) -> None:
    assert read_record(image.path) == image
    verify(image)
    assert image.path.stat().st_size == GIB
    assert image.path.stat().st_blocks * 512 < 2 * image.uki_bytes
    assert image.uki_bytes < UKI_BYTES_MAX
    assert {"mmdebstrap", "depmod", "mke2fs", "python"} <= image.tools.keys(), "what wrote it, its base as well"


def test_a_change_of_our_own_code_changes_the_image_and_not_its_base(image: BakedImage, tmp_path: Path) -> None:
    lock, digest = open_lock(PLAN)
    before = (base_of(PLAN, digest, STRIPPED, kept()) / LAYER).stat()
    with software_of(PLAN) as software:
        own = {**software.own, "grafos_cell/__init__.py": b"# changed\n"}
        changed = Baker(kept(), NOWHERE, Silent()).bake(PLAN, lock, digest, software._replace(own=own), tmp_path)
    assert changed.sha256 != image.sha256
    assert (base_of(PLAN, digest, STRIPPED, kept()) / LAYER).stat().st_mtime_ns == before.st_mtime_ns


def test_what_breaks_off_leaves_nothing_under_a_final_name(tmp_path: Path) -> None:
    lock, digest = open_lock(PLAN)
    with software_of(PLAN) as software:
        broken = software._replace(own={"grafos_cell/__init__.py": b"this is ( no python"})
        with pytest.raises(GrafosError):
            Baker(kept(), NOWHERE, Silent()).bake(PLAN, lock, digest, broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.deep
def test_no_disk_is_left_without_its_record(image: BakedImage, tmp_path: Path) -> None:
    """The record's place is taken, so it cannot be written."""
    (tmp_path / image.record.name).mkdir()
    with pytest.raises(GrafosError) as refused:
        bake("amd64", tmp_path)
    assert refused.value.code == "bake_failed"
    assert not list(tmp_path.glob("*.raw"))


def test_a_place_that_cannot_be_written_to_is_told_in_one_line(tmp_path: Path) -> None:
    lock, digest = open_lock(PLAN)
    (tmp_path / "file").touch()
    with software_of(PLAN) as software, pytest.raises(GrafosError) as refused:
        Baker(kept(), NOWHERE, Silent()).bake(PLAN, lock, digest, software, tmp_path / "file" / "images")
    assert (refused.value.code, "file" in refused.value.why) == ("bake_failed", True)


def test_the_base_holds_nothing_that_lets_somebody_in_or_installs() -> None:
    _, digest = open_lock(PLAN)
    layer = base_of(PLAN, digest, STRIPPED, kept()) / LAYER
    files = files_of(layer.read_bytes())
    programs = {name.rpartition("/")[2] for name in files if "/bin/" in name or "/sbin/" in name}
    assert {"python3.13", "systemctl"} <= programs
    assert programs & {"sshd", "sudo", "apt", "apt-get", "dpkg", "perl", "gcc", "curl", "wget"} == set()
    mode = {name: int(head[:8], 16) for name, head in files.items()}
    assert [name for name, bits in mode.items() if bits & 0o6000 and bits & 0o170000 == 0o100000] == []
    shadow = files["etc/shadow"][96:].decode()
    assert all(line.split(":")[1] in ("*", "!", "!*", "!!") for line in shadow.splitlines())


def test_every_unit_of_debian_that_is_started_is_in_the_base(image: BakedImage) -> None:
    from grafos_cellimage.overlay import overlay

    _, digest = open_lock(PLAN)
    layer = base_of(PLAN, digest, STRIPPED, kept()) / LAYER
    files = files_of(layer.read_bytes())
    tree = overlay(PLAN)
    started = {node.link.removeprefix("/") for name, node in tree.items() if ".wants/" in name}
    assert started - set(files) - set(tree) == set()


def test_a_refreshed_lock_names_what_changed(tmp_path: Path) -> None:
    """Without a network: two locks of which one has a newer package."""
    lock, _ = open_lock(PLAN)
    first, *rest = lock.packages
    newer = msgspec.structs.replace(lock, packages=(msgspec.structs.replace(first, version="9"), *rest))
    file = tmp_path / "newer.lock"
    file.write_text(write_lock(newer))
    assert changes(lock, open_lock(PLAN, file)[0]) == [f"{first.name} {first.version} -> 9"]


@pytest.mark.deep
def test_two_bases_from_one_lock_are_the_same_bytes(tmp_path: Path) -> None:
    """All of it twice, from nothing but the packages; if they differ, the files in which they do are named."""
    images = [baked_from_nothing(PLAN, tmp_path / name) for name in ("one", "other")]
    assert differing_images(*images) == []
    assert images[0].sha256 == images[1].sha256
