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
        yield Software(requirements, platform, bundle.install_with_uv, bundle.shipped, rooms())


def bake(arch: str, folder: Path) -> BakedImage:
    plan = plan_for(arch)
    lock, digest = open_lock(plan)
    with software_of(plan) as software:
        baker = Baker(Path(os.environ[CACHE_VARIABLE]) / "images", NOWHERE, Silent())
        return baker.bake(plan, lock, digest, software, folder)
