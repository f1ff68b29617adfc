"""Networks and subnets. A network is global, of custom mode and without any rule, so that nothing is let in."""

from __future__ import annotations

from typing import Any

from grafos_connectors.contract import Desired
from grafos_connectors.gcp import labels
from grafos_connectors.gcp.describe import Item, path_of


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


def same_network(item: Item, desired: Desired) -> bool:  # noqa: ARG001  as the other kinds' comparisons
    return not item.get("autoCreateSubnetworks")


def same_subnet(item: Item, desired: Desired) -> bool:
    return (
        item.get("ipCidrRange") == desired.inputs["cidr"]
        and path_of(item.get("network", "")) == desired.needs["network"]
    )
