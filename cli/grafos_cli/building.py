"""Builds tasklets to WASM, reproducibly: the same sources give the same bytes in any folder on any machine.

A module is stored as `.grafos/tasklets/<sha256>.wasm`; `.grafos/tasklets/index.json` says which tasklet has which
module, and from which sources it came. A module whose sources have changed since is stale and never run by mistake.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from grafos_cell import abi
from grafos_cli.manifest import Program, Tasklet
from grafos_cli.project import state_folder
from grafos_core.errors import GrafosError
from grafos_core.paths import cache_home, private_folder, write_private

INDEX_SCHEMA = 1
BUILD_TIMEOUT_S = 300
"""A cold compiler cache takes seconds; what takes minutes hangs."""
SOURCE_FILES_MAX = 10_000
SOURCE_BYTES_MAX = 256 * 1024 * 1024
"""What the digest of a tasklet's sources will walk through."""
COMPILER_LINES_SHOWN = 40
"""Of a failed build; the first errors are the ones that help."""

ZIG_FLAGS = (
    "-target",
    "wasm32-freestanding",
    "-mcpu=mvp+bulk_memory+multivalue+mutable_globals+nontrapping_fptoint+sign_ext",
    "-O",
    "ReleaseSmall",
    "-fno-entry",
    "-fstrip",
    "-fsingle-threaded",
    "--stack",
    "65536",
    *(f"--export={hook}" for hook in abi.HOOKS),
)
"""What the profile allows and no more; no names or paths, so that the bytes do not tell where they were built."""


@dataclass(frozen=True)
class Built:
    """One built tasklet. Digests are SHA-256 in hex."""

    tasklet: str
    module_sha256: str
    source_sha256: str
    language: str
    size_bytes: int


def build_tasklet(program: Program, tasklet: Tasklet) -> Built:
    """Compiles one tasklet, stores the module, and notes it in the index. ``build_failed`` has the compiler's words."""
    source_sha256 = source_digest(program, tasklet)
    module = _COMPILERS[program.language](program, tasklet)
    built = Built(
        tasklet=tasklet.name,
        module_sha256=hashlib.sha256(module).hexdigest(),
        source_sha256=source_sha256,
        language=program.language,
        size_bytes=len(module),
    )
    write_private(module_path(program.folder, built.module_sha256), module)
    _note(program, built)
    return built


def module_path(project: Path, module_sha256: str) -> Path:
    """Where a module of that digest is stored."""
    return state_folder(project, "tasklets") / f"{module_sha256}.wasm"


def built_module(program: Program, tasklet: Tasklet) -> tuple[Built, bytes]:
    """The module that was built from the sources as they are now, else ``build_stale``."""
    built = read_index(program).get(tasklet.name)
    why = ""
    if built is None:
        why = "it was not built yet"
    elif built.source_sha256 != source_digest(program, tasklet):
        why = "its sources changed since it was built"
    else:
        path = module_path(program.folder, built.module_sha256)
        module = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(module).hexdigest() == built.module_sha256:
            return built, module
        why = f"the stored module is missing or altered: {path}"
    raise GrafosError(
        "build_stale",
        f"There is no up-to-date module of {tasklet.name}",
        where=str(program.folder),
        why=why,
        next="grafos tasklet build",
    )


