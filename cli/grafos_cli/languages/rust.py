"""Rust, with cargo: a tasklet is a function of a crate that has the attribute `#[grafos_std::tasklet]`.

A crate may have several. Each becomes a module of its own: the builder names one, and only that function gets the
hooks. Cargo never asks the network while it compiles; what a program needs from elsewhere is fetched before, as its
lock file says.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from grafos_cell import abi
from grafos_cell.module import check_module
from grafos_cli.languages import rust_settings, rust_sources
from grafos_cli.languages.contract import (
    Ended,
    Note,
    TestsRun,
    Toolchain,
    build_failed,
    files_read,
    first_lines,
    no_note,
    run_tool,
)
from grafos_cli.languages.rust_library import library_for
from grafos_cli.languages.rust_tools import TARGET, find_rust, place_of
from grafos_cli.manifest import FILE_NAME, Program, Tasklet
from grafos_cli.project import state_folder
from grafos_core.errors import GrafosError
from grafos_core.paths import locked

TIMEOUT_S = 900
"""For one build, one fetch, or the tests of one crate. Many dependencies take minutes the first time."""
OPT_LEVEL = "s"
"""For size, where the program's own Cargo.toml does not say otherwise: a module travels, and is compiled again."""

_PROFILE = {
    "lto": "fat",
    "codegen-units": 1,
    "panic": "abort",
    "strip": "symbols",
    "debug": 0,
    "incremental": False,
}
"""What every tasklet is built with: one unit, so that the bytes do not depend on chance; no names or paths in them."""
_KEPT = ("CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "RUSTUP_")
"""The caller's variables that reach cargo: where crates come from. Those that change the module do not; of settings
that stand in files, ``rust_settings`` says the same."""
_PROGRESS = re.compile(r"^ +(?:Compiling|Locking|Adding|Updating|Downloading|Downloaded) .*\n", re.MULTILINE)
"""Lines of cargo that are no part of a complaint."""


def find(folder: Path) -> Toolchain:
    """Rust as ``folder`` wants it; else ``tool_missing``."""
    return find_rust(folder)


def compile(  # noqa: A001 - the contract's name
    program: Program, tasklet: Tasklet, toolchain: Toolchain, note: Note = no_note
) -> bytes:
    """The module; ``build_failed`` has cargo's words, ``module_invalid`` what no cell would run."""
    function = _function_of(program, tasklet)
    crate = rust_sources.crate_of(program, tasklet)
    words = ["--quiet", "--lib", "--crate-type", "cdylib", "--release", "--target", TARGET, *_profile(crate)]
    words += ["--message-format", "json-render-diagnostics", "--", "--cfg", f'grafos_tasklet="{function}"']
    library = library_for(place_of(toolchain), note)
    with _alone(program) as build_folder:
        environment, kept = _environment(program, crate, toolchain)
        environment["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join(_flags(program, environment, kept, library))
        done = _run_cargo("rustc", words, program, crate, toolchain, environment)
        if done.code != 0:
            raise _refused(done, tasklet)
        artifact = _artifact(done.out)
        module, rule = artifact.read_bytes(), artifact.with_suffix(".d").read_text(encoding="utf-8")
    _refuse_unseen(rule, build_folder, program, tasklet)
    return _checked(module, function, tasklet)


def run_tests(program: Program, toolchain: Toolchain) -> TestsRun:
    """`cargo test` in the crate of each tasklet, on this machine."""
    began = time.monotonic()
    passed, failed, texts = 0, 0, []
    crates = {rust_sources.crate_of(program, tasklet): tasklet for tasklet in program.tasklets}
    for crate, tasklet in crates.items():
        environment, _ = _environment(program, crate, toolchain)
        done = _run_cargo("test", ["--no-fail-fast"], program, crate, toolchain, environment)
        good, bad = read_counts(done.out)
        if done.code not in {0, None} and not bad and "error: test failed" not in done.err:
            raise _refused(done, tasklet)
        passed, failed = passed + good, failed + (bad or int(done.code != 0))  # a crash ends a test run, uncounted
        texts += [done.out, done.err]
        if done.code is None:
            texts.append(f"the tests of {crate} did not end within {TIMEOUT_S} s\n")
    return TestsRun(passed, failed, time.monotonic() - began, "".join(texts))


def digest_inputs(program: Program, tasklet: Tasklet) -> Mapping[str, Path]:
    """The tasklet's crate and those that it names by a path: manifests, lock, build script, and what is below `src`."""
    return rust_sources.sources(program, tasklet)


def read_counts(text: str) -> tuple[int, int]:
    """How many tests passed and failed, over all parts of a crate."""
    counts = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed;", text, re.MULTILINE)
    return sum(int(good) for good, _ in counts), sum(int(bad) for _, bad in counts)


def _function_of(program: Program, tasklet: Tasklet) -> str:
    """The function that is the tasklet: its name, with `_` for `-`."""
    if tasklet.name[0].isdigit():
        raise GrafosError(
            "manifest_invalid",
            f"No Rust function can be called {tasklet.name}",
            where=str(program.folder / FILE_NAME),
            why="the name of a tasklet in Rust is that of its function",
            next="let the tasklet's name begin with a letter",
        )
    return tasklet.name.replace("-", "_")


@contextmanager
def _alone(program: Program) -> Iterator[Path]:
    """Where cargo keeps what it makes. One build at a time: the modules of one crate have the same file name."""
    folder = state_folder(program.folder, "rust")
    with locked(folder / "lock"):
        yield folder


def base_environment(toolchain: Toolchain) -> dict[str, str]:
    """What cargo is to know of its caller."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    return {**kept, **toolchain.environment}


def _environment(program: Program, crate: Path, toolchain: Toolchain) -> tuple[dict[str, str], rust_settings.Settings]:
    """As ``base_environment``, with the program's own place for what is made and a home without a person's settings,
    but for those that come with it."""
    base = base_environment(toolchain)
    build_folder = state_folder(program.folder, "rust")
    home = build_folder / "cargo"
    top = rust_sources.top_of(program, crate)
    kept = rust_settings.lay_out_home(home, rust_settings.cargo_home(base), top)
    return {**base, "CARGO_HOME": str(home), "CARGO_TARGET_DIR": str(build_folder)}, kept


def _flags(
    program: Program, environment: Mapping[str, str], kept: rust_settings.Settings, library: Path | None
) -> list[str]:
    """For the compiler: no path in the module says where it was built; of two that fit the later one counts."""
    places = [(str(program.folder.resolve()), "/program"), (environment["CARGO_HOME"], "/cargo")]
    places += [(folder, "/crates") for folder in rust_settings.folders_of_crates(kept)]
    flags = [f"--remap-path-prefix={place}={name}" for place, name in places]
    return flags if library is None else [*flags, "--sysroot", str(library.resolve())]


def _profile(crate: Path) -> list[str]:
    """Said on the command line, where it counts more than all that is said elsewhere."""
    written = rust_sources.read_manifest(rust_sources.workspace_of(crate)).get("profile", {}).get("release", {})
    profile = dict(_PROFILE) if "opt-level" in written else {**_PROFILE, "opt-level": OPT_LEVEL}
    return [
        word for name, value in profile.items() for word in ("--config", f"profile.release.{name}={json.dumps(value)}")
    ]


def _run_cargo(
    command: str, words: list[str], program: Program, crate: Path, toolchain: Toolchain, environment: dict[str, str]
) -> Ended:
    """Runs cargo offline; when something is not on this machine yet, fetches it once and tries again."""
    lock = rust_sources.workspace_of(crate) / "Cargo.lock"
    where = ["--manifest-path", str(crate / "Cargo.toml")]
    for settings in rust_sources.settings_of(program, crate):
        where += ["--config", str(settings)]

    def run(command: str, *options: str) -> Ended:
        locked = ["--locked"] if lock.is_file() else []
        whole = [*toolchain.command, command, *where, *locked, *options]
        return run_tool(whole, rust_settings.START_FOLDER, environment, TIMEOUT_S, hidden=("CARGO", "RUST"))

    done = run(command, "--offline", *words)
    if done.code and "offline" in done.err:
        fetched = run("fetch")
        if fetched.code != 0:
            return fetched
        done = run(command, "--offline", *words)
    return done


def _refused(done: Ended, tasklet: Tasklet) -> GrafosError:
    """What cargo said. A lock file that a manifest has outgrown is for the person to bring up to date, not for us."""
    if done.code is None:
        return build_failed(tasklet, f"cargo did not end within {TIMEOUT_S} s")
    said = _PROGRESS.sub("", done.err)
    if "--locked" in said:
        return GrafosError(
            "build_failed",
            f"The lock file does not fit the manifests of {tasklet.name}",
            where=str(tasklet.source),
            why=first_lines(said),
            next="cargo update --workspace, then: grafos tasklet build",
        )
    return build_failed(tasklet, said)


def _artifact(messages: str) -> Path:
    """The module that cargo says it made; it says so last, after the libraries."""
    made = [
        Path(name)
        for line in messages.splitlines()
        if line.startswith("{")
        for name in json.loads(line).get("filenames", ())
        if name.endswith(".wasm")
    ]
    return made[-1]


def _refuse_unseen(rule: str, build_folder: Path, program: Program, tasklet: Tasklet) -> None:
    """``build_failed`` for a file that the compiler read and no digest of the sources would notice."""
    noticed = {path.resolve() for path in digest_inputs(program, tasklet).values()}
    for name in files_read(rule):
        path = Path(name).resolve()
        if path not in noticed and not path.is_relative_to(build_folder.resolve()):
            shown = rust_sources.seen_from(program, path)
            raise build_failed(tasklet, f"it includes {shown}, which does not lie below the src folder of a crate")


def _checked(module: bytes, function: str, tasklet: Tasklet) -> bytes:
    facts = check_module(module, tasklet.memory_bytes)
    exports = {export.name for export in facts.exports}
    if exports and not exports & set(abi.HOOKS):
        raise build_failed(tasklet, f"the crate has no function `{function}` with the attribute #[grafos_std::tasklet]")
    facts.refuse_if_found()
    return module
