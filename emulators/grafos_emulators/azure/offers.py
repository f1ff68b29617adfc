"""What Microsoft.Compute says it can make: sizes with their restrictions, images with their versions, usages."""

from __future__ import annotations

from typing import Any

from grafos_emulators.azure import catalogue, quotas, shapes
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError, not_emulated
from grafos_emulators.host import host_python


def below_location(account: AzureAccount, call: ArmCall) -> Any:
    """``locations/L/usages`` and ``locations/L/publishers/…``; the caller has seen that ``rest`` begins so."""
    location, *rest = call.place.rest[1:]
    location = location.lower()
    if location not in catalogue.LOCATIONS:
        raise ArmError(400, "NoRegisteredProviderFound", f"No registered resource provider found for '{location}'.")
    words = [word.lower() for word in rest]
    if words == ["usages"]:
        return _usages(account, call.place.namespace.lower(), location)
    if words[:1] == ["publishers"] and call.place.namespace.lower() == "microsoft.compute":
        return _images(account, location, [str(word) for word in rest])
    raise not_emulated(call.request.path)


def _usages(account: AzureAccount, namespace: str, location: str) -> dict[str, Any]:
    if namespace == "microsoft.compute":
        listed, model = quotas.compute_usages(account, location), "compute.Usage"
    else:
        listed, model = quotas.network_usages(account, location), "network.Usage"
    for each in listed:
        shapes.check_answer(model, each)
    return {"value": listed}


def _images(account: AzureAccount, location: str, words: list[str]) -> Any:
    """Publishers → offers → SKUs → versions, each a list; ARM answers these lists without an envelope."""
    base = f"/Subscriptions/{account.subscription}/Providers/Microsoft.Compute/Locations/{location}/Publishers"
    offers = f"{base}/{catalogue.PUBLISHER}/ArtifactTypes/VMImage/Offers"
    skus = f"{offers}/{catalogue.OFFER}/Skus"
    path = [word.lower() for word in words]
    if path == ["publishers"]:
        return [_image(base, catalogue.PUBLISHER, location)]
    if path[1:5:3] != [catalogue.PUBLISHER.lower(), "offers"] or path[2:4] != ["artifacttypes", "vmimage"]:
        raise ArmError(404, "NotFound", "Artifact: VMImage was not found.")
    rest = path[5:]
    if not rest:
        return [_image(offers, catalogue.OFFER, location)]
    if rest[0] != catalogue.OFFER:
        raise ArmError(404, "NotFound", f"Artifact: VMImage was not found: the offer {rest[0]}.")
    if rest[1:] == ["skus"]:
        return [_image(skus, sku, location) for sku in catalogue.IMAGES]
    if len(rest) >= 4 and rest[2] in catalogue.IMAGES and rest[3] == "versions":
        return _versions(f"{skus}/{rest[2]}/Versions", rest[2], rest[4:], location)
    raise ArmError(404, "NotFound", "Artifact: VMImage was not found.")


def _versions(base: str, sku: str, rest: list[str], location: str) -> Any:
    if not rest:
        tags = {"python": host_python()}  # Azure's own have none: theirs is what the release ships
        return [_image(base, version, location) | {"tags": tags} for version in catalogue.IMAGE_VERSIONS]
    wanted = catalogue.IMAGE_VERSIONS[-1] if rest[0] == "latest" else rest[0]
    if wanted not in catalogue.IMAGE_VERSIONS:
        raise ArmError(404, "NotFound", f"The VM image version '{rest[0]}' was not found.")
    answer = _image(base, wanted, location)
    answer["properties"] = {
        "osDiskImage": {"operatingSystem": "Linux"},
        "dataDiskImages": [],
        "hyperVGeneration": "V2",
        "architecture": catalogue.IMAGES[sku],
        "features": [{"name": "SecurityType", "value": "TrustedLaunchSupported"}],
    }
    shapes.check_answer("compute.VirtualMachineImage", answer)
    return answer


def _image(base: str, name: str, location: str) -> dict[str, Any]:
    answer = {"id": f"{base}/{name}", "name": name, "location": location}
    shapes.check_answer("compute.VirtualMachineImageResource", answer)
    return answer


def skus(account: AzureAccount, call: ArmCall) -> dict[str, Any]:
    """``Microsoft.Compute/skus``; the filter ``location eq '…'`` is the only one that the service takes."""
    text = call.query.get("$filter", "")
    wanted = ""
    if text:
        name, _, value = text.partition(" eq ")
        if name.strip().lower() != "location":
            raise ArmError(400, "InvalidFilter", f"The filter '{text}' is not supported: only location is.")
        wanted = value.strip().strip("'").replace(" ", "").lower()
    found = [
        _sku(account, size, location)
        for location in catalogue.LOCATIONS
        if not wanted or location == wanted
        for size in catalogue.SIZES.values()
    ]
    return {"value": found}


def _sku(account: AzureAccount, size: catalogue.Size, location: str) -> dict[str, Any]:
    zones = list(catalogue.LOCATIONS[location][1])
    capabilities = {
        "MaxResourceVolumeMB": "0",
        "OSVhdSizeMB": "1047552",
        "vCPUs": str(size.vcpus),
        "MemoryPreservingMaintenanceSupported": "True",
        "HyperVGenerations": "V2" if size.architecture == catalogue.ARM64 else "V1,V2",
        "MemoryGB": f"{size.memory_gib:g}",
        "MaxDataDiskCount": "4",
        "CpuArchitectureType": size.architecture,
        "LowPriorityCapable": str(size.spot),
        "PremiumIO": "True",
        "vCPUsAvailable": str(size.vcpus),
        "vCPUsPerCore": "2",
        "EphemeralOSDiskSupported": "False",
        "EncryptionAtHostSupported": "True",
        "AcceleratedNetworkingEnabled": "True",
        "MaxNetworkInterfaces": "2",
    }
    if size.gpus:
        capabilities["GPUs"] = str(size.gpus)
    answer = {
        "resourceType": "virtualMachines",
        "name": size.name,
        "tier": "Standard",
        "size": size.name.removeprefix("Standard_"),
        "family": size.family,
        "locations": [location],
        "locationInfo": [{"location": location, "zones": zones, "zoneDetails": []}],
        "capabilities": [{"name": name, "value": value} for name, value in capabilities.items()],
        "restrictions": _restrictions(account, size.name, location, zones),
    }
    shapes.check_answer("compute.ResourceSku", answer)
    return answer


def _restrictions(account: AzureAccount, size: str, location: str, zones: list[str]) -> list[dict[str, Any]]:
    reason = account.restricted.get((size, location))
    told = []
    if reason:
        info: dict[str, Any] = {"locations": [location]}
        told.append({"type": "Location", "values": [location], "restrictionInfo": info, "reasonCode": reason})
    closed = [zone for zone in zones if (size, f"{location}/{zone}") in account.restricted]
    if closed:
        reason = account.restricted[size, f"{location}/{closed[0]}"]
        info = {"locations": [location], "zones": closed}
        told.append({"type": "Zone", "values": [location], "restrictionInfo": info, "reasonCode": reason})
    return told
