"""Small disks with holes, and what a connector is asked to make of them."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping
from pathlib import Path

from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, Connector, Desired, Done, Kind, Pending, Ref, Scalar
from grafos_connectors.uploads import MIB, Disk

FABRIC = "f-disks"


def make_disk(
    folder: Path, size_bytes: int = 12 * MIB, islands: tuple[tuple[int, int], ...] = (), seed: int = 8
) -> Disk:
    """A disk of zeros with islands of noise (offset, length); by default two, which no block's border fits."""
    noise = random.Random(seed)  # the same bytes each time
    path = folder / "disk.raw"
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for offset, length in islands or ((700_001, 1_500_000), (9 * MIB - 100, 3_000)):
            file.seek(offset)
            file.write(noise.randbytes(length))
    return Disk(path, sha256_of(path))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wanted(
    kind: Kind,
    number: int,
    region: str,
    needs: Mapping[str, str] | None = None,
    inputs: Mapping[str, Scalar] | None = None,
) -> Desired:
    """A part of a published image."""
    key = f"{number:032x}"
    name = f"grafos-img-{kind.value.replace('_', '-')}-{key[:8]}"
    tags = {TAG_FABRIC: FABRIC, TAG_KEY: key}
    return Desired(key=key, kind=kind, name=name, region=region, needs=needs or {}, inputs=inputs or {}, tags=tags)


def made(connector: Connector, desired: Desired, token: str = "token") -> Ref:  # noqa: S107  a token of a create call
    """Has it made; the clock that the emulator goes by must run, or its times be nought."""
    operation = connector.begin_create(desired, token)
    while isinstance(progress := connector.poll(operation), Pending):
        time.sleep(0.01)
    assert isinstance(progress, Done), progress
    return operation.ref
