"""The seam between a machine's life and its processes.

``NoDriver`` is a machine in name only, for tests of the API. ``process.ProcessDriver`` runs the user data. A driver
that boots disk images in a virtual machine would stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

GCP, AZURE = "gcp", "azure"


@dataclass(frozen=True)
class MachineSetup:
    """All that a machine is booted with.

    ``address`` is the machine's own loopback address. ``runs_user_data`` is set for our own stock images only: no other
    script is ever executed. ``runs_image`` names the cloud as whose machine one comes up that was made from an image
    which was published there: then not the user data are run, but what the image's units run, which read them.
    ``runs_at_each_boot``: the user data runs at every boot, not at the first alone (a startup script).
    ``environment`` is what every process of the machine finds beside the usual variables.
    """

    machine_id: str
    address: str
    user_data: bytes
    runs_user_data: bool
    environment: Mapping[str, str] = field(default_factory=dict)
    runs_at_each_boot: bool = False
    runs_image: str = ""


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
