"""WebAssembly's text format, turned into a module by the engine's own library. It has no tests of its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from grafos_cli.languages.contract import Note, TestsRun, Toolchain, build_failed, no_note
from grafos_cli.languages.zig import within
from grafos_cli.manifest import Program, Tasklet


def find(folder: Path) -> Toolchain:  # noqa: ARG001 - the library is one of our own dependencies
    """The library; it is always there."""
    return Toolchain("wat", f"wasmtime {metadata.version('wasmtime')}", ())


def compile(  # noqa: A001 - the contract's name
    program: Program,  # noqa: ARG001 - the contract's
    tasklet: Tasklet,
    toolchain: Toolchain,  # noqa: ARG001 - as above
    note: Note = no_note,  # noqa: ARG001 - as above
) -> bytes:
    """The module; ``build_failed`` has the library's words."""
    import wasmtime

    try:
        return bytes(wasmtime.wat2wasm(tasklet.source.read_bytes()))
    except wasmtime.WasmtimeError as error:
        raise build_failed(tasklet, str(error)) from error


def run_tests(program: Program, toolchain: Toolchain) -> TestsRun:  # noqa: ARG001 - there is nothing to run
    """None passed and none failed."""
    return TestsRun(0, 0, 0.0, "WAT has no tool that runs tests: run the tasklet itself, on a local fabric")


def digest_inputs(program: Program, tasklet: Tasklet) -> Mapping[str, Path]:
    """The source alone: it cannot include another file."""
    return {within(program, tasklet.source): tasklet.source}
