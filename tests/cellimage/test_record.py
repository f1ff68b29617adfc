from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from grafos_cellimage.record import (
    BakedImage,
    list_images,
    read_record,
    sha256_of,
    verify,
    write_record,
)
from grafos_core.errors import GrafosError


@pytest.fixture
def image(tmp_path: Path) -> BakedImage:
    """A small disk with its record."""
    disk = tmp_path / "kept" / "cell.raw"
    disk.parent.mkdir()
    disk.write_bytes(b"boots" * 1000)
    made = BakedImage(path=disk, sha256=sha256_of(disk), size_bytes=5000, arch="amd64", suite="trixie")
    write_record(made)
    return made


def test_a_record_is_read_as_it_was_written_by_disk_or_record(image: BakedImage) -> None:
    assert read_record(image.path) == read_record(image.record) == image
    verify(image)


def test_disk_and_record_can_be_moved_together(image: BakedImage, tmp_path: Path) -> None:
    moved = image.path.parent.rename(tmp_path / "elsewhere")
    assert read_record(moved / "cell.raw").path == moved / "cell.raw"


def test_one_changed_byte_is_no_longer_the_image(image: BakedImage) -> None:
    image.path.write_bytes(b"boot5" + b"boots" * 999)
    with pytest.raises(GrafosError) as refused:
        verify(read_record(image.path))
    assert refused.value.code == "image_invalid"


@pytest.mark.parametrize("harm", ["cut", "no disk", "no record", "other folder", "no digest"])
def test_what_is_no_image_is_refused_and_not_listed(image: BakedImage, harm: str) -> None:
    told = json.loads(image.record.read_bytes())
    if harm == "cut":
        image.path.write_bytes(b"boots")
    elif harm == "no disk":
        image.path.unlink()
    elif harm == "no record":
        image.record.unlink()
    elif harm == "other folder":
        image.record.write_text(json.dumps(told | {"path": "../cell.raw"}))
    else:
        image.record.write_text(json.dumps(told | {"sha256": "unknown"}))
    with pytest.raises(GrafosError) as refused:
        read_record(image.path)
    assert refused.value.code == "image_invalid"
    assert list_images(image.path.parent) == []


@pytest.mark.parametrize("ends_with", [b"end", b""], ids=["data at the end", "a hole at the end"])
def test_holes_count_as_the_zeros_that_they_are(ends_with: bytes, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        for at, data in ((0, b"begin"), (5 << 20, b"middle" * 300_000), ((9 << 20) - len(ends_with), ends_with)):
            file.seek(at)
            file.write(data)
        file.truncate(9 << 20)
    assert sha256_of(disk) == hashlib.sha256(disk.read_bytes()).hexdigest()
    (tmp_path / "nothing").touch()
    assert sha256_of(tmp_path / "nothing") == hashlib.sha256(b"").hexdigest()
