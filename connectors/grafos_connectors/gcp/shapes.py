"""The kinds of resources that grafos makes on Google Cloud, and what a ``Desired`` of each must say."""

from __future__ import annotations

from grafos_connectors.contract import Kind
from grafos_connectors.shapes import Shape

# A network takes no cidr: its subnets have theirs. No firewall rule is made: what no rule allows in is kept out.
GCP_SHAPES: dict[Kind, Shape] = {
    Kind.NETWORK: Shape(),
    Kind.SUBNET: Shape(needs=("network",), inputs={"cidr": str}),
    Kind.MACHINE: Shape(
        needs=("subnet",),
        inputs={"machine_type": str, "image": str, "disk_gib": int, "user_data": str, "ends_at": int},
        optional={"public_address": bool, "spot": bool},
        zoned=True,
    ),
}
