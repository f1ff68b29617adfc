"""`grafos cloud image`, the part that needs no bake."""

from __future__ import annotations

from pathlib import Path

from command_line import Person, grafos
from vouching import vouched

from grafos_cellimage.record import BakedImage, sha256_of, write_record


def test_images_are_listed_with_their_digest(tmp_path: Path) -> None:
    disk = tmp_path / "cell.raw"
    disk.write_bytes(b"boots")
    write_record(BakedImage(path=disk, sha256=sha256_of(disk), size_bytes=5, arch="arm64", suite="trixie"))
    answer = grafos("cloud", "image", "ls", "--folder", str(tmp_path), "--json", cwd=tmp_path)
    assert [(image["arch"], image["sha256"]) for image in answer.document["images"]] == [("arm64", sha256_of(disk))]
    assert sha256_of(disk)[:12] in grafos("cloud", "image", "ls", "--folder", str(tmp_path), cwd=tmp_path).out


def test_where_no_image_is_that_is_said(tmp_path: Path) -> None:
    answer = grafos("cloud", "image", "ls", "--folder", str(tmp_path / "none"), cwd=tmp_path)
    assert (answer.code, answer.out) == (0, "No image yet.\n")


def test_what_cannot_be_baked_is_told_before_anything_is_done(tmp_path: Path) -> None:
    where = ("--folder", str(tmp_path / "images"))
    assert grafos("cloud", "image", "bake", "--arch", "sparc", *where, cwd=tmp_path).error_code == "unsupported"
    torn = tmp_path / "torn.lock"
    torn.write_text("{")
    words = ("cloud", "image", "bake", "--arch", "amd64", "--lock", str(torn), *where)
    assert grafos(*words, cwd=tmp_path).error_code == "config_invalid"
    assert not (tmp_path / "images").exists()


def test_what_cannot_be_booted_is_told_before_anything_is_done(tmp_path: Path) -> None:
    person = Person(tmp_path)
    assert person("cloud", "image", "boot").error_code == "image_invalid"
    disk = tmp_path / "cell.raw"
    disk.write_bytes(b"boots")
    write_record(BakedImage(path=disk, sha256="0" * 64, size_bytes=5, arch="amd64", suite="trixie"))
    answer = person("cloud", "image", "boot", "--image", str(disk))
    assert answer.error_code == "provenance_missing"
    write_record(BakedImage(path=disk, sha256=sha256_of(disk), size_bytes=5, arch="amd64", suite="trixie"))
    answer = person("cloud", "image", "boot", "--image", str(disk))
    assert answer.error_code == "provenance_missing", "its record is of anybody's hand"
    vouched(person, disk)
    answer = person("cloud", "image", "boot", "--image", str(disk))
    assert (answer.error_code, "grafos fabric init" in answer.err) == ("not_found", True)
