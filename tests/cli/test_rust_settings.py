"""A person's own cargo settings make no other module of a program; where crates come from they may say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from rust_programs import CARGO, lay_out, lay_out_warm, module_of

from grafos_cli.building import source_digest
from grafos_cli.languages import rust_settings
from grafos_cli.manifest import Program

needs_rust = [pytest.mark.needs("rust"), pytest.mark.timeout(600)]

SOURCE = """\
#[grafos_std::tasklet]
pub fn one() -> grafos_std::Output { grafos_std::Output::json(option_env!("GREETING").unwrap_or("nothing")) }
"""
HARMFUL = """\
[build]
rustc-wrapper = "/nonexistent/wrapper"
rustflags = ["--cfg", "nonsense=\\"", "-Ctarget-feature=+simd128"]
target-dir = "/nonexistent/target"

[env]
GREETING = "hello"

[profile.release]
overflow-checks = true
opt-level = 0

[profile.release.package.grafos-std]
debug-assertions = true

[target.wasm32-unknown-unknown]
linker = "/nonexistent/linker"

[patch.crates-io]
grafos-std = { path = "/nonexistent/crate" }
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cargo's home of a person's."""
    home = tmp_path / "person" / ".cargo"
    home.mkdir(parents=True)
    monkeypatch.setenv("CARGO_HOME", str(home))
    return home


def write(folder: Path, settings: str) -> None:
    (folder / ".cargo").mkdir(exist_ok=True)
    (folder / ".cargo" / "config.toml").write_text(settings)


# --- what is kept ---------------------------------------------------------------------------------------------------


def kept(settings: str) -> dict[str, object]:
    found = rust_settings.kept_of(tomllib.loads(settings), Path("/home/ada"))
    return tomllib.loads(rust_settings.as_toml(found))


def test_of_what_changes_a_module_nothing_is_kept() -> None:
    assert kept(HARMFUL) == {}


def test_where_crates_come_from_is_kept_and_so_is_how_to_get_there() -> None:
    settings = """
        [source.crates-io]
        replace-with = "a \\"mirror\\""
        [source."a \\"mirror\\""]
        registry = "sparse+https://crates.example.org/"
        [registries.own]
        index = "https://own.example.org/é"
        credential-provider = ["cargo:token-from-stdout", "pass", "own"]
        [http]
        proxy = "localhost:3128"
        check-revoke = false
        [net]
        retry = 5
        git-fetch-with-cli = true
    """
    assert kept(settings) == tomllib.loads(settings)


def test_paths_are_seen_from_where_the_settings_lie() -> None:
    settings = """
        source.mine.directory = "crates"
        source.other.local-registry = "/srv/crates"
        http.cainfo = "../ca.pem"
        target.x86_64-unknown-linux-gnu.linker = "clang"
        target.aarch64-unknown-linux-gnu.linker = "tools/link"
    """
    assert kept(settings) == tomllib.loads("""
        source.mine.directory = "/home/ada/crates"
        source.other.local-registry = "/srv/crates"
        http.cainfo = "/home/ca.pem"
        target.x86_64-unknown-linux-gnu.linker = "clang"
        target.aarch64-unknown-linux-gnu.linker = "/home/ada/tools/link"
    """)


def test_what_lies_nearer_to_the_program_is_right(tmp_path: Path, home: Path) -> None:
    (home / "config.toml").write_text("net.retry = 1\nhttp.timeout = 7\n")
    top = tmp_path / "work" / "program"
    top.mkdir(parents=True)
    write(tmp_path, "net.retry = 2")
    write(tmp_path / "work", "net.retry = 3")
    write(top, "net.retry = 4")
    assert rust_settings.lay_out_home(tmp_path / "own", home, top) == {("net", "retry"): 3, ("http", "timeout"): 7}


@pytest.mark.parametrize("damaged", ["[net", "\x00", "net = 3"])
def test_settings_that_cannot_be_read_are_none(damaged: str, tmp_path: Path, home: Path) -> None:
    (home / "config.toml").write_text(damaged)
    assert rust_settings.lay_out_home(tmp_path / "own", home, tmp_path).get(("net", "retry")) is None


# --- a home for cargo -----------------------------------------------------------------------------------------------


def test_what_was_fetched_is_shared_with_the_person_and_never_cleared_up(tmp_path: Path, home: Path) -> None:
    for _ in range(2):
        rust_settings.lay_out_home(tmp_path / "own", home, tmp_path)
    (tmp_path / "own" / "registry" / "crate").touch()
    assert (home / "registry" / "crate").is_file()
    own = tomllib.loads((tmp_path / "own" / "config.toml").read_text())
    assert own == {"cache": {"auto-clean-frequency": "never"}}


def test_a_home_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rust_settings.lay_out_home(tmp_path / "own", tmp_path / "file" / ".cargo", tmp_path)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["config.toml"]


# --- builds ---------------------------------------------------------------------------------------------------------


class TestBuilds:
    pytestmark = needs_rust

    def test_a_persons_settings_make_no_other_module(self, tmp_path: Path, home: Path) -> None:
        """Neither those in the person's home, nor those in a folder above the program."""
        wanted = module_of(lay_out_warm(SOURCE))
        (home / "config.toml").write_text(HARMFUL)
        write(tmp_path, HARMFUL)
        assert module_of(lay_out(tmp_path / "program", SOURCE)) == wanted

    def test_a_programs_own_settings_are_sources_of_its_modules(self) -> None:
        program = lay_out_warm(SOURCE)
        without = source_digest(program, program.tasklet("one"))
        write(program.folder, 'env.GREETING = "hello"\n')
        assert source_digest(program, program.tasklet("one")) != without
        assert b"hello" in module_of(program)

    def test_crates_come_from_where_the_person_says_and_leave_no_word_of_it(self, home: Path) -> None:
        (home / "config.toml").write_text("""
            source.crates-io.replace-with = "mine"
            source.mine.directory = "crates"
        """)
        crate = home.parent / "crates" / "tiny"
        (crate / "src").mkdir(parents=True)
        (crate / "Cargo.toml").write_text('[package]\nname = "tiny"\nversion = "1.0.0"\nedition = "2021"\n')
        (crate / "src" / "lib.rs").write_text("pub fn at(of: &[u8], index: usize) -> u8 { of[index] }\n")
        (crate / ".cargo-checksum.json").write_text('{"files": {}, "package": null}')
        module = module_of(_with_tiny())
        assert b"/crates/tiny" in module
        assert str(home.parent).encode() not in module


def _with_tiny() -> Program:
    used = "tiny::at(&[1, 2], grafos_std::Tasklet::input().len())"
    program = lay_out_warm(SOURCE.replace('option_env!("GREETING").unwrap_or("nothing")', used))
    (program.folder / "Cargo.lock").unlink()
    text = CARGO.replace("[dependencies]\n", '[dependencies]\ntiny = "1"\n')
    (program.folder / "Cargo.toml").write_text(text)
    return program
