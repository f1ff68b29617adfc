"""Images of the subscription's own: an empty disk that is filled over its own address, and a gallery's image of it.

The disk takes a VHD of fixed size, which is the raw disk with a footer after it, page by page; what is not sent is
zeros. It needs no storage account and no key of one: Azure gives an address with a signature for just that disk, which
is why no package of Azure Storage is in use. The image is *specialized*: Azure changes nothing in it, and waits for no
word of it. It can be for either architecture, which a managed image cannot.
Source: https://learn.microsoft.com/azure/virtual-machines/disks-upload-vhd-to-managed-disk-cli and, on the footer,
Microsoft's Virtual Hard Disk Image Format Specification.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Mapping
from typing import Any

from grafos_connectors.azure import describe, tags
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.ids import parse
from grafos_connectors.azure.kind_calls import place, read_resource
from grafos_connectors.contract import CloudError, Desired, Kind, Ref
from grafos_connectors.shapes import Shape
from grafos_connectors.uploads import FILLED, MIB, YES, Disk, Filled, Part, Sent, Told, send_parts

ARCHITECTURES = {"amd64": "x64", "arm64": "Arm64"}
PAGES_BYTES = MIB  # sent at once; at most 4 MiB may be
PAGES_AT_ONCE = 8
FOOTER_BYTES = 512
TRUSTED_LAUNCH = {"name": "SecurityType", "value": "TrustedLaunchSupported"}
TEMPLATE = "MicrosoftUefiCertificateAuthorityTemplate"
"""What Azure's firmware knows beside our certificate; it takes no list without one of its templates."""
ADDRESS_LASTS_S = 24 * 3600
STORAGE_API = "2024-11-04"
DENIED = 403
GEOMETRY = struct.pack(">HBB", 65535, 16, 255)  # what stands for any disk that is too large for the old numbers

IMAGE_SHAPES: dict[Kind, Shape] = {
    Kind.GALLERY: Shape(needs=("group",)),
    Kind.IMAGE_FAMILY: Shape(needs=("gallery",), inputs={"arch": str}, optional={"secure_boot": bool}),
    Kind.DISK: Shape(needs=("group",), inputs={"arch": str, "disk_bytes": int}),
    Kind.IMAGE: Shape(needs=("family", "disk"), optional={"certificate": str}),
}


def gallery_body(desired: Desired) -> dict[str, Any]:
    return _tracked(desired, {"description": desired.name})


def family_body(desired: Desired) -> dict[str, Any]:
    """What all versions have in common; there is one."""
    identifier = {"publisher": "grafos", "offer": "cell", "sku": desired.name}
    properties = {
        "osType": "Linux",
        "osState": "Specialized",
        "hyperVGeneration": "V2",
        "architecture": ARCHITECTURES[str(desired.inputs["arch"])],
        "identifier": identifier,
        **({"features": [TRUSTED_LAUNCH]} if desired.inputs.get("secure_boot") else {}),
    }
    return _tracked(desired, properties)


def disk_body(desired: Desired) -> dict[str, Any]:
    """An empty disk that waits for its bytes."""
    properties = {
        "osType": "Linux",
        "hyperVGeneration": "V2",
        "supportedCapabilities": {"architecture": ARCHITECTURES[str(desired.inputs["arch"])]},
        "creationData": {"createOption": "Upload", "uploadSizeBytes": vhd_bytes(int(desired.inputs["disk_bytes"]))},
    }
    return {**_tracked(desired, properties), "sku": {"name": "Standard_LRS"}}


def image_body(desired: Desired) -> dict[str, Any]:
    """One copy of the disk, in the region where it is."""
    region = {"name": desired.region, "regionalReplicaCount": 1, "storageAccountType": "Standard_LRS"}
    properties: dict[str, Any] = {
        "publishingProfile": {"targetRegions": [region]},
        "storageProfile": {"osDiskImage": {"source": {"id": desired.needs["disk"]}}},
    }
    if certificate := str(desired.inputs.get("certificate", "")):
        also = {"db": [{"type": "x509", "value": [certificate]}]}
        settings = {"signatureTemplateNames": [TEMPLATE], "additionalSignatures": also}
        properties["securityProfile"] = {"uefiSettings": settings}
    return _tracked(desired, properties)


