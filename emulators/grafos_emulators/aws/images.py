"""The stock image: what Debian publishes on AWS, for the host's architecture and with the host's Python.

Owner and name follow the Debian cloud team's (https://wiki.debian.org/Cloud/AmazonEC2Image), so that the look-up that
finds the real image finds this one. A real Debian 13 has Python 3.13; this one has the emulator's, and says so in its
description and in the tag ``python``.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from moto.ec2.models.amis import Ami

from grafos_emulators.host import host_python

DEBIAN_OWNER_ID = "136693071363"
RELEASE = "20251117-2299"  # the form of Debian's own; no release of theirs has it
PUBLISHED = datetime(2025, 11, 17, tzinfo=UTC)
ROOT_DEVICE = "/dev/xvda"
ROOT_GIB = 8
PYTHON_TAG = "python"
DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


class StockImage(Ami):  # type: ignore[misc,unused-ignore]  # moto's classes are partly untyped
    """The image from which emulated machines run their user data."""

    def __init__(self, backend: Any, architecture: str) -> None:
        region: str = backend.region_name
        name = f"debian-13-{DEBIAN_ARCHITECTURES[architecture]}-{RELEASE}"
        super().__init__(
            backend,
            image_id(region, name),
            name=name,
            description=f"Debian 13 ({RELEASE}), emulated by grafos: no content, python {host_python()}",
            owner_id=DEBIAN_OWNER_ID,
            public=True,
            creation_date=PUBLISHED,
            virtualization_type="hvm",
            architecture=architecture,
            image_location=f"{DEBIAN_OWNER_ID}/{name}",
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=ROOT_DEVICE,
            region_name=f"{region}a",
            tags={PYTHON_TAG: host_python()},
        )
        self.ena_support = True

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        root = {
            "SnapshotId": self.ebs_snapshot.id,
            "VolumeSize": ROOT_GIB,
            "DeleteOnTermination": True,
            "VolumeType": "gp3",
            "Encrypted": False,
        }
        return [{"DeviceName": ROOT_DEVICE, "Ebs": root}]


def image_id(region: str, name: str) -> str:
    """The same image has the same id in every emulator, as a real one has."""
    return f"ami-{hashlib.sha256(f'{region} {name}'.encode()).hexdigest()[:17]}"
