"""Boots an image for real: QEMU with a cloud's firmware, disk and network, and nothing of it leaves this machine.

The machine has one card in QEMU's own user-mode network, which needs no rights and touches no card of the host. From
inside, ``HOST`` is this machine's loopback, where the scheduler is; ``METADATA`` leads to an emulated cloud's metadata
service, if one is given. Nothing in the image knows that it is not on a cloud.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from grafos_cellimage import tools
from grafos_cellimage.disk import copy_sparsely
from grafos_cellimage.record import BakedImage
from grafos_cellimage.root import NATIVE
from grafos_core.errors import GrafosError

HOST, NETWORK, FIRST, METADATA = "169.254.169.2", "169.254.169.0/24", "169.254.169.15", "169.254.169.254"
"""The machine's network: a piece of link-local space, for there the metadata service has its place in every cloud."""
CREDENTIAL = "grafos.cell"
MEMORY_MB, CORES = 1024, 2
MEMORY_MB_MIN = 768
"""The root alone takes two hundred; with 512 the firmware has no room left to unpack it."""
PLAIN, AWS, GCP, AZURE = "plain", "aws", "gcp", "azure"
POLL_S = 0.2
RELAY = """
import os, socket, threading
there = socket.create_connection(("127.0.0.1", {port}))
def answers():
    while data := there.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=answers).start()
while data := os.read(0, 65536):
    there.sendall(data)
there.shutdown(socket.SHUT_WR)
"""
"""One connection of the machine's to the metadata service, over this program's input and output."""


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
    """QEMU for one architecture, and where Debian keeps the firmware for it: its code, and a fresh memory of it."""

    program: str
    machine: str
    processor: str
    code: str
    memory: str
    package: str


EMULATORS = {
    "amd64": Emulator(
        "qemu-system-x86_64",
        "q35,sata=off,usb=off",
        "max,-cx16",
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
        "ovmf",
    ),
    "arm64": Emulator(
        "qemu-system-aarch64",
        "virt",
        "max,pauth-impdef=on",
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
        "qemu-efi-aarch64",
    ),
}
"""QEMU 7.2 emulates one instruction of the newest processors wrongly (``cx16``), and the kernel falls over it."""


class Asked(msgspec.Struct, frozen=True):
    """One boot: how the machine is dressed, what it is told by its firmware, and where its cloud's metadata service
    listens here (0: it has none)."""

    dress: str = PLAIN
    credential: str = ""
    metadata_port: int = 0
    memory_mb: int = MEMORY_MB


def command(image: BakedImage, asked: Asked, folder: Path, *, accelerated: bool) -> list[str]:
    """QEMU's command line for a machine whose disk and firmware lie in ``folder``."""
    emulator, dress = EMULATORS[image.arch], DRESSES[asked.dress]
    network = f"user,id=net,net={NETWORK},host={HOST},dhcpstart={FIRST}"
    if asked.metadata_port:
        relay = folder / "relay.py"
        network += f",guestfwd=tcp:{METADATA}:80-cmd:{sys.executable} -I -S {relay}"
    words = [emulator.program, "-machine", emulator.machine, "-smp", str(CORES), "-m", str(asked.memory_mb)]
    words += ["-accel", "kvm", "-cpu", "host"] if accelerated else ["-accel", "tcg", "-cpu", emulator.processor]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-rtc", "base=utc"]
    words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={emulator.code}"]
    words += ["-drive", f"if=pflash,unit=1,format=raw,file={folder / 'firmware'}"]
    words += ["-drive", f"if=none,id=disk,format=raw,discard=unmap,file={folder / 'disk.raw'}"]
    words += [word for device in dress.disk for word in ("-device", device)]
    words += [word for line in dress.firmware for word in ("-smbios", line)]
    words += ["-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="]
    words += ["-device", "virtio-rng-pci"]
    words += ["-serial", f"file:{folder / 'console.log'}", "-qmp", f"unix:{folder / 'control'},server=on,wait=off"]
    if asked.credential:
        words += ["-fw_cfg", f"name=opt/io.systemd.credentials/{CREDENTIAL},file={folder / 'credential'}"]
    return words


