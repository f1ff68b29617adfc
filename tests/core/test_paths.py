"""What grafos writes is its owner's alone, whole or not there, and never over what must stay."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from grafos_core.paths import data_home, locked, private_folder, project_home, write_private, write_private_once


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """As a machine may have it; the modes must not hang on it."""
    old = os.umask(0)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_folder_that_is_made_on_the_way_is_private(tmp_path: Path) -> None:
    private_folder(tmp_path / "a" / "b" / "c")
    assert {mode(tmp_path / part) for part in ("a", "a/b", "a/b/c")} == {0o700}
    private_folder(tmp_path / "a" / "b" / "c")


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    private_folder(tmp_path / "there" / "new")
    assert (mode(tmp_path / "there"), mode(tmp_path / "there" / "new")) == (0o755, 0o700)


def test_a_written_file_is_private_and_replaces_the_old_one_whole(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"old")
    write_private(file, b"new")
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    in_the_way = tmp_path / "place"
    (in_the_way / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="place"):
        write_private(in_the_way, b"data")
    assert list(tmp_path.iterdir()) == [in_the_way]


def test_of_many_who_write_once_one_does_and_all_find_its_file(tmp_path: Path) -> None:
    file, start, wrote = tmp_path / "key", threading.Barrier(8), list[int]()

    def write(number: int) -> None:
        start.wait()
        if write_private_once(file, bytes([number]) * 1000):
            wrote.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrote) == 1
    assert file.read_bytes() == bytes(wrote) * 1000
    assert (mode(file), list(tmp_path.iterdir())) == (0o600, [file])


def test_a_relative_place_in_a_variable_is_passed_over(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """XDG Base Directory specification: all paths set in these variables must be absolute."""
    monkeypatch.setenv("XDG_DATA_HOME", "here")
    assert data_home() == home / ".local" / "share" / "grafos"


def test_a_project_s_folder_hides_itself_from_git(tmp_path: Path) -> None:
    folder = project_home(tmp_path)
    assert (folder / ".gitignore").read_text() == "*\n"
    assert mode(folder) == 0o700


@pytest.mark.parametrize("name", ["", "lock"], ids=["folder", "file"])
def test_who_comes_second_to_a_lock_is_told_and_waits(tmp_path: Path, name: str) -> None:
    path, told = tmp_path / name, threading.Event()
    inside: list[str] = []

    def second() -> None:
        with locked(path, told.set):
            inside.append("second")

    with locked(path):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert told.wait(30)
        inside.append("first")
    waiting.join()
    assert inside == ["first", "second"]
