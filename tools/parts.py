"""What tests need beyond Python, and how it gets onto this machine. `make test` runs this; `make demo` needs none.

Each part is looked for first. What is missing is installed where that is possible: Debian packages by root. Of the
rest a line says what is missing and the command that brings it; its tests are then skipped, and with CI=true the run
ends here instead. What only deep tests need is brought with `--deep`. `tests/support/parts.py` asks the same table.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from grafos_cli.languages.contract import Toolchain
from grafos_cli.languages.rust_library import library_for, place_for_library
from grafos_cli.languages.rust_tools import DEBIAN_PACKAGES, WITH_APT, find_rust, place_of
from grafos_core.errors import GrafosError
from grafos_core.paths import cache_home, private_folder

ROOT = Path(__file__).resolve().parent.parent
INSTALL_TIMEOUT_S = 2400
"""For a package manager on a slow network, or the Pulumi engine's build on a busy machine: 4 minutes of two cores."""
SHOWN_LINES = 5
"""Of what an installer said when it failed; its last words are those that help."""


class MissingError(Exception):
    """A part is not there; the text says what is missing."""


@dataclass(frozen=True)
class Part:
    """``look`` raises ``MissingError`` when the part is not there. ``bring`` installs it, or raises the same.

    ``beside``: it asks no package manager, which serves one at a time. ``deep``: only deep tests need it.
    """

    name: str
    look: Callable[[], object]
    bring: Callable[[], None]
    cure: str
    beside: bool = False
    deep: bool = False


def run(*command: str, folder: Path = ROOT, environment: dict[str, str]) -> None:
    """Runs an installer quietly; ``MissingError`` has its last words."""
    words = " ".join(command)
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{words}: {error}") from error
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-SHOWN_LINES:])
        raise MissingError(f"{words} failed: {said}")


def apt_install(*packages: str) -> None:
    """Installs Debian packages, and nothing that they only recommend."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingError(f"{' '.join(packages)} can be installed only by root, with apt-get")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "--quiet", environment=quiet)
    run("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *packages, environment=quiet)


# --- Rust ---------------------------------------------------------------------------------------------------------


def look_for_rust() -> None:
    """A Rust that can build tasklets, with its library ready, so that no test pays for building that."""
    try:
        library = place_for_library(place_of(find_rust(ROOT)))
    except GrafosError as missing:
        raise MissingError(f"{missing.what}: {missing.why}") from missing
    if library is not None and not library.is_dir():
        raise MissingError("the standard library for WebAssembly is not built yet")


def bring_rust() -> None:
    """Debian's newest Rust, unless another will do; then its library."""
    try:
        find_rust(ROOT)
    except GrafosError:
        apt_install(*DEBIAN_PACKAGES)
    try:
        library_for(place_of(rust_or_missing()))
    except GrafosError as failed:
        raise MissingError(f"{failed.what}: {failed.why}") from failed


# --- crates that tests use as a program would -----------------------------------------------------------------------

RECIPE_WITH_CRATES = ROOT / "cookbook" / "multi-cloud-deploy"
"""The recipe that asks for crates of others."""


def crates_folder() -> Path:
    """The CARGO_HOME in which tests find crates that came from a registry."""
    return private_folder(cache_home() / "test-crates")


