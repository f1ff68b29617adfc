from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from grafos_cellimage.disk import copy_sparsely
from grafos_cellimage.layers import Node, draft, pack, trim

EPOCH_S = 1_700_000_000


def given(path: Path, names: dict[str, int], order: int = 1) -> Path:
    """A tar with files of those names and modes, in that order or the other."""
    with tarfile.open(path, "w") as archive:
        for name, mode in list(names.items())[::order]:
            entry = tarfile.TarInfo(f"./{name}")
            entry.mode, entry.mtime, entry.size, entry.uname = mode, order, 1, "somebody"
            archive.addfile(entry, io.BytesIO(b"x"))
    return path


def test_the_same_files_give_the_same_bytes_whatever_their_order_and_time(tmp_path: Path) -> None:
    names = {"usr/bin/b": 0o755, "usr/bin/a": 0o4755, "etc/c": 0o644}
    for order in (1, -1):
        trim(given(tmp_path / f"given{order}", names, order), tmp_path / f"out{order}", (), EPOCH_S)
    assert (tmp_path / "out1").read_bytes() == (tmp_path / "out-1").read_bytes()


def test_no_program_keeps_the_right_to_run_as_its_owner(tmp_path: Path) -> None:
    trim(given(tmp_path / "given", {"usr/bin/su": 0o4755}), tmp_path / "out", (), EPOCH_S)
    with tarfile.open(tmp_path / "out") as archive:
        assert [(entry.name, entry.mode, entry.mtime) for entry in archive] == [("usr/bin/su", 0o755, EPOCH_S)]


def test_what_is_dropped_is_gone_and_copyrights_stay(tmp_path: Path) -> None:
    names = dict.fromkeys(["usr/bin/dpkg", "usr/share/doc/a/copyright", "usr/share/doc/a/news", "usr/bin/ls"], 0o644)
    trim(given(tmp_path / "given", names), tmp_path / "out", ("usr/bin/dpkg*",), EPOCH_S)
    with tarfile.open(tmp_path / "out") as archive:
        assert archive.getnames() == ["usr/bin/ls", "usr/share/doc/a/copyright"]


def test_a_tree_is_packed_with_its_folders_and_belongs_to_root(tmp_path: Path) -> None:
    pack({"etc/systemd/a": Node(b"1"), "init": Node(link="usr/x")}, tmp_path / "out", EPOCH_S)
    with tarfile.open(tmp_path / "out") as archive:
        entries = archive.getmembers()
    assert [(entry.name, entry.isdir()) for entry in entries][:2] == [("etc", True), ("etc/systemd", True)]
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries} == {(0, 0, EPOCH_S)}


def test_what_was_interrupted_leaves_neither_the_file_nor_a_part(tmp_path: Path) -> None:
    def interrupted() -> None:
        with draft(tmp_path / "image.raw") as part:
            part.write_bytes(b"half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_zeros_take_no_room_on_a_disk_and_all_else_arrives(tmp_path: Path) -> None:
    mib = 1 << 20
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(40 * mib)
        for at, data in ((3 * mib + 5, b"early"), (20 * mib - 2, b"over the edge"), (30 * mib, bytes(mib))):
            file.seek(at)
            file.write(data)
    with target.open("wb") as file:
        file.truncate(64 * mib)
    copy_sparsely(source, target, 8 * mib)
    assert target.read_bytes() == bytes(8 * mib) + source.read_bytes() + bytes(16 * mib)
    assert target.stat().st_blocks * 512 <= 4 * mib
