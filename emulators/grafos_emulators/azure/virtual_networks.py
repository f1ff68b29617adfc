"""Virtual networks and their subnets."""

from __future__ import annotations

import ipaddress
from typing import Any, ClassVar

from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError, busy, not_found
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.operations import Operation
from grafos_emulators.azure.places import Place
from grafos_emulators.azure.references import referenced, sub_id
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import NETWORK_INTERFACE, SECURITY_GROUP, SUBNET, VIRTUAL_NETWORK
from grafos_emulators.faults import Fault

LONGEST_SUBNET_PREFIX = 29  # five addresses of each subnet are Azure's own; a /30 would leave none


class VirtualNetworks(Kind):
    type: ClassVar[str] = VIRTUAL_NETWORK
    model: ClassVar[str] = "network.VirtualNetwork"

    def accept(self, ask: Ask) -> dict[str, Any]:
        properties = dict(ask.body.get("properties") or {})
        prefixes = (properties.get("addressSpace") or {}).get("addressPrefixes") or []
        if not prefixes:
            raise ArmError(
                400,
                "InvalidRequestFormat",
                "Cannot parse the request.",
                details=[
                    {"code": "MissingJsonReferenceId", "message": "Value for addressSpace.addressPrefixes is missing."}
                ],
            )
        ranges = [cidr(prefix, ask.call.place.name) for prefix in prefixes]
        inline = properties.pop("subnets", None)
        kept = {**ask.body, "properties": properties, "_subnets": inline}
        for subnet in inline or []:
            inside(cidr(_prefix(subnet.get("properties") or {}, subnet.get("name", "")), subnet["name"]), ranges)
        if ask.old is not None and inline is None:
            for subnet in self.account.store.below(ask.old.id):
                inside(cidr(subnet.properties["addressPrefix"], subnet.name), ranges)
        del kept["_subnets"]
        for subnet in inline or []:
            properties.setdefault("subnets", []).append(subnet)
        return kept

    def begin_make(self, resource: Resource, operation: Operation, fault: Fault | None) -> None:
        self._take_out_subnets(resource)
        super().begin_make(resource, operation, fault)

    def settle(self, resource: Resource, operation: Operation) -> None:
        self._take_out_subnets(resource)
        super().settle(resource, operation)
        for subnet in self.account.store.below(resource.id):
            if not subnet.operation:
                subnet.state = "Succeeded"

    def _take_out_subnets(self, network: Resource) -> None:
        """Subnets that came with the network become resources of their own."""
        for subnet in network.properties.pop("subnets", []):
            place = Place(
                network.place.subscription,
                network.place.group,
                "Microsoft.Network",
                ("virtualNetworks", network.name, "subnets", subnet["name"]),
            )
            known = self.account.store.get(place.id)
            body = {"properties": subnet_properties(subnet.get("properties") or {})}
            if known is None:
                self.account.new_resource(place, SUBNET, network.location, body)
            else:
                self.account.store.give(known, body)

    def view(self, resource: Resource) -> dict[str, Any]:
        subnets = [subnet_view(self, each) for each in self.account.store.below(resource.id)]
        properties = {key: value for key, value in resource.properties.items() if key != "subnets"}
        return {
            **resource.body,
            "properties": {
                "enableDdosProtection": False,
                "virtualNetworkPeerings": [],
                **properties,
                "resourceGuid": resource.guid,
                "subnets": subnets,
            },
        }

    def check_unused(self, resource: Resource) -> None:
        for subnet in self.account.store.below(resource.id):
            check_subnet_unused(self, subnet)
        if resource.state != "Deleting":
            check_idle(self, resource)