def get_crates(*options: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "recipe"
        shutil.copytree(RECIPE_WITH_CRATES, folder, ignore=shutil.ignore_patterns(".grafos", "Cargo.lock"))
        rust = rust_or_missing()
        environment = {**rust.environment, "CARGO_HOME": str(crates_folder())}
        run(*rust.command, "fetch", *options, folder=folder, environment=environment)


def rust_or_missing() -> Toolchain:
    try:
        return find_rust(ROOT)
    except GrafosError as missing:
        raise MissingError(missing.what) from missing


# --- a browser ----------------------------------------------------------------------------------------------------

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str:
    """The Chromium that tests drive; Playwright's own is not fetched."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        raise MissingError("no Chromium was found")
    return found


# --- a database server -------------------------------------------------------------------------------------------

DEBIAN_SERVERS = Path("/usr/lib/postgresql")
"""Debian keeps each version's programs in a folder here and only the clients in PATH."""


def find_postgresql() -> Path:
    """The folder of the newest PostgreSQL's programs."""
    in_path = shutil.which("initdb")
    versions = [place for place in DEBIAN_SERVERS.glob("*/bin") if (place / "initdb").exists()]
    newest = sorted(versions, key=lambda place: float(place.parent.name))[-1:]
    found = [Path(in_path).resolve().parent] if in_path else newest
    if not found:
        raise MissingError("no PostgreSQL server was found")
    return found[0]


# --- Pulumi's engine ----------------------------------------------------------------------------------------------

PULUMI_MODULE = ROOT / "tools" / "pulumi_engine"
"""A Go module that asks for Pulumi's command line and nothing else. No Python package carries it, and its own installer
downloads from its maker's site; Go's registry has the source, and go.sum the hash of every part of it."""
PULUMI_PACKAGE = "github.com/pulumi/pulumi/pkg/v3"
PULUMI_COMMAND = f"{PULUMI_PACKAGE}/cmd/pulumi"
GO_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin")
GO_CURE = "install Go 1.21 or newer (https://go.dev/dl), then: make test, with a network; it takes some minutes once"


def pulumi_engine() -> Path:
    """Where the engine is kept: under the digest of the source that it is built from."""
    digest = hashlib.sha256((PULUMI_MODULE / "go.sum").read_bytes()).hexdigest()[:16]
    return cache_home() / "pulumi-engine" / digest / "pulumi"


def look_for_pulumi() -> Path:
    """The built engine."""
    engine = pulumi_engine()
    if not engine.is_file():
        raise MissingError("Pulumi's engine is not built yet")
    return engine


def bring_pulumi() -> None:
    """Builds it from source; without the version that is linked in, its own Python library cannot tell what it is."""
    go = shutil.which("go") or shutil.which("go", path=os.pathsep.join(GO_PLACES))
    if go is None:
        raise MissingError("no Go was found to build it with")
    asked = re.search(rf"^\s*{re.escape(PULUMI_PACKAGE)} (v\S+)", (PULUMI_MODULE / "go.mod").read_text(), re.MULTILINE)
    assert asked, "the module asks for the engine"
    linked = f"-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={asked[1]}"
    options = ("-trimpath", "-tags", "osusergo,grpcnotrace", "-ldflags", linked)
    engine = pulumi_engine()
    unfinished = private_folder(engine.parent) / f"pulumi.{os.getpid()}"
    environment = {"GOTOOLCHAIN": "auto", "GOFLAGS": "-buildvcs=false -mod=readonly"}
    try:
        run(go, "build", *options, "-o", str(unfinished), PULUMI_COMMAND, folder=PULUMI_MODULE, environment=environment)
        unfinished.replace(engine)
    finally:
        unfinished.unlink(missing_ok=True)


# --- the base of the cell's image ------------------------------------------------------------------------------------

IMAGE_PACKAGES = (
    *("dosfstools", "e2fsprogs", "fdisk", "kmod", "libarchive-tools", "mmdebstrap", "mtools", "zstd"),
    *("gpg", "gpg-agent", "ovmf", "qemu-system-x86", "qemu-utils", "sbsigntool", "systemd"),
)
IMAGE_JUDGES = ("gpg", "qemu-img", "sbsign", "systemd-analyze")
"""No bake needs them: tests ask what they think of a disk and of a unit, and sign a mirror's lists and an image."""
IMAGE_CURE = f"apt-get install --yes --no-install-recommends {' '.join(IMAGE_PACKAGES)}, then make test, with a network"


def look_for_image() -> None:
    """The programs that bake and boot an image, and all of it that does not depend on our own code."""
    from grafos_cellimage import disk, root, tools
    from grafos_cellimage.bake import base_of
    from grafos_cellimage.lock import open_lock
    from grafos_cellimage.plan import plan_for
    from grafos_core.virtual_machines import check_emulator
    from grafos_stacks import bundle

    plan = plan_for("amd64")
    try:
        tools.check((*root.programs(plan), *disk.PROGRAMS, "depmod", *IMAGE_JUDGES))
        check_emulator(plan.arch)
        base = base_of(plan, open_lock(plan)[1], bundle.STRIPPED, cache_home() / "images")
    except GrafosError as missing:
        raise MissingError(f"{missing.what}: {missing.next}") from missing
    if not base.is_dir():
        raise MissingError("the base of the image is not baked yet")


def bring_image() -> None:
    """Bakes one; the image itself is made anew in each run, and only its base is kept."""
    apt_install(*IMAGE_PACKAGES)
    with tempfile.TemporaryDirectory() as scratch:
        bake = ("cloud", "image", "bake", "--arch", "amd64", "--folder", scratch)
        # A fabric vouches for each image; this one is gone with what it vouched for.
        run(sys.executable, "-m", "grafos_cli", *bake, environment={"XDG_DATA_HOME": scratch})


# --- what bakes and boots the image for arm64, on whatever machine ---------------------------------------------------

ARM64_PACKAGES = (*IMAGE_PACKAGES, "arch-test", "qemu-efi-aarch64", "qemu-system-arm", "qemu-user-static")
ARM64_CURE = f"apt-get install --yes --no-install-recommends {' '.join(ARM64_PACKAGES)}, then make test, with a network"


def look_for_arm64() -> None:
    """The programs, and the packages of its lock. A bake takes minutes, and is for the deep tests alone."""
    from grafos_cellimage import disk, fetching, root, tools
    from grafos_cellimage.lock import open_lock
    from grafos_cellimage.plan import plan_for
    from grafos_core.virtual_machines import check_emulator

    plan = plan_for("arm64")
    try:
        tools.check((*root.programs(plan), *disk.PROGRAMS, "depmod"))
        root.apart(plan)
        check_emulator(plan.arch)
    except GrafosError as missing:
        raise MissingError(f"{missing.what}: {missing.next}") from missing
    kept = cache_home() / "images" / "packages"
    if not all((kept / fetching.file_of(package)).is_file() for package in open_lock(plan)[0].packages):
        raise MissingError("the packages of the image for arm64 are not here yet")


def bring_arm64() -> None:
    """Fetches what a bake without a network needs: Debian's packages, and the wheels into uv's cache."""
    from grafos_cellimage.fetching import fetch
    from grafos_cellimage.lock import open_lock
    from grafos_cellimage.mirrors import mirrors
    from grafos_cellimage.plan import plan_for
    from grafos_stacks import bundle

    apt_install(*ARM64_PACKAGES)
    plan = plan_for("arm64")
    try:
        fetch(open_lock(plan)[0].packages, mirrors(), cache_home() / "images" / "packages", lambda _: None)
        with tempfile.TemporaryDirectory() as scratch, bundle.lock_file() as asked:
            bundle.install_with_uv(asked, Path(scratch) / "site", bundle.PLATFORMS[plan.arch], plan.python)
    except GrafosError as failed:
        raise MissingError(f"{failed.what}: {failed.why}") from failed


PARTS = {
    part.name: part
    for part in (
        Part("rust", look_for_rust, bring_rust, WITH_APT),
        Part("browser", find_browser, lambda: apt_install("chromium"), "apt-get install --yes chromium"),
        Part(
            "postgresql",
            find_postgresql,
            lambda: apt_install("postgresql"),
            "apt-get install --yes --no-install-recommends postgresql",
        ),
        Part("pulumi", look_for_pulumi, bring_pulumi, GO_CURE, beside=True),
        Part("image", look_for_image, bring_image, IMAGE_CURE),
        Part("arm64", look_for_arm64, bring_arm64, ARM64_CURE, deep=True),
        Part("serde", lambda: get_crates("--offline"), get_crates, "make test, with a network"),
    )
}


def ensure(part: Part) -> str:
    """Brings the part if it is not there; what is still missing then."""
    try:
        part.look()
    except MissingError:
        print(f"Getting ready once: {part.name}", flush=True)
        started = time.monotonic()
        try:
            part.bring()
            part.look()
        except MissingError as missing:
            print(f"  {part.name}: failed", flush=True)
            return str(missing)
        print(f"  {part.name}: {time.monotonic() - started:.1f} s", flush=True)
    return ""


def ensure_all(parts: Collection[Part]) -> dict[str, str]:
    """What is still missing of them, and why: the slow one is brought while the others are, one after the other."""
    with ThreadPoolExecutor() as pool:
        beside = {part.name: pool.submit(ensure, part) for part in parts if part.beside}
        found = {part.name: ensure(part) for part in parts if not part.beside}
        found |= {name: outcome.result() for name, outcome in beside.items()}
    return {name: why for name, why in found.items() if why}


def main() -> None:
    """Exit code 0 when tests can run, as many as have their parts; 1 in CI when one part is missing."""
    strict = os.environ.get("CI", "").lower() in ("1", "true")
    missing = ensure_all([part for part in PARTS.values() if not part.deep or "--deep" in sys.argv])
    for name, why in missing.items():
        print(f"{name} is missing, its tests are skipped: {why}\n  to have them: {PARTS[name].cure}", file=sys.stderr)
    if missing and strict:
        print("error: with CI=true every part must be there", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nInterrupted; the next run goes on.", file=sys.stderr)
        sys.exit(130)
