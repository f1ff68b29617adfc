"""`grafos cloud image`, the part that needs no bake."""

from __future__ import annotations

from pathlib import Path

from command_line import grafos

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
