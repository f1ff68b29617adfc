"""What exists in the emulated subscription: counted from what the emulator keeps, never from a list that may lag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.kind import Kind
from grafos_emulators.azure.type_names import GROUP
from grafos_emulators.census import Thing

PROVIDER = "azure"
KINDS = {
    "microsoft.resources/resourcegroups": "resourceGroup",
    "microsoft.compute/virtualmachines": "virtualMachine",
    "microsoft.compute/disks": "disk",
    "microsoft.network/networkinterfaces": "networkInterface",
    "microsoft.network/publicipaddresses": "publicIPAddress",
    "microsoft.network/networksecuritygroups": "networkSecurityGroup",
    "microsoft.network/networksecuritygroups/securityrules": "securityRule",
    "microsoft.network/virtualnetworks": "virtualNetwork",
    "microsoft.network/virtualnetworks/subnets": "subnet",
    "microsoft.devtestlab/schedules": "schedule",
    "microsoft.compute/galleries": "gallery",
    "microsoft.compute/galleries/images": "galleryImage",
    "microsoft.compute/galleries/images/versions": "galleryImageVersion",
}


def things(account: AzureAccount, kinds: Mapping[str, Kind]) -> Iterator[Thing]:
    """Everything that somebody made and nobody removed; the caller holds the world's lock."""
    for resource in account.store.all():
        name = KINDS[resource.type.lower()]
        if resource.type == GROUP:
            state, billable = resource.state, False
        else:
            kind = kinds[resource.type.lower()]
            state, billable = kind.shown_state(resource), kind.bills(resource)
        yield Thing(
            provider=PROVIDER,
            kind=name,
            id=resource.id,
            region=resource.location,
            state=state,
            billable=billable,
            tags=dict(resource.tags),
        )
