"""A disk goes to Cloud Storage as the archive that Compute Engine takes, and comes back as the same bytes."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import FABRIC, made, make_disk, sha256_of, wanted

from grafos_connectors.contract import CloudError, Kind, Ref, Scope, State
from grafos_connectors.gcp import storage
from grafos_connectors.gcp.connector import GcpConnector
from grafos_connectors.gcp.images import FEATURES
from grafos_connectors.gcp.tarball import SEGMENT_BYTES, archive_of
from grafos_connectors.uploads import FILLED, GIB, MIB, NO, YES, Disk, Filled, Sent
from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_emulators.gcp.images import unpacked
from grafos_emulators.lifecycle import LifecycleTimes

REGION = "us-central1"
AT_ONCE = LifecycleTimes(starting_s=0.0, stopping_s=0.0, ending_s=0.0)


@pytest.fixture
def gcp(tmp_path: Path) -> Iterator[EmulatedClouds]:
    settings = Settings(clouds=("gcp",), times=AT_ONCE, boots=False)
    with EmulatedClouds(tmp_path / "gcp", settings, clock=VirtualClock()) as clouds:
        yield clouds


@pytest.fixture
def connector(gcp: EmulatedClouds) -> GcpConnector:
    return GcpConnector(REGION, environment=gcp.environment(), listing_lag_s=0.0)


@pytest.fixture
def bucket(connector: GcpConnector) -> Ref:
    return made(connector, wanted(Kind.BUCKET, 1, REGION))


def fill(connector: GcpConnector, ref: Ref, disk: Disk, folder: Path) -> Filled:
    """In small chunks."""
    sent = Sent(folder / "sent", ref, disk.sha256)
    try:
        return storage.fill_bucket(connector._calls, ref, disk, sent, lambda *_: None, 256 * 1024)
    finally:
        sent.close()


def read_back(gcp: EmulatedClouds, image: Ref, size_bytes: int) -> str:
    """The SHA-256 of the disk that the image was made from, up to the size that it had here."""
    digest, left = hashlib.sha256(), size_bytes
    with unpacked(gcp.gcp.image_archives[image.id]) as members:
        member = members.next()
        assert member is not None
        assert member.size == GIB
        content = members.extractfile(member)
        assert content is not None
        while left and (data := content.read(min(left, MIB))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def test_what_arrives_is_the_disk_and_the_image_says_what_it_can(
    gcp: EmulatedClouds, connector: GcpConnector, bucket: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        filled = fill(connector, bucket, disk, tmp_path)
        assert connector.observe(bucket).attributes[FILLED] == YES
        assert filled.bytes_skipped > 9 * MIB
        image = made(connector, wanted(Kind.IMAGE, 2, REGION, {"bucket": bucket.id}, {"arch": "arm64"}))
        assert read_back(gcp, image, disk.size_bytes) == disk.sha256
    document = gcp.gcp.resources[image.id].body
    assert document["architecture"] == "ARM64"
    assert [feature["type"] for feature in document["guestOsFeatures"]] == list(FEATURES)
    assert document["storageLocations"] == [REGION]


def test_the_archive_is_one_that_tar_reads_with_all_its_holes(tmp_path: Path) -> None:
    islands = tuple((number * 20 * MIB + 17, 40) for number in range(51))  # more than one record of the map
    with make_disk(tmp_path, GIB, islands) as disk:
        archive = archive_of(disk, tmp_path / "disk.tar.gz")
        assert archive.size_bytes < MIB
        with tarfile.open(archive.path) as members:
            [member] = members.getmembers()
            assert (member.name, member.size, member.mtime) == ("disk.raw", GIB, 0)
            content = members.extractfile(member)
            assert content is not None
            for offset, length in islands:
                content.seek(offset - 5)
                assert content.read(length + 10) == disk.read(offset - 5, length + 10)


def test_the_same_disk_gives_the_same_archive(tmp_path: Path) -> None:
    with make_disk(tmp_path) as disk:
        archive_of(disk, tmp_path / "one")
        archive_of(disk, tmp_path / "two")
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")


@pytest.mark.parametrize("size", [1, SEGMENT_BYTES, 5 * SEGMENT_BYTES + 3])
def test_a_disk_of_any_size_becomes_whole_gibibytes(tmp_path: Path, size: int) -> None:
    with make_disk(tmp_path, size, ((0, size),)) as disk:
        archive_of(disk, tmp_path / "archive")
        with tarfile.open(tmp_path / "archive") as members:
            member = members.getmembers()[0]
            content = members.extractfile(member)
            assert content is not None
            assert member.size == GIB
            assert hashlib.sha256(content.read(size)).hexdigest() == disk.sha256
            assert content.read(MIB) == bytes(MIB)


def test_a_killed_upload_goes_on_where_it_was(
    gcp: EmulatedClouds, connector: GcpConnector, bucket: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        gcp.faults.add(FaultRule(Fault(Effect.DELAY, after_s=0.0), operation="objects.upload", times=3))
        refuse = Fault(Effect.REFUSE, ErrorClass.DENIED)
        gcp.faults.add(FaultRule(refuse, operation="objects.upload", times=0))
        with pytest.raises(CloudError) as refused:
            fill(connector, bucket, disk, tmp_path)
        assert refused.value.code == "cloud_denied"
        assert connector.observe(bucket).attributes[FILLED] == NO
        gcp.faults.clear()
        filled = fill(connector, bucket, disk, tmp_path)
        assert filled.parts_kept == 3
        image = made(connector, wanted(Kind.IMAGE, 2, REGION, {"bucket": bucket.id}, {"arch": "amd64"}))
        assert read_back(gcp, image, disk.size_bytes) == disk.sha256


def test_an_upload_that_is_forgotten_is_begun_anew(connector: GcpConnector, bucket: Ref, tmp_path: Path) -> None:
    with make_disk(tmp_path) as disk:
        sent = Sent(tmp_path / "sent", bucket, disk.sha256)
        fill(connector, bucket, disk, tmp_path)
        sent.keep(Sent(tmp_path / "sent", bucket, disk.sha256).note[:-4] + "dead")
        sent.close()
        connector.begin_delete(Ref("", Kind.OBJECT, f"{bucket.id}/o/{storage.OBJECT}", REGION))
        assert fill(connector, bucket, disk, tmp_path).parts_kept == 0
    assert connector.observe(bucket).attributes[FILLED] == YES


def test_no_credential_goes_to_an_address_that_is_not_the_storages(
    connector: GcpConnector, bucket: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        sent = Sent(tmp_path / "sent", bucket, disk.sha256)
        sent.keep("http://127.0.0.1:9/upload")
        with pytest.raises(CloudError) as refused:
            connector.fill(bucket, disk, sent, lambda *_: None)
        sent.close()
    assert refused.value.code == "cloud_unknown"


def test_bucket_archive_and_image_are_listed_and_go_in_their_order(
    gcp: EmulatedClouds, connector: GcpConnector, bucket: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        fill(connector, bucket, disk, tmp_path)
    image = made(connector, wanted(Kind.IMAGE, 2, REGION, {"bucket": bucket.id}, {"arch": "amd64"}))
    listed = {each.ref.kind: each.ref for page in connector.list(Scope(FABRIC, (REGION,))) for each in page}
    assert set(listed) == {Kind.IMAGE, Kind.BUCKET, Kind.OBJECT}
    with pytest.raises(CloudError) as refused:
        connector.begin_delete(bucket)
    assert refused.value.code == "cloud_in_use"
    for ref in (image, listed[Kind.OBJECT], bucket):
        connector.begin_delete(ref)
        assert connector.observe(ref).state is State.GONE
    assert gcp.world() == ()


def test_somebody_elses_bucket_of_the_name_is_a_conflict(connector: GcpConnector, bucket: Ref) -> None:
    other = wanted(Kind.BUCKET, 2, REGION)
    taken = type(other)(**{**{name: getattr(other, name) for name in other.__struct_fields__}, "name": bucket.id[2:]})
    with pytest.raises(CloudError) as refused:
        connector.begin_create(taken, "token")
    assert refused.value.code == "cloud_conflict"


def test_without_the_right_to_look_at_buckets_everything_else_is_listed(
    gcp: EmulatedClouds, connector: GcpConnector
) -> None:
    gcp.gcp.denied.add("storage.buckets.list")
    assert list(connector.list(Scope(FABRIC, (REGION,)))) == []
