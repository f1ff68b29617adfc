"""Builds tasklets to WASM, reproducibly: the same sources give the same bytes in any folder on any machine.

A module is stored as `.grafos/tasklets/<sha256>.wasm`; `.grafos/tasklets/index.json` says which tasklet has which
module, and from which sources it came. A module whose sources have changed since is stale and never run by mistake.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from grafos_cli import languages
from grafos_cli.languages.contract import Note, language_of, no_note
from grafos_cli.manifest import Program, Tasklet
from grafos_cli.project import state_folder
from grafos_core.errors import GrafosError
from grafos_core.paths import locked, write_private

INDEX_SCHEMA = 1
SOURCE_BYTES_MAX = 256 * 1024 * 1024
"""What the digest of a tasklet's sources will read."""
TRIES_MAX = 3
"""How often a tasklet is built again because its sources changed meanwhile; an editor saves at most once or twice."""


@dataclass(frozen=True)
class Built:
    """One built tasklet. Digests are SHA-256 in hex; ``toolchain`` is the compiler's own word for itself."""

    tasklet: str
    module_sha256: str
    source_sha256: str
    language: str
    toolchain: str
    size_bytes: int


def build_tasklet(program: Program, tasklet: Tasklet, note: Note = no_note) -> Built:
    """Compiles one tasklet, stores the module, and notes it in the index. ``build_failed`` has the compiler's words.

    The compiler always looks for itself. A module is believed to be of these sources when they were the same before
    and after: a file that is saved meanwhile, or a lock file that the compiler writes, has it built again. ``note`` is
    told of a wait that nobody expects.
    """
    language = language_of(program)
    toolchain = language.find(program.folder)
    before = source_digest(program, tasklet)
    for _ in range(TRIES_MAX):
        module = language.compile(program, tasklet, toolchain, note)
        after = source_digest(program, tasklet)
        if after == before:
            break
        before = after
    else:
        raise GrafosError(
            "build_failed",
            f"The sources of {tasklet.name} changed each time they were compiled",
            where=str(tasklet.source),
            next="end what is writing to them, then: grafos tasklet build",
        )
    built = Built(
        tasklet=tasklet.name,
        module_sha256=hashlib.sha256(module).hexdigest(),
        source_sha256=before,
        language=program.language,
        toolchain=toolchain.version,
        size_bytes=len(module),
    )
    _store(program, built, module)
    return built


def module_path(project: Path, module_sha256: str) -> Path:
    """Where a module of that digest is stored."""
    return state_folder(project, "tasklets") / f"{module_sha256}.wasm"


def built_module(program: Program, tasklet: Tasklet) -> tuple[Built, bytes]:
    """The module that was built from the sources as they are now, else ``build_stale``."""
    built = read_index(program).get(tasklet.name)
    if built is None:
        raise _stale(program, tasklet, "it was not built yet")
    if built.source_sha256 != source_digest(program, tasklet):
        raise _stale(program, tasklet, "its sources, or how this grafos builds them, changed since it was built")
    compiler = _compiler_now(program)
    if compiler not in {"", built.toolchain}:
        raise _stale(program, tasklet, f"it was built by {built.toolchain}, and the compiler is {compiler} now")
    path = module_path(program.folder, built.module_sha256)
    module = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(module).hexdigest() != built.module_sha256:
        raise _stale(program, tasklet, f"the stored module is missing or altered: {path}")
    return built, module


def _compiler_now(program: Program) -> str:
    """The version of the compiler; nothing when there is none, which makes no module older than it is."""
    try:
        return language_of(program).find(program.folder).version
    except GrafosError as missing:
        if missing.code != "tool_missing":
            raise
        return ""


def _stale(program: Program, tasklet: Tasklet, why: str) -> GrafosError:
    return GrafosError(
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


def _store(program: Program, built: Built, module: bytes) -> None:
    """The module first, then the index that names it; modules that it no longer names go. One build at a time."""
    folder = state_folder(program.folder, "tasklets")
    declared = {tasklet.name for tasklet in program.tasklets}
    with locked(folder):  # no other process stores meanwhile
        write_private(module_path(program.folder, built.module_sha256), module)
        index = {name: entry for name, entry in read_index(program).items() if name in declared}
        index[built.tasklet] = built
        document = {"schema_version": INDEX_SCHEMA, "tasklets": [asdict(index[name]) for name in sorted(index)]}
        write_private(folder / "index.json", json.dumps(document, indent=1).encode())
        named = {entry.module_sha256 for entry in index.values()}
        for path in folder.glob("*.wasm"):
            if path.stem not in named:
                path.unlink(missing_ok=True)


def source_digest(program: Program, tasklet: Tasklet) -> str:
    """A digest over all that decides about the module, but for the compiler's version: our own modules for languages,
    in which flags and options stand, and every file that the language names, by name and bytes, in order."""
    digest = hashlib.sha256(f"{program.language}\n{tasklet.name}\n{tasklet.source.name}\n".encode())
    ours = {path.name: path for path in Path(languages.__file__).parent.glob("*.py")}
    total = 0
    for name, path in [*sorted(ours.items()), *sorted(language_of(program).digest_inputs(program, tasklet).items())]:
        data = _bytes_of(path)
        total += len(data)
        if total > SOURCE_BYTES_MAX:
            raise GrafosError(
                "limit_exceeded",
                f"The sources of {tasklet.name} have over {SOURCE_BYTES_MAX} bytes",
                where=str(tasklet.source.parent),
                next="keep the sources of a tasklet in a folder of their own",
            )
        digest.update(f"{name}\n{len(data)}\n".encode() + data)
    return digest.hexdigest()


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise GrafosError(
            "build_failed",
            "A file among the sources cannot be read",
            where=str(path),
            why=error.strerror or str(error),
            next="mend or remove it, then: grafos tasklet build",
        ) from error
