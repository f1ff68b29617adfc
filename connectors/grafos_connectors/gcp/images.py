"""Images of the project's own, made from an archive in a bucket.

Source: https://cloud.google.com/compute/docs/reference/rest/v1/images/insert
"""

from __future__ import annotations

from typing import Any

from grafos_connectors.contract import Desired, Kind
from grafos_connectors.gcp import labels
from grafos_connectors.gcp.describe import Item
from grafos_connectors.gcp.storage import OBJECT
from grafos_connectors.shapes import Shape

ARCHITECTURES = {"amd64": "X86_64", "arm64": "ARM64"}
FEATURES = ("UEFI_COMPATIBLE", "GVNIC", "VIRTIO_SCSI_MULTIQUEUE")
"""What the image's kernel can do: started by UEFI, its network card Google's own, its disks in many queues."""
STORAGE_HOST = "https://storage.googleapis.com"

IMAGE_SHAPES: dict[Kind, Shape] = {
    Kind.BUCKET: Shape(),
    Kind.IMAGE: Shape(needs=("bucket",), inputs={"arch": str}, optional={"certificate": str}),
}


def source_of(desired: Desired) -> str:
    """The archive's address, in the one form that Compute Engine takes."""
    return f"{STORAGE_HOST}/{desired.needs['bucket'].removeprefix('b/')}/{OBJECT}"


def image_body(desired: Desired, project: str) -> dict[str, Any]:  # noqa: ARG001  as the other kinds' bodies
    return {
        "name": desired.name,
        "labels": labels.labels(desired.tags),
        "rawDisk": {"source": source_of(desired)},
        "architecture": ARCHITECTURES[str(desired.inputs["arch"])],
        "guestOsFeatures": [{"type": feature} for feature in FEATURES],
        "storageLocations": [desired.region],
        **_firmware(str(desired.inputs.get("certificate", ""))),
    }


def _firmware(certificate: str) -> dict[str, Any]:
    """What the firmware of its machines knows in place of Google's own defaults; it starts nothing else with Secure
    Boot."""
    if not certificate:
        return {}
    one = {"content": certificate, "fileType": "X509"}
    return {"shieldedInstanceInitialState": {"pk": one, "keks": [one], "dbs": [one]}}


def same_image(item: Item, desired: Desired) -> bool:
    return item.get("architecture") == ARCHITECTURES[str(desired.inputs["arch"])]
