"""What a virtual machine on this machine consists of: QEMU's command line, with a cloud's firmware, disk and network.

Its one card is in QEMU's own user-mode network, which needs no rights and touches no card of the host. From inside,
``HOST`` is this machine's loopback and ``METADATA`` a cloud's metadata service, each as far as a ``Way`` leads there;
beyond the ways a machine that is kept apart reaches nothing. Nothing in an image knows that it is not on a cloud.
"""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import sys
from pathlib import Path

import msgspec

from grafos_core import carrying
from grafos_core.errors import GrafosError

HOST, METADATA = "169.254.169.2", "169.254.169.254"
NETWORK, GATEWAY, FIRST = "169.254.169.0/24", "169.254.169.1", "169.254.169.15"
"""The machine's network: a piece of link-local space, for there the metadata service has its place in every cloud."""
METADATA_PORT = 80
CREDENTIAL = "grafos.cell"
CORES = 2
MEMORY_MB = 1024
PLAIN, AWS, AZURE, GCP = "plain", "aws", "azure", "gcp"
DISK, FIRMWARE = "disk.raw", "firmware"
"""The files of a machine's folder: its disk, and its firmware's memory."""
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}


class Dress(msgspec.Struct, frozen=True):
    """How a cloud's machine looks from inside: how its disk is attached, and what its firmware says of itself."""

    disk: tuple[str, ...]
    firmware: tuple[str, ...] = ()


DRESSES = {
    PLAIN: Dress(("virtio-blk-pci,drive=disk",)),
    AWS: Dress(("nvme,drive=disk,serial=vol0",), ("type=0,vendor=Amazon EC2,uefi=on",)),
    GCP: Dress(("virtio-scsi-pci,id=scsi", "scsi-hd,drive=disk,bus=scsi.0"), ("type=1,product=Google Compute Engine",)),
    AZURE: Dress(
        ("virtio-scsi-pci,id=scsi", "scsi-hd,drive=disk,bus=scsi.0"), ("type=3,asset=7783-7084-3265-9085-8269-3286-77",)
    ),
}
"""Azure's own bus for disks is Hyper-V's, which QEMU has not; the firmware's words are what the image goes by."""


class Emulator(msgspec.Struct, frozen=True):
    """QEMU for one architecture, and where Debian keeps the firmware for it: its code, and a fresh memory of it.
    ``packages`` are Debian's with both."""

    program: str
    machine: str
    processor: str
    code: str
    memory: str
    packages: str


EMULATORS = {
    "amd64": Emulator(
        "qemu-system-x86_64",
        "q35,sata=off,usb=off",
        "max,-cx16",
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
        "ovmf qemu-system-x86",
    ),
    "arm64": Emulator(
        "qemu-system-aarch64",
        "virt",
        "max,pauth-impdef=on",
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
        "qemu-efi-aarch64 qemu-system-arm",
    ),
}
"""QEMU 7.2 emulates one instruction of the newest processors wrongly (``cx16``), and the kernel falls over it."""


class Way(msgspec.Struct, frozen=True):
    """A place in the machine's network, and the program that carries each connection to it, by input and output."""

    address: str
    port: int
    program: tuple[str, ...]


class Hardware(msgspec.Struct, frozen=True):
    """One machine. ``credentials`` are the names of systemd's credentials that its firmware has for it, each in the
    file ``told_file`` of its folder. ``is_apart``: it reaches nothing but what its
    ``ways`` lead to; else all that this machine does, and at ``HOST`` the loopback. ``doors`` are places on this
    machine (address and port) at which the same port of that one is reached. ``clock`` is where its clock stands
    when it is switched on, as in ``1970-01-01``."""

    arch: str
    dress: str = PLAIN
    credentials: tuple[str, ...] = ()
    ways: tuple[Way, ...] = ()
    doors: tuple[tuple[str, int], ...] = ()
    is_apart: bool = True
    memory_mb: int = MEMORY_MB
    clock: str = "utc"


