"""`grafos validate`: the static rules, then the program's own tests, and one report of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime
from command_line import grafos
from programs import WAT, ZIG, digests_of, grafos_in, shared_cache, write_program

PASSES = "test { }\n"
FAILS = 'test "of sums" { if (1 + 1 != 3) return error.SumsAreWrong; }\n'
PANICS = 'test "of panics" { @panic("out of order"); }\n'


def zig_program(folder: Path, tests: str) -> Path:
    """A program in Zig with these tests, built; its hooks are none of the test's."""
    source = 'const builtin = @import("builtin");\n' + ZIG.replace("export fn _grafos_tasklet_", "fn ")
    source = source.replace(") void", ") callconv(.c) void").replace(") i32", ") callconv(.c) i32")
    names = ("init", "run", "finalize")
    exports = "".join(f'    @export(&{name}, .{{ .name = "_grafos_tasklet_{name}" }});\n' for name in names)
    write_program(folder, "zig", f"{source}comptime {{ if (!builtin.is_test) {{\n{exports}}} }}\n{tests}")
    digests_of(folder)
    return folder


def c_program(folder: Path, **tests: str) -> Path:
    """A program in C with these tests by name, built."""
    write_program(folder, "c")
    (folder / "tests").mkdir()
    for name, text in tests.items():
        (folder / "tests" / f"{name}.c").write_text(text)
    digests_of(folder)
    return folder


def report_of(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / ".grafos" / "validation" / "p.json").read_text())
    return found


def test_everything_that_is_wrong_is_told_and_kept_in_a_report(tmp_path: Path) -> None:
    bad = tmp_path / "bad.wasm"
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
    data = wasmtime.wat2wasm(wat) if wat.startswith("(") else wat.encode()
    (tmp_path / "m.wasm").write_bytes(data)
    answer = grafos("validate", "m.wasm", cwd=tmp_path)
    assert (answer.code, answer.error_code) == (exit_code, code)


