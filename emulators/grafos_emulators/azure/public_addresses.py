"""Public IP addresses: each is a loopback address of the emulator's own."""

from __future__ import annotations

from typing import Any, ClassVar

from grafos_emulators.azure import catalogue
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.operations import Operation
from grafos_emulators.azure.quotas import check_limit
from grafos_emulators.azure.references import sub_id
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import NETWORK_INTERFACE, PUBLIC_ADDRESS


class PublicAddresses(Kind):
    type: ClassVar[str] = PUBLIC_ADDRESS
    model: ClassVar[str] = "network.PublicIPAddress"
    is_billable: ClassVar[bool] = True

    def accept(self, ask: Ask) -> dict[str, Any]:
        properties = {"publicIPAddressVersion": "IPv4", "idleTimeoutInMinutes": 4, **(ask.body.get("properties") or {})}
        sku = {"tier": "Regional", **(ask.body.get("sku") or {"name": "Basic"})}
        self._check_kind(ask.call, properties, sku)
        zones = list(ask.body.get("zones") or [])
        catalogue.check_zones(zones, ask.location, ask.call.place.name)
        if ask.old is None:
            count = sum(1 for each in self.account.store.of_type(PUBLIC_ADDRESS) if each.location == ask.location)
            check_limit(self.account, "PublicIPAddresses", count, "PublicIPCountLimitReached", ask.location)
        elif ask.old.body.get("zones", []) != zones:
            raise ArmError(
                409,
                "ResourceAvailabilityZonesCannotBeModified",
                f"Resource {ask.old.id} has an existing availability zone constraint and it cannot be modified.",
            )
        properties.setdefault("publicIPAllocationMethod", "Static")
        kept = {**ask.body, "properties": properties, "sku": sku}
        if ask.old is not None and "ipAddress" in ask.old.properties:  # one whose making failed has none
            properties["ipAddress"] = ask.old.properties["ipAddress"]
        return kept

    def settle(self, resource: Resource, operation: Operation) -> None:
        if resource.operation == operation.id and "ipAddress" not in resource.properties:
            resource.properties["ipAddress"] = self.account.network.take()
        super().settle(resource, operation)

    def view(self, resource: Resource) -> dict[str, Any]:
        properties = {**resource.properties, "resourceGuid": resource.guid}
        for _, configuration in users_of(self, resource):
            properties["ipConfiguration"] = {"id": configuration}
        return {**resource.body, "properties": properties}

    def check_unused(self, resource: Resource) -> None:
        for _, configuration in users_of(self, resource):
            raise ArmError(
                400,
                "PublicIPAddressCannotBeDeleted",
                f"Public IP address {resource.id} can not be deleted since it is still allocated to resource "
                f"{configuration}. In order to delete the public IP, disassociate/detach the Public IP address from "
                "the resource.  To learn how to do this, see aka.ms/deletepublicip.",
            )

    def removed(self, resource: Resource) -> None:
        if "ipAddress" in resource.properties:
            self.account.network.give_back(resource.properties["ipAddress"])

    def _check_kind(self, call: ArmCall, properties: dict[str, Any], sku: dict[str, Any]) -> None:
        name = call.place.name
        if sku.get("name", "Basic").lower() == "basic":
            raise ArmError(  # Azure retired them on 2025-09-30, and says so in these words
                400,
                "IPv4BasicSkuPublicIpCountLimitReached",
                "Cannot create more than 0 IPv4 Basic SKU public IP addresses for this subscription in this region.",
            )
        if properties.get("publicIPAllocationMethod", "Dynamic").lower() != "static":
            raise ArmError(
                400,
                "StandardSkuPublicIpAddressMustBeStatic",
                f"Standard sku publicIp {name} must have AllocationMethod set to Static.",
            )
        if properties["publicIPAddressVersion"].lower() != "ipv4":
            raise ArmError(501, "NotEmulated", "the emulated Azure has no IPv6 addresses")


def users_of(kind: Kind, address: Resource) -> list[tuple[Resource, str]]:
    """The network interface that has the address, with the id of its configuration."""
    return [
        (nic, f"{nic.id}/ipConfigurations/{configuration['name']}")
        for nic in kind.account.store.who_names(address.id, NETWORK_INTERFACE)
        for configuration in nic.properties.get("ipConfigurations", [])
        if sub_id(configuration["properties"].get("publicIPAddress")).strip("/").lower() == address.key
    ]