def check_emulator(arch: str) -> None:
    """``tool_missing`` where no machine of that architecture can be started, with what is not there."""
    emulator = EMULATORS[arch]
    here = {emulator.program: shutil.which(emulator.program), emulator.code: Path(emulator.code).is_file()}
    if missing := [what for what, found in here.items() if not found]:
        raise GrafosError(
            "tool_missing",
            f"what starts machines for {arch} is not on this machine: {', '.join(missing)}",
            next=f"apt-get install --no-install-recommends {emulator.packages}",
        )


def told_file(folder: Path, name: str) -> Path:
    """Where a machine's folder has what its firmware tells: the credential of that name, as ``told_text`` puts it."""
    return folder / f"credential-{name}"


def told_text(name: str, text: str) -> str:
    """What that file says. It is read as a string of SMBIOS, which systemd finds on every machine that has firmware;
    QEMU's own way for it to be told is looked for only where the machine seems to be QEMU's, and a dressed one does
    not. In base64, for it may have lines."""
    return f"io.systemd.credential.binary:{name}={base64.b64encode(text.encode()).decode()}"


def way_to(address: str, port: int, here: str, here_port: int) -> Way:
    """A way from a place in the machine's network to one on this machine."""
    return Way(address, port, (sys.executable, "-I", "-S", str(carrying.__file__), here, str(here_port)))


def command(asked: Hardware, folder: Path, console: str, *, accelerated: bool) -> list[str]:
    """QEMU's command line for a machine whose disk and firmware lie in ``folder``; ``console`` is where its serial port
    leads, in QEMU's words."""
    emulator, dress, place = EMULATORS[asked.arch], DRESSES[asked.dress], escaped(str(folder))
    words = [emulator.program, "-machine", emulator.machine, "-smp", str(CORES), "-m", str(asked.memory_mb)]
    words += ["-accel", "kvm", "-cpu", "host"] if accelerated else ["-accel", "tcg", "-cpu", emulator.processor]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-rtc", f"base={asked.clock}"]
    words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={emulator.code}"]
    words += ["-drive", f"if=pflash,unit=1,format=raw,file={place}/{FIRMWARE}"]
    words += ["-drive", f"if=none,id=disk,format=raw,discard=unmap,file={place}/{DISK}"]
    words += [word for device in dress.disk for word in ("-device", device)]
    words += [word for line in dress.firmware for word in ("-smbios", line)]
    words += ["-netdev", network(asked), "-device", "virtio-net-pci,netdev=net,romfile="]
    words += ["-device", "virtio-rng-pci"]
    words += ["-serial", console]
    for name in asked.credentials:
        words += ["-smbios", f"type=11,path={escaped(str(told_file(folder, name)))}"]
    return words


def network(asked: Hardware) -> str:
    """The machine's network in QEMU's words."""
    place = f"host={GATEWAY},restrict=on" if asked.is_apart else f"host={HOST}"
    parts = ["user", "id=net", f"net={NETWORK}", place, f"dhcpstart={FIRST}"]
    parts += [f"hostfwd=tcp:{here}:{port}-{FIRST}:{port}" for here, port in asked.doors]
    parts += [f"guestfwd=tcp:{way.address}:{way.port}-cmd:{escaped(shlex.join(way.program))}" for way in asked.ways]
    return ",".join(parts)


def escaped(text: str) -> str:
    """As a value in one of QEMU's lists: a comma in it stands twice."""
    return text.replace(",", ",,")


def is_accelerated(arch: str, processor: str, *, has_kvm: bool, machine: str) -> bool:
    """Whether this machine's processor can run the machine itself: it is of that kind, and says that it virtualizes.
    The device alone says little: it is there in machines that cannot."""
    words = set(processor.split())
    return has_kvm and NATIVE.get(machine) == arch and (arch == "arm64" or bool(words & {"svm", "vmx"}))


def can_accelerate(arch: str) -> bool:
    """The same of the machine that this runs on."""
    has_kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    processor = Path("/proc/cpuinfo").read_text()
    return is_accelerated(arch, processor, has_kvm=has_kvm, machine=os.uname().machine)
