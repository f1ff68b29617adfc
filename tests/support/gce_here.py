"""The emulated Google Cloud alone, in the test's process, without the other clouds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from grafos_core.clock import Clock
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.lifecycle import LifecycleTimes

if TYPE_CHECKING:
    from grafos_emulators.gcp.front import GcpFront


QUICK = LifecycleTimes(starting_s=0.05, stopping_s=0.05, ending_s=0.05)  # for machines that boot in real time


class GceHere(EmulatedClouds):
    def __init__(self, state_dir: Path, *, clock: Clock, boots: bool) -> None:
        super().__init__(state_dir, Settings(("gcp",), QUICK if boots else LifecycleTimes(), boots), clock=clock)

    @property
    def front(self) -> GcpFront:
        return cast("GcpFront", self._fronts["gcp"])

    @property
    def architecture(self) -> str:
        """GCE's word for the host's, whose image alone runs a startup script."""
        return self.gcp.architecture
