"""A disk is read without its holes, and what was sent of it is remembered as far as it can be believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disks import make_disk

from grafos_connectors.contract import CloudError, Kind, Ref
from grafos_connectors.uploads import MIB, Disk, Part, Sent, forget_sent, send_parts

PART_BYTES = 64 * 1024
PLACE = Ref("", Kind.SNAPSHOT, "snap-1", "here")


def test_parts_are_those_that_are_not_zeros_and_the_last_is_filled_up(tmp_path: Path) -> None:
    with make_disk(tmp_path, 3 * PART_BYTES + 10, ((PART_BYTES, 1), (3 * PART_BYTES, 10))) as disk:
        parts = list(disk.parts(PART_BYTES))
        assert [part.number for part in parts] == [1, 3]
        assert [len(part.data) for part in parts] == [PART_BYTES, PART_BYTES]
        assert parts[1].data[10:] == bytes(PART_BYTES - 10)


def test_zeros_that_are_written_are_no_part_either(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(4 * PART_BYTES))
    with Disk(path, "0") as disk:
        assert list(disk.parts(PART_BYTES)) == []


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_what_is_no_disk_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "disk"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CloudError) as refused:
        Disk(path, "0")
    assert refused.value.code == "cloud_invalid"


def test_a_disk_that_is_cut_off_while_it_is_read_is_refused(tmp_path: Path) -> None:
    with make_disk(tmp_path, MIB, ((0, MIB),)) as disk:
        os.truncate(disk.path, MIB // 2)
        with pytest.raises(CloudError) as refused:
            list(disk.parts(MIB))
    assert "shorter" in refused.value.why


def test_what_was_sent_is_remembered_for_the_same_place_and_disk_alone(tmp_path: Path) -> None:
    first = Sent(tmp_path / "sent", PLACE, "aa")
    first.add(3)
    first.keep("at an address")
    first.close()
    again = Sent(tmp_path / "sent", PLACE, "aa")
    assert (3 in again, 4 in again, again.note) == (True, False, "at an address")
    again.close()
    for place, digest in ((PLACE, "bb"), (Ref("", Kind.SNAPSHOT, "snap-2", "here"), "aa")):
        other = Sent(tmp_path / "sent", place, digest)
        assert (3 in other, other.note) == (False, "")
        other.close()


def test_a_line_that_a_crash_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    sent = Sent(tmp_path / "sent", PLACE, "aa")
    sent.add(7)
    sent.close()
    with (tmp_path / "sent").open("a") as file:
        file.write("12")  # of 1234
    again = Sent(tmp_path / "sent", PLACE, "aa")
    assert (7 in again, 12 in again) == (True, False)
    again.add(5)
    again.close()
    third = Sent(tmp_path / "sent", PLACE, "aa")
    assert 5 in third
    third.close()


def test_the_note_is_for_its_owner_alone_and_goes_with_what_lies_beside_it(tmp_path: Path) -> None:
    sent = Sent(tmp_path / "sent", PLACE, "aa")
    sent.keep("https://secret")
    assert (tmp_path / "sent").stat().st_mode & 0o077 == 0
    sent.beside(".tar.gz").write_bytes(b"x")
    sent.close()
    forget_sent(tmp_path / "sent")
    assert list(tmp_path.iterdir()) == []


def test_one_part_that_is_refused_ends_it_and_what_got_through_is_noted(tmp_path: Path) -> None:
    def send(part: Part) -> None:
        if part.number == 2:
            raise CloudError("cloud_denied", "no")

    with make_disk(tmp_path, 6 * PART_BYTES, ((0, 6 * PART_BYTES),)) as disk:
        sent = Sent(tmp_path / "sent", PLACE, "aa")
        with pytest.raises(CloudError):
            send_parts(disk.parts(PART_BYTES), send, sent, disk, lambda *_: None, 2)
        assert 0 in sent
        assert 2 not in sent
        filled = send_parts(disk.parts(PART_BYTES), lambda _: None, sent, disk, lambda *_: None, 2)
        assert filled.parts_sent + filled.parts_kept == 6
        sent.close()
