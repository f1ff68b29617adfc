from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from command_line import grafos

from grafos_cli.building import build_tasklet, built_module, source_digest
from grafos_cli.manifest import load_program
from grafos_core.errors import GrafosError

WAT = """\
(module
  (memory (export "memory") 1)
  (func (export "_grafos_tasklet_init") (param i32 i32))
  (func (export "_grafos_tasklet_run") (param i32 i32) (result i32) i32.const 0)
  (func (export "_grafos_tasklet_finalize")))
"""
ZIG = """\
export fn _grafos_tasklet_init(handle: i32, length: i32) void {
    _ = .{ handle, length };
}
export fn _grafos_tasklet_run(handle: i32, length: i32) i32 {
    _ = handle;
    return length;
}
export fn _grafos_tasklet_finalize() void {}
"""


def write_program(folder: Path, language: str, source: str) -> Path:
    """A program of one tasklet, `one`."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / f"one.{language}").write_text(source)
    (folder / "grafos.toml").write_text(
        f'[program]\nname = "p"\nlanguage = "{language}"\n[[tasklets]]\nname = "one"\nsource = "src/one.{language}"\n'
    )
    return folder


def test_a_module_is_stored_under_its_digest(tmp_path: Path) -> None:
    answer = grafos("tasklet", "build", "--json", cwd=write_program(tmp_path / "p", "wat", WAT))
    [tasklet] = answer.document["tasklets"]
    path = Path(tasklet["path"])
    assert path == tmp_path / "p" / ".grafos" / "tasklets" / f"{tasklet['module_sha256']}.wasm"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tasklet["module_sha256"]


def test_the_same_sources_give_the_same_bytes_in_two_folders(tmp_path: Path) -> None:
    first = write_program(tmp_path / "a", "zig", ZIG)
    second = write_program(tmp_path / "somewhere" / "else", "zig", ZIG)
    digests = {
        grafos("tasklet", "build", "--json", cwd=folder).document["tasklets"][0]["module_sha256"]
        for folder in (first, second)
    }
    assert len(digests) == 1


def test_the_compilers_own_words_are_shown(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "zig", ZIG.replace("return length;", "return lenght;"))
    answer = grafos("tasklet", "build", cwd=folder)
    assert (answer.code, answer.error_code) == (1, "build_failed")
    assert "use of undeclared identifier 'lenght'" in answer.err
    assert str(folder / "src" / "one.zig") in answer.err


def test_wat_that_is_none_is_told_in_the_compilers_words(tmp_path: Path) -> None:
    answer = grafos("tasklet", "build", cwd=write_program(tmp_path / "p", "wat", "(modul)"))
    assert answer.error_code == "build_failed"
    assert "modul" in answer.err


def test_a_changed_source_makes_the_module_stale(tmp_path: Path) -> None:
    program = load_program(write_program(tmp_path / "p", "wat", WAT))
    [tasklet] = program.tasklets
    built = build_tasklet(program, tasklet)
    assert built_module(program, tasklet)[0] == built
    (tmp_path / "p" / "src" / "one.wat").write_text(WAT + ";; changed")
    with pytest.raises(GrafosError) as caught:
        built_module(program, tasklet)
    assert caught.value.code == "build_stale"
    assert "changed" in caught.value.why


def test_a_file_beside_the_source_belongs_to_it(tmp_path: Path) -> None:
    program = load_program(write_program(tmp_path / "p", "zig", ZIG))
    before = source_digest(program, program.tasklets[0])
    (tmp_path / "p" / "src" / "more.zig").write_text("")
    assert source_digest(program, program.tasklets[0]) != before


def test_an_altered_module_is_not_used(tmp_path: Path) -> None:
    program = load_program(write_program(tmp_path / "p", "wat", WAT))
    [tasklet] = program.tasklets
    built = build_tasklet(program, tasklet)
    path = tmp_path / "p" / ".grafos" / "tasklets" / f"{built.module_sha256}.wasm"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(GrafosError) as caught:
        built_module(program, tasklet)
    assert caught.value.code == "build_stale"


def test_a_build_in_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat", WAT)
    (folder / ".grafos").write_text("a file where a folder must be")
    answer = grafos("tasklet", "build", cwd=folder)
    assert (answer.code, answer.error_code) == (2, "config_invalid")


def test_the_project_is_found_from_a_folder_below(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat", WAT)
    assert grafos("tasklet", "build", cwd=folder / "src").code == 0


def test_validate_tells_everything_that_is_wrong_and_keeps_a_report(tmp_path: Path) -> None:
    bad = tmp_path / "bad.wasm"
    import wasmtime

    bad.write_bytes(wasmtime.wat2wasm('(module (import "env" "time" (func)) (memory 1))'))
    answer = grafos("validate", "bad.wasm", cwd=tmp_path)
    assert (answer.code, answer.error_code) == (2, "module_invalid")
    report = tmp_path / ".grafos" / "validation" / "bad.json"
    assert report.is_file()
    document = grafos("validate", "bad.wasm", "--json", cwd=tmp_path).document
    rules = {finding["rule"] for finding in document["error"]["context"]["findings"]}
    assert {"export_missing", "import_unknown"} <= rules


@pytest.mark.parametrize(
    ("wat", "code", "exit_code"),
    [
        ("not WASM at all", "module_invalid", 2),
        (WAT.replace("1)", "1000)"), "memory_exceeded", 6),
        (WAT.replace("(memory", '(import "wasi_snapshot_preview1" "fd_write" (func))\n(memory'), "module_invalid", 2),
    ],
)
def test_a_module_that_no_cell_would_run_is_refused(wat: str, code: str, exit_code: int, tmp_path: Path) -> None:
    import wasmtime

    data = wasmtime.wat2wasm(wat) if wat.startswith("(") else wat.encode()
    (tmp_path / "m.wasm").write_bytes(data)
    answer = grafos("validate", "m.wasm", cwd=tmp_path)
    assert (answer.code, answer.error_code) == (exit_code, code)


def test_validate_of_a_program_checks_each_tasklet_as_built(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat", WAT)
    assert grafos("validate", cwd=folder).error_code == "build_stale"
    grafos("tasklet", "build", cwd=folder)
    answer = grafos("validate", "--json", cwd=folder)
    assert answer.code == 0
    [module] = answer.document["modules"]
    assert (module["label"], module["ok"], module["findings"]) == ("one", True, [])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    answer = grafos("validate", "none.wasm", cwd=tmp_path)
    assert (answer.code, answer.error_code) == (2, "usage")
    shutil.rmtree(tmp_path / ".grafos", ignore_errors=True)
