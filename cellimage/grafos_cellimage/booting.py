"""Boots an image for real: QEMU with a cloud's firmware, disk and network, and nothing of it leaves this machine.

What the machine consists of, and what it reaches, is in ``grafos_core.virtual_machines``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import msgspec

from grafos_cellimage import tied
from grafos_cellimage.disk import copy_sparsely
from grafos_cellimage.record import BakedImage, images_home
from grafos_cellimage.unfinished import unfinished
from grafos_core.errors import GrafosError
from grafos_core.paths import private_folder
from grafos_core.virtual_machines import (
    CREDENTIAL,
    DISK,
    DRESSES,
    EMULATORS,
    FIRMWARE,
    HOST,
    MEMORY_MB,
    METADATA,
    METADATA_PORT,
    PLAIN,
    Hardware,
    can_accelerate,
    check_emulator,
    command,
    escaped,
    told_file,
    told_text,
    way_to,
)

CONSOLE = "console.log"
COPIED = "copied"
"""Written last: of which image the disk is."""
CONTROL = "control"
"""The socket in a machine's folder by which its emulator is told what somebody does to it. It is named without the
folder: a socket's path may have 107 bytes only."""
ANSWER_S_MAX = 30.0
LOOPBACK = "127.0.0.1"
MEMORY_MB_MIN = 768
"""The root alone takes two hundred; with 512 the firmware has no room left to unpack it."""
POLL_S = 0.2


class Asked(msgspec.Struct, frozen=True):
    """One boot: how the machine is dressed, what it is told by its firmware, and where its cloud's metadata service
    listens here (0: it has none).

    ``reaches`` are the places of this machine's loopback (``127.0.0.1:8443``) that it finds at ``HOST``, and then it
    reaches nothing else; None lets it go wherever this machine may. ``clock``: where its clock stands at the start.
    ``any_memory``: it is made although it has too little to be a cell, and says so itself.
    ``beside`` are further credentials by name. Whoever has the firmware may set systemd's own too, and look inside.
    """

    dress: str = PLAIN
    credential: str = ""
    metadata_port: int = 0
    memory_mb: int = MEMORY_MB
    reaches: tuple[str, ...] | None = None
    clock: str = "utc"
    any_memory: bool = False
    beside: Mapping[str, str] = {}

    @property
    def credentials(self) -> dict[str, str]:
        """All that its firmware tells it, by name."""
        return {**({CREDENTIAL: self.credential} if self.credential else {}), **self.beside}

    def hardware(self, arch: str) -> Hardware:
        """The machine that this comes to."""
        places = [place.rpartition(":") for place in self.reaches or ()]
        ways = [way_to(HOST, int(port), address, int(port)) for address, _, port in places]
        if self.metadata_port:
            ways.append(way_to(METADATA, METADATA_PORT, LOOPBACK, self.metadata_port))
        return Hardware(
            arch=arch,
            dress=self.dress,
            credentials=tuple(self.credentials),
            ways=tuple(ways),
            is_apart=self.reaches is not None,
            memory_mb=self.memory_mb,
            clock=self.clock,
        )


class Machine:
    """A machine that boots an image. Its disk is a copy, which a power cycle keeps; the image stays what it is."""

    def __init__(self, image: BakedImage, asked: Asked, folder: Path) -> None:
        self.image, self.asked, self.folder = image, asked, folder.absolute()
        self._process: subprocess.Popen[bytes] | None = None
        if asked.dress not in DRESSES or (asked.memory_mb < MEMORY_MB_MIN and not asked.any_memory):
            raise GrafosError(
                "config_invalid",
                f"a machine like {asked.dress!r} with {asked.memory_mb} MB cannot boot the image",
                why=f"known: {', '.join(DRESSES)}; it needs {MEMORY_MB_MIN} MB",
            )
        check_emulator(image.arch)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _give_disk(image, folder)
        for name, text in asked.credentials.items():
            told_file(folder, name).touch(mode=0o600)
            told_file(folder, name).write_text(told_text(name, text))

    @property
    def console(self) -> str:
        """All that the machine has said."""
        try:
            return (self.folder / CONSOLE).read_text("utf-8", "replace")
        except OSError:
            return ""

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def switch_on(self) -> None:
        """It is off again as soon as this process, or the thread that called this, has ended in whatever way."""
        arch, console = self.image.arch, f"file:{escaped(str(self.folder / CONSOLE))}"
        words = command(self.asked.hardware(arch), self.folder, console, accelerated=can_accelerate(arch))
        words += ["-qmp", f"unix:{CONTROL},server=on,wait=off"]
        with (self.folder / "emulator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", tied.__file__, str(os.getpid()), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def switch_off(self) -> None:
        """Takes the power away."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def press_power_button(self) -> None:
        """As a cloud does that asks a machine to end; ``wait_off`` tells whether it heard it."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as way, way.makefile("rw") as said:
                way.settimeout(ANSWER_S_MAX)
                way.connect(f"/proc/self/fd/{folder}/{CONTROL}")
                said.readline()
                for order in ("qmp_capabilities", "system_powerdown"):
                    said.write(json.dumps({"execute": order}) + "\n")
                    said.flush()
                    said.readline()
        finally:
            os.close(folder)

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


@contextmanager
def booted(image: BakedImage, asked: Asked, folder: Path | None = None) -> Iterator[Machine]:
    """A machine that is on, and is off and gone after the block. With ``folder`` its disk stays there; else it is in
    the cache, and what a killed one left there goes when the next is booted."""
    with unfinished(private_folder(images_home()), ".boot-") if folder is None else nullcontext(folder) as place:
        machine = Machine(image, asked, place)
        try:
            machine.switch_on()
            yield machine
        finally:
            machine.switch_off()


def _give_disk(image: BakedImage, folder: Path) -> None:
    """A copy of the image's disk, unless the folder has one of that image already, and all of it."""
    told = folder / COPIED
    if told.is_file() and told.read_text() == image.sha256:
        return
    told.unlink(missing_ok=True)
    with (folder / DISK).open("wb") as file:
        file.truncate(image.size_bytes)
    copy_sparsely(image.path, folder / DISK, 0)
    (folder / FIRMWARE).write_bytes(Path(EMULATORS[image.arch].memory).read_bytes())
    told.write_text(image.sha256)