def read_index(program: Program) -> dict[str, Built]:
    """The index by tasklet; empty when there is none or it cannot be read, which a build mends."""
    try:
        document = json.loads((state_folder(program.folder, "tasklets") / "index.json").read_bytes())
        return {entry["tasklet"]: Built(**entry) for entry in document["tasklets"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _note(program: Program, built: Built) -> None:
    declared = {tasklet.name for tasklet in program.tasklets}
    index = {name: entry for name, entry in read_index(program).items() if name in declared} | {built.tasklet: built}
    document = {"schema_version": INDEX_SCHEMA, "tasklets": [asdict(index[name]) for name in sorted(index)]}
    write_private(state_folder(program.folder, "tasklets") / "index.json", json.dumps(document, indent=1).encode())


def source_digest(program: Program, tasklet: Tasklet) -> str:
    """A digest over language, the source, and every file beside and below it: names and bytes, in order."""
    digest = hashlib.sha256(f"{program.language}\n{tasklet.source.name}\n".encode())
    total = 0
    files = sorted(path for path in tasklet.source.parent.rglob("*") if path.is_file() and not _hidden(path, tasklet))
    for path in files:
        data = path.read_bytes()
        total += len(data)
        if total > SOURCE_BYTES_MAX or len(files) > SOURCE_FILES_MAX:
            raise GrafosError(
                "limit_exceeded",
                f"The sources of {tasklet.name} are {len(files)} files and over {total} bytes",
                where=str(tasklet.source.parent),
                next="keep the sources of a tasklet in a folder of their own",
            )
        name = path.relative_to(tasklet.source.parent).as_posix()
        digest.update(f"{name}\n{len(data)}\n".encode() + data)
    return digest.hexdigest()


def _hidden(path: Path, tasklet: Tasklet) -> bool:
    """Below `.grafos`, `.git` and the like; and compilers' caches, which are hidden too."""
    return any(part.startswith(".") for part in path.relative_to(tasklet.source.parent).parts)


def _compile_zig(program: Program, tasklet: Tasklet) -> bytes:
    _need_zig()
    caches = private_folder(cache_home() / "zig")
    with tempfile.TemporaryDirectory(prefix="grafos-build-") as scratch:
        module = Path(scratch) / "tasklet.wasm"
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "build-exe",
            str(tasklet.source.relative_to(program.folder.resolve())),
        ]
        command += [*ZIG_FLAGS, "--name", "tasklet", f"-femit-bin={module}"]
        command += ["--cache-dir", str(caches), "--global-cache-dir", str(caches)]
        _run_compiler(command, program, tasklet)
        return module.read_bytes()


def _need_zig() -> None:
    from importlib.util import find_spec

    if find_spec("ziglang") is None:
        raise GrafosError(
            "tool_missing",
            "The Zig compiler was not found",
            why="the Python package ziglang, which carries it, is not installed",
            next=f"{sys.executable} -m pip install ziglang",
        )


def _run_compiler(command: list[str], program: Program, tasklet: Tasklet) -> None:
    """Runs it in the program's folder; a refusal becomes ``build_failed`` with what the compiler said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ZIG_", "PYTHON"))}
    try:
        done = subprocess.run(
            command,
            cwd=program.folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _build_failed(tasklet, f"the compiler did not end within {BUILD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"the compiler ended with {done.returncode} and said nothing"]
        more = len(lines) - COMPILER_LINES_SHOWN
        raise _build_failed(
            tasklet, "\n".join(lines[:COMPILER_LINES_SHOWN] + ([f"… {more} lines more"] if more > 0 else []))
        )


def _build_failed(tasklet: Tasklet, why: str) -> GrafosError:
    return GrafosError(
        "build_failed",
        f"The tasklet {tasklet.name} does not compile",
        where=str(tasklet.source),
        why=why,
        next="mend the source, then: grafos tasklet build",
    )


def _compile_wat(_program: Program, tasklet: Tasklet) -> bytes:
    import wasmtime

    try:
        return bytes(wasmtime.wat2wasm(tasklet.source.read_bytes()))
    except wasmtime.WasmtimeError as error:
        raise _build_failed(tasklet, str(error)) from error


def _compile_later(program: Program, tasklet: Tasklet) -> bytes:
    raise GrafosError(
        "unsupported",
        f"This version does not build {program.language} tasklets",
        where=str(tasklet.source),
        next="write the tasklet in zig or wat, or build the module yourself and check it: grafos validate FILE.wasm",
    )


_COMPILERS = {"zig": _compile_zig, "wat": _compile_wat, "rust": _compile_later, "c": _compile_later}
