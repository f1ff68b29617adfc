"""Modules and inputs on the scheduler's disk: one file per SHA-256 in a folder per tenant, synced before it counts.

Each tenant has a folder of its own, so that nobody learns from an answer what another tenant uploaded, and nobody runs
what they could not upload themselves. When a tenant's folder is full, what was used longest ago and no run under way
needs goes first.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from grafos_core import paths
from grafos_core.errors import GrafosError
from grafos_core.ids import SHA256_PATTERN, check_name, sha256_of
from grafos_scheduler.messages import BLOB_BYTES_MAX

TENANT_BYTES_MAX = 1024**3
"""What one tenant may keep here: some hundred of the largest blobs, thousands of common ones."""

InUse = Callable[[str], Collection[str]]


class BlobStore:
    """The blobs of all tenants. ``in_use`` tells the hashes that a tenant's runs under way still need. What is left of
    tenants that are ``gone`` is removed: the process may have ended before it got to that."""

    def __init__(
        self,
        folder: Path,
        in_use: InUse,
        tenant_bytes_max: int = TENANT_BYTES_MAX,
        gone: Collection[str] = (),
    ) -> None:
        self._folder = paths.private_folder(folder)
        self._in_use = in_use
        self._tenant_bytes_max = tenant_bytes_max
        self._sizes: dict[str, dict[str, int]] = {}
        self._arriving: Counter[str] = Counter()
        for place in sorted(self._folder.iterdir()):
            if place.name in gone:
                shutil.rmtree(place, ignore_errors=True)
            else:
                self._sizes[place.name] = _read_sizes(place)

    def size_of(self, tenant: str, sha256: str) -> int | None:
        """The blob's size in bytes, or None if the tenant has no such blob here."""
        return self._sizes.get(tenant, {}).get(sha256)

    async def put(self, tenant: str, sha256: str, data: bytes) -> None:
        """Returns when the bytes are on disk.

        ``blob_mismatch``, ``body_too_large``, ``limit_exceeded``; ``store_failed`` when the disk does not take them.
        """
        if len(data) > BLOB_BYTES_MAX:
            raise GrafosError("body_too_large", f"a blob has at most {BLOB_BYTES_MAX} bytes, this one {len(data)}")
        seen = sha256_of(data)
        if seen != sha256:
            raise GrafosError(
                "blob_mismatch",
                f"the bytes have the SHA-256 {seen}",
                where=sha256,
                next="upload the file again; it changed on the way, or since it was hashed",
            )
        if self.size_of(tenant, sha256) is None:
            await self._keep(check_name("tenant", tenant), sha256, data)
        self._note_use(tenant, sha256, len(data))

    async def get(self, tenant: str, sha256: str) -> bytes:
        """The blob, or ``blob_missing``."""
        size = self.size_of(tenant, sha256)
        if size is not None:
            try:
                data = await asyncio.to_thread((self._folder / tenant / sha256).read_bytes)
            except FileNotFoundError:
                self._sizes[tenant].pop(sha256, None)
            else:
                self._note_use(tenant, sha256, size)
                return data
        raise GrafosError("blob_missing", f"no blob {sha256} was uploaded", next="upload it, then ask again")

    async def forget(self, tenant: str) -> None:
        """Removes all blobs of a tenant that is gone; asked again it makes sure of that."""
        self._sizes.pop(tenant, None)
        await asyncio.to_thread(shutil.rmtree, self._folder / check_name("tenant", tenant), ignore_errors=True)

    async def _keep(self, tenant: str, sha256: str, data: bytes) -> None:
        place = self._folder / tenant
        # What is still on its way to the disk counts too, or many uploads at once would each find the same room.
        self._arriving[tenant] += len(data)
        try:
            self._make_room(tenant)
            await asyncio.to_thread(_write, place / sha256, data)
        except OSError as error:
            raise GrafosError(
                "store_failed",
                "the blob could not be written",
                where=str(place),
                why=str(error),
                next="check that the scheduler's disk has room and is writable, then upload again",
            ) from error
        finally:
            self._arriving[tenant] -= len(data)

    def _make_room(self, tenant: str) -> None:
        """Removes the longest unused until all that arrives fits, or removes nothing: ``limit_exceeded``.

        Does not wait in between: a run that is admitted meanwhile would need what is about to go.
        """
        sizes = self._sizes.setdefault(tenant, {})
        excess = sum(sizes.values()) + self._arriving[tenant] - self._tenant_bytes_max
        needed = set(self._in_use(tenant)) if excess > 0 else set()
        leaving = []
        for sha256 in sizes:
            if excess > 0 and sha256 not in needed:
                leaving.append(sha256)
                excess -= sizes[sha256]
        if excess > 0:
            raise GrafosError(
                "limit_exceeded",
                f"tenant {tenant!r} keeps {self._tenant_bytes_max} bytes of blobs here, all of them in use",
                next="wait for runs to end, then upload again",
            )
        for sha256 in leaving:
            del sizes[sha256]
            (self._folder / tenant / sha256).unlink(missing_ok=True)

    def _note_use(self, tenant: str, sha256: str, size: int) -> None:
        """Order in the table is order of use; the file's time carries it over a restart."""
        sizes = self._sizes.setdefault(tenant, {})
        sizes.pop(sha256, None)
        sizes[sha256] = size
        try:
            os.utime(self._folder / tenant / sha256)
        except FileNotFoundError:
            sizes.pop(sha256)


def _write(path: Path, data: bytes) -> None:
    paths.private_folder(path.parent)
    paths.write_private(path, data)


def _read_sizes(place: Path) -> dict[str, int]:
    """Sizes by hash, the longest unused first. A file that a crash left half written has another name: it goes."""
    found: list[tuple[float, str, int]] = []
    for file in place.iterdir():
        if SHA256_PATTERN.fullmatch(file.name):
            facts = file.stat()
            found.append((facts.st_mtime, file.name, facts.st_size))
        else:
            file.unlink()
    return {name: size for _, name, size in sorted(found)}
