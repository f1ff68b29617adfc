"""Limits of the emulated subscription: what is in use is counted from what exists, never kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grafos_emulators.azure import catalogue
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import VIRTUAL_MACHINE

_COMPUTE_NAMES = {
    "cores": "Total Regional vCPUs",
    "lowPriorityCores": "Total Regional Spot vCPUs",
    "virtualMachines": "Virtual Machines",
}
_NETWORK_TYPES = {
    "VirtualNetworks": "Microsoft.Network/virtualNetworks",
    "NetworkSecurityGroups": "Microsoft.Network/networkSecurityGroups",
    "NetworkInterfaces": "Microsoft.Network/networkInterfaces",
    "PublicIPAddresses": "Microsoft.Network/publicIPAddresses",
    "StaticPublicIPAddresses": "Microsoft.Network/publicIPAddresses",
    "StandardSkuPublicIpAddresses": "Microsoft.Network/publicIPAddresses",
}
_NETWORK_LABELS = {
    "VirtualNetworks": "Virtual Networks",
    "NetworkSecurityGroups": "Network Security Groups",
    "NetworkInterfaces": "Network Interfaces",
    "PublicIPAddresses": "Public IP Addresses",
    "StaticPublicIPAddresses": "Static Public IP Addresses",
    "StandardSkuPublicIpAddresses": "Standard Sku Public IP Addresses",
}


def limit_of(account: AzureAccount, name: str) -> int:
    return account.limits.get(name, catalogue.DEFAULT_LIMITS.get(name, 0))


def check_limit(account: AzureAccount, name: str, in_use: int, code: str, location: str) -> None:
    """Refuses one more of what is counted under ``name``."""
    limit = limit_of(account, name)
    if in_use >= limit:
        text = f"Cannot create more than {limit} {_NETWORK_LABELS[name].lower()} for this subscription in {location}."
        raise ArmError(400, code, text)


def is_spot(machine: Resource) -> bool:
    return means_spot(machine.properties)


def means_spot(properties: Mapping[str, Any]) -> bool:
    """Whether a machine with these properties is one that Azure may take back."""
    return str(properties.get("priority", "Regular")).lower() in {"spot", "low"}


def size_of(machine: Resource) -> catalogue.Size:
    return catalogue.SIZES[machine.properties["hardwareProfile"]["vmSize"].lower()]


def vcpus_in_use(account: AzureAccount, location: str, *, spot: bool, family: str = "") -> int:
    """The cores of the machines that hold hardware: a deallocated machine, or one that failed, holds none."""
    return sum(
        size_of(machine).vcpus
        for machine in account.store.of_type(VIRTUAL_MACHINE)
        if machine.location == location
        and is_spot(machine) == spot
        and machine.runtime.get("allocated")
        and (not family or size_of(machine).family == family)
    )


def check_cores(account: AzureAccount, location: str, size: catalogue.Size, *, spot: bool) -> None:
    """``OperationNotAllowed`` (409) when the machine's cores exceed the region's limit, or the family's."""
    if spot:
        checks = [("lowPriorityCores", "LowPriorityCores", "")]
    else:
        checks = [("cores", "Total Regional Cores", ""), (size.family, f"{size.family} Cores", size.family)]
    for name, label, family in checks:
        limit, in_use = limit_of(account, name), vcpus_in_use(account, location, spot=spot, family=family)
        if in_use + size.vcpus > limit:
            raise quota_exceeded(label, location, limit, in_use, size.vcpus)


def quota_exceeded(label: str, location: str, limit: int, in_use: int, more: int) -> ArmError:
    return ArmError(
        409,
        "OperationNotAllowed",
        f"Operation could not be completed as it results in exceeding approved {label} quota. Additional details - "
        f"Deployment Model: Resource Manager, Location: {location}, Current Limit: {limit}, Current Usage: {in_use}, "
        f"Additional Required: {more}, (Minimum) New Limit Required: {in_use + more}. Setup Alerts when Quota reaches "
        "threshold. Learn more at https://aka.ms/quotamonitoring . Submit a request for Quota increase at "
        "https://aka.ms/ProdportalCRP by specifying parameters listed in the 'Details' section for deployment to "
        "succeed.",
    )


def compute_usages(account: AzureAccount, location: str) -> list[dict[str, Any]]:
    """What ``Microsoft.Compute/locations/L/usages`` lists."""
    machines = [each for each in account.store.of_type(VIRTUAL_MACHINE) if each.location == location]
    in_use = {
        "cores": vcpus_in_use(account, location, spot=False),
        "lowPriorityCores": vcpus_in_use(account, location, spot=True),
        "virtualMachines": len(machines),
    }
    names = dict(_COMPUTE_NAMES)
    for size in catalogue.SIZES.values():
        names[size.family] = size.label
        in_use[size.family] = vcpus_in_use(account, location, spot=False, family=size.family)
    return [
        {
            "unit": "Count",
            "currentValue": in_use[name],
            "limit": limit_of(account, name),
            "name": {"value": name, "localizedValue": label},
        }
        for name, label in names.items()
    ]


def network_usages(account: AzureAccount, location: str) -> list[dict[str, Any]]:
    """What ``Microsoft.Network/locations/L/usages`` lists."""
    place = f"/subscriptions/{account.subscription}/providers/Microsoft.Network/locations/{location}/usages"
    return [
        {
            "id": f"{place}/{name}",
            "unit": "Count",
            "currentValue": sum(1 for each in account.store.of_type(kind) if each.location == location),
            "limit": limit_of(account, name),
            "name": {"value": name, "localizedValue": _NETWORK_LABELS[name]},
        }
        for name, kind in _NETWORK_TYPES.items()
    ]
