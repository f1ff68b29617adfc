"""Rust programs with mistakes of every kind, and which files a module depends on. Compiled for real."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from command_line import Answer
from programs import grafos_in
from rust_programs import CARGO, declare, lay_out_warm, module_of

from grafos_cli.building import build_tasklet, built_module
from grafos_cli.languages import rust
from grafos_cli.manifest import Program
from grafos_core.errors import GrafosError

pytestmark = [pytest.mark.needs("rust"), pytest.mark.timeout(600)]

GOOD = """\
use grafos_std::Output;

#[grafos_std::tasklet]
pub fn one() -> Output { Output::json(1) }

#[grafos_std::tasklet]
pub fn the_other() -> Output { Output::json(2) }
"""


@pytest.fixture
def program() -> Program:
    """A program of two tasklets."""
    return lay_out_warm(GOOD, "one", "the-other")


def source_of(program: Program) -> Path:
    return program.folder / "src" / "lib.rs"


def refusal(program: Program, tasklet: str = "one") -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        module_of(program, tasklet)
    return caught.value


def build(program: Program) -> Answer:
    return grafos_in(program.folder, "tasklet", "build")


def test_a_mistake_is_shown_in_the_compilers_words(program: Program) -> None:
    source_of(program).write_text(GOOD.replace("Output::json(1)", "Output::jsn(1)"))
    answer = build(program)
    assert (answer.code, answer.error_code) == (1, "build_failed")
    assert "no associated function or constant named `jsn`" in answer.err
    assert "--> src/lib.rs:4:34" in answer.err
    assert str(source_of(program)) in answer.err
    assert "Compiling" not in answer.err
    assert not list((program.folder / ".grafos" / "tasklets").glob("*.wasm"))


def test_a_manifest_that_cargo_does_not_understand_is_told_in_its_words(program: Program) -> None:
    (program.folder / "Cargo.toml").write_text("[package]\nname = 3\n")
    error = refusal(program)
    assert error.code == "build_failed"
    assert "invalid type: integer `3`" in error.why


def test_a_crate_that_is_not_on_this_machine_is_named(program: Program) -> None:
    """Tests have no network, so the one try to fetch it fails too."""
    (program.folder / "Cargo.lock").unlink()
    text = CARGO.replace("[dependencies]\n", '[dependencies]\nno-crate-of-that-name = "1"\n')
    (program.folder / "Cargo.toml").write_text(text)
    error = refusal(program)
    assert error.code == "build_failed"
    assert "no-crate-of-that-name" in error.why


def test_a_lock_file_that_the_manifest_has_outgrown_is_not_changed_silently(program: Program) -> None:
    lock = program.folder / "Cargo.lock"
    (program.folder / "more" / "src").mkdir(parents=True)
    (program.folder / "more" / "src" / "lib.rs").touch()
    (program.folder / "more" / "Cargo.toml").write_text('[package]\nname = "more"\nversion = "0.1.0"\n')
    more = CARGO.replace("[dependencies]\n", '[dependencies]\nmore = { path = "more" }\n')
    (program.folder / "Cargo.toml").write_text(more)
    before = lock.read_bytes()
    error = refusal(program)
    assert (error.code, error.next) == ("build_failed", "cargo update --workspace, then: grafos tasklet build")
    assert lock.read_bytes() == before


def test_a_program_without_a_lock_file_gets_one_and_is_not_stale(program: Program) -> None:
    (program.folder / "Cargo.lock").unlink()
    one = program.tasklet("one")
    assert build_tasklet(program, one) == built_module(program, one)[0]
    assert (program.folder / "Cargo.lock").is_file()


def test_a_function_that_is_not_there_is_named(program: Program) -> None:
    declared = declare(program.folder, "an-other")
    error = refusal(declared, "an-other")
    assert error.why == "the crate has no function `an_other` with the attribute #[grafos_std::tasklet]"


def test_two_functions_of_one_name_are_the_compilers_to_refuse(program: Program) -> None:
    source_of(program).write_text(GOOD + f"mod again {{ {GOOD} }}\n")
    error = refusal(program)
    assert error.code == "build_failed"
    assert "symbol `_grafos_tasklet_finalize` is already defined" in error.why


def test_a_name_that_no_function_can_have_is_refused_before_anything_is_built(program: Program) -> None:
    error = refusal(declare(program.folder, "3d"), "3d")
    assert (error.code, error.next) == ("manifest_invalid", "let the tasklet's name begin with a letter")


def test_a_source_that_belongs_to_no_crate_says_so(program: Program) -> None:
    (program.folder / "Cargo.toml").unlink()
    error = refusal(program)
    assert (error.code, error.what) == ("manifest_invalid", "The tasklet one belongs to no crate")


def test_an_import_that_no_cell_has_is_refused_when_it_is_built(program: Program) -> None:
    foreign = """
