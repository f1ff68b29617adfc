"""The bundle: all software of a cell in one file, the same bytes for the same inputs.

It holds the locked, hashed wheels of the cell's third-party packages for the machine's architecture and Python, and
our own packages core, scheduler and cell as they are installed here. Nothing foreign runs while it is built, so an
arm64 bundle is built on any machine. It holds no secret; the machine knows it by its SHA-256 and asks nobody else.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path

import msgspec

from grafos_core.errors import GrafosError
from grafos_core.paths import cache_home, private_folder, write_private
from grafos_stacks.plan import BundlePin

FORMAT = 1
"""Changes whenever the same inputs would give other bytes."""
ROOMS = ("grafos_core", "grafos_scheduler", "grafos_cell")
PLATFORMS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
"""What Debian 11 and everything younger can load."""
STRIPPED_FOLDERS = ("__pycache__", "tests", "test", "bin")
STRIPPED_SUFFIXES = (".pyc", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".a")
"""What only builders and type checkers read."""
STRIPPED_NAMES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""What says how and by whom a package was installed: it differs between builders."""
STRIPPED = repr((STRIPPED_FOLDERS, STRIPPED_SUFFIXES, STRIPPED_NAMES))
"""The same in one text: the base of an image is another one when it changes."""
GZIP_LEVEL = 4
"""19.6 MB in 1.2 s; level 6 takes twice the time for three in a hundred."""
BUILD_S_MAX = 600.0
BUNDLES_KEPT = 8

FOREIGN_TO_UV = ("VIRTUAL_ENV", "PYTHONPATH", "FORCE_COLOR")
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Where Debian and Ubuntu keep the machine's own certificate authorities."""

Installer = Callable[[Path, Path, str, str], None]
"""Puts a lock's packages into a folder: lock, folder, platform, version of Python."""


class Bundles:
    """Bundles by architecture and Python; each is built once and kept in the cache folder."""

    def __init__(self, cache: Path | None = None, install: Installer | None = None) -> None:
        self._cache = cache or cache_home() / "bundles"
        self._install = install or install_with_uv

    def pin(self, arch: str, python: str) -> BundlePin:
        """The bundle for such a machine, built if it is not there; ``bundle_unavailable`` if it cannot be."""
        if arch not in PLATFORMS:
            raise _unavailable(f"there is no software for the architecture {arch!r}", "", "choose another machine type")
        inputs = private_folder(self._cache) / f"inputs-{_inputs_digest(arch, python)}.json"
        try:
            pin = msgspec.json.decode(inputs.read_bytes(), type=BundlePin)
            self.path(pin.sha256)
        except (OSError, msgspec.DecodeError, GrafosError):
            pin = self._build(arch, python)
            write_private(inputs, msgspec.json.encode(pin))
        return pin

    def path(self, sha256: str) -> Path:
        """The file with that SHA-256, or ``bundle_unavailable``."""
        path = self._file(sha256)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise _unavailable(
                f"the bundle {sha256[:12]}, which the machine waits for, is not in the cache",
                str(path),
                "tear the cell down and provision it anew",
            )
        return path

    def _build(self, arch: str, python: str) -> BundlePin:
        with tempfile.TemporaryDirectory(prefix="bundle-", dir=self._cache) as folder:
            site = Path(folder)
            with lock_file() as lock:
                self._install(lock, site, PLATFORMS[arch], python)
            members = {path.relative_to(site).as_posix(): path.read_bytes() for path in shipped(site)}
        data = _packed(members | rooms())
        pin = BundlePin(hashlib.sha256(data).hexdigest(), len(data))
        write_private(self._file(pin.sha256), data)
        self._forget_old()
        return pin

    def _file(self, sha256: str) -> Path:
        return self._cache / f"{sha256}.tar.gz"

    def _forget_old(self) -> None:
        kept = sorted(self._cache.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[BUNDLES_KEPT:]:
            path.unlink(missing_ok=True)


def install_with_uv(lock: Path, folder: Path, platform: str, python: str) -> None:
    """Wheels only, every one checked against its hash; nothing is compiled and nothing runs."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-progress", "--target", str(folder)]
    command += ["--only-binary", ":all:", "--require-hashes", "--no-deps", "-r", str(lock)]
    command += ["--python-version", python, "--python-platform", platform]
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_TO_UV}
    if SYSTEM_CERTIFICATES.exists():
        # uv trusts a list of its own unless told; behind a company's proxy only the machine's list holds.
        environment.setdefault("UV_SYSTEM_CERTS", "true")
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_S_MAX
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unavailable("the cell's software could not be fetched", str(error), _ONLINE) from error
    if done.returncode != 0:
        why = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise _unavailable(f"the cell's software for {platform}, Python {python} could not be fetched", why, _ONLINE)


_ONLINE = "run it once with a connection to a Python package index; after that the bundle is in the cache"


def shipped(folder: Path) -> Iterator[Path]:
    """The files of an installed package that a machine needs."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        stripped = path.suffix in STRIPPED_SUFFIXES or path.name in STRIPPED_NAMES
        if path.is_file() and not stripped and not set(inside.parts[:-1]) & set(STRIPPED_FOLDERS):
            yield path


def rooms() -> dict[str, bytes]:
    """Our own packages by their place in the bundle, each with what tells its version."""
    members: dict[str, bytes] = {}
    for room in ROOMS:
        home, distribution = _room(room), room.replace("_", "-")
        members |= {f"{room}/{path.relative_to(home).as_posix()}": path.read_bytes() for path in shipped(home)}
        number = version(distribution)
        about = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {number}\n"
        members[f"{room}-{number}.dist-info/METADATA"] = about.encode()
    return members


def _packed(members: dict[str, bytes]) -> bytes:
    """A tar.gz in which nothing tells when, where or by whom it was made."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(members.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o644, 0
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(tar.getvalue(), GZIP_LEVEL, mtime=0)


def _inputs_digest(arch: str, python: str) -> str:
    """Everything that the bundle is made from."""
    digest = hashlib.sha256(f"grafos-bundle-{FORMAT}:{arch}:{python}:".encode())
    with lock_file() as lock:
        digest.update(lock.read_bytes())
    for name, data in sorted(rooms().items()):
        digest.update(f"\0{name}\0".encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()


def _room(name: str) -> Path:
    """Where one of our packages lies. It is looked up, not imported: a cell's code is only carried by this room."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise _unavailable(f"the package {name} is not installed here", "", "install all of grafos")
    return Path(spec.submodule_search_locations[0])


def lock_file() -> AbstractContextManager[Path]:
    """The lock, which lies in this package, also when it was installed as a wheel."""
    return as_file(files("grafos_stacks") / "cell-requirements.txt")


def _unavailable(what: str, why: str, next_step: str) -> GrafosError:
    return GrafosError("bundle_unavailable", what, why=why, next=next_step)
