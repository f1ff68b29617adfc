"""The kinds of resources that grafos makes on Google Cloud, and what a ``Desired`` of each must say."""

from __future__ import annotations

from grafos_connectors.contract import Kind
from grafos_connectors.shapes import Shape

# A network takes no cidr: its subnets have theirs. What no firewall rule allows in is kept out, so no cell has one; an
# orchestrator's lets its port in to what bears the network tag ``target``, and its machine has a reserved address.
GCP_SHAPES: dict[Kind, Shape] = {
    Kind.NETWORK: Shape(),
    Kind.SUBNET: Shape(needs=("network",), inputs={"cidr": str}),
    Kind.FIREWALL_RULE: Shape(needs=("network",), inputs={"port": int, "cidr": str, "target": str}),
    Kind.ADDRESS: Shape(),
    Kind.MACHINE: Shape(
        needs=("subnet",),
        may_need=("address",),
        inputs={"machine_type": str, "image": str, "disk_gib": int, "user_data": str, "ends_at": int},
        optional={
            "public_address": bool,
            "spot": bool,
            "identity": bool,
            "network_tag": str,
            "baked": bool,
            "secure_boot": bool,
        },
        zoned=True,
    ),
}
