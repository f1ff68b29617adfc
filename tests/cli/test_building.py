from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import GRAFOS, grafos
from programs import WAT, ZIG, C, digests_of, grafos_in, shared_cache, write_program

from grafos_cli.building import build_tasklet, built_module, source_digest
from grafos_cli.manifest import load_program
from grafos_core.errors import GrafosError


def test_a_module_is_stored_under_its_digest(tmp_path: Path) -> None:
    answer = grafos("tasklet", "build", "--json", cwd=write_program(tmp_path / "p", "wat"))
    [tasklet] = answer.document["tasklets"]
    path = Path(tasklet["path"])
    assert path == tmp_path / "p" / ".grafos" / "tasklets" / f"{tasklet['module_sha256']}.wasm"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tasklet["module_sha256"]


@pytest.mark.parametrize("language", ["zig", "c", "wat"])
def test_the_same_sources_give_the_same_bytes_in_two_folders(language: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "some where" / "élse"
    for folder in (first, second):
        folder.mkdir(parents=True)
        assert grafos_in(folder, "new", "photos", "--lang", language).code == 0
    for path in (second / "photos").rglob("*"):
        os.utime(path, (1, 1))
    other_cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    again = grafos("tasklet", "build", "--json", cwd=second / "photos", env=other_cache).document
    assert digests_of(first / "photos") == {"count": again["tasklets"][0]["module_sha256"]}


@pytest.mark.parametrize("language", ["zig", "c", "wat"])
def test_each_tasklet_is_a_module_of_its_own(language: str, tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", language, names=("one", "two"))
    second = folder / "src" / f"two.{language}"
    second.write_text(
        second.read_text()
        .replace("i32.const 0)", "i32.const 7)")
        .replace("ANSWER", "7")
        .replace("return length", "return length + 7")
    )
    digests = digests_of(folder)
    assert set(digests) == {"one", "two"}
    assert len(set(digests.values())) == 2
    assert {path.stem for path in (folder / ".grafos" / "tasklets").glob("*.wasm")} == set(digests.values())


def test_a_module_that_nothing_names_any_more_goes(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat")
    before = digests_of(folder)
    (folder / "src" / "one.wat").write_text(WAT.replace("const 0", "const 1"))
    after = digests_of(folder)
    assert before != after
    assert {path.stem for path in (folder / ".grafos" / "tasklets").glob("*.wasm")} == set(after.values())


def test_the_compilers_own_words_are_shown(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "zig", ZIG.replace("return length;", "return lenght;"))
    answer = grafos_in(folder, "tasklet", "build")
    assert (answer.code, answer.error_code) == (1, "build_failed")
    assert "use of undeclared identifier 'lenght'" in answer.err
    assert str(folder / "src" / "one.zig") in answer.err


def test_wat_that_is_none_is_told_in_the_compilers_words(tmp_path: Path) -> None:
    answer = grafos("tasklet", "build", cwd=write_program(tmp_path / "p", "wat", "(modul)"))
    assert answer.error_code == "build_failed"
    assert "modul" in answer.err


def test_a_changed_source_makes_the_module_stale(tmp_path: Path) -> None:
    program = load_program(write_program(tmp_path / "p", "wat"))
    [tasklet] = program.tasklets
    built = build_tasklet(program, tasklet)
    assert built_module(program, tasklet)[0] == built
    (tmp_path / "p" / "src" / "one.wat").write_text(WAT + ";; changed")
    with pytest.raises(GrafosError) as caught:
        built_module(program, tasklet)
    assert caught.value.code == "build_stale"
    assert "changed" in caught.value.why


@pytest.mark.parametrize(
    ("language", "file", "belongs"),
    [
        ("zig", "src/more.zig", True),
        ("zig", "src/deep/er/data.bin", True),
        ("zig", "src/.hidden.zig", True),
        ("zig", "src/.one.zig.swp", False),
        ("zig", "src/.zig-cache/x", False),
        ("zig", "more.zig", False),
        ("zig", "src/linked/more.zig", True),
        ("c", "src/sub/more.h", True),
        ("c", "tests/one.c", False),
        ("wat", "src/more.wat", False),
        ("wat", "fixtures/a.txt", False),
    ],
)
def test_what_a_compiler_may_read_belongs_to_the_tasklet(
    language: str, file: str, *, belongs: bool, tmp_path: Path
) -> None:
    program = load_program(write_program(tmp_path / "p", language))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "p" / "src" / "linked").symlink_to(tmp_path / "elsewhere")
    [tasklet] = program.tasklets
    before = source_digest(program, tasklet)
    path = tmp_path / "p" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    assert (source_digest(program, tasklet) != before) == belongs
    assert source_digest(program, tasklet) == source_digest(program, tasklet)


def test_a_ring_of_links_is_told(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "zig")
    (folder / "src" / "a").mkdir()
    for name in ("b", "c"):
        (folder / "src" / "a" / name).symlink_to(folder / "src")
    answer = grafos_in(folder, "tasklet", "build")
    assert (answer.code, answer.error_code) == (2, "limit_exceeded")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "zig")
    (folder / "src" / "dangling").symlink_to(tmp_path / "nowhere")
    answer = grafos_in(folder, "tasklet", "build")
    assert answer.error_code == "build_failed"
    assert str(folder / "src" / "dangling") in answer.err


def test_a_header_that_no_digest_would_notice_is_refused(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "c", '#include "../other/far away.h"\n' + C)
    (folder / "other").mkdir()
    (folder / "other" / "far away.h").write_text("")
    answer = grafos_in(folder, "tasklet", "build")
    assert answer.error_code == "build_failed"
    assert "far away.h" in answer.err
    assert "does not lie below" in answer.err


def test_one_build_at_a_time_stores(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat")
    digests_of(folder)
    stored = folder / ".grafos" / "tasklets"
    (stored / "index.json").unlink()
    handle = os.open(stored, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    build = subprocess.Popen([str(GRAFOS), "tasklet", "build"], cwd=folder, stderr=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        build.wait(timeout=2)
    assert not (stored / "index.json").exists()
    os.close(handle)
    assert build.wait(timeout=60) == 0
    assert (stored / "index.json").exists()


def test_a_header_of_the_persons_own_compiler_is_not_found(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "c", '#include "foreign.h"\n' + C)
    (tmp_path / "foreign.h").write_text("")
    environment = {**shared_cache(), "CPATH": str(tmp_path), "C_INCLUDE_PATH": str(tmp_path)}
    answer = grafos("tasklet", "build", cwd=folder, env=environment)
    assert answer.error_code == "build_failed"
    assert "'foreign.h' file not found" in answer.err


def test_builds_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat", names=("one", "two", "three"))
    words = [str(GRAFOS), "tasklet", "build"]
    builds = [subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [build.wait(timeout=60) for build in builds] == [0, 0, 0, 0]
    program = load_program(folder)
    for tasklet in program.tasklets:
        assert built_module(program, tasklet)[0].tasklet == tasklet.name


def test_a_module_that_knows_when_it_was_built_is_refused(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "c", C + "const char *when(void) { return __TIME__; }\n")
    answer = grafos_in(folder, "tasklet", "build")
    assert answer.error_code == "build_failed"
    assert "reproducible" in answer.err


def test_another_compiler_makes_the_module_stale(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat")
    digests_of(folder)
    index = folder / ".grafos" / "tasklets" / "index.json"
    index.write_text(re.sub(r'"wasmtime [\d.]+"', '"wasmtime 1.0.0"', index.read_text()))
    answer = grafos_in(folder, "validate")
    assert answer.error_code == "build_stale"
    assert "it was built by wasmtime 1.0.0" in answer.err


def test_sources_that_change_while_they_are_compiled_are_compiled_again_and_then_given_up(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "zig")
    program = load_program(folder)
    done = threading.Event()

    def keep_saving() -> None:
        for number in itertools.count():
            if done.wait(0.01):
                return
            (folder / "src" / "notes.txt").write_text(str(number))

    saving = threading.Thread(target=keep_saving)
    saving.start()
    try:
        with pytest.raises(GrafosError) as caught:
            build_tasklet(program, program.tasklet())
    finally:
        done.set()
        saving.join()
    assert caught.value.code == "build_failed"
    assert "changed each time" in caught.value.what
    assert not list((folder / ".grafos").rglob("*.wasm"))


def test_a_build_that_is_stopped_leaves_nothing_half(tmp_path: Path) -> None:
    endless = "comptime { @setEvalBranchQuota(4_000_000_000); var i: u64 = 0; while (i < 4_000_000_000) i += 1; }\n"
    folder = write_program(tmp_path / "p", "zig", endless + ZIG)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    building = subprocess.Popen(
        [str(GRAFOS), "tasklet", "build"],
        cwd=folder,
        env={**os.environ, **shared_cache(), "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert building.stderr
    assert building.stderr.readline().startswith("building one")
    wait_until(lambda: compilers_in(folder))
    building.send_signal(signal.SIGINT)
    _, err = building.communicate(timeout=30)
    assert building.returncode == 130
    assert "error[interrupted]" in err
    wait_until(lambda: not compilers_in(folder))
    assert not list((folder / ".grafos").rglob("*.wasm"))
    assert not list((folder / ".grafos").rglob("index.json"))
    assert list(scratch.iterdir()) == []


def wait_until(true: Callable[[], object]) -> None:
    while not true():
        time.sleep(0.02)


def compilers_in(folder: Path) -> list[str]:
    """The compilers that work in the folder, by process id."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    pids = [line.split()[0] for line in listed.splitlines() if "build-exe" in line]
    return [pid for pid in pids if os.path.realpath(f"/proc/{pid}/cwd") == str(folder)]


def test_an_altered_module_is_not_used(tmp_path: Path) -> None:
    program = load_program(write_program(tmp_path / "p", "wat"))
    [tasklet] = program.tasklets
    built = build_tasklet(program, tasklet)
    path = tmp_path / "p" / ".grafos" / "tasklets" / f"{built.module_sha256}.wasm"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(GrafosError) as caught:
        built_module(program, tasklet)
    assert caught.value.code == "build_stale"


def test_a_build_in_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat")
    (folder / ".grafos").write_text("a file where a folder must be")
    answer = grafos_in(folder, "tasklet", "build")
    assert (answer.code, answer.error_code) == (2, "config_invalid")


def test_the_project_is_found_from_a_folder_below(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat")
    assert grafos("tasklet", "build", cwd=folder / "src").code == 0
