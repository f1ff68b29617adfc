"""A person's own cargo settings, and what of them reaches a build: where crates come from, and what links programs of
this machine. Nothing that could make the module another one than on the next machine.

Cargo reads settings in its home and in every folder from where it is started up to the root. So it is given a home of
its own, which has no more of them than is kept here, and is started in the root. A program's own are its sources.
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from grafos_cli.languages.rust_tools import TARGET
from grafos_core.paths import locked, private_folder, write_private

START_FOLDER = Path("/")
"""Where cargo is started: no folder of a person's is above it."""
OWN_FILE = Path(".cargo", "config.toml")
"""Settings in a folder."""

_KEPT = frozenset({"source", "registries", "registry", "http", "net", "credential-alias"})
_PATHS = frozenset({"directory", "local-registry", "cainfo", "proxy-cainfo", "linker"})
"""Keys whose value is a path; one that is not absolute is seen from above the folder that the settings lie in."""
_SHARED_FOLDERS = ("registry", "git")
"""Of a cargo's home: what was fetched before."""
_SHARED_FILES = ("credentials.toml", ".package-cache", ".package-cache-mutate")
"""What opens a private registry, and cargo's locks around what is fetched."""
_UNTOUCHED = 'cache.auto-clean-frequency = "never"\n'
"""What was fetched is the person's: to clear it up is for their cargo, which knows what it uses."""

Settings = dict[tuple[str, ...], Any]
"""Values by their keys, from the outermost table in."""


def cargo_home(variables: Mapping[str, str]) -> Path:
    """The person's."""
    return Path(variables.get("CARGO_HOME") or Path.home() / ".cargo")


def lay_out_home(folder: Path, persons: Path, top: Path) -> Settings:
    """Makes ``folder`` a home for cargo with what is fetched in the ``persons``, and what is kept of the settings there
    and above ``top``, the program's own uppermost folder. Gives what is kept."""
    kept = read_kept([persons / "config.toml", *(above / OWN_FILE for above in reversed(top.resolve().parents))])
    with locked(private_folder(folder)):
        for name in _SHARED_FOLDERS:
            with contextlib.suppress(OSError):  # in a home that cannot be written, nothing is kept
                (persons / name).mkdir(parents=True, exist_ok=True)
        is_writable = os.access(persons, os.W_OK)
        for name in (*_SHARED_FOLDERS, *_SHARED_FILES):
            link, there = folder / name, persons / name
            if (is_writable or there.exists()) and not (link.is_symlink() and link.readlink() == there):
                link.unlink(missing_ok=True)
                link.symlink_to(there)
        write_private(folder / "config.toml", (_UNTOUCHED + as_toml(kept)).encode())
    return kept


def read_kept(files: Iterable[Path]) -> Settings:
    """What is kept of these files; where two say something the later one is right. Cargo ignores what is not there, and
    what it could not read was the person's own cargo's to say."""
    found: Settings = {}
    for file in files:
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found.update(kept_of(document, file.absolute().parent.parent))
    return found


def kept_of(document: dict[str, Any], seen_from: Path) -> Settings:
    """What is kept of one file's settings, with every path made absolute."""
    return {
        key: os.path.normpath(seen_from / value) if _is_path(key, value) else value
        for key, value in _leaves(document)
        if key[0] in _KEPT or _links_programs_of_this_machine(key)
    }


def folders_of_crates(settings: Settings) -> list[str]:
    """Folders with crates that were fetched by other means."""
    return [value for key, value in settings.items() if key[0] == "source" and key[-1] == "directory"]


def as_toml(settings: Settings) -> str:
    """One line a value. JSON writes texts, numbers, truth and lists of them as TOML reads them."""
    return "".join(
        f"{'.'.join(_json(part) for part in key)} = {_json(value)}\n" for key, value in sorted(settings.items())
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _leaves(table: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        elif isinstance(value, str | int | float | list):
            yield (*above, key), value


def _links_programs_of_this_machine(key: tuple[str, ...]) -> bool:
    """Build scripts and macros are such: without its linker a machine could build nothing."""
    return len(key) == 3 and key[0] == "target" and key[2] == "linker" and key[1] != TARGET and "(" not in key[1]


def _is_path(key: tuple[str, ...], value: Any) -> bool:
    """A linker without a slash is looked for in PATH."""
    return isinstance(value, str) and key[-1] in _PATHS and (key[-1] != "linker" or "/" in value)
