"""What groups, networks and all that joins a machine to one are asked to be: the bodies of their PUTs."""

from __future__ import annotations

from typing import Any

from grafos_connectors.azure import tags
from grafos_connectors.contract import Desired

IP_CONFIGURATION = "ipconfig"
RULE, RULE_PRIORITY = "scheduler", 1000
"""The one rule of a group that has one; its priority is before all of Azure's defaults."""
ANYWHERE = "0.0.0.0/0"


def group_body(desired: Desired) -> dict[str, Any]:
    return {"location": desired.region, "tags": tags.of(desired)}


def network_body(desired: Desired) -> dict[str, Any]:
    return _tracked(desired, {"addressSpace": {"addressPrefixes": [desired.inputs["cidr"]]}})


def firewall_body(desired: Desired) -> dict[str, Any]:
    """Azure's defaults let nothing in from outside, and everything out; with a port there is one rule, for that."""
    return _tracked(desired, {"securityRules": [_rule(desired)] if "port" in desired.inputs else []})


def _rule(desired: Desired) -> dict[str, Any]:
    cidr = str(desired.inputs["cidr"])
    opens = {
        "protocol": "Tcp",
        "access": "Allow",
        "direction": "Inbound",
        "priority": RULE_PRIORITY,
        "sourceAddressPrefix": "*" if cidr == ANYWHERE else cidr,
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*",
        "destinationPortRange": str(desired.inputs["port"]),
    }
    return {"name": RULE, "properties": opens}


def subnet_body(desired: Desired) -> dict[str, Any]:
    """Without Azure's own way out, which is no one's address: each machine has a public address to dial out from."""
    return {"properties": {"addressPrefix": desired.inputs["cidr"], "defaultOutboundAccess": False}}


def address_body(desired: Desired) -> dict[str, Any]:
    """Standard and static: the only kind that is still sold."""
    properties = {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"}
    return {**_tracked(desired, properties), "sku": {"name": "Standard", "tier": "Regional"}}


def nic_body(desired: Desired) -> dict[str, Any]:
    """With its address, which goes when the card goes unless it is kept; and the card goes with its machine."""
    option = "Detach" if desired.inputs.get("keeps_address") else "Delete"
    needs = desired.needs
    configuration = {
        "name": IP_CONFIGURATION,
        "properties": {
            "primary": True,
            "privateIPAllocationMethod": "Dynamic",
            "subnet": {"id": needs["subnet"]},
            "publicIPAddress": {"id": needs["address"], "properties": {"deleteOption": option}},
        },
    }
    properties = {"ipConfigurations": [configuration], "networkSecurityGroup": {"id": needs["firewall"]}}
    return _tracked(desired, properties)


def _tracked(desired: Desired, properties: dict[str, Any]) -> dict[str, Any]:
    return {"location": desired.region, "tags": tags.of(desired), "properties": properties}
