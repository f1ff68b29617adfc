"""What a booted machine consists of, without booting one."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from agents import PATIENCE_S

from grafos_cellimage.booting import COPIED, Asked, Machine
from grafos_cellimage.record import GIB, BakedImage, sha256_of, write_record
from grafos_core.errors import GrafosError
from grafos_core.virtual_machines import AWS, AZURE, DISK, DRESSES, GCP, HOST, METADATA, PLAIN, command, is_accelerated

IMAGE = BakedImage(path=Path("cell.raw"), sha256="0" * 64, size_bytes=GIB, arch="amd64", suite="trixie")
HERE = Path("/here")


def words(asked: Asked, image: BakedImage = IMAGE) -> str:
    return " ".join(command(asked.hardware(image.arch), HERE, "file:/here/console.log", accelerated=False))


@pytest.mark.parametrize("dress", DRESSES)
def test_a_machine_has_one_card_and_that_in_a_network_of_its_own(dress: str) -> None:
    told = words(Asked(dress))
    assert told.count("-netdev ") == told.count("-netdev user,id=net,net=169.254.169.0/24") == 1
    assert "hostfwd" not in told
    assert not any(way in told for way in ("tap", "bridge", "-virtfs", "vhost"))


def test_a_machine_that_is_kept_apart_reaches_the_one_place_that_it_may() -> None:
    told = words(Asked(PLAIN, reaches=("127.0.0.1:8443",)))
    assert "restrict=on" in told
    assert told.count("guestfwd=") == told.count(f"guestfwd=tcp:{HOST}:8443-cmd:") == 1
    assert told.count("carrying.py 127.0.0.1 8443") == 1
    assert "restrict" not in words(Asked(PLAIN)), "one that is not may go wherever this machine may"


def test_a_clock_can_stand_anywhere_when_a_machine_is_switched_on() -> None:
    assert "-rtc base=1970-01-01 " in words(Asked(PLAIN, clock="1970-01-01"))


def test_a_folder_with_a_comma_is_one_folder() -> None:
    told = " ".join(command(Asked().hardware("amd64"), Path("/a,b"), "null", accelerated=False))
    assert "file=/a,,b/disk.raw" in told


@pytest.mark.parametrize(
    ("dress", "disk", "firmware"),
    [
        (PLAIN, "virtio-blk-pci", ""),
        (AWS, "nvme", "vendor=Amazon EC2"),
        (GCP, "virtio-scsi-pci", "product=Google Compute Engine"),
        (AZURE, "virtio-scsi-pci", "asset=7783-7084-3265-9085-8269-3286-77"),
    ],
)
def test_a_machine_is_dressed_as_its_clouds(dress: str, disk: str, firmware: str) -> None:
    told = words(Asked(dress))
    assert f"-device {disk}" in told
    assert firmware in told
    assert ("-smbios" in told) is bool(firmware)


def test_what_a_machine_is_told_stands_on_no_command_line() -> None:
    """Everybody on this machine can read those."""
    told = words(Asked(PLAIN, "a-secret"))
    assert "a-secret" not in told
    assert "-smbios type=11,path=/here/credential-grafos.cell" in told
    assert "type=11" not in words(Asked(PLAIN))


def test_the_metadata_service_is_there_if_there_is_one() -> None:
    assert f"guestfwd=tcp:{METADATA}:80-cmd:" in words(Asked(GCP, metadata_port=4711))
    assert METADATA not in words(Asked(GCP)).replace("dhcpstart", "")


def test_the_processor_helps_only_where_it_says_that_it_can() -> None:
    assert is_accelerated("amd64", "flags : fpu vmx sse", has_kvm=True, machine="x86_64")
    assert not is_accelerated("amd64", "flags : fpu sse", has_kvm=True, machine="x86_64")
    assert not is_accelerated("amd64", "flags : fpu vmx sse", has_kvm=False, machine="x86_64")
    assert not is_accelerated("arm64", "flags : fpu vmx sse", has_kvm=True, machine="x86_64")
    assert is_accelerated("arm64", "Features : fp asimd", has_kvm=True, machine="aarch64")


@pytest.mark.parametrize("asked", [Asked(PLAIN, memory_mb=512), Asked("moon")], ids=["too little memory", "no cloud"])
def test_a_machine_that_could_not_boot_it_is_refused_before_anything_is_made(asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(GrafosError) as refused:
        Machine(IMAGE, asked, tmp_path / "machine")
    assert refused.value.code == "config_invalid"
    assert not (tmp_path / "machine").exists()


STARTS_ONE = """
import sys, time
from pathlib import Path
from grafos_cellimage.booting import Asked, booted
from grafos_cellimage.record import read_record

with booted(read_record(Path(sys.argv[1])), Asked(reaches=()), Path(sys.argv[2])) as machine:
    print(machine._process.pid, flush=True)
    time.sleep(600)
"""


def an_image(folder: Path) -> BakedImage:
    """Nothing boots from it: the machine stays in its firmware."""
    disk = folder / "cell.raw"
    disk.write_bytes(bytes(1 << 20))
    image = BakedImage(path=disk, sha256=sha256_of(disk), size_bytes=1 << 20, arch="amd64", suite="trixie")
    write_record(image)
    return image


@pytest.mark.needs("image")
def test_a_machine_does_not_outlive_the_program_that_started_it_however_that_ends(tmp_path: Path) -> None:
    words = (sys.executable, "-c", STARTS_ONE, str(an_image(tmp_path).path), str(tmp_path / "machine"))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        ended = os.pidfd_open(int(program.stdout.readline()))
        try:
            log = tmp_path / "machine" / "emulator.log"
            assert select.select([ended], [], [], 0)[0] == [], f"it runs: {log.read_text()}"
            program.kill()
            assert select.select([ended], [], [], PATIENCE_S)[0] == [ended]
        finally:
            os.close(ended)


@pytest.mark.needs("image")
def test_a_disk_that_was_copied_by_half_or_of_another_image_is_copied_anew(tmp_path: Path) -> None:
    image, folder = an_image(tmp_path), tmp_path / "machine"
    disk = Machine(image, Asked(), folder).folder / DISK
    with disk.open("r+b") as file:
        file.write(b"its state")
    Machine(image, Asked(), folder)
    assert disk.read_bytes().startswith(b"its state"), "a power cycle keeps it"
    (folder / COPIED).unlink()
    Machine(image, Asked(), folder)
    assert disk.read_bytes() == bytes(1 << 20)
    with disk.open("r+b") as file:
        file.write(b"of the other")
    Machine(msgspec.structs.replace(image, sha256="1" * 64), Asked(), folder)
    assert disk.read_bytes() == bytes(1 << 20)
