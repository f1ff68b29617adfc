"""Rust's standard library for WebAssembly, built once from its source where a distribution ships no built one.

The result is a folder that the compiler takes for its own (`--sysroot`), so everything else is built as with a library
that came ready made: no program is compiled with the unstable switches that this takes. It is kept for each compiler.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from grafos_cli.languages.contract import Note, first_lines, no_note, run_tool
from grafos_cli.languages.rust_settings import START_FOLDER
from grafos_cli.languages.rust_tools import TARGET, Place
from grafos_core.errors import GrafosError
from grafos_core.paths import cache_home, locked, private_folder

BUILD_TIMEOUT_S = 1800
"""It takes half a minute on two idle cores; a small busy machine needs many times that."""
RECIPE = "2"
"""Goes up when what is built here changes, so that an older result is not used."""

_MANIFEST = '[package]\nname = "nothing"\nversion = "0.1.0"\nedition = "2021"\n'


def place_for_library(place: Place) -> Path | None:
    """The folder that ``library_for`` gives; it is there once the library is built."""
    if place.has_target:
        return None
    key = hashlib.sha256(f"{RECIPE}\n{place.version}\n{place.library_source}".encode()).hexdigest()[:16]
    return cache_home() / "rust" / f"library-{key}"


def library_for(place: Place, note: Note = no_note) -> Path | None:
    """The folder to name as `--sysroot`, built if it is not there yet, which ``note`` is told; None when the compiler's
    own has the target."""
    finished = place_for_library(place)
    if finished is None:
        return None
    home = private_folder(finished.parent)
    if not finished.is_dir():
        note(f"building Rust's standard library for {TARGET}, once for this compiler; it takes a minute or more …")
    with locked(home / "lock"):
        if not finished.is_dir():
            with tempfile.TemporaryDirectory(dir=home, prefix=".building-") as scratch:
                _build(place, Path(scratch))
                (Path(scratch) / "sysroot").rename(finished)
    return finished


def _build(place: Place, scratch: Path) -> None:
    """Compiles a crate of nothing with the library from source, and gathers what that left."""
    (scratch / "src").mkdir()
    (scratch / "Cargo.toml").write_text(_MANIFEST)
    (scratch / "src" / "lib.rs").write_text("#![no_std]\n")
    source = place.library_source
    words = [str(place.cargo), "build", "--manifest-path", str(scratch / "Cargo.toml")]
    words += ["--offline", "--release", "--target", TARGET]
    words += ["--config", 'source.crates-io.replace-with="library"']
    words += ["--config", f'source.library.directory="{source / "vendor"}"']
    words += ["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="]
    # Bitcode, because tasklets are optimised as a whole, library and all.
    flags = ("-Cembed-bitcode=yes", f"--remap-path-prefix={source}=/rustc/library")
    environment = {
        "RUSTC": str(place.rustc),
        "RUSTC_BOOTSTRAP": "1",  # building the library is what the switch is for
        "CARGO_HOME": str(scratch / "cargo"),
        "CARGO_TARGET_DIR": str(scratch / "target"),
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "1",
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
    }
    done = run_tool(words, START_FOLDER, environment, BUILD_TIMEOUT_S, hidden=("CARGO", "RUST"))
    if done.code != 0:
        raise GrafosError(
            "build_failed",
            f"Rust's standard library does not compile for {TARGET}",
            where=str(source),
            why=first_lines(done.err) if done.code else f"cargo did not end within {BUILD_TIMEOUT_S} s",
            next=f"install a Rust that has it: rustup target add {TARGET}",
        )
    _gather(scratch / "target" / TARGET / "release" / "deps", scratch / "sysroot")


def _gather(built: Path, sysroot: Path) -> None:
    """The libraries, laid out as the compiler looks for them."""
    libraries = sysroot / "lib" / "rustlib" / TARGET / "lib"
    libraries.mkdir(parents=True)
    for library in built.glob("*.rlib"):
        if not library.name.startswith("libnothing-"):
            shutil.copy2(library, libraries)
