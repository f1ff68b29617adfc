"""The folder that a command works in, and what lies in its `.grafos/`.

A project is the nearest folder, from the current one upwards, that has a `grafos.toml`; without one it is the current
folder. `.grafos/` there holds the local fabric's state, the record of cells, built modules and reports.
"""

from __future__ import annotations

from pathlib import Path

from grafos_cli.manifest import FILE_NAME
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder, project_home


def current_folder() -> Path:
    """Where the person stands; a folder that is gone is ``config_invalid``."""
    try:
        return Path.cwd()
    except OSError as error:
        raise GrafosError(
            "config_invalid",
            "The current folder is gone",
            why=error.strerror or str(error),
            next="go to another folder: cd",
        ) from error


def project_folder(start: Path | None = None) -> Path:
    """The project that ``start`` (the current folder) belongs to."""
    here = (start or current_folder()).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / FILE_NAME).is_file()), here)


def program_folder(argument: str) -> Path:
    """The program that a person named, or the project around the current folder."""
    if not argument:
        return project_folder()
    folder = Path(argument)
    if folder.name == FILE_NAME:
        folder = folder.parent
    if not folder.is_dir():
        raise GrafosError("usage", f"There is no folder {argument}", next="name the folder that has the grafos.toml")
    return folder.resolve()


def state_folder(project: Path, *parts: str) -> Path:
    """A folder below the project's `.grafos/`, made when it is missing; an unwritable place is ``config_invalid``."""
    try:
        return private_folder(project_home(project).joinpath(*parts))
    except OSError as error:
        raise GrafosError(
            "config_invalid",
            "The project's .grafos folder cannot be written",
            where=str(project / ".grafos"),
            why=error.strerror or str(error),
            next="run the command in a folder that you may write to",
        ) from error
