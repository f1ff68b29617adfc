"""What the emulated Azure offers: locations, zones, machine sizes, quotas and the stock images.

Sizes, families and figures are Azure's own words; which of them exist where is fictional. One location has no zones,
as some of Azure's have none.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from grafos_emulators.azure.errors import ArmError

LOCATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "eastus": ("East US", ("1", "2", "3")),
    "northeurope": ("North Europe", ("1", "2", "3")),
    "westeurope": ("West Europe", ("1", "2", "3")),
    "westus": ("West US", ()),
}
"""Display name and zones by name. ``westus`` has none, as in reality."""

X64, ARM64 = "x64", "Arm64"  # ARM's words for the two architectures


@dataclass(frozen=True)
class Size:
    """One machine size. ``family`` is the quota that its cores count against; ``label`` is the quota's display name."""

    name: str
    family: str
    label: str
    vcpus: int
    memory_gib: float
    architecture: str = X64
    gpus: int = 0
    spot: bool = True


SIZES: dict[str, Size] = {
    size.name.lower(): size
    for size in (
        Size("Standard_B1s", "standardBSFamily", "Standard BS Family vCPUs", 1, 1, spot=False),
        Size("Standard_B2s", "standardBSFamily", "Standard BS Family vCPUs", 2, 4, spot=False),
        Size("Standard_B2ms", "standardBSFamily", "Standard BS Family vCPUs", 2, 8, spot=False),
        Size("Standard_B2ats_v2", "standardBasv2Family", "Standard Basv2 Family vCPUs", 2, 1),
        Size("Standard_B2pts_v2", "standardBpsv2Family", "Standard Bpsv2 Family vCPUs", 2, 1, ARM64),
        Size("Standard_B2pls_v2", "standardBpsv2Family", "Standard Bpsv2 Family vCPUs", 2, 4, ARM64),
        Size("Standard_D2s_v5", "standardDSv5Family", "Standard DSv5 Family vCPUs", 2, 8),
        Size("Standard_D4s_v5", "standardDSv5Family", "Standard DSv5 Family vCPUs", 4, 16),
        Size("Standard_D2ps_v5", "standardDPSv5Family", "Standard DPSv5 Family vCPUs", 2, 8, ARM64),
        Size("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", "Standard NCASv3_T4 Family vCPUs", 4, 28, gpus=1),
    )
}

PUBLISHER, OFFER = "Debian", "debian-13"
IMAGE_VERSIONS = ("0.20251117.2299", "0.20260112.2355")  # the form of Debian's own; no release of theirs has them
IMAGES: dict[str, str] = {"13-gen2": X64, "13-arm64-gen2": ARM64}
"""Architecture by the image's SKU. Both are stock images: a machine of either runs its custom data."""

DEFAULT_DISK_GIB = 30  # the size of the stock images, and so of an OS disk that asks for none

# A fresh pay-as-you-go subscription: some cores, and none of the families with GPUs.
DEFAULT_LIMITS: dict[str, int] = {
    "cores": 100,
    "lowPriorityCores": 100,
    "virtualMachines": 25_000,
    "availabilitySets": 2_500,
    "standardSSDDisks": 50_000,
    "PremiumDiskCount": 50_000,
    "StandardDiskCount": 50_000,
    "VirtualNetworks": 1_000,
    "NetworkSecurityGroups": 5_000,
    "NetworkInterfaces": 65_536,
    "PublicIPAddresses": 1_000,
    "StaticPublicIPAddresses": 1_000,
    "StandardSkuPublicIpAddresses": 1_000,
    **{size.family: 0 if size.gpus else 100 for size in SIZES.values()},
}


def check_location(location: str) -> None:
    if location not in LOCATIONS:
        raise ArmError(
            400,
            "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available for resource type. List of available regions is "
            f"'{','.join(sorted(LOCATIONS))}'.",
        )


def check_zones(zones: list[str], location: str, what: str) -> None:
    """Refuses a zone that the location does not have."""
    known = LOCATIONS[location][1]
    if zones and not known:
        raise ArmError(
            400,
            "LocationDoesNotSupportAvailabilityZones",
            f"The resource '{what}' does not support availability zones at location '{location}'.",
        )
    for zone in zones:
        if zone not in known:
            raise ArmError(
                400,
                "InvalidAvailabilityZone",
                f"The zone(s) '{zone}' for resource '{what}' is not supported. The supported zones for location "
                f"'{location}' are '{','.join(known)}'",
            )


def host_architecture() -> str:
    """ARM's word for the architecture of the host: the one whose machines can really run their custom data."""
    return ARM64 if platform.machine().lower() in {"aarch64", "arm64"} else X64
