"""The files of a new program, from `templates/`: those of every language, those of its own, and for Rust our crates."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grafos_cli.manifest import LANGUAGES, is_name
from grafos_cli.nearness import nearest
from grafos_core.errors import GrafosError

TEMPLATES = Path(__file__).parent / "templates"
DOTTED = {"gitignore": ".gitignore"}
"""Files whose own name here would have an effect here."""
CRATES = (
    "grafos-collections",
    "grafos-macros",
    "grafos-rpc",
    "grafos-std",
    "grafos-stream",
    "grafos-svc",
    "grafos-sync",
)
"""Crates of ours that a Rust program carries with it, in `vendor/`."""

HELPERS = {"zig": "zig/grafos.zig", "c": "include/grafos.h"}
"""The file of ours that a program in this language carries beside its tasklets: hooks and host calls."""


def make_program(here: Path, name: str, language: str) -> Path:
    """Makes the folder ``name`` in ``here``, whole or not at all, and gives it.

    ``usage`` for a name or language that is none, ``folder_taken`` when something is there already, ``config_invalid``
    when it cannot be written.
    """
    _check_words(name, language)
    target = here / name
    try:
        with scratch_folder(here) as scratch:
            draft = scratch / name
            draft.mkdir()
            _fill(draft, name, language)
            draft.rename(target)  # takes the place of an empty folder; the system refuses any other
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR} and os.path.lexists(target):
            raise _taken(target) from error
        raise GrafosError(
            "config_invalid",
            f"The folder {name} cannot be made",
            where=str(here),
            why=error.strerror or str(error),
            next="go to a folder that you may write to",
        ) from error
    return target


def _check_words(name: str, language: str) -> None:
    if "/" in name:
        raise GrafosError(
            "usage",
            f"{name[:60]!r} is a path, not a name",
            next="go to the folder that the program's own shall lie in, and name it alone: grafos new photos",
        )
    if not is_name(name):
        raise GrafosError(
            "usage",
            f"{name[:60]!r} is no name for a program",
            next="use 1 to 40 characters of a-z, 0-9 and inner hyphens, like: grafos new photos",
        )
    if language not in LANGUAGES:
        match = nearest(language, list(LANGUAGES))
        raise GrafosError(
            "usage",
            f"There is no language {language[:60]!r} for tasklets",
            why=f"did you mean {match!r}?" if match else f"there are {', '.join(LANGUAGES)}",
            next=f"grafos new {name} --lang {match or 'rust'}",
        )
    if language == "rust" and (name[0].isdigit() or name in CRATES):
        raise GrafosError(
            "usage",
            f"Cargo takes no package of the name {name!r} here",
            why="its name begins with a digit" if name[0].isdigit() else "a crate that comes with the program has it",
            next="choose another name, or another language: --lang zig",
        )


def _fill(draft: Path, name: str, language: str) -> None:
    """Writes all files of the program into its folder. Templates have marks where its name and language come."""
    marks = {"@NAME@": name, "@LANGUAGE@": language, "@SUFFIX@": LANGUAGES[language]}
    for source in (TEMPLATES / "all", TEMPLATES / language):
        for path in sorted(source.rglob("*")):
            if path.is_file():
                target = draft / path.relative_to(source).with_name(DOTTED.get(path.name, path.name))
                target.parent.mkdir(parents=True, exist_ok=True)
                text = path.read_text(encoding="utf-8")
                for mark, word in marks.items():
                    text = text.replace(mark, word)
                target.write_text(text, encoding="utf-8")
    if language in HELPERS:
        shutil.copy(sdk_folder() / HELPERS[language], draft / "src" / "tasklets")
    if language == "rust":
        for crate in CRATES:
            source, target = sdk_folder() / crate, draft / "vendor" / crate
            shutil.copytree(source / "src", target / "src")
            shutil.copy(source / "Cargo.toml", target)


def sdk_folder() -> Path:
    """Where our crates and headers lie: in the installed package, or in the tree that this runs from."""
    installed = Path(__file__).parent / "sdk"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "sdk"


@contextlib.contextmanager
def scratch_folder(here: Path) -> Iterator[Path]:
    """A folder beside the one to be made, that is gone afterwards, also after Ctrl-C."""
    scratch = Path(tempfile.mkdtemp(prefix=".grafos-new-", dir=here))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _taken(target: Path) -> GrafosError:
    what = "a folder with files in it" if target.is_dir() and not target.is_symlink() else "something else"
    return GrafosError(
        "folder_taken",
        f"There is {what} of the name {target.name} already",
        where=str(target),
        next="choose another name, or move what is there",
    )
