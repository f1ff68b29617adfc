"""Zig, with the compiler of the Python package `ziglang`, which carries all that it needs; C is compiled by it too."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from grafos_cell import abi
from grafos_cli.languages.contract import (
    Ended,
    Note,
    TestsRun,
    Toolchain,
    build_failed,
    no_note,
    run_tool,
    tool_missing,
)
from grafos_cli.manifest import Program, Tasklet
from grafos_core.errors import GrafosError
from grafos_core.paths import cache_home, private_folder

TIMEOUT_S = 300
"""For one build, or the tests of one file. A cold compiler cache takes seconds; what takes minutes hangs."""
TREE_FILES_MAX = 10_000
"""Of one tasklet's sources. A ring of links between folders has no end otherwise."""

CPU = "mvp+bulk_memory+multivalue+mutable_globals+nontrapping_fptoint+sign_ext"
STACK_BYTES = 65_536
FLAGS = (
    *("-target", "wasm32-freestanding", f"-mcpu={CPU}", "-O", "ReleaseSmall"),
    *("-fno-entry", "-fstrip", "-fsingle-threaded", "--stack", str(STACK_BYTES)),
    *(f"--export={hook}" for hook in abi.HOOKS),
)
"""What the profile allows and no more; no names or paths, so that the bytes do not tell where they were built."""

_NOT_OURS = ("ZIG_", "PYTHON", "CPATH", "C_INCLUDE_PATH", "CCC_")
"""Variables with which a person's own compiler finds more headers, other folders, other options."""
_NOT_SOURCES = re.compile(r"\.git|\.grafos|\.zig-cache|zig-out|\.DS_Store|\..*\.sw.|\.#.*|#.*#|.*~")
"""What version control, compilers, editors and file managers leave between sources."""


def find(folder: Path) -> Toolchain:  # noqa: ARG001 - one compiler for every program
    """The compiler of the installed package; else ``tool_missing``."""
    return package("zig")


def package(language: str) -> Toolchain:
    """The package as the toolchain of Zig or of C."""
    try:
        version = metadata.version("ziglang")
    except metadata.PackageNotFoundError:
        raise tool_missing(
            f"The compiler for {language} was not found",
            "the Python package ziglang, which carries it, is not installed",
            f"{sys.executable} -m pip install ziglang",
        ) from None
    caches = str(cache_home() / "zig")
    return Toolchain(
        language=language,
        version=f"ziglang {version}",
        command=(sys.executable, "-m", "ziglang"),
        environment={"ZIG_GLOBAL_CACHE_DIR": caches, "ZIG_LOCAL_CACHE_DIR": caches},
    )


def compile(  # noqa: A001 - the contract's name
    program: Program,
    tasklet: Tasklet,
    toolchain: Toolchain,
    note: Note = no_note,  # noqa: ARG001 - it takes no time
) -> bytes:
    """The module; ``build_failed`` has the compiler's words."""
    with tempfile.TemporaryDirectory(prefix="grafos-build-") as scratch:
        module = Path(scratch) / "tasklet.wasm"
        words = ["build-exe", within(program, tasklet.source), *FLAGS, "--name", "tasklet", f"-femit-bin={module}"]
        run_compiler(toolchain, words, program, tasklet)
        return module.read_bytes()


def run_compiler(toolchain: Toolchain, words: list[str], program: Program, tasklet: Tasklet) -> None:
    """Runs the compiler in the program's folder; ``build_failed`` when it refuses or does not end."""
    done = run_zig(toolchain, words, program)
    if done.code is None:
        raise build_failed(tasklet, f"the compiler did not end within {TIMEOUT_S} s")
    if done.code != 0:
        raise build_failed(tasklet, done.err or f"the compiler ended with {done.code} and said nothing")


def run_zig(toolchain: Toolchain, words: list[str], program: Program) -> Ended:
    """Runs `zig` in the program's folder; what the caller has set for a Zig or Python of their own changes nothing."""
    private_folder(cache_home() / "zig")
    command = [*toolchain.command, *words]
    return run_tool(command, program.folder, toolchain.environment, TIMEOUT_S, hidden=_NOT_OURS)


def run_tests(program: Program, toolchain: Toolchain) -> TestsRun:
    """The `test` blocks of each tasklet's source, and of what those refer to: `test { _ = @import("x.zig"); }`."""
    began = time.monotonic()
    passed, failed, texts = 0, 0, []
    for tasklet in program.tasklets:
        done = run_zig(toolchain, ["test", within(program, tasklet.source)], program)
        if done.code not in {0, None} and "the following test command" not in done.err:
            raise build_failed(tasklet, done.err)
        good, bad = read_counts(done.err)
        passed, failed = passed + good, failed + (bad or int(done.code != 0))  # a panic ends them all, uncounted
        texts.append(done.err)
        if done.code is None:
            texts.append(f"the tests of {tasklet.name} did not end within {TIMEOUT_S} s\n")
    return TestsRun(passed, failed, time.monotonic() - began, "".join(texts))


def read_counts(text: str) -> tuple[int, int]:
    """How many tests passed and failed, from the last words of `zig test`."""
    if every := re.search(r"^All (\d+) tests passed\.$", text, re.MULTILINE):
        return int(every[1]), 0
    some = re.search(r"^(\d+) passed; \d+ skipped; (\d+) failed\.$", text, re.MULTILINE)
    return (int(some[1]), int(some[2])) if some else (0, 0)


def digest_inputs(program: Program, tasklet: Tasklet) -> Mapping[str, Path]:
    """Every file beside and below the source: Zig imports and embeds nothing from elsewhere."""
    return tree(program, tasklet.source.parent)


def tree(program: Program, folder: Path) -> dict[str, Path]:
    """All files below ``folder``, by their path in the program. Links are followed, as compilers do."""
    found: dict[str, Path] = {}
    for below, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _NOT_SOURCES.fullmatch(name)]
        for name in files:
            if not _NOT_SOURCES.fullmatch(name):
                path = Path(below, name)
                found[within(program, path)] = path
        if len(found) > TREE_FILES_MAX:
            raise GrafosError(
                "limit_exceeded",
                f"There are more than {TREE_FILES_MAX} files beside and below the sources of {program.name}",
                where=str(folder),
                next="keep the sources of a tasklet in a folder of their own",
            )
    return found


def within(program: Program, path: Path) -> str:
    """The path as seen from the program's folder: the same wherever that lies."""
    return path.relative_to(program.folder.resolve()).as_posix()
