"""The file that rows are kept in: who may come in, what is refused, and what is left alone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from grafos_core.changes import Change, RowCodec
from grafos_core.errors import GrafosError
from grafos_core.rowfile import RowFile


class Lamp(msgspec.Struct, frozen=True):
    name: str


CODEC = RowCodec({"lamp": Lamp})
DESK = (Change("lamp", "desk", Lamp("desk")),)
HALL = (Change("lamp", "hall", Lamp("hall")),)


@contextlib.contextmanager
def opened(path: Path, wait_s: float = 5.0) -> Iterator[RowFile]:
    with contextlib.closing(RowFile(path, CODEC, noun="file under test", wait_s=wait_s)) as file:
        yield file


def keys(file: RowFile) -> list[str]:
    return [key for _, key, _ in file.load()]


def refusal(path: Path, wait_s: float = 0.0) -> GrafosError:
    with pytest.raises(GrafosError) as error, opened(path, wait_s) as file, file.transaction():
        list(file.load())
    assert error.value.where == str(path)
    return error.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "rows.db"


def test_what_a_transaction_wrote_is_there_for_the_next_and_what_failed_in_it_is_not(path: Path) -> None:
    def fail_after_writing(file: RowFile) -> None:
        with file.transaction():
            file.write(HALL)
            raise ZeroDivisionError

    with opened(path) as file:
        with file.transaction():
            file.write(DESK)
        with pytest.raises(ZeroDivisionError):
            fail_after_writing(file)
        assert keys(file) == ["desk"]


def test_nobody_else_comes_in_while_a_transaction_is_open(path: Path) -> None:
    with opened(path) as file, file.transaction():
        assert refusal(path).code == "store_failed"


def test_those_who_make_a_file_at_the_same_moment_wait_for_each_other(tmp_path: Path) -> None:
    """SQLite does not wait by itself while a new file is given its write-ahead log."""
    errors: list[str] = []

    def open_at(path: Path, moment: threading.Barrier) -> None:
        moment.wait(10)
        try:
            with opened(path):
                pass
        except GrafosError as error:
            errors.append(error.why)

    for number in range(60):
        together = threading.Barrier(4)
        threads = [threading.Thread(target=open_at, args=(tmp_path / f"{number}.db", together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert errors == []


ANOTHER_PROCESS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
connection.close()
"""


def test_a_process_that_has_it_open_twice_sees_what_others_write_and_they_see_what_it_writes(path: Path) -> None:
    """Whoever leaves a file last takes its log away: nobody does while another process has it open, however often."""
    with opened(path) as first, opened(path):
        epochs = []
        for _ in range(3):
            subprocess.run([sys.executable, "-c", ANOTHER_PROCESS, str(path)], check=True)
            epochs.append(first.take())
    with opened(path) as later:
        assert [*epochs, later.take()] == [2, 4, 6, 7]


def test_whoever_only_comes_for_a_transaction_fences_nobody(path: Path) -> None:
    with opened(path) as owner:
        epoch = owner.take()
        with opened(path) as visitor, visitor.transaction():
            visitor.write(DESK)
        owner.commit(HALL, epoch)
        assert keys(owner) == ["desk", "hall"]


def test_rows_are_found_by_what_their_keys_begin_with(path: Path) -> None:
    names = ["a", "a/1", "a/2", "a0", "b/1"]
    with opened(path) as file, file.transaction():
        file.write(tuple(Change("lamp", name, Lamp(name)) for name in names))
        assert [lamp.name for lamp in file.scan("lamp", "a/")] == ["a/1", "a/2"]
        assert [lamp.name for lamp in file.scan("lamp")] == names


def test_a_file_that_was_cut_is_noticed_when_its_pages_are_looked_at(path: Path) -> None:
    with opened(path) as file:
        with file.transaction():
            file.write(tuple(Change("lamp", str(number), Lamp("x" * 100)) for number in range(200)))
        file.check_pages()
    path.write_bytes(path.read_bytes()[:8192])
    with pytest.raises(GrafosError) as error, opened(path) as file:
        file.check_pages()
    assert error.value.code == "store_invalid"


def test_rows_are_written_inside_a_transaction_only(path: Path) -> None:
    with opened(path) as file, pytest.raises(AssertionError):
        file.write(DESK)


def test_the_database_of_another_program_is_refused_and_not_changed_by_a_byte(path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    error = refusal(path)
    assert (error.code, error.why) == ("store_invalid", "it is the database of another program")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81\xa4name\xa1\xff", b"\x90", "a text", 7])
def test_a_row_that_does_not_decode_is_a_damaged_file(path: Path, body: object) -> None:
    with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO rows VALUES ('lamp', 'desk', ?)", (body,))
    assert refusal(path).code == "store_invalid"
    with opened(path) as file, pytest.raises(GrafosError) as error:
        file.read("lamp", "desk")
    assert error.value.code == "store_invalid"


def test_a_disk_that_refuses_is_not_called_a_damaged_file(path: Path) -> None:
    """The next step of a damaged file is to move it away, and here it holds all there is."""
    with opened(path) as file, file.transaction():
        file.write(DESK)
    (path.parent / f"{path.name}-wal").mkdir()
    assert refusal(path).code == "store_failed"


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    assert refusal(tmp_path / "state" / "rows.db").code == "store_failed"


def test_the_file_and_every_folder_that_is_made_for_it_are_their_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with opened(tmp_path / "a" / "b" / "rows.db") as file, file.transaction():
            file.write(DESK)
            made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
            modes = {place.name: stat.S_IMODE(place.stat().st_mode) for place in made}
    finally:
        os.umask(old)
    assert modes == {"a": 0o700, "b": 0o700, "rows.db": 0o600, "rows.db-wal": 0o600, "rows.db-shm": 0o600}
