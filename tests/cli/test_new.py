"""`grafos new`: what it makes works as it is, and what it cannot make is not there by half."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import Person
from programs import grafos_in
from source_tree import ROOT
from tasklets import run_tasklet

from grafos_cli import scaffolding
from grafos_cli.building import built_module
from grafos_cli.manifest import LANGUAGES, load_program
from grafos_core.errors import GrafosError

BUILT = [
    pytest.param(language, marks=[pytest.mark.needs("rust")] if language == "rust" else []) for language in LANGUAGES
]
FILES = {
    "rust": {"Cargo.toml", "src/lib.rs", "src/tasklets/count.rs"},
    "zig": {"src/tasklets/count.zig", "src/tasklets/grafos.zig"},
    "c": {"src/tasklets/count.c", "src/tasklets/counting.h", "src/tasklets/grafos.h", "tests/test_counting.c"},
    "wat": {"src/tasklets/count.wat"},
}


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_new_program_has_the_files_of_its_language(language: str, tmp_path: Path) -> None:
    answer = grafos_in(tmp_path, "new", "photos", "--lang", language, "--json")
    assert answer.code == 0, answer.out
    found = files_of(tmp_path / "photos")
    assert found == set(answer.document["files"])
    own = {name for name in found if not name.startswith("vendor/")}
    assert own == FILES[language] | {".gitignore", "grafos.toml", "fixtures/text.txt"}
    assert load_program(tmp_path / "photos").language == language
    assert "@" not in (tmp_path / "photos" / "grafos.toml").read_text()


def test_rust_is_what_one_gets_without_asking(tmp_path: Path) -> None:
    assert grafos_in(tmp_path, "new", "photos").code == 0
    assert load_program(tmp_path / "photos").language == "rust"
    for crate in scaffolding.CRATES:
        vendored, ours = tmp_path / "photos" / "vendor" / crate, ROOT / "sdk" / crate
        assert (vendored / "Cargo.toml").read_bytes() == (ours / "Cargo.toml").read_bytes()
        assert files_of(vendored / "src") == files_of(ours / "src")


@pytest.mark.parametrize("language", BUILT)
def test_a_new_program_builds_is_in_order_and_counts(language: str, tmp_path: Path) -> None:
    grafos_in(tmp_path, "new", "photos", "--lang", language)
    folder = tmp_path / "photos"
    assert grafos_in(folder, "tasklet", "build").code == 0
    answer = grafos_in(folder, "validate", "--json")
    assert answer.code == 0, answer.out
    tests = answer.document["tests"]
    assert (tests["state"], tests["failed"]) == ("none" if language == "wat" else "passed", 0)
    program = load_program(folder)
    _, module = built_module(program, program.tasklet())
    text = (folder / "fixtures" / "text.txt").read_bytes()
    counted = f'{{"bytes":{len(text)},"lines":{text.count(10)},"words":{len(text.split())}}}'
    assert run_tasklet(module, text).response.decode() == counted
    long = b"a word and a long one: " + b"x" * 10_000 + b"\n"
    assert run_tasklet(module, long, fuel=10**8).response == b'{"bytes":10024,"lines":1,"words":7}'
    refused = run_tasklet(module, b"")
    assert (refused.code, refused.text) == ("program_error", "empty_input")


def test_the_whole_path_works_with_a_fabric_of_ones_own(tmp_path: Path) -> None:
    somebody = Person(tmp_path)
    assert somebody("new", "photos", "--lang", "wat").code == 0
    folder = somebody.project / "photos"
    for words in (("tasklet", "build"), ("validate",), ("dev", "up")):
        answer = somebody(*words, cwd=folder)
        assert answer.code == 0, answer.err
    try:
        ran = somebody("deploy", "run", "--provider", "local", cwd=folder)
    finally:
        somebody("dev", "down", cwd=folder)
    assert ran.code == 0, ran.err
    assert '{"bytes":67,"lines":2,"words":14}' in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Photos",), "use 1 to 40 characters"),
        (("a" * 41,), "use 1 to 40 characters"),
        (("-x-",), "no flag"),
        (("..",), "no name for a program"),
        (("some/where",), "is a path"),
        (("photos", "--lang", "ruts"), "did you mean 'rust'?"),
        (("photos", "--lang", "perl6"), "there are rust, zig, c, wat"),
        (("1st",), "begins with a digit"),
        (("grafos-std",), "comes with the program"),
        ((), "Missing argument"),
    ],
)
def test_a_wrong_word_is_told_and_nothing_is_made(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    answer = grafos_in(tmp_path, "new", *words)
    assert (answer.code, answer.error_code) == (2, "usage")
    assert said in answer.err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert grafos_in(tmp_path, "new", "photos", "--lang", "wat").code == 0
    assert load_program(tmp_path / "photos").name == "photos"


def test_what_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".hidden").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name in ("folder", "file", "nowhere", "elsewhere"):
        answer = grafos_in(tmp_path, "new", name, "--lang", "wat")
        assert (answer.code, answer.error_code) == (8, "folder_taken"), name
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GrafosError) as caught:
        scaffolding.make_program(tmp_path / "file", "photos", "wat")
    assert caught.value.code == "config_invalid"
    assert caught.value.next


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    answer = subprocess.run(
        ["sh", "-c", f'rmdir "{gone}"; grafos new photos; grafos validate'],
        cwd=gone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stderr.count("error[config_invalid]") == 2, answer.stderr


def stopped_half_way(here: Path) -> None:
    with scaffolding.scratch_folder(here) as scratch:
        (scratch / "photos").mkdir()
        (scratch / "photos" / "half").write_text("")
        raise KeyboardInterrupt


def test_nothing_stays_of_a_program_whose_making_was_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped_half_way(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_may_be_read_by_whom_the_person_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        grafos_in(tmp_path, "new", "photos", "--lang", "wat")
    finally:
        os.umask(before)
    assert (tmp_path / "photos").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "photos" / "grafos.toml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("language", scaffolding.HELPERS)
def test_a_program_carries_the_one_header_of_its_language(language: str, tmp_path: Path) -> None:
    assert grafos_in(tmp_path, "new", "photos", "--lang", language).code == 0
    source = ROOT / "sdk" / scaffolding.HELPERS[language]
    carried = tmp_path / "photos" / "src" / "tasklets" / source.name
    assert carried.read_bytes() == source.read_bytes()
    assert not carried.is_symlink()


def test_recipes_in_zig_refer_to_the_one_header() -> None:
    copies = [path for path in (ROOT / "cookbook").rglob("grafos.zig") if ".grafos" not in path.parts]
    assert copies
    assert {path.resolve() for path in copies} == {ROOT / "sdk" / "zig" / "grafos.zig"}


def test_a_built_wheel_carries_templates_and_crates(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT / "cli",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    carried = tmp_path / "installed" / "grafos_cli"
    for crate in scaffolding.CRATES:
        for part in ("Cargo.toml", *(f"src/{name}" for name in files_of(ROOT / "sdk" / crate / "src"))):
            assert digest(carried / "sdk" / crate / part) == digest(ROOT / "sdk" / crate / part)
        assert not (carried / "sdk" / crate / "target").exists()
    for header in scaffolding.HELPERS.values():
        assert digest(carried / "sdk" / header) == digest(ROOT / "sdk" / header)
    for name in files_of(scaffolding.TEMPLATES):
        assert digest(carried / "templates" / name) == digest(scaffolding.TEMPLATES / name)
    made = subprocess.run(
        [sys.executable, "-c", "from grafos_cli.main import run; run(['new', 'photos'])"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{carried.parent}{os.pathsep}{os.environ['PYTHONPATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "photos" / "vendor" / "grafos-std" / "src" / "lib.rs").is_file(), made.stderr


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
