"""A lock that no longer resolves, because Debian has dropped packages of it: the bake goes on with a copy.

The lock itself stays as it is; the copy lies beside the image, with Debian's newest packages and the same wheels. A
later bake from the same lock into the same folder takes the same copy, for as long as that one resolves: so the two
agree, whatever Debian publishes in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from grafos_cellimage.bake import NOT_RELOCKED, Baker, Relocked
from grafos_cellimage.lock import Lock, changes, open_lock, write_lock
from grafos_cellimage.plan import ImagePlan
from grafos_cellimage.record import BakedImage
from grafos_cellimage.resolving import KEYRING, resolve_packages
from grafos_cellimage.software import Software
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder, write_private

Locked = tuple[Lock, str]
"""A lock, with the SHA-256 of its file."""


def bake_or_relock(
    baker: Baker, plan: ImagePlan, asked: Locked, given: Software, folder: Path, keyring: Path = KEYRING
) -> BakedImage:
    """As ``Baker.bake`` with the lock that was asked for, or else with a copy of it, as the record then says.

    ``lock_stale`` only if the mirrors do not have what they list themselves. ``keyring`` is of those who sign that.
    """
    refused: list[GrafosError] = []
    for lock, sha256 in _locks(baker, plan, asked, copy_of(plan, asked, folder), keyring):
        told = NOT_RELOCKED if sha256 == asked[1] else Relocked(asked[1], tuple(changes(asked[0], lock)))
        try:
            return baker.bake(plan, lock, sha256, given, folder, told)
        except GrafosError as error:
            if error.code != "lock_stale":
                raise
            refused.append(error)
    raise refused[-1]


def copy_of(plan: ImagePlan, asked: Locked, folder: Path) -> Path:
    """Where the copy of a lock is, or would be, beside the images that are baked from it."""
    return copy_at(plan, asked[1], folder)


def copy_at(plan: ImagePlan, asked_sha256: str, folder: Path) -> Path:
    """The same, of the lock with this SHA-256."""
    return folder / f"{plan.name}-for-{asked_sha256[:12]}.lock"


def relock(plan: ImagePlan, stale: Lock, mirrors: Mapping[str, str], copy: Path, keyring: Path = KEYRING) -> Locked:
    """The newest packages with the wheels of the stale lock, which no index drops; written to ``copy``."""
    packages = resolve_packages(plan, mirrors, keyring)
    private_folder(copy.parent)
    write_private(copy, write_lock(msgspec.structs.replace(packages, wheels=stale.wheels)).encode())
    return open_lock(plan, copy)


def _locks(baker: Baker, plan: ImagePlan, asked: Locked, copy: Path, keyring: Path) -> Iterator[Locked]:
    """What can be baked from, in the order in which it is tried; what nobody gets to is not made."""
    yield asked
    if copy.is_file():
        yield open_lock(plan, copy)
    with baker.step("a lock that resolves"):
        fresh = relock(plan, asked[0], baker.mirrors, copy, keyring)
    yield fresh