#[link(wasm_import_module = "env")]
extern "C" { fn time() -> u32; }
#[grafos_std::tasklet]
pub fn late() -> Output { Output::json(unsafe { time() }) }
"""
    source_of(program).write_text(GOOD + foreign)
    error = refusal(declare(program.folder, "late"), "late")
    assert error.code == "module_invalid"
    assert "'env'.'time'" in error.what


def test_a_file_outside_of_src_that_is_compiled_in_would_go_unnoticed_and_is_refused(program: Program) -> None:
    (program.folder / "words.txt").write_text("text")
    source_of(program).write_text(GOOD.replace("json(1)", 'json(include_str!("../words.txt"))'))
    error = refusal(program)
    assert error.why == "it includes words.txt, which does not lie below the src folder of a crate"


def test_a_file_in_src_that_is_compiled_in_makes_the_module_stale_when_it_changes(program: Program) -> None:
    words = program.folder / "src" / "words of a file.txt"
    words.write_text("text")
    source_of(program).write_text(GOOD.replace("json(1)", 'json(include_str!("words of a file.txt"))'))
    one = program.tasklet("one")
    first = build_tasklet(program, one)
    assert built_module(program, one)[0] == first
    words.write_text("other")
    with pytest.raises(GrafosError) as caught:
        built_module(program, one)
    assert caught.value.code == "build_stale"
    assert build_tasklet(program, one).module_sha256 != first.module_sha256


def test_a_crate_outside_of_the_program_would_tie_the_module_to_a_place_and_is_refused(program: Program) -> None:
    vendored = program.folder / "vendor"
    moved = program.folder.parent / f"{program.folder.name}-elsewhere"
    if not moved.exists():
        shutil.copytree(vendored, moved)
    shutil.rmtree(vendored)
    (program.folder / "Cargo.toml").write_text(CARGO.replace("vendor/", f"../{moved.name}/"))
    error = refusal(program)
    assert (error.code, error.where) == ("manifest_invalid", str(moved / "grafos-std"))
    assert error.next.endswith("such as vendor/grafos-std; a link to it will do")
    (program.folder / "Cargo.toml").write_text(CARGO)
    vendored.symlink_to(moved)
    assert module_of(program, "one") == module_of(lay_out_warm(GOOD, "one", "the-other"), "one")


def test_what_a_build_script_makes_does_not_tell_where(program: Program) -> None:
    script = """
