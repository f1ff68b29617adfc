"""The Python part of an image: the locked wheels, our own packages, and bytecode of both for the image's Python.

The bytecode is made by the very interpreter of the image, which runs here as an ordinary program out of the unpacked
root; for another architecture through an emulator. So no machine has to have that Python, and nothing needs a chroot.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from grafos_cellimage import tools
from grafos_cellimage.layers import Node
from grafos_cellimage.lock import Lock
from grafos_cellimage.plan import ImagePlan
from grafos_cellimage.root import is_foreign
from grafos_core.errors import GrafosError

PLACE = "usr/lib/grafos/software"
"""Where the image has it, below its root."""

Installer = Callable[[Path, Path, str, str], None]
"""Puts the wheels of a file of requirements into a folder: file, folder, platform, version of Python."""


class Software(NamedTuple):
    """What whoever bakes brings: how wheels are installed for which platform, which files of an installed package a
    machine needs (and ``stripped``, a text that changes whenever these would be others), and our own packages by their
    places."""

    requirements: Path
    platform: str
    install: Installer
    shipped: Callable[[Path], Iterable[Path]]
    own: Mapping[str, bytes]
    stripped: str


class Interpreter:
    """The Python of a root, run from where that lies unpacked."""

    def __init__(self, plan: ImagePlan, folder: Path) -> None:
        self._plan, self._folder = plan, folder

    @classmethod
    def unpacked(cls, plan: ImagePlan, root: Path, folder: Path) -> Interpreter:
        """From the tar of a root, the few folders that it needs."""
        machine = plan.machine
        wanted = (f"usr/bin/python{plan.python}", f"usr/lib/python{plan.python}/", f"{machine.libraries}/")
        with tarfile.open(root) as given:
            for entry in given:
                content = given.extractfile(entry) if entry.isreg() or entry.islnk() else None
                if content is not None and entry.name.startswith(wanted):
                    place = folder / entry.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content.read())
                    place.chmod(0o700)
            _link_again(given, wanted, folder)
        return cls(plan, folder)

    def compile(self, site: Path, epoch_s: int) -> None:
        """Bytecode beside each module below ``site``, good whatever time the module bears."""
        machine = self._plan.machine
        libraries = self._folder / machine.libraries
        command: list[str | Path] = [
            *([machine.user_emulator] if is_foreign(self._plan) else []),
            *(libraries / machine.loader, "--library-path", libraries),
            *(self._folder / "usr" / "bin" / f"python{self._plan.python}", "-S", "-m", "compileall", "-q", "-f"),
            *("--invalidation-mode", "unchecked-hash", "-s", site, "-p", f"/{PLACE}", site),
        ]
        tools.run(
            command, epoch_s=epoch_s, environment={"PYTHONHOME": str(self._folder / "usr"), "PYTHONHASHSEED": "0"}
        )


def installed(plan: ImagePlan, lock: Lock, software: Software, scratch: Path) -> Path:
    """A folder with the locked wheels; ``bake_failed`` if the index has other bytes for one of them."""
    asked, site = scratch / "wheels.txt", scratch / "site"
    asked.write_text("".join(f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in lock.wheels))
    try:
        software.install(asked, site, software.platform, plan.python)
    except GrafosError as error:
        if "hash mismatch" not in error.why.lower():
            raise
        raise GrafosError(
            "bake_failed",
            "a wheel is not the one of the lock",
            why=" ".join(error.why.split()),
            next="another index of Python packages, or a new lock: grafos cloud image lock refresh",
        ) from error
    return site


def wheels(site: Path, lock: Lock, software: Software, interpreter: Interpreter, scratch: Path) -> dict[str, Node]:
    """Of the installed wheels what a machine needs, as a tree."""
    kept = scratch / "kept"
    for path in software.shipped(site):
        place = kept / path.relative_to(site)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    interpreter.compile(kept, lock.epoch_s)
    return _tree(kept)


def own(lock: Lock, software: Software, interpreter: Interpreter, scratch: Path) -> dict[str, Node]:
    """Our own packages as a tree."""
    site = scratch / "own"
    for name, data in software.own.items():
        place = site / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    interpreter.compile(site, lock.epoch_s)
    return _tree(site)


def _tree(site: Path) -> dict[str, Node]:
    files = (path for path in site.rglob("*") if path.is_file())
    return {f"{PLACE}/{path.relative_to(site).as_posix()}": Node(path.read_bytes()) for path in files}


def _link_again(given: tarfile.TarFile, wanted: tuple[str, ...], folder: Path) -> None:
    """Links between the unpacked files; those that lead elsewhere are nobody's here."""
    for entry in given.getmembers():
        if entry.issym() and entry.name.startswith(wanted) and not entry.linkname.startswith("/"):
            place = folder / entry.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists() and not place.is_symlink():
                place.symlink_to(entry.linkname)
