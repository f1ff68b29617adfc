"""What Cloud Storage keeps: buckets, what is in them, and uploads that are under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from grafos_emulators.disk_files import DiskFile


@dataclass
class StoredObject:
    """One object; its bytes do not change."""

    body: dict[str, Any]
    content: DiskFile


@dataclass
class Upload:
    """A resumable upload: ``arrived`` bytes of ``content`` are there."""

    name: str
    metadata: dict[str, Any]
    content: DiskFile
    arrived: int = 0


@dataclass
class Bucket:
    """One bucket, by the name that is unique in the world."""

    region: str
    body: dict[str, Any]
    objects: dict[str, StoredObject] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