fn main() {
    let code = "pub fn made(at: usize) -> u8 { [1, 2, 3][at] }";
    std::fs::write(format!("{}/made.rs", std::env::var("OUT_DIR").unwrap()), code).unwrap();
}
"""
    (program.folder / "build.rs").write_text(script)
    made = 'include!(concat!(env!("OUT_DIR"), "/made.rs"));\n'
    source_of(program).write_text(made + GOOD.replace("json(1)", "json(made(grafos_std::Tasklet::input().len()))"))
    module = module_of(program, "one")
    assert b"/program/.grafos/rust/" in module
    assert str(program.folder.parent).encode() not in module


def test_a_wrapper_in_a_person_s_own_cargo_settings_reaches_no_build(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text('[build]\nrustc-wrapper = "/nonexistent/wrapper"\n')
    monkeypatch.setenv("CARGO_HOME", str(tmp_path))
    assert module_of(program, "one").startswith(b"\0asm")


def test_two_builds_of_one_crate_at_once_do_not_mix_up_their_modules(program: Program) -> None:
    wanted = {name: module_of(program, name) for name in ("one", "the-other")}
    assert wanted["one"] != wanted["the-other"]
    found: list[bool] = []

    def builds(name: str) -> None:
        found.extend(module_of(program, name) == wanted[name] for _ in range(2))

    threads = [threading.Thread(target=builds, args=(name,)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


# --- tests of a program ---------------------------------------------------------------------------------------------


def run_with(program: Program, tests: str) -> rust.TestsRun:
    source_of(program).write_text(f"{GOOD}\n#[cfg(test)]\nmod tests {{\n{tests}\n}}\n")
    return rust.run_tests(program, rust.find(program.folder))


def test_a_programs_tests_are_counted_and_their_words_are_kept(program: Program) -> None:
    run = run_with(program, '#[test] fn good() {}\n#[test] fn bad() { assert_eq!(1, 2, "not the same"); }')
    assert (run.passed, run.failed) == (1, 1)
    assert "tests::bad" in run.text
    assert "not the same" in run.text


def test_tests_that_end_their_process_have_failed(program: Program) -> None:
    run = run_with(program, "#[test] fn gone() { std::process::abort(); }")
    assert (run.passed, run.failed) == (0, 1)


def test_tests_that_do_not_compile_are_told_in_the_compilers_words(program: Program) -> None:
    with pytest.raises(GrafosError) as caught:
        run_with(program, "#[test] fn bad() { nothing(); }")
    assert caught.value.code == "build_failed"
    assert caught.value.why.startswith("error[E0425]: cannot find function `nothing`")


# --- what a module depends on ---------------------------------------------------------------------------------------


def inputs(program: Program) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in rust.digest_inputs(program, program.tasklets[0]).items()}


def test_a_module_depends_on_its_crate_and_those_beside_it(program: Program) -> None:
    found = inputs(program)
    assert {"Cargo.toml", "Cargo.lock", "src/lib.rs", "vendor/grafos-std/src/host/mock/mod.rs"} <= found.keys()
    assert {"vendor/grafos-macros/Cargo.toml", "vendor/grafos-macros/src/derive.rs"} <= found.keys()
    assert not [name for name in found if name.startswith((".grafos", "target", "..", "grafos.toml"))]


@pytest.mark.parametrize(
    "name", ["build.rs", ".cargo/config.toml", "rust-toolchain.toml", "src/deep/er.rs", "vendor/grafos-std/src/new.rs"]
)
def test_what_changes_a_build_is_among_its_inputs(name: str, program: Program) -> None:
    path = program.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert name in inputs(program)


@pytest.mark.parametrize("name", ["README.md", "fixtures/a.txt", "tests/it.rs", "target/debug/x", "src/.lib.rs.swp"])
def test_what_changes_no_build_is_not(name: str, program: Program) -> None:
    path = program.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert name not in inputs(program)


def test_a_workspace_around_the_crate_counts_too(tmp_path: Path) -> None:
    crate = tmp_path / "p" / "crates" / "one"
    (crate / "src").mkdir(parents=True)
    (crate / "src" / "lib.rs").touch()
    (crate / "Cargo.toml").write_text('[package]\nname = "one"\n')
    (tmp_path / "p" / "Cargo.toml").write_text('[workspace]\nmembers = ["crates/*"]\n')
    (tmp_path / "p" / "Cargo.lock").touch()
    program = declare(tmp_path / "p", "one", source="crates/one/src/lib.rs")
    assert list(inputs(program)) == ["crates/one/Cargo.toml", "crates/one/src/lib.rs", "Cargo.toml", "Cargo.lock"]


def test_crates_that_name_each_other_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "Cargo.toml").write_text('[workspace]\nmembers = ["a", "b"]\n')
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / "p" / name / "src").mkdir(parents=True)
        (tmp_path / "p" / name / "src" / "lib.rs").touch()
        text = f'[package]\nname = "{name}"\n[dev-dependencies]\n{other} = {{ path = "../{other}" }}\n'
        (tmp_path / "p" / name / "Cargo.toml").write_text(text)
    program = declare(tmp_path / "p", "one", source="a/src/lib.rs")
    assert list(inputs(program)) == ["a/Cargo.toml", "a/src/lib.rs", "Cargo.toml", "b/Cargo.toml", "b/src/lib.rs"]
