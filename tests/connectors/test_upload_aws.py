"""A disk goes to EBS in blocks, and comes back as the same bytes; whatever stops it on the way, it goes on."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from disks import made, make_disk, wanted

from grafos_connectors.aws.connector import AwsConnector
from grafos_connectors.aws.images import BLOCK_BYTES
from grafos_connectors.contract import CloudError, Kind, Ref, Scope, State
from grafos_connectors.uploads import FILLED, GIB, MIB, NO, YES, Disk, Filled, Sent
from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_emulators.lifecycle import LifecycleTimes

REGION = "eu-central-1"
AT_ONCE = LifecycleTimes(starting_s=0.0, stopping_s=0.0, ending_s=0.0)


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[EmulatedClouds]:
    settings = Settings(clouds=("aws",), times=AT_ONCE, boots=False)
    with EmulatedClouds(tmp_path / "aws", settings, clock=VirtualClock()) as clouds:
        yield clouds


@pytest.fixture
def connector(aws: EmulatedClouds) -> AwsConnector:
    return AwsConnector(REGION, environment=aws.environment(), listing_lag_s=0.0)


@pytest.fixture
def snapshot(connector: AwsConnector) -> Ref:
    return made(connector, wanted(Kind.SNAPSHOT, 1, REGION, inputs={"disk_gib": 1}))


def fill(connector: AwsConnector, ref: Ref, disk: Disk, folder: Path) -> Filled:
    sent = Sent(folder / "sent", ref, disk.sha256)
    try:
        return connector.fill(ref, disk, sent, lambda *_: None)
    finally:
        sent.close()


def client(aws: EmulatedClouds, service: str) -> Any:
    arguments: dict[str, Any] = {**aws.client_arguments(), "region_name": REGION}
    return boto3.client(service, **arguments)  # type: ignore[call-overload]


def deny(aws: EmulatedClouds, operation: str, **fields: str) -> None:
    aws.faults.add(FaultRule(Fault(Effect.REFUSE, ErrorClass.DENIED), operation=operation, fields=fields, times=0))


def read_back(aws: EmulatedClouds, snapshot_id: str, size_bytes: int) -> str:
    """The SHA-256 of what the snapshot holds, by EBS' own reading calls."""
    ebs = client(aws, "ebs")
    tokens = {
        each["BlockIndex"]: each["BlockToken"] for each in ebs.list_snapshot_blocks(SnapshotId=snapshot_id)["Blocks"]
    }
    digest = hashlib.sha256()
    for index in range(-(-size_bytes // BLOCK_BYTES)):
        block = bytes(BLOCK_BYTES)
        if index in tokens:
            got = ebs.get_snapshot_block(SnapshotId=snapshot_id, BlockIndex=index, BlockToken=tokens[index])
            block = got["BlockData"].read()
            assert got["Checksum"] == base64.b64encode(hashlib.sha256(block).digest()).decode()
        digest.update(block[: size_bytes - index * BLOCK_BYTES])
    return digest.hexdigest()


def puts(aws: EmulatedClouds) -> int:
    return sum(call.action == "PutSnapshotBlock" for call in aws.journal())


def test_what_arrives_is_the_disk_and_zeros_are_not_sent(
    aws: EmulatedClouds, connector: AwsConnector, snapshot: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        filled = fill(connector, snapshot, disk, tmp_path)
        assert connector.observe(snapshot).attributes[FILLED] == YES
        assert read_back(aws, snapshot.id, disk.size_bytes) == disk.sha256
    assert filled.parts_sent == puts(aws) == 6
    assert filled.bytes_sent == 6 * BLOCK_BYTES
    assert filled.bytes_skipped == 18 * BLOCK_BYTES


def test_a_gibibyte_with_holes_is_a_matter_of_its_blocks(
    aws: EmulatedClouds, connector: AwsConnector, snapshot: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path, GIB, ((0, 600), (300 * MIB, 5 * MIB), (GIB - 512, 512))) as disk:
        filled = fill(connector, snapshot, disk, tmp_path)
        assert filled.parts_sent == 12
        assert read_back(aws, snapshot.id, disk.size_bytes) == disk.sha256


def test_a_killed_upload_sends_only_what_is_missing(
    aws: EmulatedClouds, connector: AwsConnector, snapshot: Ref, tmp_path: Path
) -> None:
    deny(aws, "PutSnapshotBlock", BlockIndex="17")
    with make_disk(tmp_path) as disk:
        with pytest.raises(CloudError) as refused:
            fill(connector, snapshot, disk, tmp_path)
        assert refused.value.code == "cloud_denied"
        assert connector.observe(snapshot).attributes[FILLED] == NO
        aws.faults.clear()
        sent_before = puts(aws)
        filled = fill(connector, snapshot, disk, tmp_path)
        assert filled.parts_kept == 5
        assert filled.parts_sent == 1
        assert puts(aws) == sent_before + 1
        assert read_back(aws, snapshot.id, disk.size_bytes) == disk.sha256


def test_a_lost_note_of_what_was_sent_costs_no_more_than_sending_it_again(
    aws: EmulatedClouds, connector: AwsConnector, snapshot: Ref, tmp_path: Path
) -> None:
    deny(aws, "CompleteSnapshot")
    with make_disk(tmp_path) as disk:
        with pytest.raises(CloudError):
            fill(connector, snapshot, disk, tmp_path)
        aws.faults.clear()
        (tmp_path / "sent").write_text("half a li")
        assert fill(connector, snapshot, disk, tmp_path).parts_sent == 6
        assert read_back(aws, snapshot.id, disk.size_bytes) == disk.sha256


def test_filling_what_is_full_sends_nothing(
    aws: EmulatedClouds, connector: AwsConnector, snapshot: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        fill(connector, snapshot, disk, tmp_path)
        before = puts(aws)
        assert fill(connector, snapshot, disk, tmp_path).parts_sent == 0
        assert puts(aws) == before


def test_a_block_that_was_damaged_on_its_way_is_refused(aws: EmulatedClouds, snapshot: Ref) -> None:
    ebs = client(aws, "ebs")
    right = base64.b64encode(hashlib.sha256(bytes(BLOCK_BYTES)).digest()).decode()
    put: dict[str, Any] = {"SnapshotId": snapshot.id, "BlockIndex": 0, "Checksum": right, "ChecksumAlgorithm": "SHA256"}
    with pytest.raises(ebs.exceptions.ValidationException, match="checksum"):
        ebs.put_snapshot_block(**put, BlockData=b"\x01" + bytes(BLOCK_BYTES - 1), DataLength=BLOCK_BYTES)
    ebs.put_snapshot_block(**put, BlockData=bytes(BLOCK_BYTES), DataLength=BLOCK_BYTES)
    end: dict[str, Any] = {
        "ChecksumAlgorithm": "SHA256",
        "ChecksumAggregationMethod": "LINEAR",
        "ChangedBlocksCount": 1,
    }
    with pytest.raises(ebs.exceptions.ValidationException, match="checksum"):
        ebs.complete_snapshot(SnapshotId=snapshot.id, **end, Checksum=base64.b64encode(bytes(32)).decode())


def test_the_registered_image_boots_by_uefi_and_takes_imdsv2_only(
    aws: EmulatedClouds, connector: AwsConnector, snapshot: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        fill(connector, snapshot, disk, tmp_path)
    asked = wanted(Kind.IMAGE, 2, REGION, needs={"snapshot": snapshot.id}, inputs={"arch": "arm64"})
    image = made(connector, asked)
    assert made(connector, asked, "another token") == image
    ec2 = client(aws, "ec2")
    [told] = ec2.describe_images(ImageIds=[image.id])["Images"]
    assert (told["BootMode"], told["ImdsSupport"], told["EnaSupport"]) == ("uefi", "v2.0", True)
    assert told["Architecture"] == "arm64"
    assert told["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == snapshot.id


def test_an_image_is_not_registered_from_a_snapshot_that_is_being_filled(
    connector: AwsConnector, snapshot: Ref
) -> None:
    asked = wanted(Kind.IMAGE, 2, REGION, needs={"snapshot": snapshot.id}, inputs={"arch": "amd64"})
    with pytest.raises(CloudError) as refused:
        connector.begin_create(asked, "token")
    assert refused.value.code == "cloud_conflict"


def test_snapshot_and_image_are_listed_and_go_in_their_order(
    aws: EmulatedClouds, connector: AwsConnector, snapshot: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        fill(connector, snapshot, disk, tmp_path)
    image = made(connector, wanted(Kind.IMAGE, 2, REGION, needs={"snapshot": snapshot.id}, inputs={"arch": "amd64"}))
    listed = {each.ref.id for page in connector.list(Scope("f-disks", (REGION,))) for each in page}
    assert listed == {snapshot.id, image.id}
    with pytest.raises(CloudError) as refused:
        connector.begin_delete(snapshot)
    assert refused.value.code == "cloud_in_use"
    for ref in (image, snapshot):
        connector.begin_delete(ref)
        assert connector.observe(ref).state is State.GONE
    assert aws.world() == ()
