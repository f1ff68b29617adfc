"""A disk goes to Azure as the pages of a VHD that are not zeros, and comes back as the same bytes."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import FABRIC, made, make_disk, wanted

from grafos_connectors.azure.connector import AzureConnector
from grafos_connectors.azure.images import FOOTER_BYTES, PAGES_BYTES, footer, padded_bytes
from grafos_connectors.contract import CloudError, Kind, Ref, Scalar, Scope, State
from grafos_connectors.uploads import FILLED, GIB, MIB, NO, YES, Disk, Filled, Sent
from grafos_core.clock import VirtualClock
from grafos_emulators.disk_files import DiskFile
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_emulators.lifecycle import LifecycleTimes

REGION = "westeurope"
AT_ONCE = LifecycleTimes(starting_s=0.0, stopping_s=0.0, ending_s=0.0)


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[EmulatedClouds]:
    settings = Settings(clouds=("azure",), times=AT_ONCE, boots=False)
    with EmulatedClouds(tmp_path / "azure", settings, clock=VirtualClock()) as clouds:
        yield clouds


@pytest.fixture
def connector(azure: EmulatedClouds) -> AzureConnector:
    return AzureConnector(REGION, environment=azure.environment(), listing_lag_s=0.0)


@pytest.fixture
def group(connector: AzureConnector) -> Ref:
    return made(connector, wanted(Kind.GROUP, 1, REGION))


def empty_disk(connector: AzureConnector, group: Ref, size_bytes: int) -> Ref:
    asked: dict[str, Scalar] = {"arch": "arm64", "disk_bytes": size_bytes}
    return made(connector, wanted(Kind.DISK, 2, REGION, {"group": group.id}, asked))


def image_of(connector: AzureConnector, group: Ref, place: Ref) -> Ref:
    gallery = made(connector, wanted(Kind.GALLERY, 3, REGION, {"group": group.id}))
    family = made(connector, wanted(Kind.IMAGE_FAMILY, 4, REGION, {"gallery": gallery.id}, {"arch": "arm64"}))
    return made(connector, wanted(Kind.IMAGE, 0xABCD1234 << 96, REGION, {"family": family.id, "disk": place.id}))


def fill(connector: AzureConnector, ref: Ref, disk: Disk, folder: Path) -> Filled:
    sent = Sent(folder / "sent", ref, disk.sha256)
    try:
        return connector.fill(ref, disk, sent, lambda *_: None)
    finally:
        sent.close()


def read_back(azure: EmulatedClouds, image: Ref, size_bytes: int) -> str:
    found = azure.azure.store.get(image.id)
    assert found is not None
    pages: DiskFile = found.runtime["pages"]
    digest = hashlib.sha256()
    for offset in range(0, size_bytes, MIB):
        digest.update(pages.read(offset, min(MIB, size_bytes - offset)))
    return digest.hexdigest()


@pytest.mark.parametrize("size_bytes", [12 * MIB, 12 * MIB + 4096, GIB])
def test_what_arrives_is_the_disk_and_zeros_are_not_sent(
    azure: EmulatedClouds, connector: AzureConnector, group: Ref, tmp_path: Path, size_bytes: int
) -> None:
    with make_disk(tmp_path, size_bytes) as disk:
        place = empty_disk(connector, group, disk.size_bytes)
        assert connector.observe(place).attributes[FILLED] == NO
        filled = fill(connector, place, disk, tmp_path)
        assert connector.observe(place).attributes[FILLED] == YES
        assert filled.bytes_sent == 5 * PAGES_BYTES
        image = image_of(connector, group, place)
        assert read_back(azure, image, disk.size_bytes) == disk.sha256


def test_a_disk_that_was_not_filled_becomes_no_image(connector: AzureConnector, group: Ref) -> None:
    place = empty_disk(connector, group, MIB)
    with pytest.raises(CloudError) as refused:
        image_of(connector, group, place)
    assert refused.value.code in {"cloud_conflict", "cloud_invalid", "cloud_in_use"}


def test_a_killed_upload_sends_only_what_is_missing(
    azure: EmulatedClouds, connector: AzureConnector, group: Ref, tmp_path: Path
) -> None:
    refusal = Fault(Effect.REFUSE, ErrorClass.DENIED)
    azure.faults.add(FaultRule(refusal, operation="disks.endGetAccess", times=1))
    with make_disk(tmp_path) as disk:
        place = empty_disk(connector, group, disk.size_bytes)
        with pytest.raises(CloudError):
            fill(connector, place, disk, tmp_path)
        assert connector.observe(place).attributes[FILLED] == NO
        lines = (tmp_path / "sent").read_text().splitlines()
        kept = [line for line in lines if line != lines[-1]]  # as if the last part had not been noted
        (tmp_path / "sent").write_text("\n".join(kept) + "\n")
        filled = fill(connector, place, disk, tmp_path)
        assert (filled.parts_kept, filled.parts_sent) == (4, 1)
        assert read_back(azure, image_of(connector, group, place), disk.size_bytes) == disk.sha256


def test_an_address_that_ran_out_is_asked_for_anew(
    azure: EmulatedClouds, connector: AzureConnector, group: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        place = empty_disk(connector, group, disk.size_bytes)
        sent = Sent(tmp_path / "sent", place, disk.sha256)
        sent.keep(f"{azure.endpoint}/azure/pages/nothing?sig=old")
        sent.close()
        assert fill(connector, place, disk, tmp_path).parts_sent == 5


def test_the_bytes_go_to_no_other_server(connector: AzureConnector, group: Ref, tmp_path: Path) -> None:
    with make_disk(tmp_path) as disk:
        place = empty_disk(connector, group, disk.size_bytes)
        sent = Sent(tmp_path / "sent", place, disk.sha256)
        sent.keep("http://127.0.0.1:9/pages?sig=x")
        with pytest.raises(CloudError) as refused:
            connector.fill(place, disk, sent, lambda *_: None)
        sent.close()
    assert refused.value.code == "cloud_invalid"


def test_all_of_an_image_is_listed_under_names_that_tell_its_keys_and_goes_in_its_order(
    azure: EmulatedClouds, connector: AzureConnector, group: Ref, tmp_path: Path
) -> None:
    with make_disk(tmp_path) as disk:
        place = empty_disk(connector, group, disk.size_bytes)
        fill(connector, place, disk, tmp_path)
    image = image_of(connector, group, place)
    listed = {each.ref.kind: each for page in connector.list(Scope(FABRIC, (REGION,))) for each in page}
    assert set(listed) == {Kind.GROUP, Kind.GALLERY, Kind.IMAGE_FAMILY, Kind.DISK, Kind.IMAGE}
    assert all(found.attributes["name"].endswith(found.ref.key[:8]) for found in listed.values())
    with pytest.raises(CloudError) as refused:
        connector.begin_delete(listed[Kind.GALLERY].ref)
    assert refused.value.code == "cloud_in_use"
    for ref in (image, listed[Kind.IMAGE_FAMILY].ref, listed[Kind.GALLERY].ref, place, group):
        connector.begin_delete(ref)
        assert connector.observe(ref).state is State.GONE
    assert azure.world() == ()


def test_the_footer_is_a_vhds_and_the_same_each_time(tmp_path: Path) -> None:
    made_footer = footer("ab" * 32, 12 * MIB)
    assert made_footer == footer("ab" * 32, 12 * MIB) != footer("cd" * 32, 12 * MIB)
    assert len(made_footer) == FOOTER_BYTES
    assert made_footer[:8] == b"conectix"
    assert struct.unpack(">Q", made_footer[48:56])[0] == 12 * MIB
    assert struct.unpack(">I", made_footer[64:68])[0] == ~(sum(made_footer) - sum(made_footer[64:68])) & 0xFFFFFFFF
    assert padded_bytes(MIB + 1) == 2 * MIB


@pytest.mark.needs("image")
def test_qemu_takes_the_vhd_for_the_raw_disk(tmp_path: Path) -> None:
    with make_disk(tmp_path) as disk:
        vhd = tmp_path / "disk.vhd"
        vhd.write_bytes(disk.path.read_bytes() + footer(disk.sha256, disk.size_bytes))
        compared = ["qemu-img", "compare", "-f", "raw", "-F", "vpc", str(disk.path), str(vhd)]
        assert "identical" in subprocess.run(compared, capture_output=True, text=True, check=False).stdout
