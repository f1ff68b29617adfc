"""Machines that really boot: the disk of a published image, under QEMU, as a machine of the cloud that keeps it.

It is in QEMU's own network, so no network namespace is made, no right is needed and no card of the host is touched. It
reaches its own metadata service, and those places of the host's loopback that its user data name: nothing else. An
emulated machine is told such addresses as they are on its host; from inside, the host's loopback is ``HOST``, so that
is what the metadata service tells this machine. The port that its user data name is reached at the machine's address,
which is another one inside.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from grafos_core.virtual_machines import (
    DISK,
    EMULATORS,
    FIRMWARE,
    FIRST,
    HOST,
    METADATA,
    METADATA_PORT,
    Hardware,
    Way,
    can_accelerate,
    command,
    way_to,
)
from grafos_emulators.boot import metadata_way
from grafos_emulators.boot.driver import MachineDisk, MachineSetup

LOOPBACK = re.compile(rb"https://(127\.\d{1,3}\.\d{1,3}\.\d{1,3}):(\d{1,5})\b")
DOOR = re.compile(rb'\\?"port\\?": ?(\d{4,5})\b')
"""In a document within a document the quotes are escaped."""
SETTINGS = "keeper.json"
ON_CONSOLE = "stdio"  # which the keeper has on the machine's console


def lay_out(root: Path, setup: MachineSetup) -> None:
    """Makes the machine's folder for a boot. Disk and firmware are put there by its keeper, once: the one is large, and
    where the other is missing the machine's console says so."""
    disk = setup.disk
    assert disk is not None, "it was made from an image"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = command(hardware(setup, disk), root, ON_CONSOLE, accelerated=can_accelerate(disk.arch))
    kept = {
        "command": words,
        "disk": DISK,
        "form": disk.form,
        "size_bytes": disk.content.size_bytes,
        "memory": FIRMWARE,
        "fresh_memory": EMULATORS[disk.arch].memory,
    }
    (root / SETTINGS).write_text(json.dumps(kept))


def hardware(setup: MachineSetup, disk: MachineDisk) -> Hardware:
    """The virtual machine that stands for this one."""
    [metadata] = setup.environment.values()
    places = named(disk.user_data)
    ways = [way_to(HOST, port, address, port) for port, address in places.items()]
    ways.append(_metadata_way(metadata, setup.address, places))
    doors = tuple((setup.address, int(port)) for port in DOOR.findall(disk.user_data))
    return Hardware(disk.arch, disk.cloud, ways=tuple(ways), doors=doors)


def named(user_data: bytes) -> dict[int, str]:
    """The places of the host's loopback that user data name: the address of each port."""
    return {int(port): address.decode() for address, port in LOOPBACK.findall(user_data)}


def _metadata_way(metadata: str, address: str, places: dict[int, str]) -> Way:
    """Its own metadata service, at the address where every machine has it."""
    url = urlsplit(metadata)
    own = f"{address}={FIRST}"
    program = (sys.executable, "-I", "-S", metadata_way.__file__, url.netloc, url.path.rstrip("/"), own, HOST)
    return Way(METADATA, METADATA_PORT, (*program, *(f"{address}:{port}" for port, address in places.items())))
