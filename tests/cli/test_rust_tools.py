"""Which Rust is taken of those that a machine may have, and what is said when none will do; compilers are played."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from grafos_cli.languages.contract import run_tool
from grafos_cli.languages.rust_library import library_for
from grafos_cli.languages.rust_tools import TARGET, WITH_APT, WITH_INSTALLER, WITH_RUSTUP, Place, find_rust, place_of
from grafos_core.errors import GrafosError


class Machine:
    """A machine with nothing on it; `has` installs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.system = folder, folder / "usr" / "bin"
        self.tools, self.project = folder / "tools", folder / "project"
        for place in (self.system, self.tools, self.project, folder / "home"):
            place.mkdir(parents=True)
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.setenv("PATH", str(self.tools))

    def program(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def rust(self, version: str, *, sysroot: Path, target: bool = False, source: bool = False) -> Path:
        """A compiler and a cargo in a folder of their own."""
        libraries = sysroot / "lib" / "rustlib"
        answers = f'case "$*" in "--print sysroot") echo {sysroot};; --version) echo "{version}";; *) exit 1;; esac'
        self.program(sysroot / "bin" / "rustc", answers)
        self.program(sysroot / "bin" / "cargo", "exit 0")
        if target:
            (libraries / TARGET / "lib").mkdir(parents=True)
            (libraries / TARGET / "lib" / "libstd-0123.rlib").touch()
        if source:
            (libraries / "src" / "rust" / "library" / "vendor").mkdir(parents=True)
        return sysroot / "bin"

    def rustup(self, version: str, *, target: bool = False, works: bool = True) -> None:
        """Rustup's stand-ins in ~/.cargo/bin, on PATH, for a toolchain that lies elsewhere."""
        real = self.rust(version, sysroot=self.folder / "toolchains" / "stable", target=target)
        for name in ("rustup", "cargo", "rustc"):
            script = f'exec {real / name} "$@"' if works else "echo 'error: no default toolchain' >&2; exit 1"
            self.program(self.folder / "home" / ".cargo" / "bin" / name, script)

    def debian(self, *, source: bool = True, linker: bool = True) -> None:
        self.rust("rustc 1.96.0 (debian)", sysroot=self.folder / "usr", source=source)
        if linker:
            self.program(self.tools / "wasm-ld", "exit 0")

    def pin(self, folder: Path) -> None:
        (folder / "rust-toolchain.toml").write_text('[toolchain]\nchannel = "1.90"\n')

    def find(self) -> str:
        """The version that is taken."""
        toolchain = find_rust(self.project, self.system)
        place = place_of(toolchain)
        assert place.cargo.parent == place.rustc.parent, "the two must come from one place"
        assert toolchain.environment["RUSTDOC"] == str(place.rustc.with_name("rustdoc"))
        return toolchain.version

    def refusal(self) -> GrafosError:
        with pytest.raises(GrafosError) as caught:
            find_rust(self.project, self.system)
        assert caught.value.code == "tool_missing"
        return caught.value


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_rustup_with_the_target_comes_first(machine: Machine) -> None:
    machine.rustup("rustc 1.95.0", target=True)
    machine.debian()
    assert machine.find() == "rustc 1.95.0"


def test_a_rust_on_path_that_has_the_target_needs_no_rustup(machine: Machine) -> None:
    folder = machine.rust("rustc 1.88.0 (nix)", sysroot=machine.folder / "nix", target=True)
    for name in ("cargo", "rustc"):
        (machine.tools / name).symlink_to(folder / name)
    assert machine.find() == "rustc 1.88.0 (nix)"


def test_without_the_target_the_systems_pair_builds_the_library(machine: Machine) -> None:
    machine.rustup("rustc 1.95.0")
    machine.debian()
    assert machine.find() == "rustc 1.96.0 (debian)"
    environment = find_rust(machine.project, machine.system).environment
    assert environment["CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER"] == "wasm-ld"


def test_a_rustup_without_a_toolchain_stands_in_nobodys_way(machine: Machine) -> None:
    machine.rustup("", works=False)
    machine.debian()
    assert machine.find() == "rustc 1.96.0 (debian)"


@pytest.mark.parametrize("where", ["project", "above"])
def test_a_project_that_names_a_toolchain_gets_no_other(where: str, machine: Machine) -> None:
    machine.debian()
    machine.rustup("rustc 1.90.0")
    machine.pin(machine.project if where == "project" else machine.folder)
    refusal = machine.refusal()
    assert (refusal.why, refusal.next) == ("rustc 1.90.0 has no library for it", WITH_RUSTUP)


def test_a_named_toolchain_without_rustup_says_so(machine: Machine) -> None:
    machine.debian()
    machine.pin(machine.project)
    refusal = machine.refusal()
    assert "rust-toolchain.toml names a toolchain" in refusal.why
    assert refusal.next == WITH_INSTALLER


@pytest.mark.parametrize("lacking", ["source", "linker"])
def test_a_pair_that_cannot_build_the_library_is_not_taken(lacking: str, machine: Machine) -> None:
    machine.debian(**{lacking: False})
    refusal = machine.refusal()
    assert refusal.why == "rustc 1.96.0 (debian) has no library for it"
    assert refusal.next in (WITH_APT, WITH_INSTALLER)


def test_rustup_without_the_target_is_told_the_one_command(machine: Machine) -> None:
    machine.rustup("rustc 1.95.0")
    assert machine.refusal().next == f"rustup target add {TARGET}"


def test_a_machine_without_rust_is_told_how_to_get_it(machine: Machine) -> None:
    refusal = machine.refusal()
    assert refusal.what == "Rust was not found"
    assert refusal.next in (WITH_APT, WITH_INSTALLER)


def test_a_file_that_is_no_program_is_passed_over(machine: Machine) -> None:
    (machine.tools / "rustc").write_bytes(b"\x7fELF of another machine")
    for name in ("rustc", "cargo"):
        (machine.tools / name).touch()
        (machine.tools / name).chmod(0o755)
    machine.debian()
    assert machine.find() == "rustc 1.96.0 (debian)"


# --- the library --------------------------------------------------------------------------------------------------

BUILDS = """\
echo built >> {log}
deps="$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/deps"
sleep 0.3
mkdir -p "$deps"
touch "$deps/libstd-1.rlib" "$deps/libstd-1.rmeta" "$deps/libnothing-2.rlib"
"""


def place_with(machine: Machine, script: str) -> Place:
    machine.debian()
    machine.program(machine.system / "cargo", f"PATH=/usr/bin:/bin\n{script}")
    return place_of(find_rust(machine.project, machine.system))


def test_the_library_is_built_once_however_many_come_at_once(machine: Machine) -> None:
    log = machine.folder / "log"
    place = place_with(machine, BUILDS.format(log=log))
    found: list[Path | None] = []
    threads = [threading.Thread(target=lambda: found.append(library_for(place))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert log.read_text() == "built\n"
    assert found[0]
    assert [path.name for path in found[0].rglob("*") if path.is_file()] == ["libstd-1.rlib"]


def test_whoever_waits_for_the_library_is_told_and_nobody_else(machine: Machine) -> None:
    place, said = place_with(machine, BUILDS.format(log=machine.folder / "log")), list[str]()
    for _ in range(2):
        library_for(place, said.append)
    assert len(said) == 1
    assert "standard library" in said[0]
    machine.rustup("rustc 1.95.0", target=True)
    assert library_for(place_of(find_rust(machine.project, machine.system)), said.append) is None
    assert len(said) == 1


def test_another_compiler_gets_a_library_of_its_own(machine: Machine) -> None:
    place = place_with(machine, BUILDS.format(log=machine.folder / "log"))
    newer = Place(place.sysroot, place.rustc, place.cargo, "rustc 1.97.0 (debian)")
    assert library_for(place) != library_for(newer)


def test_a_library_that_does_not_compile_is_told_in_cargos_words_and_leaves_nothing(machine: Machine) -> None:
    place = place_with(machine, "echo 'error[E0514]: found crate of another release' >&2; exit 101")
    with pytest.raises(GrafosError) as caught:
        library_for(place)
    assert (caught.value.code, caught.value.why) == ("build_failed", "error[E0514]: found crate of another release")
    assert [path.name for path in (Path(os.environ["XDG_CACHE_HOME"]) / "grafos" / "rust").iterdir()] == ["lock"]


# --- how a tool is run ---------------------------------------------------------------------------------------------


def test_a_tool_that_does_not_end_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"(sleep 1; touch {mark}) & echo began; wait"
    ended = run_tool(["/bin/sh", "-c", script], tmp_path, {}, 0.5)
    assert (ended.code, ended.out) == (None, "began\n")
    time.sleep(1.2)
    assert not mark.exists()


def test_a_tool_sees_none_of_the_callers_hidden_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSTFLAGS", "-C opt-level=0")
    monkeypatch.setenv("RUSTUP_HOME", "/there")
    script = 'echo "$RUSTFLAGS|$RUSTUP_HOME|$OTHER"'
    ended = run_tool(["/bin/sh", "-c", script], tmp_path, {"OTHER": "x"}, 10, hidden=("RUSTF",))
    assert ended.out == "|/there|x\n"


def test_what_left_its_session_and_holds_on_to_the_output_keeps_nobody_waiting(tmp_path: Path) -> None:
    command = ["setsid", "sh", "-c", "echo $$ > left; exec sleep 600"]
    ended = run_tool(["sh", "-c", f"{' '.join(command[:2])} -c '{command[3]}' & echo said; sleep 600"], tmp_path, {}, 3)
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)
    assert (ended.code, ended.out) == (None, "said\n")
