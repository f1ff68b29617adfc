"""The packages of a lock, fetched once and kept by their SHA-256, which is all that is believed of a mirror."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from grafos_cellimage.layers import draft
from grafos_cellimage.lock import Package
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder

AT_ONCE = 8
TIMEOUT_S = 60.0
TRIES = 3


def fetch(
    packages: Iterable[Package], mirrors: Mapping[str, str], folder: Path, changed: Callable[[str], object]
) -> dict[Package, Path]:
    """Each package's file. ``package_gone`` names all that the mirrors have no longer, when the rest is there."""
    private_folder(folder)
    wanted = list(packages)
    missing = [package for package in wanted if not _is_kept(package, folder)]
    total = sum(package.size_bytes for package in missing)
    gone, come = [], 0
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        for package, data in zip(missing, pool.map(lambda one: _get(one, mirrors), missing), strict=True):
            if data is None:
                gone.append(package)
                continue
            _keep(folder / file_of(package), data)
            come += package.size_bytes
            changed(f"{come / 1e6:.0f} of {total / 1e6:.0f} MB")
    if gone:
        raise _gone(gone)
    return {package: folder / file_of(package) for package in wanted}


def file_of(package: Package) -> str:
    return f"{package.sha256}.deb"


def _keep(path: Path, data: bytes) -> None:
    """Not synced: what a power cut leaves of it is found out by its digest."""
    with draft(path) as part:
        part.write_bytes(data)


def _is_kept(package: Package, folder: Path) -> bool:
    path = folder / file_of(package)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256


def _get(package: Package, mirrors: Mapping[str, str]) -> bytes | None:
    """The package's bytes; None if the mirror has it no longer."""
    url = f"{mirrors[package.mirror].rstrip('/')}/{urllib.parse.quote(package.path)}"
    fault: Exception | None = None
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  a mirror may well be plain http
                data: bytes = answer.read(package.size_bytes + 1)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (404, 410):
                    return None
            fault = error
        except (OSError, http.client.HTTPException) as error:
            fault = error
        else:
            if hashlib.sha256(data).hexdigest() == package.sha256:
                return data
            fault = ValueError(f"{len(data)} bytes came that are not those of the lock")
    raise GrafosError(
        "bake_failed",
        f"the package {package.name} {package.version} could not be fetched",
        where=url,
        why=str(fault),
        next="try again, or name another mirror with --mirror",
    )


def _gone(packages: list[Package]) -> GrafosError:
    names = ", ".join(f"{package.name} {package.version}" for package in packages)
    return GrafosError(
        "lock_stale",
        f"{len(packages)} packages of the lock are on no mirror any more",
        why=f"Debian drops what was superseded: {names[:400]}",
        next="grafos cloud image lock refresh, or a mirror that keeps them: --mirror URL",
        context={"packages": [package.name for package in packages]},
    )
