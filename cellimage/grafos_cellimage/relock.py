"""A lock that no longer resolves, because Debian has dropped packages of it: the bake goes on with a copy.

The lock itself stays as it is; the copy lies beside the image, with Debian's newest packages and the same wheels. A
later bake from the same lock into the same folder takes the same copy, for as long as that one resolves: so the two
agree, whatever Debian publishes in between. A copy bears its own digest in its name, and none takes the place of
another: an image that was baked from an earlier one can still be baked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

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
DIGITS = 12


class Made(NamedTuple):
    """An image, and the lock that it was baked from."""

    image: BakedImage
    lock: Lock


def bake_or_relock(
    baker: Baker, plan: ImagePlan, asked: Locked, given: Software, folder: Path, keyring: Path = KEYRING
) -> Made:
    """As ``Baker.bake`` with the lock that was asked for, or else with a copy of it, as the record then says.

    ``lock_stale`` only if the mirrors do not have what they list themselves. ``keyring`` is of those who sign that.
    """
    refused: list[GrafosError] = []
    for lock, sha256 in _locks(baker, plan, asked, folder, keyring):
        told = NOT_RELOCKED if sha256 == asked[1] else Relocked(asked[1], tuple(changes(asked[0], lock)))
        try:
            return Made(baker.bake(plan, lock, sha256, given, folder, told), lock)
        except GrafosError as error:
            if error.code != "lock_stale":
                raise
            refused.append(error)
    raise refused[-1]


def copy_at(plan: ImagePlan, asked_sha256: str, sha256: str, folder: Path) -> Path:
    """Where a copy of a lock is, or would be, beside the images that are baked from it: by the digests of both."""
    return folder / f"{_copies(plan, asked_sha256)}-{sha256[:DIGITS]}.lock"


def relock(plan: ImagePlan, asked: Locked, mirrors: Mapping[str, str], folder: Path, keyring: Path = KEYRING) -> Locked:
    """The newest packages with the wheels of the stale lock, which no index drops; written to its place in the
    folder."""
    packages = resolve_packages(plan, mirrors, keyring)
    text = write_lock(msgspec.structs.replace(packages, wheels=asked[0].wheels)).encode()
    copy = copy_at(plan, asked[1], hashlib.sha256(text).hexdigest(), private_folder(folder))
    write_private(copy, text)
    return open_lock(plan, copy)


def _locks(baker: Baker, plan: ImagePlan, asked: Locked, folder: Path, keyring: Path) -> Iterator[Locked]:
    """What can be baked from, in the order in which it is tried, the newest copy first; what nobody gets to is not
    made."""
    yield asked
    copies = folder.glob(f"{_copies(plan, asked[1])}-*.lock")
    for copy in sorted(copies, key=lambda one: (one.stat().st_mtime, one.name), reverse=True):
        yield open_lock(plan, copy)
    with baker.step("a lock that resolves"):
        fresh = relock(plan, asked, baker.mirrors, folder, keyring)
    yield fresh


def _copies(plan: ImagePlan, asked_sha256: str) -> str:
    return f"{plan.name}-for-{asked_sha256[:DIGITS]}"
