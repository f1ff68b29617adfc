"""Programs in Rust for tests: where they lie, and their modules, built once for all processes of a test run."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

from source_tree import ROOT

from grafos_cli.building import build_tasklet
from grafos_cli.languages import rust
from grafos_cli.manifest import Program, Tasklet, load_program
from grafos_cli.scaffolding import CRATES
from grafos_core.paths import locked

NOT_COPIED = shutil.ignore_patterns(".grafos", "target")
CARGO = """\
[package]
name = "program"
version = "0.1.0"
edition = "2021"

[dependencies]
grafos-std = { path = "vendor/grafos-std" }

[workspace]
exclude = ["vendor"]
"""
LOCK = """\
version = 4

[[package]]
name = "grafos-macros"
version = "0.1.0"

[[package]]
name = "grafos-std"
version = "0.1.0"
dependencies = [
 "grafos-macros",
]

[[package]]
name = "program"
version = "0.1.0"
dependencies = [
 "grafos-std",
]
"""


def session_folder() -> Path:
    """A folder that all processes of one test run share."""
    return Path(os.environ["GRAFOS_TEST_REFUSALS"]).parent


def lay_out(folder: Path, source: str, *names: str) -> Program:
    """A program whose crate is this source, with a copy of the SDK as `grafos new` makes one."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "lib.rs").write_text(source)
    (folder / "Cargo.toml").write_text(CARGO)
    (folder / "Cargo.lock").write_text(LOCK)
    for crate in CRATES:
        shutil.copytree(ROOT / "sdk" / crate, folder / "vendor" / crate, ignore=NOT_COPIED)
    return declare(folder, *(names or ("one",)))


def lay_out_warm(source: str, *names: str) -> Program:
    """As `lay_out`, in the one folder that this process keeps for it, where the SDK is compiled already."""
    folder = session_folder() / f"rust-{os.getpid()}"
    made = folder / ".grafos" / "rust"
    kept = folder.with_suffix(".kept")
    if made.exists():
        made.rename(kept)
    if folder.exists():
        shutil.rmtree(folder)
    program = lay_out(folder, source, *names)
    if kept.exists():
        made.parent.mkdir()
        kept.rename(made)
    return program


def declare(folder: Path, *names: str, source: str = "src/lib.rs") -> Program:
    """Writes the manifest that makes a crate a program with these tasklets."""
    tables = "".join(f'\n[[tasklets]]\nname = "{name}"\nsource = "{source}"\n' for name in names)
    (folder / "grafos.toml").write_text(f'[program]\nname = "p"\nlanguage = "rust"\n{tables}')
    return load_program(folder)


def module_of(program: Program, name: str = "") -> bytes:
    """The module of one tasklet, as cargo makes it now."""
    return rust.compile(program, program.tasklet(name), rust.find(program.folder))


@cache
def sdk_program() -> Program:
    """The crate of `tests/sdk/crate`, each of its tasklets declared."""
    crate = session_folder() / "sdk-program"
    names = ("echo", "place", "last-byte", "never-empty", "refused", "panics", "hungry", "times", "leased", "blocks")
    with locked(session_folder() / "sdk-program.lock"):
        if not crate.exists():
            shutil.copytree(ROOT / "tests" / "sdk" / "crate", crate, ignore=NOT_COPIED)
            declare(crate, *names, "no-json", "match", "written", "takes", "counts-words", "passes-on", "serves")
    return load_program(crate)


def recipe(name: str) -> Program:
    """A program of the cookbook, copied out of it as a person would."""
    home = session_folder() / "recipes" / name
    with locked(session_folder() / f"{name}.lock"):
        if not home.exists():
            shutil.copytree(ROOT / "cookbook" / name, home, ignore=NOT_COPIED)
    return load_program(home)


@cache
def stored_module(name: str, tasklet: str) -> bytes:
    """The module of a recipe's tasklet, built as `grafos tasklet build` does."""
    program = recipe(name)
    chosen: Tasklet = program.tasklet(tasklet)
    built = build_tasklet(program, chosen)
    return (program.folder / ".grafos" / "tasklets" / f"{built.module_sha256}.wasm").read_bytes()
