"""The lock of an image: every package and wheel in it by name, version, size and SHA-256, and no host.

    cellimage/images/<suite>-<arch>.lock

JSON with one package to a line, so that a change is read as a change. Where packages come from is a setting of whoever
bakes; that they are the right ones is decided by their digests alone.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import msgspec

from grafos_cellimage.plan import ImagePlan
from grafos_core.errors import GrafosError

FORMAT = 1
SYSTEM, KERNEL, STUB, TOOL = "system", "kernel", "stub", "tool"
"""What a package is for: installed into the root; unpacked for the kernel or the firmware; used to bake only."""


class Archive(msgspec.Struct, frozen=True):
    """One signed list of packages that the lock was made from. ``mirror`` names which of the mirrors has it."""

    mirror: str
    suite: str
    date: str
    sha256: str


class Package(msgspec.Struct, frozen=True):
    """``path`` is its place below the mirror."""

    name: str
    version: str
    role: str
    mirror: str
    path: str
    size_bytes: int
    sha256: str


class Wheel(msgspec.Struct, frozen=True):
    """One file of a Python index."""

    name: str
    version: str
    file: str
    sha256: str


class Lock(msgspec.Struct, frozen=True):
    """``epoch_s`` (Unix seconds) is the time that everything in the image bears: that of the newest list."""

    suite: str
    arch: str
    python: str
    kernel_release: str
    epoch_s: int
    archives: tuple[Archive, ...]
    packages: tuple[Package, ...]
    wheels: tuple[Wheel, ...]
    format: int = FORMAT

    def of_role(self, role: str) -> tuple[Package, ...]:
        return tuple(package for package in self.packages if package.role == role)


def write_lock(lock: Lock) -> str:
    """The text of the file; the same for the same lock."""
    told = msgspec.to_builtins(lock)
    lines = []
    for key, value in told.items():
        if isinstance(value, (list, tuple)):
            rows = ",\n".join(f"  {json.dumps(row)}" for row in value)
            lines.append(f' "{key}": [\n{rows}\n ]')
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_lock(data: bytes, where: str, plan: ImagePlan) -> Lock:
    """``config_invalid`` for what is no lock, or the lock of another plan."""
    try:
        lock = msgspec.json.decode(data, type=Lock)
    except msgspec.DecodeError as error:
        raise _unusable(where, str(error)) from error
    if lock.format != FORMAT:
        raise _unusable(where, f"it has format {lock.format}, and this version reads {FORMAT}")
    if (lock.suite, lock.arch, lock.python) != (plan.suite, plan.arch, plan.python):
        raise _unusable(where, f"it is for {lock.suite}-{lock.arch} with Python {lock.python}, not for {plan.name}")
    return lock


def open_lock(plan: ImagePlan, path: Path | None = None) -> tuple[Lock, str]:
    """The lock, with the SHA-256 of its file: the one at ``path``, else the one that grafos ships."""
    try:
        data = (path or shipped(plan)).read_bytes()
    except OSError as error:
        raise _unusable(str(path or plan.name), str(error)) from error
    return read_lock(data, str(path or plan.name), plan), hashlib.sha256(data).hexdigest()


def shipped(plan: ImagePlan) -> Path:
    """Where grafos' own lock for the plan is, or would be."""
    return Path(str(files("grafos_cellimage"))) / "images" / f"{plan.name}.lock"


def changes(before: Lock, after: Lock) -> list[str]:
    """What differs between two locks, a line for each package: ``libc6 2.41-12 -> 2.41-13``."""
    old, new = _versions(before), _versions(after)
    return [
        f"{name} {old.get(name, '(none)')} -> {new.get(name, '(none)')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _versions(lock: Lock) -> dict[str, str]:
    packages = {package.name: package.version for package in lock.packages}
    return packages | {wheel.name: wheel.version for wheel in lock.wheels}


def _unusable(where: str, why: str) -> GrafosError:
    return GrafosError(
        "config_invalid",
        "the lock of the image cannot be used",
        where=where,
        why=why,
        next="grafos cloud image lock refresh",
    )
