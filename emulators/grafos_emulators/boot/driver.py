"""The seam between a machine's life and its processes.

``NoDriver`` is a machine in name only, for tests of the API. ``process.ProcessDriver`` runs the user data, and boots
what was made from a published image as a virtual machine, if it is to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from grafos_emulators.disk_files import DiskFile

AWS, GCP, AZURE = "aws", "gcp", "azure"
RAW, TAR_GZ, VHD = "raw", "tar.gz", "vhd"
"""In what form a cloud keeps an image: the disk itself, an archive with the disk in it, the disk and a footer."""


@dataclass(frozen=True)
class MachineDisk:
    """The disk that a machine was made from, as its cloud keeps what was published: boots as ``arch`` (Debian's word)
    on a machine of ``cloud``, and is told ``user_data``."""

    content: DiskFile
    form: str
    cloud: str
    arch: str
    user_data: bytes = b""


@dataclass(frozen=True)
class MachineSetup:
    """All that a machine is booted with.

    ``address`` is the machine's own loopback address. ``runs_user_data`` is set for our own stock images only: no other
    script is ever executed. ``runs_image`` names the cloud as whose machine one comes up that was made from an image
    which was published there: then not the user data are run, but what the image's units run, which read them.
    ``runs_at_each_boot``: the user data runs at every boot, not at the first alone (a startup script).
    ``environment`` is what every process of the machine finds beside the usual variables: where its metadata are.
    ``disk`` is that of the image, for a driver that boots such.
    """

    machine_id: str
    address: str
    user_data: bytes
    runs_user_data: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    runs_at_each_boot: bool = False
    runs_image: str = ""
    disk: MachineDisk | None = None


class WentOff(Protocol):
    """Told once when a machine is off without having been halted; ``crashed`` if it did not switch itself off."""

    def __call__(self, *, crashed: bool) -> None: ...


class Handle(Protocol):
    """A booted machine, as its driver knows it."""

    @property
    def machine_id(self) -> str: ...


class Driver(Protocol):
    """Boots and halts. No method blocks for long: they are called with the world's lock held."""

    def start(self, setup: MachineSetup, went_off: WentOff) -> Handle | None:
        """Boots; None if there is nothing to halt later. ``went_off`` comes from a thread of the driver's own."""
        ...

    def halt(self, handle: Handle) -> None:
        """Begins to kill every process of the machine. Harmless when repeated."""
        ...

    def ended(self, handle: Handle) -> bool:
        """Whether no process of the machine is left."""
        ...

    def console(self, machine_id: str) -> bytes:
        """The newest part of the console, also of a machine that is gone."""
        ...

    def discard(self, machine_id: str) -> None:
        """Removes the machine's files, but for its console."""
        ...

    def close(self) -> None:
        """Kills all machines and waits until they are dead."""
        ...


class NoDriver:
    """Machines without processes: only their state is emulated."""

    def start(self, setup: MachineSetup, went_off: WentOff) -> Handle | None:  # noqa: ARG002  the driver's shape
        return None

    def halt(self, handle: Handle) -> None: ...

    def ended(self, handle: Handle) -> bool:  # noqa: ARG002  the driver's shape
        return True

    def console(self, machine_id: str) -> bytes:  # noqa: ARG002  the driver's shape
        return b""

    def discard(self, machine_id: str) -> None: ...

    def close(self) -> None: ...
