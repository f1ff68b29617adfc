"""The cache of compiled code: what it gives back, and that nothing else is ever given."""

from __future__ import annotations

import hmac
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from grafos_cell import engine_config
from grafos_cell.code_cache import KEY_BYTES, CodeCache
from grafos_cell.module import ModuleFacts
from grafos_cell.worker_messages import ModuleCode


def code(number: int, size: int = 1000) -> ModuleCode:
    return ModuleCode(ModuleFacts(f"{number:064x}", 10, memory_max_bytes=65536), bytes([number]) * size)


ONE, TWO = code(1), code(2)


def kept(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.name != "key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "code"


def test_what_was_put_is_given_back_also_after_a_restart(folder: Path) -> None:
    cache = CodeCache(folder)
    assert cache.get(ONE.facts.sha256) is None
    cache.put(ONE)
    cache.put(TWO)
    for again in (cache, CodeCache(folder)):
        assert again.get(ONE.facts.sha256) == ONE
        assert again.get(TWO.facts.sha256) == TWO


def test_everything_in_it_is_private(folder: Path) -> None:
    os.umask(0)
    CodeCache(folder).put(ONE)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    os.umask(0o022)


def flip(at: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def readable_by_all(path: Path) -> None:
    path.chmod(0o644)


def writable_by_a_group(path: Path) -> None:
    path.chmod(0o620)


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def huge(path: Path) -> None:
    os.truncate(path, 10**12)


BITS = [flip(at) for at in (0, 31, 32, 200, -1)]
HARMS = [*BITS, cut, empty, readable_by_all, writable_by_a_group, a_link, a_folder, a_pipe, huge]


@pytest.mark.parametrize("harm", HARMS)
def test_an_entry_that_is_not_as_it_was_is_as_good_as_absent(folder: Path, harm: Callable[[Path], None]) -> None:
    cache = CodeCache(folder)
    cache.put(ONE)
    (path,) = kept(folder)
    harm(path)
    assert cache.get(ONE.facts.sha256) is None
    if harm is not a_folder:
        cache.put(ONE)
        assert cache.get(ONE.facts.sha256) == ONE


def test_an_entry_is_not_taken_for_another_module_s(folder: Path) -> None:
    cache = CodeCache(folder)
    cache.put(ONE)
    (path,) = kept(folder)
    path.rename(path.with_name(path.name.replace(ONE.facts.sha256, TWO.facts.sha256)))
    assert cache.get(TWO.facts.sha256) is None


def test_an_entry_of_another_engine_is_not_taken_even_under_this_one_s_name(folder: Path) -> None:
    CodeCache(folder, digest="older" * 10).put(ONE)
    cache = CodeCache(folder)
    assert cache.get(ONE.facts.sha256) is None
    (path,) = kept(folder)
    path.rename(path.with_name(f"{ONE.facts.sha256}.{engine_config.digest()[:16]}"))
    assert cache.get(ONE.facts.sha256) is None


@pytest.mark.parametrize("harm", [flip(0), cut, empty, readable_by_all, writable_by_a_group, a_link, a_pipe, huge])
def test_with_another_key_all_entries_are_foreign(folder: Path, harm: Callable[[Path], None]) -> None:
    CodeCache(folder).put(ONE)
    harm(folder / "key")
    cache = CodeCache(folder)
    assert cache.get(ONE.facts.sha256) is None
    cache.put(ONE)
    assert CodeCache(folder).get(ONE.facts.sha256) == ONE
    assert len((folder / "key").read_bytes()) == KEY_BYTES


def test_an_entry_made_with_the_key_of_another_cell_is_foreign(folder: Path, tmp_path: Path) -> None:
    cache, other = CodeCache(folder), CodeCache(tmp_path / "other")
    other.put(ONE)
    (path,) = kept(tmp_path / "other")
    (folder / path.name).write_bytes(path.read_bytes())
    (folder / path.name).chmod(0o600)
    assert cache.get(ONE.facts.sha256) is None


def test_a_folder_that_others_may_write_is_not_used(folder: Path) -> None:
    cache = CodeCache(folder)
    cache.put(ONE)
    folder.chmod(0o770)
    assert cache.get(ONE.facts.sha256) is None
    cache.put(TWO)
    assert len(kept(folder)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to somebody else")
@pytest.mark.parametrize("what", ["entry", "key", "folder"])
def test_nothing_of_another_owner_is_taken(folder: Path, what: str) -> None:
    cache = CodeCache(folder)
    cache.put(ONE)
    (path,) = kept(folder)
    os.chown({"entry": path, "key": folder / "key", "folder": folder}[what], 12345, 12345)
    assert CodeCache(folder).get(ONE.facts.sha256) is None


def test_the_cache_is_bounded_and_keeps_what_was_used_last(folder: Path) -> None:
    cache = CodeCache(folder, bytes_max=4000)
    for number, entry in enumerate((ONE, TWO, code(3))):
        cache.put(entry)
        (path,) = [file for file in kept(folder) if file.name.startswith(entry.facts.sha256)]
        os.utime(path, (number, number))
    assert cache.get(ONE.facts.sha256) == ONE
    cache.put(code(4))
    found = [number for number in (1, 2, 3, 4) if cache.get(code(number).facts.sha256)]
    assert found == [1, 3, 4]


def test_what_other_engines_and_broken_writes_left_makes_room_first(folder: Path) -> None:
    CodeCache(folder, digest="older" * 10).put(ONE)
    (folder / ".half-written").write_bytes(bytes(3000))
    for file in kept(folder):
        os.utime(file, (1, 1))
    cache = CodeCache(folder, bytes_max=3000)
    cache.put(TWO)
    assert [file.name.partition(".")[0] for file in kept(folder)] == [TWO.facts.sha256]


def test_a_disk_that_refuses_is_no_harm(folder: Path) -> None:
    cache = CodeCache(folder)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_text("a file where the folder was")
    assert cache.get(ONE.facts.sha256) is None
    cache.put(ONE)


def test_a_folder_that_somebody_removed_is_no_harm(folder: Path) -> None:
    cache = CodeCache(folder)
    shutil.rmtree(folder)
    cache.put(ONE)
    assert cache.get(ONE.facts.sha256) is None


def test_a_place_where_no_folder_can_be_is_not_used(folder: Path) -> None:
    folder.write_text("a file where the folder was to be")
    cache = CodeCache(folder)
    cache.put(ONE)
    assert cache.get(ONE.facts.sha256) is None


def test_a_folder_in_the_key_s_place_leaves_a_cache_for_this_start_alone(folder: Path) -> None:
    CodeCache(folder).put(ONE)
    a_folder(folder / "key")
    cache = CodeCache(folder)
    assert cache.get(ONE.facts.sha256) is None
    cache.put(ONE)
    assert cache.get(ONE.facts.sha256) == ONE


def test_an_entry_of_another_shape_is_as_good_as_absent(folder: Path) -> None:
    """The cell's own software made it, before it was replaced: the MAC is right, and nothing else."""
    cache = CodeCache(folder)
    cache.put(ONE)
    (path,) = kept(folder)
    body = msgspec.msgpack.encode({"type": "module_code", "code": b"x"})
    mac = hmac.new((folder / "key").read_bytes(), f"{engine_config.digest()}:{ONE.facts.sha256}:".encode(), "sha256")
    mac.update(body)
    path.write_bytes(mac.digest() + body)
    assert cache.get(ONE.facts.sha256) is None


def test_code_that_another_release_let_in_is_compiled_anew(tmp_path: Path) -> None:
    """What an older cell let in may break the rules of today, which stand in our own sources."""
    room = Path(engine_config.__file__).parent
    shutil.copytree(room, tmp_path / room.name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / room.name / "module.py").open("a") as source:
        source.write("# another rule\n")
    told = subprocess.run(
        [sys.executable, "-c", "from grafos_cell import engine_config; print(engine_config.digest())"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(told.stdout.strip()) == len(engine_config.digest())
    assert told.stdout.strip() != engine_config.digest()
