"""Snapshots that are written block by block, and images that are registered from them, as moto keeps such things."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from moto.ec2.models.amis import Ami
from moto.ec2.models.elastic_block_store import Snapshot
from moto.ec2.utils import random_ami_id, random_snapshot_id

from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.aws.uefi import certificates_of
from grafos_emulators.disk_files import DiskFile

BLOCK_BYTES = 512 * 1024
GIB = 1 << 30
NO_VOLUME = "vol-ffffffff"  # what EC2 tells for a snapshot that was made without one
ARCHITECTURES = ("arm64", "x86_64")


class WrittenSnapshot(Snapshot):  # type: ignore[misc,unused-ignore]  # moto's classes are partly untyped
    """A snapshot of EBS direct: ``pending`` until it is completed and taken over."""

    def __init__(self, backend: Any, size_gib: int, description: str, tags: dict[str, str]) -> None:
        volume = SimpleNamespace(id=NO_VOLUME, size=size_gib, encrypted=False)
        super().__init__(backend, random_snapshot_id(), volume, description)
        self.status = "pending"
        self.sealed = False
        self.disk = DiskFile(size_gib * GIB)
        self.digests: dict[int, bytes] = {}
        backend.snapshots[self.id] = self
        self.add_tags(tags)

    @property
    def progress(self) -> str:
        return "100%" if self.status == "completed" else "0%"


@dataclass(frozen=True)
class ImageOrder:
    """What RegisterImage was asked for."""

    name: str
    description: str
    architecture: str
    root_device: str
    disk: dict[str, Any]
    boot_mode: str
    ena: bool
    imds_support: str
    certificates: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)


class RegisteredImage(Ami):  # type: ignore[misc,unused-ignore]
    """An image of the account's own; its root disk is the snapshot that it was registered from."""

    def __init__(self, backend: Any, order: ImageOrder, snapshot: Any) -> None:
        super().__init__(
            backend,
            random_ami_id(),
            name=order.name,
            description=order.description,
            virtualization_type="hvm",
            architecture=order.architecture,
            image_location=f"{backend.account_id}/{order.name}",
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=order.root_device,
            region_name=f"{backend.region_name}a",
            boot_mode=order.boot_mode,
        )
        del backend.snapshots[self.ebs_snapshot.id]  # moto makes one for each image
        self.ebs_snapshot = snapshot
        snapshot.from_ami = self.id
        self.ena_support = order.ena
        self.imds_support = order.imds_support
        self.certificates = order.certificates
        self._disk = order.disk
        backend.amis[self.id] = self
        self.add_tags(order.tags)

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        root = {"VolumeType": "gp2", "DeleteOnTermination": True, "Encrypted": False, **self._disk}
        root |= {"SnapshotId": self.ebs_snapshot.id, "VolumeSize": self.ebs_snapshot.volume_size}
        return [{"DeviceName": self.root_device_name, "Ebs": root}]


def register(backend: Any, order: ImageOrder) -> str:
    """The new image's id. Refuses what EC2 refuses of it."""
    if any(ami.name == order.name and ami.owner_id == backend.account_id for ami in backend.amis.values()):
        raise AwsRefusalError("InvalidAMIName.Duplicate", f"AMI name {order.name} is already in use by this account")
    if order.architecture not in ARCHITECTURES:
        raise AwsRefusalError("InvalidParameterValue", f"Invalid value '{order.architecture}' for architecture.")
    snapshot = backend.snapshots.get(order.disk.get("SnapshotId", ""))
    if snapshot is None:
        missing = order.disk.get("SnapshotId", "")
        raise AwsRefusalError("InvalidSnapshot.NotFound", f"The snapshot '{missing}' does not exist.")
    if snapshot.status != "completed":
        raise AwsRefusalError("IncorrectState", f"The snapshot '{snapshot.id}' is {snapshot.status}.")
    return str(RegisteredImage(backend, order, snapshot).id)


def order_of(get: Any) -> ImageOrder:
    """``get`` reads a parameter of the request."""
    mappings = get("BlockDeviceMappings", [])
    if len(mappings) != 1 or mappings[0].get("DeviceName") != get("RootDeviceName"):
        raise not_emulated("images with other disks than the root disk")
    if get("ImageLocation"):
        raise not_emulated("images from S3")
    wanted = [each["Tags"] for each in get("TagSpecifications", []) if each.get("ResourceType") == "image"]
    return ImageOrder(
        name=str(get("Name") or ""),
        description=str(get("Description") or ""),
        architecture=str(get("Architecture") or "i386"),
        root_device=str(get("RootDeviceName")),
        disk={name: value for name, value in mappings[0].get("Ebs", {}).items() if value is not None},
        boot_mode=str(get("BootMode") or "legacy-bios"),
        ena=str(get("EnaSupport")).lower() == "true",
        imds_support=str(get("ImdsSupport") or ""),
        certificates=certificates_of(str(firmware)) if (firmware := get("UefiData")) else {},
        tags={pair["Key"]: pair["Value"] for pairs in wanted for pair in pairs},
    )


def written(backend: Any, snapshot_id: str) -> WrittenSnapshot:
    """A snapshot that EBS direct may write or read."""
    snapshot = backend.snapshots.get(snapshot_id)
    if not isinstance(snapshot, WrittenSnapshot):
        raise AwsRefusalError("ResourceNotFoundException", f"The snapshot '{snapshot_id}' does not exist.", 404)
    return snapshot
