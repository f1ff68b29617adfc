"""This project's program and local fabric, and the emulated clouds of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from grafos_cli.checkups.findings import Finding, Status
from grafos_cli.dev_doctor import look
from grafos_cli.emulator_here import emulator_folder
from grafos_cli.languages.contract import language_of
from grafos_cli.local_state import read_local_fabric
from grafos_cli.manifest import FILE_NAME, load_program
from grafos_cli.project import project_folder
from grafos_emulators import daemon, state

PROGRAM = "program"
LOCAL = "local fabric"
EMULATOR = "emulator"


def check_program() -> Iterator[Finding]:
    """Whether the program here can be read and built; a compiler that is missing comes as the error of a build."""
    folder = project_folder()
    if not (folder / FILE_NAME).is_file():
        yield Finding(PROGRAM, "compiler", Status.NONE, "no program lies here")
        return
    program = load_program(folder)
    toolchain = language_of(program).find(folder)
    yield Finding(PROGRAM, "compiler", Status.OK, f"{toolchain.version} builds {program.name}")


def check_local_fabric() -> Iterator[Finding]:
    """What `grafos dev doctor` finds; that there is none here is no fault."""
    project = project_folder()
    record = read_local_fabric(project)
    if record is None:
        yield Finding(LOCAL, "record", Status.NONE, "none runs in this project")
        return
    for found in look(project):
        yield Finding(LOCAL, found.name, Status.OK if found.ok else Status.FAIL, found.why, found.next)


def check_emulator(*, fix: bool) -> Iterator[Finding]:
    """Whether one runs, and whether a dead one left something."""
    folder = emulator_folder()
    info = daemon.read(folder)
    if info is not None:
        yield Finding(EMULATOR, "daemon", Status.OK, f"runs at {info.endpoint}")
    elif _left_something(folder):
        yield _cleared(folder, fix=fix)
    else:
        yield Finding(EMULATOR, "daemon", Status.NONE, "none runs")


def _left_something(folder: Path) -> bool:
    return (folder / state.STATE_NAME).exists() and not state.is_locked(folder)


def _cleared(folder: Path, *, fix: bool) -> Finding:
    if not fix:
        what = "one was killed and left its file and perhaps machines"
        return Finding(EMULATOR, "daemon", Status.WARN, what, "grafos doctor --fix, or grafos emulate down")
    daemon.stop(folder)
    return Finding(EMULATOR, "daemon", Status.FIXED, "what a killed one left is removed")
