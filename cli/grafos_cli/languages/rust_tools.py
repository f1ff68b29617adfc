"""Where Rust is on this machine: a compiler with the library for WebAssembly, or one that can build that library.

A cargo and a rustc always come from one place: a cargo cannot drive the library of another release.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grafos_cli.languages.contract import Toolchain, run_tool, tool_missing
from grafos_core.errors import GrafosError

TARGET = "wasm32-unknown-unknown"
ASK_TIMEOUT_S = 300
"""For a compiler's word about itself. It takes milliseconds, unless rustup first fetches what a project pins."""
PINS = ("rust-toolchain.toml", "rust-toolchain")
"""Files with which a project names its toolchain; only rustup heeds them."""
SYSTEM_FOLDER = Path("/usr/bin")

WITH_RUSTUP = f"rustup target add {TARGET}"
DEBIAN_PACKAGES = ("rustc-web", "cargo-web", "rust-web-src", "lld")
WITH_APT = f"sudo apt-get install --yes {' '.join(DEBIAN_PACKAGES)}"
WITH_INSTALLER = f"curl -sSf https://sh.rustup.rs | sh -s -- -y --target {TARGET}"


@dataclass(frozen=True)
class Place:
    """One installed Rust. ``sysroot`` is the folder that its compiler takes its libraries from."""

    sysroot: Path
    rustc: Path
    cargo: Path
    version: str

    @property
    def has_target(self) -> bool:
        """Whether the standard library for WebAssembly came with it."""
        return any((self.sysroot / "lib" / "rustlib" / TARGET / "lib").glob("libstd-*.rlib"))

    @property
    def library_source(self) -> Path:
        return self.sysroot / "lib" / "rustlib" / "src" / "rust" / "library"

    @property
    def can_build_library(self) -> bool:
        """Whether the library's source is there with all that it needs, and a linker to use the result with."""
        return (self.library_source / "vendor").is_dir() and shutil.which("wasm-ld") is not None

    def toolchain(self) -> Toolchain:
        environment = {"RUSTC": str(self.rustc), "RUSTDOC": str(self.rustc.with_name("rustdoc"))}
        if not any((self.sysroot / "lib" / "rustlib").glob("*/bin/rust-lld")):
            environment["CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER"] = "wasm-ld"
        return Toolchain("rust", self.version, (str(self.cargo),), environment)


def find_rust(folder: Path, system: Path = SYSTEM_FOLDER) -> Toolchain:
    """The Rust for a program in ``folder``; ``tool_missing`` says what there is and what it lacks."""
    seen: list[Place] = []
    for place in _places(folder, system):
        if place.has_target:
            return place.toolchain()
        seen.append(place)
    if not _pinned(folder):
        for place in seen:
            if place.cargo.parent == system and place.can_build_library:
                return place.toolchain()
    raise _missing(folder, seen)


def place_of(toolchain: Toolchain) -> Place:
    """Where a toolchain that ``find_rust`` gave lies."""
    rustc = Path(toolchain.environment["RUSTC"])
    return Place(rustc.parent.parent, rustc, Path(toolchain.command[0]), toolchain.version)


def _places(folder: Path, system: Path) -> Iterator[Place]:
    """What is installed: what the caller's PATH names first, then rustup's own folder, then the system's."""
    on_path = shutil.which("cargo")
    candidates = [Path(on_path).parent] if on_path else []
    candidates += [Path.home() / ".cargo" / "bin", system]
    for bin_folder in dict.fromkeys(candidates):
        place = _look(bin_folder, folder)
        if place is not None:
            yield place


def _look(bin_folder: Path, folder: Path) -> Place | None:
    """The Rust whose rustc (or rustup's stand-in for one) is in ``bin_folder``, as it is for ``folder``."""
    asked = bin_folder / "rustc"
    if not asked.is_file():
        return None
    try:
        sysroot = run_tool([str(asked), "--print", "sysroot"], folder, {}, ASK_TIMEOUT_S)
        if sysroot.code != 0:
            return None
        home = Path(sysroot.out.strip())
        rustc, cargo = home / "bin" / "rustc", home / "bin" / "cargo"
        version = run_tool([str(rustc), "--version"], folder, {}, ASK_TIMEOUT_S)
    except OSError:
        return None  # not a program of this machine
    if version.code != 0 or not cargo.is_file():
        return None
    return Place(home, rustc, cargo, version.out.strip())


def _pinned(folder: Path) -> Path | None:
    """The file with which the project names its toolchain."""
    resolved = folder.resolve()
    files = (above / name for above in (resolved, *resolved.parents) for name in PINS)
    return next((file for file in files if file.is_file()), None)


def _missing(folder: Path, seen: list[Place]) -> GrafosError:
    has_rustup = shutil.which("rustup") is not None or (Path.home() / ".cargo" / "bin" / "rustup").is_file()
    pin = _pinned(folder)
    if pin and not has_rustup:
        why = f"{pin} names a toolchain, and there is no rustup to heed it"
        return tool_missing("Rust was not found for this program", why, WITH_INSTALLER)
    if has_rustup:
        version = seen[0].version if seen else "its toolchain"
        return tool_missing(f"Rust cannot build for {TARGET}", f"{version} has no library for it", WITH_RUSTUP)
    what = f"Rust cannot build for {TARGET}" if seen else "Rust was not found"
    why = f"{seen[0].version} has no library for it" if seen else "there is no cargo on PATH"
    return tool_missing(what, why, WITH_APT if _is_debian() else WITH_INSTALLER)


def _is_debian() -> bool:
    try:
        return platform.freedesktop_os_release().get("ID") == "debian"
    except OSError:
        return False
