"""Network interfaces: what joins a machine to a subnet, a firewall and a public address.

An interface with a public address has that one loopback address on both sides; one without takes an address of its
own. The subnet's range is checked for, and never given out.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.operations import Operation
from grafos_emulators.azure.public_addresses import users_of
from grafos_emulators.azure.references import referenced, sub_id
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import NETWORK_INTERFACE, PUBLIC_ADDRESS, SECURITY_GROUP, SUBNET, VIRTUAL_MACHINE


class Interfaces(Kind):
    type: ClassVar[str] = NETWORK_INTERFACE
    model: ClassVar[str] = "network.NetworkInterface"

    def accept(self, ask: Ask) -> dict[str, Any]:
        properties = dict(ask.body.get("properties") or {})
        asked = properties.get("ipConfigurations") or []
        if not asked:
            raise ArmError(
                400,
                "NetworkInterfaceMustHaveAtLeastOneIpConfiguration",
                f"Network interface {ask.call.place.id} must have at least one IP configuration.",
            )
        if len(asked) > 1:
            raise ArmError(501, "NotEmulated", "an emulated network interface has one IP configuration")
        properties["ipConfigurations"] = [self._configuration(each, ask.call, ask.location, ask.old) for each in asked]
        group_id = sub_id(properties.get("networkSecurityGroup"))
        if group_id:
            group = referenced(self.account, group_id, SECURITY_GROUP, ask.call.place.id, ask.location)
            properties["networkSecurityGroup"] = {"id": group.id}
        return {**ask.body, "properties": properties}

    def _configuration(
        self, asked: dict[str, Any], call: ArmCall, location: str, old: Resource | None
    ) -> dict[str, Any]:
        if not asked.get("name"):
            raise ArmError(400, "InvalidRequestFormat", "An IP configuration has no name.")
        given = dict(asked.get("properties") or {})
        subnet_id = sub_id(given.get("subnet"))
        if not subnet_id:
            raise ArmError(
                400,
                "IpConfigurationHasNoSubnet",
                f"IP configuration {call.place.id}/ipConfigurations/{asked['name']} has no subnet.",
            )
        given["subnet"] = {"id": referenced(self.account, subnet_id, SUBNET, call.place.id, location).id}
        address_id = sub_id(given.get("publicIPAddress"))
        if address_id:
            address = referenced(self.account, address_id, PUBLIC_ADDRESS, call.place.id, location)
            self._check_free(address, old)
            option = (given["publicIPAddress"].get("properties") or {}).get("deleteOption")
            given["publicIPAddress"] = {"id": address.id} | ({"properties": {"deleteOption": option}} if option else {})
        kept = {"privateIPAllocationMethod": "Dynamic", "privateIPAddressVersion": "IPv4", "primary": True, **given}
        return {"name": asked["name"], "properties": kept}

    def _check_free(self, address: Resource, old: Resource | None) -> None:
        for nic, configuration in users_of(self, address):
            if nic is not old:
                raise ArmError(
                    400,
                    "PublicIPAddressInUse",
                    f"Resource {configuration} is referencing public IP address {address.id} that is already allocated "
                    "to another resource.",
                )

    def settle(self, resource: Resource, operation: Operation) -> None:
        if resource.operation == operation.id:
            address_of(self, resource)
        super().settle(resource, operation)

    def view(self, resource: Resource) -> dict[str, Any]:
        configurations = [self._shown(resource, each) for each in resource.properties["ipConfigurations"]]
        properties = {
            "enableAcceleratedNetworking": False,
            "enableIPForwarding": False,
            "dnsSettings": {"dnsServers": [], "appliedDnsServers": []},
            "nicType": "Standard",
            **resource.properties,
            "ipConfigurations": configurations,
            "resourceGuid": resource.guid,
        }
        for machine in machines_with(self, resource):
            properties["virtualMachine"] = {"id": machine.id}
            properties["primary"] = True
            properties["macAddress"] = mac_address(resource)
        return {**resource.body, "properties": properties}

    def _shown(self, nic: Resource, configuration: dict[str, Any]) -> dict[str, Any]:
        properties = {**configuration["properties"], "provisioningState": nic.state}
        if "address" in nic.runtime:
            properties["privateIPAddress"] = nic.runtime["address"]
        return {
            "id": f"{nic.id}/ipConfigurations/{configuration['name']}",
            "name": configuration["name"],
            "type": f"{NETWORK_INTERFACE}/ipConfigurations",
            "etag": nic.etag,
            "properties": properties,
        }

    def check_unused(self, resource: Resource) -> None:
        for machine in machines_with(self, resource):
            raise nic_in_use(resource, machine)

    def removed(self, resource: Resource) -> None:
        if resource.runtime.get("own_address"):
            self.account.network.give_back(resource.runtime["address"])


def nic_in_use(nic: Resource, machine: Resource) -> ArmError:
    return ArmError(
        400,
        "NicInUse",
        f"Network Interface {nic.id} is used by existing resource {machine.id}. In order to delete the network "
        "interface, it must be dissociated from the resource. To learn more, see aka.ms/deletenic.",
    )


def machines_with(kind: Kind, nic: Resource) -> list[Resource]:
    """The machine that has the interface."""
    return list(kind.account.store.who_names(nic.id, VIRTUAL_MACHINE))


def address_of(kind: Kind, nic: Resource) -> str:
    """The interface's loopback address: its public one, or one of its own."""
    if "address" not in nic.runtime:
        public = public_address_of(kind, nic)
        taken = public.properties.get("ipAddress") if public else None
        nic.runtime |= {"address": taken or kind.account.network.take(), "own_address": taken is None}
    address: str = nic.runtime["address"]
    return address


def public_address_of(kind: Kind, nic: Resource) -> Resource | None:
    for configuration in nic.properties["ipConfigurations"]:
        address_id = sub_id(configuration["properties"].get("publicIPAddress"))
        if address_id:
            return kind.account.store.get(address_id)
    return None


def mac_address(nic: Resource) -> str:
    """In Azure's form, ``00-22-48-…``."""
    return "-".join(["00", "22", "48", *(f"{byte:02X}" for byte in hashlib.sha256(nic.guid.encode()).digest()[:3])])
