"""What a location sells of each machine type, and what it does not sell us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.contract import CloudError, Offer

GIB = 1 << 30
ARCHITECTURES = {"x64": "amd64", "Arm64": "arm64"}
MACHINES = "virtualMachines"
SECOND_GENERATION = "V2"


def of_location(calls: AzureCalls, region: str) -> list[Mapping[str, Any]]:
    """The machine types of a location, with what restricts them; the answer is kept for a minute, for it is long."""
    calls.check_region(region)
    return calls.remembered(
        ("skus", region),
        lambda: [
            sku
            for sku in calls.items("compute", "resource_skus.list", region, filter=f"location eq '{region}'")
            if sku.get("resourceType") == MACHINES
        ],
    )


def regions_of(calls: AzureCalls, machine_type: str) -> set[str]:
    """The locations that have a machine type, of all of them: a long answer, kept for a minute."""
    listed = calls.remembered(
        ("skus of all locations",),
        lambda: [
            (str(sku.get("name")), str(location))
            for sku in calls.items("compute", "resource_skus.list", calls.region)
            if sku.get("resourceType") == MACHINES
            for location in sku.get("locations") or ()
        ],
    )
    return {location.lower() for name, location in listed if name == machine_type}


def named(calls: AzureCalls, region: str, machine_type: str) -> Mapping[str, Any] | None:
    return next((sku for sku in of_location(calls, region) if sku.get("name") == machine_type), None)


def offers(calls: AzureCalls, region: str, machine_type: str, arch: str) -> tuple[Offer, ...]:
    """Each type in each zone that sells it; zone "" where the location has none."""
    listed = [
        offer
        for sku in of_location(calls, region)
        if machine_type in {"", sku.get("name")}
        for offer in offers_of(sku, region)
        if arch in {"", offer.arch}
    ]
    return tuple(sorted(listed, key=lambda offer: (offer.machine_type, offer.zone)))


def offers_of(sku: Mapping[str, Any], region: str) -> list[Offer]:
    """What one type's entry offers; nothing of a type that is restricted for this subscription."""
    able = capabilities(sku)
    arch = ARCHITECTURES.get(able.get("CpuArchitectureType", "x64"))
    if arch is None or SECOND_GENERATION not in able.get("HyperVGenerations", SECOND_GENERATION).split(","):
        return []
    if any(restriction.get("type") == "Location" for restriction in sku.get("restrictions") or ()):
        return []
    zones = zones_of(sku, region)
    open_zones = [zone for zone in zones if zone not in closed_zones(sku)]
    return [
        Offer(
            region=region,
            zone=zone,
            machine_type=str(sku["name"]),
            arch=arch,
            cpu_cores=int(able.get("vCPUs", "0")),
            mem_bytes=int(float(able.get("MemoryGB", "0")) * GIB),
            gpu_count=int(able.get("GPUs", "0")),
        )
        for zone in (open_zones if zones else [""])
    ]


def capabilities(sku: Mapping[str, Any]) -> dict[str, str]:
    return {str(item.get("name")): str(item.get("value")) for item in sku.get("capabilities") or ()}


def zones_of(sku: Mapping[str, Any], region: str) -> list[str]:
    """The location's zones that have the type."""
    places = [place for place in sku.get("locationInfo") or () if str(place.get("location", "")).lower() == region]
    return sorted({str(zone) for place in places for zone in place.get("zones") or ()})


def closed_zones(sku: Mapping[str, Any]) -> set[str]:
    restrictions = [each for each in sku.get("restrictions") or () if each.get("type") == "Zone"]
    return {str(zone) for each in restrictions for zone in (each.get("restrictionInfo") or {}).get("zones") or ()}


def restricted(calls: AzureCalls, region: str, machine_type: str) -> CloudError | None:
    """The refusal that a machine of the type would meet in every zone of the location; None if there is none."""
    sku = named(calls, region, machine_type)
    if sku is None or offers_of(sku, region):
        return None
    restrictions = sku.get("restrictions") or ()
    if not restrictions:
        return None
    reasons = sorted({str(each.get("reasonCode", "")) for each in restrictions} - {""})
    return CloudError(
        "cloud_capacity",
        f"{machine_type} is not sold to this subscription in {region}.",
        where=f"azure {region}",
        why=f"Azure's reason: {', '.join(reasons) or 'none given'}",
        next="Take another machine type or region, or ask Azure to lift the restriction (a support request).",
        cloud_code="SkuNotAvailable",
    )


def takes_trusted_launch(calls: AzureCalls, region: str, machine_type: str) -> bool:
    """Whether a machine of the type may have secure boot and a virtual TPM. No for a type that nobody knows."""
    sku = named(calls, region, machine_type)
    if sku is None:
        return False
    able = capabilities(sku)
    refuses = able.get("TrustedLaunchDisabled", "False").lower() == "true"
    return not refuses and SECOND_GENERATION in able.get("HyperVGenerations", "").split(",")
