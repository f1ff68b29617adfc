"""Networks, subnets, reserved addresses and firewall rules.

A network is global, of custom mode and without any rule, so that nothing is let in; a rule is for those machines
alone that bear its network tag.
"""

from __future__ import annotations

from typing import Any

from grafos_connectors.contract import Desired
from grafos_connectors.gcp import labels
from grafos_connectors.gcp.describe import Item, path_of

RULE_PRIORITY = 1000
"""Compute Engine's own default; in a network of ours there is no other rule to come before."""


def network_body(desired: Desired, project: str) -> dict[str, Any]:  # noqa: ARG001  as the other kinds' bodies
    return {
        "name": desired.name,
        "description": labels.description(desired),
        "autoCreateSubnetworks": False,
        "routingConfig": {"routingMode": "REGIONAL"},
    }


def subnet_body(desired: Desired, project: str) -> dict[str, Any]:
    return {
        "name": desired.name,
        "description": labels.description(desired),
        "network": f"projects/{project}/{desired.needs['network']}",
        "ipCidrRange": desired.inputs["cidr"],
        "privateIpGoogleAccess": False,
    }


def address_body(desired: Desired, project: str) -> dict[str, Any]:  # noqa: ARG001  as the other kinds' bodies
    return {
        "name": desired.name,
        "description": labels.description(desired),
        "addressType": "EXTERNAL",
        "networkTier": "PREMIUM",
    }


def rule_body(desired: Desired, project: str) -> dict[str, Any]:
    return {
        "name": desired.name,
        "description": labels.description(desired),
        "network": f"projects/{project}/{desired.needs['network']}",
        "direction": "INGRESS",
        "priority": RULE_PRIORITY,
        "allowed": [{"IPProtocol": "tcp", "ports": [str(desired.inputs["port"])]}],
        "sourceRanges": [desired.inputs["cidr"]],
        "targetTags": [desired.inputs["target"]],
    }


def same_network(item: Item, desired: Desired) -> bool:  # noqa: ARG001  as the other kinds' comparisons
    return not item.get("autoCreateSubnetworks")


def same_subnet(item: Item, desired: Desired) -> bool:
    return (
        item.get("ipCidrRange") == desired.inputs["cidr"]
        and path_of(item.get("network", "")) == desired.needs["network"]
    )


def same_address(item: Item, desired: Desired) -> bool:  # noqa: ARG001  as the other kinds' comparisons
    return bool(item.get("addressType", "EXTERNAL") == "EXTERNAL")


def same_rule(item: Item, desired: Desired) -> bool:
    inputs = desired.inputs
    return (
        path_of(item.get("network", "")) == desired.needs["network"]
        and list(item.get("allowed", ())) == [{"IPProtocol": "tcp", "ports": [str(inputs["port"])]}]
        and list(item.get("sourceRanges", ())) == [inputs["cidr"]]
        and list(item.get("targetTags", ())) == [inputs["target"]]
    )