class Subnets(Kind):
    type: ClassVar[str] = SUBNET
    model: ClassVar[str] = "network.Subnet"

    def location_of(self, call: ArmCall, body: dict[str, Any]) -> str:  # noqa: ARG002  a subnet is where its network is
        return self._network(call).location

    def accept(self, ask: Ask) -> dict[str, Any]:
        network = self._network(ask.call)
        check_idle(self, network)
        properties = subnet_properties(ask.body.get("properties") or {})
        wanted = cidr(_prefix(properties, ask.call.place.name), ask.call.place.name)
        inside(wanted, [cidr(each, network.name) for each in network.properties["addressSpace"]["addressPrefixes"]])
        for other in self.account.store.below(network.id):
            if other is not ask.old and wanted.overlaps(cidr(other.properties["addressPrefix"], other.name)):
                raise ArmError(
                    400,
                    "NetcfgSubnetRangesOverlap",
                    f"Subnet '{ask.call.place.name}' is not valid because its IP address range overlaps with that of "
                    f"an existing subnet in virtual network '{network.name}'.",
                )
        group_id = sub_id(properties.get("networkSecurityGroup"))
        if group_id:
            referenced(self.account, group_id, SECURITY_GROUP, ask.call.place.id, ask.location)
        if ask.old is not None and ask.old.properties["addressPrefix"] != properties["addressPrefix"]:
            check_subnet_unused(self, ask.old)
        return {"properties": properties}

    def view(self, resource: Resource) -> dict[str, Any]:
        return {"properties": subnet_view(self, resource)["properties"]}

    def check_unused(self, resource: Resource) -> None:
        check_subnet_unused(self, resource)

    def _network(self, call: ArmCall) -> Resource:
        network = self.account.store.get(call.place.parent.id)
        if network is None:
            raise not_found(VIRTUAL_NETWORK, call.place.names[0], call.place.group)
        return network


def check_idle(kind: Kind, network: Resource) -> None:
    """A network and its subnets take one change at a time."""
    for each in (network, *kind.account.store.below(network.id)):
        if each.operation:
            raise busy(each.id)


def _prefix(properties: dict[str, Any], name: str) -> str:
    several = properties.get("addressPrefixes") or []
    prefix = properties.get("addressPrefix") or (several[0] if several else "")
    if not prefix:
        raise ArmError(400, "InvalidRequestFormat", f"The subnet '{name}' has no address prefix.")
    return str(prefix)


def subnet_properties(asked: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in asked.items() if key not in {"ipConfigurations", "provisioningState"}}
    kept["addressPrefix"] = _prefix(asked, "")
    defaults = {
        "delegations": [],
        "privateEndpointNetworkPolicies": "Disabled",
        "privateLinkServiceNetworkPolicies": "Enabled",
    }
    return {**defaults, **kept}


def subnet_view(kind: Kind, subnet: Resource) -> dict[str, Any]:
    properties = {**subnet.properties, "provisioningState": subnet.state}
    users = [configuration for _, configuration in interfaces_in(kind, subnet)]
    if users:
        properties["ipConfigurations"] = [{"id": each} for each in users]
    return {"id": subnet.id, "name": subnet.name, "type": SUBNET, "etag": subnet.etag, "properties": properties}


def interfaces_in(kind: Kind, subnet: Resource) -> list[tuple[Resource, str]]:
    """The network interfaces in a subnet, each with the id of its configuration there."""
    return [
        (nic, f"{nic.id}/ipConfigurations/{configuration['name']}")
        for nic in kind.account.store.who_names(subnet.id, NETWORK_INTERFACE)
        for configuration in nic.properties.get("ipConfigurations", [])
        if sub_id(configuration["properties"].get("subnet")).strip("/").lower() == subnet.key
    ]


def check_subnet_unused(kind: Kind, subnet: Resource) -> None:
    for _, configuration in interfaces_in(kind, subnet):
        raise ArmError(
            400,
            "InUseSubnetCannotBeDeleted",
            f"Subnet {subnet.name} is in use by {configuration} and cannot be deleted. In order to delete the subnet, "
            "delete all the resources within the subnet. See aka.ms/deletesubnet.",
        )


def cidr(text: str, what: str) -> ipaddress.IPv4Network:
    """The range; ``InvalidCIDRNotation`` unless it is an IPv4 range in its canonical form."""
    try:
        found = ipaddress.IPv4Network(text)
    except ValueError as problem:
        raise ArmError(
            400,
            "InvalidCIDRNotation",
            f"The address prefix {text} in resource {what} has an invalid CIDR notation. For the given prefix length, "
            "the address prefix should be another one.",
        ) from problem
    return found


def inside(subnet: ipaddress.IPv4Network, ranges: list[ipaddress.IPv4Network]) -> None:
    if not any(subnet.subnet_of(each) for each in ranges) or subnet.prefixlen > LONGEST_SUBNET_PREFIX:
        raise ArmError(
            400,
            "NetcfgInvalidSubnet",
            f"Subnet '{subnet}' is not valid because its IP address range is outside the IP address range of the "
            "virtual network, or too small.",
        )
