"""Two emulated clouds to which images are published, a fabric, and the orchestrator that its cells join."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disks import make_disk
from fabrics_orchestrator import FabricsOrchestrator
from publishing import DISK_BYTES, ISLANDS, KEEP_S
from registered import CLOUDS
from registered_operator import QUICK, REGIONS, RegisteredOperator

from grafos_core.clock import SystemClock
from grafos_core.fabric import Fabric, open_fabric
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_stacks.direct import Hands
from grafos_stacks.publishing import publish
from grafos_stacks.publishing_plan import DiskFacts, Publication
from grafos_stacks.spec import BY_TOKEN

HOUR_S = 3600


@dataclass
class Ground:
    """Two emulated clouds, a fabric and its orchestrator."""

    clouds: EmulatedClouds
    fabric: Fabric
    orchestrator: FabricsOrchestrator

    def operator(self, provider: str, folder: Path) -> RegisteredOperator:
        return RegisteredOperator(provider, self.clouds, self.fabric, folder / "project", joining=BY_TOKEN)


@contextmanager
def image_ground(clouds_folder: Path, orchestrator_folder: Path, name: str) -> Iterator[Ground]:
    """All of it, ended with the block."""
    fabric = open_fabric(SystemClock(), name)
    with EmulatedClouds(clouds_folder, Settings(clouds=CLOUDS, times=QUICK)) as clouds:
        orchestrator = FabricsOrchestrator(fabric, orchestrator_folder)
        yield Ground(clouds, fabric, orchestrator)
        orchestrator.discard()


def put_up(operator: RegisteredOperator, folder: Path, arch: str = "amd64", seed: int = 0) -> str:
    """Publishes a disk; the name that its image has."""
    return put_up_at(operator.hands(), REGIONS[operator.provider], folder, arch, seed)


def put_up_at(hands: Hands, region: str, folder: Path, arch: str = "amd64", seed: int = 0) -> str:
    """The same in that region of the connector's cloud."""
    with make_disk(folder, DISK_BYTES, ISLANDS, seed) as disk:
        price = hands.connector.keeping_price(region)  # type: ignore[attr-defined]
        facts, now = DiskFacts(disk.sha256, arch, disk.size_bytes), hands.clock.now()
        asked = Publication(hands.connector.provider, region, facts, price, now, int(now) + KEEP_S)
        return publish(hands, asked, disk).publication.stack
