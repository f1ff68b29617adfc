"""C, compiled by Zig's own clang (see `zig.py`): no C library in the module, this machine's C library in tests."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from grafos_cli.languages import zig
from grafos_cli.languages.contract import (
    Ended,
    Note,
    TestsRun,
    Toolchain,
    build_failed,
    files_read,
    first_lines,
    no_note,
    run_tool,
)
from grafos_cli.manifest import Program, Tasklet
from grafos_core.errors import GrafosError

FLAGS = (
    *("-target", "wasm32-freestanding", f"-mcpu={zig.CPU}", "-std=c17", "-Os", "-g0", "-nostdlib"),
    "-Werror=date-time",  # a module that knows when it was built is another one each time
    *("-Wl,--no-entry", "-Wl,--strip-all", f"-Wl,-z,stack-size={zig.STACK_BYTES}"),
)
"""As for Zig; the hooks are exported by the header `grafos.h`."""
TEST_FLAGS = ("-std=c17", "-g", "-fsanitize=undefined", "-fsanitize-trap=undefined")
"""Undefined behaviour ends a test at once. A trap says less than the sanitizer's own words would, but those take a
minute to build the first time."""
TESTS = "tests"
"""The folder of a program whose `*.c` are its tests: programs of this machine that end with 0 when all is well."""


def find(folder: Path) -> Toolchain:  # noqa: ARG001 - one compiler for every program
    """The compiler of the installed package; else ``tool_missing``."""
    return zig.package("c")


def compile(  # noqa: A001 - the contract's name
    program: Program,
    tasklet: Tasklet,
    toolchain: Toolchain,
    note: Note = no_note,  # noqa: ARG001 - it takes no time
) -> bytes:
    """The module; ``build_failed`` has the compiler's words, or names an include that no digest would notice."""
    with tempfile.TemporaryDirectory(prefix="grafos-build-") as scratch:
        module, included = Path(scratch) / "tasklet.wasm", Path(scratch) / "included"
        words = ["cc", *FLAGS, "-MD", "-MF", str(included), zig.within(program, tasklet.source), "-o", str(module)]
        zig.run_compiler(toolchain, words, program, tasklet)
        _refuse_foreign(included.read_text(), program, tasklet)
        return module.read_bytes()


def _refuse_foreign(rule: str, program: Program, tasklet: Tasklet) -> None:
    """``build_failed`` for a file that is neither one of the tasklet's sources nor the compiler's own."""
    package = find_spec("ziglang")
    compilers_own = [Path(folder).resolve() for folder in (package and package.submodule_search_locations) or ()]
    sources = {path.resolve() for path in digest_inputs(program, tasklet).values()}
    for name in files_read(rule.replace("\\\n", " ").replace("$$", "$")):
        path = (program.folder / name).resolve()
        if path not in sources and not any(path.is_relative_to(folder) for folder in compilers_own):
            raise build_failed(tasklet, f"it includes {name}, which does not lie below {_top(program, tasklet)}")


def digest_inputs(program: Program, tasklet: Tasklet) -> Mapping[str, Path]:
    """Every file below the program's folder that the source lies in, `src/` as a rule: C includes across folders."""
    return zig.tree(program, _top(program, tasklet))


def _top(program: Program, tasklet: Tasklet) -> Path:
    home = program.folder.resolve()
    first, *more = tasklet.source.relative_to(home).parts
    return home / first if more else home


def run_tests(program: Program, toolchain: Toolchain) -> TestsRun:
    """Each `tests/*.c` is a program: it passed when it ends with 0. ``build_failed`` when one does not compile."""
    began = time.monotonic()
    texts, failed = [], 0
    sources = sorted((program.folder / TESTS).glob("*.c"))
    if not sources:
        return TestsRun(0, 0, 0.0, f"there is no {TESTS}/*.c")
    for source in sources:
        ended = _run_test(program, source, toolchain)
        failed += ended.code != 0
        texts.append(f"{ended.out}{ended.err}{TESTS}/{source.name} {_how(ended)}\n")
    return TestsRun(len(sources) - failed, failed, time.monotonic() - began, "".join(texts))


def _how(ended: Ended) -> str:
    if ended.code is None:
        return f"did not end within {zig.TIMEOUT_S} s"
    return f"ended with {ended.code}" if ended.code >= 0 else f"was ended by {signal.Signals(-ended.code).name}"


def _run_test(program: Program, source: Path, toolchain: Toolchain) -> Ended:
    with tempfile.TemporaryDirectory(prefix="grafos-test-") as scratch:
        binary = str(Path(scratch) / "test")
        built = zig.run_zig(toolchain, ["cc", *TEST_FLAGS, f"{TESTS}/{source.name}", "-o", binary], program)
        if built.code != 0:
            raise GrafosError(
                "build_failed",
                f"The test {source.name} does not compile",
                where=str(source),
                why=first_lines(built.err),
                next="mend the test, then: grafos validate",
            )
        return run_tool([binary], program.folder, {}, zig.TIMEOUT_S)