def is_accelerated(arch: str, processor: str, *, has_kvm: bool, machine: str) -> bool:
    """Whether this machine's processor can run the image itself: it is of that kind, and says that it virtualizes. The
    device alone says little: it is there in machines that cannot."""
    words = set(processor.split())
    return has_kvm and NATIVE.get(machine) == arch and (arch == "arm64" or bool(words & {"svm", "vmx"}))


class Machine:
    """A machine that boots an image. Its disk is a copy, which a power cycle keeps; the image stays what it is."""

    def __init__(self, image: BakedImage, asked: Asked, folder: Path) -> None:
        self.image, self.asked, self.folder = image, asked, folder
        self._process: subprocess.Popen[bytes] | None = None
        if asked.dress not in DRESSES or asked.memory_mb < MEMORY_MB_MIN:
            raise GrafosError(
                "config_invalid",
                f"a machine like {asked.dress!r} with {asked.memory_mb} MB cannot boot the image",
                why=f"known: {', '.join(DRESSES)}; it needs {MEMORY_MB_MIN} MB",
            )
        check_emulator(image.arch)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk = folder / "disk.raw"
        if not disk.exists():
            with disk.open("wb") as file:
                file.truncate(image.size_bytes)
            copy_sparsely(image.path, disk, 0)
            (folder / "firmware").write_bytes(Path(EMULATORS[image.arch].memory).read_bytes())
        for name, text in (("credential", asked.credential), ("relay.py", RELAY.format(port=asked.metadata_port))):
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(text)

    @property
    def console(self) -> str:
        """All that the machine has said."""
        try:
            return (self.folder / "console.log").read_text("utf-8", "replace")
        except OSError:
            return ""

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def switch_on(self) -> None:
        (self.folder / "control").unlink(missing_ok=True)
        processor = Path("/proc/cpuinfo").read_text()
        has_kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
        accelerated = is_accelerated(self.image.arch, processor, has_kvm=has_kvm, machine=os.uname().machine)
        words = command(self.image, self.asked, self.folder, accelerated=accelerated)
        with (self.folder / "emulator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [tools.find(words[0]), *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def power_button(self) -> None:
        """Asks the machine to end in good order, as a cloud does."""
        self._tell("system_powerdown")

    def reset(self) -> None:
        """As if the power had gone for a moment."""
        self._tell("system_reset")

    def switch_off(self) -> None:
        """Takes the power away."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait(self, until: Callable[[str], bool], seconds: float) -> bool:
        """Whether the console came to say it in time; False as soon as the machine is off without having said it."""
        end = time.monotonic() + seconds
        while not until(self.console):
            if not self.is_on or time.monotonic() > end:
                return until(self.console)
            time.sleep(POLL_S)
        return True

    def wait_off(self, seconds: float) -> bool:
        """Whether the machine switched itself off in time."""
        assert self._process is not None, "it was switched on"
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def complaint(self) -> str:
        """What the emulator itself said."""
        try:
            return (self.folder / "emulator.log").read_text("utf-8", "replace").strip()
        except OSError:
            return ""

    def _tell(self, order: str) -> None:
        with socket.socket(socket.AF_UNIX) as way:
            way.settimeout(10.0)
            way.connect(str(self.folder / "control"))
            lines = way.makefile("rw")
            lines.readline()
            for execute in ("qmp_capabilities", order):
                lines.write(json.dumps({"execute": execute}) + "\n")
                lines.flush()
                lines.readline()


@contextmanager
def booted(image: BakedImage, asked: Asked, folder: Path | None = None) -> Iterator[Machine]:
    """A machine that is on, and is off and gone after the block. With ``folder`` its disk stays there."""
    with tempfile.TemporaryDirectory(prefix="grafos-boot-") as scratch:
        machine = Machine(image, asked, folder or Path(scratch))
        try:
            machine.switch_on()
            yield machine
        finally:
            machine.switch_off()


def check_emulator(arch: str) -> None:
    """``tool_missing`` where no image for the architecture can be booted."""
    emulator = EMULATORS[arch]
    tools.check((emulator.program,))
    if not Path(emulator.code).is_file():
        raise GrafosError(
            "tool_missing",
            f"the firmware for {arch} is not on this machine",
            where=emulator.code,
            next=f"apt-get install --no-install-recommends {emulator.package}",
        )