def test_each_tasklet_is_checked_as_it_was_built(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat")
    assert grafos("validate", cwd=folder).error_code == "build_stale"
    grafos("tasklet", "build", cwd=folder)
    answer = grafos("validate", "--json", cwd=folder)
    assert answer.code == 0
    [module] = answer.document["modules"]
    assert (module["label"], module["ok"], module["findings"]) == ("one", True, [])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    answer = grafos("validate", "none.wasm", cwd=tmp_path)
    assert (answer.code, answer.error_code) == (2, "usage")


def test_a_language_without_tests_says_so(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat")
    grafos("tasklet", "build", cwd=folder)
    answer = grafos("validate", cwd=folder)
    assert answer.code == 0
    assert "tests: none, WAT has no tool that runs tests" in answer.out
    assert answer.err.startswith("report: "), "nothing is said to run that does not"
    assert report_of(folder)["tests"]["state"] == "none"


def test_modules_and_tests_stand_in_one_report(tmp_path: Path) -> None:
    folder = zig_program(tmp_path / "p", PASSES + "test { }\n")
    answer = grafos_in(folder, "validate")
    assert answer.code == 0, answer.err
    assert "tests: 2 passed, in " in answer.out
    report = report_of(folder)
    assert [module["ok"] for module in report["modules"]] == [True]  # type: ignore[index]
    tests = report["tests"]
    assert (tests["state"], tests["passed"], tests["failed"]) == ("passed", 2, 0)
    assert str(tests["tool"]).startswith("ziglang ")


def test_failing_tests_are_an_error_with_the_tools_own_words(tmp_path: Path) -> None:
    folder = zig_program(tmp_path / "p", PASSES + FAILS)
    answer = grafos_in(folder, "validate")
    assert (answer.code, answer.error_code) == (1, "tests_failed")
    assert "1 of 2 tests of p failed" in answer.err
    assert "SumsAreWrong" in answer.err
    tests = report_of(folder)["tests"]
    assert (tests["state"], tests["passed"], tests["failed"]) == ("failed", 1, 1)
    assert "SumsAreWrong" in str(tests["text"])
    document = grafos_in(folder, "validate", "--json").document
    assert document["error"]["code"] == "tests_failed"
    assert document["error"]["context"]["report"].endswith("p.json")


def test_a_test_that_panics_has_failed(tmp_path: Path) -> None:
    answer = grafos_in(zig_program(tmp_path / "p", PANICS), "validate")
    assert answer.error_code == "tests_failed"
    assert "out of order" in answer.err


def test_tests_that_do_not_compile_are_told_in_the_compilers_words(tmp_path: Path) -> None:
    answer = grafos_in(zig_program(tmp_path / "p", 'test { const number: u8 = "text"; _ = number; }\n'), "validate")
    assert (answer.code, answer.error_code) == (1, "build_failed")
    assert "expected type 'u8'" in answer.err
    assert "validate --static" in answer.err


def test_static_leaves_the_tests_out(tmp_path: Path) -> None:
    folder = zig_program(tmp_path / "p", FAILS)
    answer = grafos_in(folder, "validate", "--static")
    assert answer.code == 0
    assert "tests: not run, left out with --static" in answer.out
    assert report_of(folder)["tests"]["state"] == "not_run"


def test_a_module_that_is_not_in_order_is_told_before_any_test_runs(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "p", "wat", WAT.replace("1)", "1000)"))
    grafos_in(folder, "tasklet", "build")
    answer = grafos_in(folder, "validate")
    assert answer.error_code == "memory_exceeded"
    assert report_of(folder)["tests"]["why"] == "the modules are not in order"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ('#include <stdio.h>\nint main(void) { puts("three is not four"); return 3; }\n', "three is not four"),
        ("int main(void) { return 3; }\n", "tests/bad.c ended with 3"),
        ("int main(int n, char **v) { int big = 2147483647; return (big + n) > 0; }\n", "was ended by SIG"),
    ],
    ids=["words", "code", "undefined-behaviour"],
)
def test_a_test_in_c_that_does_not_end_well_has_failed(source: str, said: str, tmp_path: Path) -> None:
    folder = c_program(tmp_path / "p", good="int main(void) { return 0; }\n", bad=source)
    answer = grafos_in(folder, "validate")
    assert (answer.code, answer.error_code) == (1, "tests_failed")
    assert "1 of 2 tests of p failed" in answer.err
    assert said in answer.err


def test_a_test_in_c_that_does_not_compile_is_named(tmp_path: Path) -> None:
    answer = grafos_in(c_program(tmp_path / "p", bad="int main(void) { return missing; }\n"), "validate")
    assert answer.error_code == "build_failed"
    assert "undeclared identifier 'missing'" in answer.err
    assert "bad.c" in answer.err


def test_a_program_without_tests_says_where_they_would_be(tmp_path: Path) -> None:
    answer = grafos_in(c_program(tmp_path / "p"), "validate")
    assert "tests: none, there is no tests/*.c" in answer.out
    assert answer.err.startswith("report: "), "nothing is said to run that does not"


WITHOUT_ZIG = """\
import sys
from importlib.machinery import PathFinder


class Hidden(PathFinder):
    @classmethod
    def find_distributions(cls, context):
        return () if context.name == "ziglang" else super().find_distributions(context)


sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden
from grafos_cli.main import main
main()
"""


def without_zig(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `grafos` where the package with the compiler is not installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_ZIG, *words],
        cwd=folder,
        env={**os.environ, **shared_cache()},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_tool_is_told_with_the_command_that_installs_it(tmp_path: Path) -> None:
    folder = zig_program(tmp_path / "p", PASSES)
    answer = without_zig(folder, "validate")
    assert answer.returncode == 1
    assert "error[tool_missing]: The compiler for zig was not found" in answer.stderr
    assert "-m pip install ziglang" in answer.stderr
    assert "validate --static" in answer.stderr
    assert report_of(folder)["tests"]["state"] == "not_run"
    assert without_zig(folder, "validate", "--static").returncode == 0
    assert "error[tool_missing]" in without_zig(folder, "tasklet", "build").stderr