def fill_disk(calls: AzureCalls, ref: Ref, disk: Disk, sent: Sent, told: Told) -> Filled:
    """Opens the disk for writing, puts what is not zeros and the footer, and closes it: then it is whole."""
    arm_id = parse(ref.id)
    if _is_whole(calls, ref):
        return Filled(0, 0, 0, 0)
    address = sent.note or _opened(calls, ref)
    sent.keep(address)
    size_bytes = padded_bytes(disk.size_bytes)
    try:
        _put(calls, ref, address, size_bytes, footer(disk.sha256, size_bytes))
    except CloudError as refusal:
        if not sent.note or refusal.code not in {"cloud_denied", "cloud_auth"}:
            raise
        address = _opened(calls, ref)  # the one that was noted has run out
        sent.keep(address)
        _put(calls, ref, address, size_bytes, footer(disk.sha256, size_bytes))

    def put(part: Part) -> None:
        _put(calls, ref, address, part.number * PAGES_BYTES, part.data)

    filled = send_parts(disk.parts(PAGES_BYTES), put, sent, disk, told, PAGES_AT_ONCE)
    calls.outcome("compute", "disks.begin_revoke_access", ref.region, *place(arm_id))
    return filled


def footer(sha256: str, size_bytes: int) -> bytes:
    """The last 512 bytes of a VHD of fixed size; the same for the same disk: no time and no chance is in it."""
    unique = uuid.UUID(bytes=hashlib.sha256(sha256.encode()).digest()[:16], version=4)
    head = struct.pack(">8sIIQI4sI4s", b"conectix", 2, 0x00010000, (1 << 64) - 1, 0, b"win ", 0x000A0000, b"Wi2k")
    sizes = struct.pack(">QQ4sI", size_bytes, size_bytes, GEOMETRY, 2)
    whole = head + sizes + bytes(4) + unique.bytes + bytes(428)
    checksum = ~sum(whole) & 0xFFFFFFFF
    return whole[:64] + struct.pack(">I", checksum) + whole[68:]


def padded_bytes(disk_bytes: int) -> int:
    """Azure takes whole MiB alone."""
    return -(-disk_bytes // MIB) * MIB


def vhd_bytes(disk_bytes: int) -> int:
    """The disk with its footer."""
    return padded_bytes(disk_bytes) + FOOTER_BYTES


def _opened(calls: AzureCalls, ref: Ref) -> str:
    """The address at which the disk takes pages; it holds a signature, so it is a secret until it is closed."""
    asked = {"access": "Write", "durationInSeconds": ADDRESS_LASTS_S}
    told = calls.outcome("compute", "disks.begin_grant_access", ref.region, *place(parse(ref.id)), asked)
    address = told.get("accessSAS") if isinstance(told, Mapping) else None
    if not address:
        raise CloudError("cloud_unknown", "Azure told no address for the disk.", where=f"azure {ref.region}")
    return str(address)


def _put(calls: AzureCalls, ref: Ref, address: str, offset: int, data: bytes) -> None:
    headers = {
        "x-ms-version": STORAGE_API,
        "x-ms-page-write": "update",
        "x-ms-range": f"bytes={offset}-{offset + len(data) - 1}",
        "Content-Type": "application/octet-stream",
    }
    calls.put(f"{address}&comp=page", headers, data, f"writing the disk {parse(ref.id).name}", ref.region)


def _is_whole(calls: AzureCalls, ref: Ref) -> bool:
    document = read_resource(calls, parse(ref.id), ref.region)
    return document is not None and describe.found(document, parse(ref.id)).attributes.get(FILLED) == YES


def _tracked(desired: Desired, properties: dict[str, Any]) -> dict[str, Any]:
    return {"location": desired.region, "tags": tags.of(desired), "properties": properties}
