"""Bakes for tests: from grafos' own lock, with the base that the set-up left in the caller's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from parts import CACHE_VARIABLE

from grafos_cellimage.bake import Baker
from grafos_cellimage.lock import open_lock
from grafos_cellimage.plan import ImagePlan, plan_for
from grafos_cellimage.record import BakedImage
from grafos_cellimage.software import Software
from grafos_stacks import bundle

NOWHERE = {"debian": "http://127.0.0.1:9/debian", "debian-security": "http://127.0.0.1:9/debian-security"}
"""What is baked in a test comes from the cache."""


def kept() -> Path:
    """The caller's cache of packages and bases."""
    return Path(os.environ[CACHE_VARIABLE]) / "images"


class Silent:
    """Nobody is told how far it is."""

    def began(self, name: str, detail: str = "") -> None: ...
    def changed(self, name: str, detail: str) -> None: ...
    def ended(self, name: str, detail: str = "") -> None: ...


@cache
def rooms() -> Mapping[str, bytes]:
    """Our own packages as they were first: two bakes are of the same software though somebody edits it meanwhile."""
    return bundle.rooms()


@contextmanager
def software_of(plan: ImagePlan) -> Iterator[Software]:
    with bundle.lock_file() as requirements:
        platform = bundle.PLATFORMS[plan.arch]
        yield Software(requirements, platform, bundle.install_with_uv, bundle.shipped, rooms(), bundle.STRIPPED)


def bake(arch: str, folder: Path) -> BakedImage:
    plan = plan_for(arch)
    lock, digest = open_lock(plan)
    with software_of(plan) as software:
        baker = Baker(kept(), NOWHERE, Silent())
        return baker.bake(plan, lock, digest, software, folder)


def baked_from_nothing(plan: ImagePlan, whole: Path) -> BakedImage:
    """Baked in a place of its own, which has the packages and no base."""
    whole.mkdir(exist_ok=True)
    (whole / "packages").symlink_to(kept() / "packages")
    with software_of(plan) as software:
        return Baker(whole, NOWHERE, Silent()).bake(plan, *open_lock(plan), software, whole / "images")
