"""What Google itself offers in the emulated project: regions, zones, machine types, images.

A choice of the real ones, with their real sizes; which zone offers what is close to the real map, not equal to it.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from grafos_emulators.gcp.errors import invalid

ZONES: dict[str, tuple[str, ...]] = {
    "us-central1": ("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"),
    "europe-west1": ("europe-west1-b", "europe-west1-c", "europe-west1-d"),
    "europe-west4": ("europe-west4-a", "europe-west4-b", "europe-west4-c"),
}
ALL_ZONES = tuple(zone for zones in ZONES.values() for zone in zones)
SCOPES_BY_ZONE = tuple(f"zones/{zone}" for zone in ALL_ZONES)
SCOPES_BY_REGION = ("global", *(f"regions/{region}" for region in ZONES))
EVERYWHERE = frozenset(ALL_ZONES)
X86, ARM = "X86_64", "ARM64"
IMAGE_PROJECT = "debian-cloud"
IMAGE_RELEASE = "v20251111"  # the form of Google's own; nothing says that they published that day
IMAGE_GIB = 10


@dataclass(frozen=True)
class MachineType:
    """One machine type. ``family`` is the part of its name that prices and quotas go by."""

    name: str
    vcpus: int
    memory_mib: int
    architecture: str = X86
    shared: bool = False
    zones: frozenset[str] = EVERYWHERE
    gpu: str = ""
    gpus: int = 0

    @property
    def family(self) -> str:
        return self.name.partition("-")[0]

    @property
    def takes_persistent_disks(self) -> bool:
        """C4A machines take Hyperdisks only."""
        return self.family != "c4a"


_T2A = frozenset(
    {"us-central1-a", "us-central1-b", "us-central1-f", "europe-west4-a", "europe-west4-b", "europe-west4-c"}
)
_C4A = EVERYWHERE - {"us-central1-f"}
_G2 = frozenset(
    {"us-central1-a", "us-central1-b", "us-central1-c", "europe-west1-b", "europe-west4-a", "europe-west4-b"}
)

MACHINE_TYPES: dict[str, MachineType] = {
    each.name: each
    for each in (
        MachineType("e2-micro", 2, 1024, shared=True),
        MachineType("e2-small", 2, 2048, shared=True),
        MachineType("e2-medium", 2, 4096, shared=True),
        MachineType("e2-standard-2", 2, 8192),
        MachineType("e2-standard-4", 4, 16384),
        MachineType("e2-standard-8", 8, 32768),
        MachineType("n2-standard-2", 2, 8192),
        MachineType("n2-standard-4", 4, 16384),
        MachineType("n2-standard-8", 8, 32768),
        MachineType("t2a-standard-1", 1, 4096, ARM, zones=_T2A),
        MachineType("t2a-standard-2", 2, 8192, ARM, zones=_T2A),
        MachineType("t2a-standard-4", 4, 16384, ARM, zones=_T2A),
        MachineType("c4a-standard-1", 1, 4096, ARM, zones=_C4A),
        MachineType("c4a-standard-2", 2, 8192, ARM, zones=_C4A),
        MachineType("c4a-standard-4", 4, 16384, ARM, zones=_C4A),
        MachineType("g2-standard-4", 4, 16384, zones=_G2, gpu="nvidia-l4", gpus=1),
    )
}


@dataclass(frozen=True)
class Image:
    """A public image; ``path`` with its project, as machines name it."""

    name: str
    family: str
    architecture: str

    @property
    def path(self) -> str:
        return f"projects/{IMAGE_PROJECT}/global/images/{self.name}"


IMAGES = (
    Image(f"debian-13-trixie-{IMAGE_RELEASE}", "debian-13", X86),
    Image(f"debian-13-trixie-arm64-{IMAGE_RELEASE}", "debian-13-arm64", ARM),
)


def image_of(reference: str) -> Image | None:
    """The image that a full or partial URL names, by its name or by its family."""
    _, found, path = reference.partition("projects/")
    return next(
        (
            image
            for image in IMAGES
            if found
            and f"projects/{path}" in {image.path, f"projects/{IMAGE_PROJECT}/global/images/family/{image.family}"}
        ),
        None,
    )


def check_zone(zone: str) -> None:
    if zone not in EVERYWHERE:
        raise invalid("zone", zone, "Unknown zone.")


def check_region(region: str) -> None:
    if region not in ZONES:
        raise invalid("region", region, "Unknown region.")


def machine_type_in(zone: str, reference: str) -> MachineType:
    """The machine type that an instance asks for by URL; Compute Engine's refusal when the zone has none such."""
    name = reference.rpartition("/")[2]
    machine_type = MACHINE_TYPES.get(name)
    if f"zones/{zone}/machineTypes/" not in reference:
        raise invalid("resource.machineType", reference, "The URL is malformed, or names another zone.")
    if machine_type is None or zone not in machine_type.zones:
        why = f"Machine type with name '{name}' does not exist in zone '{zone}'."
        raise invalid("resource.machineType", reference, why)
    return machine_type


def host_architecture() -> str:
    """GCE's word for the architecture of this host, ``X86_64`` or ``ARM64``."""
    return ARM if platform.machine().lower() in {"aarch64", "arm64"} else X86
