"""What a Rust tasklet is built from: its crate, and the crates that lie beside it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafos_cli.languages.contract import files_below
from grafos_cli.languages.rust_settings import OWN_FILE
from grafos_cli.manifest import FILE_NAME, Program, Tasklet
from grafos_core.errors import GrafosError

CRATES_MAX = 1000
"""Crates by path of one program; more are a mistake."""
FILES_MAX = 10_000
"""Files of one tasklet's sources."""

_BESIDES_SOURCES = (
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "rust-toolchain.toml",
    "rust-toolchain",
)
"""Files of a crate, beside its `src`, that change what is built."""


def crate_of(program: Program, tasklet: Tasklet) -> Path:
    """The folder of the crate that the tasklet's source belongs to; ``manifest_invalid`` when there is none."""
    top = program.folder.resolve()
    for folder in tasklet.source.parents:
        if (folder / "Cargo.toml").is_file():
            return folder
        if folder == top:
            break
    raise GrafosError(
        "manifest_invalid",
        f"The tasklet {tasklet.name} belongs to no crate",
        where=str(program.folder / FILE_NAME),
        why=f"no folder from {tasklet.source} up to the program's has a Cargo.toml",
        next="add a Cargo.toml beside grafos.toml; `grafos new` makes one",
    )


def workspace_of(crate: Path) -> Path:
    """The folder whose Cargo.toml rules the crate: with its lock file and its profiles."""
    for folder in (crate, *crate.parents):
        if "workspace" in read_manifest(folder):
            return folder
    return crate


def read_manifest(crate: Path) -> dict[str, Any]:
    """A crate's Cargo.toml; nothing when there is none or it cannot be read, which cargo will say better."""
    try:
        return tomllib.loads((crate / "Cargo.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def sources(program: Program, tasklet: Tasklet) -> dict[str, Path]:
    """Every file that the tasklet is built from, by its path as seen from the program's folder."""
    first = crate_of(program, tasklet)
    workspace = workspace_of(first)
    found: dict[str, Path] = {}
    for crate in crates_by_path([first, workspace]):
        if not crate.is_relative_to(workspace):
            raise _outside(program, crate, workspace)
        for path in _files_of(crate):
            found[seen_from(program, path)] = path
            if len(found) > FILES_MAX:
                raise _too_many(f"more than {FILES_MAX} source files", program)
    return found | {seen_from(program, path): path for path in settings_of(program, first)}


def top_of(program: Program, crate: Path) -> Path:
    """The uppermost folder that is the program's own: its workspace's, or its own."""
    home, workspace = program.folder.resolve(), workspace_of(crate)
    return workspace if home.is_relative_to(workspace) else home


def settings_of(program: Program, crate: Path) -> list[Path]:
    """The program's own settings for cargo, from the uppermost folder down to the crate's, which counts most."""
    top = top_of(program, crate)
    folders = [folder for folder in (crate, *crate.parents) if folder.is_relative_to(top)]
    return [folder / OWN_FILE for folder in reversed(folders) if (folder / OWN_FILE).is_file()]


def seen_from(program: Program, path: Path) -> str:
    """A path that is the same wherever the program lies with what it is built from."""
    return Path(os.path.relpath(path, program.folder.resolve())).as_posix()


def crates_by_path(first: list[Path]) -> list[Path]:
    """These crates and all that they name by a path, directly or not, in the order in which they are met."""
    crates = list(dict.fromkeys(first))
    for crate in crates:  # grows while it is walked
        for path in _paths_in(read_manifest(crate)):
            other = Path(os.path.normpath(crate / path))
            if other not in crates and (other / "Cargo.toml").is_file():
                crates.append(other)
        if len(crates) > CRATES_MAX:
            raise GrafosError(
                "limit_exceeded",
                f"More than {CRATES_MAX} crates are named by a path",
                where=str(first[0]),
                next="use fewer crates",
            )
    return crates


def _paths_in(table: Any) -> Iterator[str]:
    """The `path` of every dependency, wherever in a manifest it stands."""
    if isinstance(table, dict):
        for key, value in table.items():
            if key == "path" and isinstance(value, str):
                yield value
            else:
                yield from _paths_in(value)


def _files_of(crate: Path) -> Iterator[Path]:
    yield from (crate / name for name in _BESIDES_SOURCES if (crate / name).is_file())
    if (crate / "src").is_dir():
        yield from files_below(crate / "src")


def _outside(program: Program, crate: Path, workspace: Path) -> GrafosError:
    """Cargo writes the place of such a crate into the module, and orders functions by it."""
    return GrafosError(
        "manifest_invalid",
        f"The crate {seen_from(program, crate)} lies outside of the workspace",
        where=str(crate),
        why="where it lies would be part of the module, and the module another one in every folder",
        next=f"name it by a path below {workspace}, such as vendor/{crate.name}; a link to it will do",
    )


def _too_many(what: str, program: Program) -> GrafosError:
    return GrafosError(
        "limit_exceeded", f"{program.name} has {what}", where=str(program.folder), next="keep data out of src/"
    )
