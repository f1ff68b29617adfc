"""Images of our own: a snapshot that is filled block by block, without a machine and without S3, and its registration.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html (EBS direct APIs)
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

from grafos_connectors.aws import describe, tags
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.kind_calls import KindCalls, not_shown_yet, occupied
from grafos_connectors.aws.uefi import uefi_data
from grafos_connectors.contract import CloudError, Desired, Found, Kind, Ref, State
from grafos_connectors.shapes import Shape
from grafos_connectors.uploads import FILLED, YES, Disk, Filled, Part, Sent, Told, send_parts

BLOCK_BYTES = 512 * 1024  # EBS direct knows no other size
BLOCKS_AT_ONCE = 16  # of a thousand that a snapshot takes each second; the way there is narrower than that
PUT_ATTEMPTS = 5  # a block may be put again as often as one likes
SEALED = "sealed"
PATIENCE_MIN = 12 * 60  # after so long without a block AWS gives a snapshot up; a laptop may sleep over night
ROOT_DEVICE = "/dev/xvda"
ARCHITECTURES = {arch: word for word, arch in describe.ARCHES.items()}

IMAGE_SHAPES: dict[Kind, Shape] = {
    Kind.SNAPSHOT: Shape(inputs={"disk_gib": int}),
    Kind.IMAGE: Shape(needs=("snapshot",), inputs={"arch": str}, optional={"certificate": str}),
}


def start_snapshot(calls: AwsCalls, desired: Desired, token: str) -> str:
    """StartSnapshot: empty, of the disk's size."""
    answer = calls.send(
        "ebs",
        "start_snapshot",
        desired.region,
        VolumeSize=desired.inputs["disk_gib"],
        Tags=tags.pairs(desired),
        Description=desired.name,
        ClientToken=token,
        Timeout=PATIENCE_MIN,
    )
    return str(answer["SnapshotId"])


def fill_snapshot(calls: AwsCalls, ref: Ref, disk: Disk, sent: Sent, told: Told) -> Filled:
    """PutSnapshotBlock for each block that is not all zeros, each with its SHA-256; then CompleteSnapshot with their
    number and the SHA-256 of all these."""
    digests: list[bytes] = []

    def blocks() -> Iterator[Part]:
        for part in disk.parts(BLOCK_BYTES):
            digests.append(hashlib.sha256(part.data).digest())
            yield part

    filled = send_parts(blocks(), lambda part: _put(calls, ref, part), sent, disk, told, BLOCKS_AT_ONCE)
    if sent.note != SEALED and not _is_taken_over(calls, ref):
        _complete(calls, ref, digests)
        sent.keep(SEALED)
    return filled


def _put(calls: AwsCalls, ref: Ref, part: Part) -> None:
    calls.send(
        "ebs",
        "put_snapshot_block",
        ref.region,
        attempts=PUT_ATTEMPTS,
        SnapshotId=ref.id,
        BlockIndex=part.number,
        BlockData=part.data,
        DataLength=len(part.data),
        Checksum=_base64(hashlib.sha256(part.data).digest()),
        ChecksumAlgorithm="SHA256",
    )


def _complete(calls: AwsCalls, ref: Ref, digests: list[bytes]) -> None:
    calls.send(
        "ebs",
        "complete_snapshot",
        ref.region,
        attempts=PUT_ATTEMPTS,
        SnapshotId=ref.id,
        ChangedBlocksCount=len(digests),
        Checksum=_base64(hashlib.sha256(b"".join(digests)).digest()),
        ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )


def _is_taken_over(calls: AwsCalls, ref: Ref) -> bool:
    pair = describe.by_id(calls, Kind.SNAPSHOT, ref.id, ref.region)
    return pair is not None and pair[1].attributes[FILLED] == YES


def register_image(calls: AwsCalls, desired: Desired, _token: str) -> str:
    """RegisterImage. A name is given once in an account and region; ours and equal is taken for what is asked for.
    With a certificate the firmware of its machines starts nothing that is not signed for it."""
    certificate = str(desired.inputs.get("certificate", ""))
    firmware = {"UefiData": uefi_data(base64.b64decode(certificate))} if certificate else {}
    disk = {"SnapshotId": desired.needs["snapshot"], "VolumeType": "gp3", "DeleteOnTermination": True}
    try:
        answer = calls.change(
            "register_image",
            desired.region,
            Name=desired.name,
            Description=desired.name,
            Architecture=ARCHITECTURES[str(desired.inputs["arch"])],
            BlockDeviceMappings=[{"DeviceName": ROOT_DEVICE, "Ebs": disk}],
            RootDeviceName=ROOT_DEVICE,
            VirtualizationType="hvm",
            BootMode="uefi",
            EnaSupport=True,
            ImdsSupport="v2.0",
            **firmware,
            TagSpecifications=tags.specifications(desired, "image"),
        )
    except CloudError as refusal:
        if refusal.cloud_code != "InvalidAMIName.Duplicate":
            raise
        return _image_in_place(calls, desired, refusal)
    return str(answer["ImageId"])


def _image_in_place(calls: AwsCalls, desired: Desired, refusal: CloudError) -> str:
    named = describe.search(calls, Kind.IMAGE, desired.region, {"Name": "name", "Values": [desired.name]})
    found = next((found for _, found in named), None)
    if found is None:
        raise not_shown_yet(desired, refusal)
    if not _is_asked_for(found, desired):
        raise occupied(desired, refusal, "its name is taken by another image")
    return found.ref.id


def _is_asked_for(found: Found, desired: Desired) -> bool:
    same_disk = found.attributes.get("snapshot") == desired.needs["snapshot"]
    return found.ref.key == desired.key and same_disk and found.state in {State.PENDING, State.READY}


def deregister_image(calls: AwsCalls, ref: Ref) -> None:
    calls.change("deregister_image", ref.region, ImageId=ref.id)


def delete_snapshot(calls: AwsCalls, ref: Ref) -> None:
    """Also one that is being filled."""
    calls.change("delete_snapshot", ref.region, SnapshotId=ref.id)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


IMAGE_KINDS: dict[Kind, KindCalls] = {
    Kind.SNAPSHOT: KindCalls(delete_snapshot, start_snapshot),
    Kind.IMAGE: KindCalls(deregister_image, register_image),
}
