"""What a ``Desired`` of each kind must say on Azure. Imports no SDK, so that a layout may look at it."""

from __future__ import annotations

from grafos_connectors.contract import Kind
from grafos_connectors.shapes import Shape

SHAPES: dict[Kind, Shape] = {
    Kind.GROUP: Shape(),
    Kind.NETWORK: Shape(needs=("group",), inputs={"cidr": str}),
    # With a port it lets that in, from ``cidr``.
    Kind.FIREWALL: Shape(needs=("group",), inputs={"description": str}, optional={"port": int, "cidr": str}),
    Kind.SUBNET: Shape(needs=("network",), inputs={"cidr": str}, tagged=False),
    Kind.ADDRESS: Shape(needs=("group",)),
    Kind.NIC: Shape(needs=("group", "subnet", "firewall", "address"), optional={"keeps_address": bool}),
    # With ``baked`` its image is one of the subscription's own, by its id.
    # Without a zone the machine is the region's: Azure chooses where it stands.
    Kind.MACHINE: Shape(
        needs=("group", "nic"),
        inputs={"machine_type": str, "image": str, "disk_gib": int, "user_data": str},
        optional={"spot": bool, "baked": bool, "secure_boot": bool},
    ),
    Kind.DEADLINE: Shape(needs=("group", "machine"), inputs={"ends_at": int}),
}

DEADLINE_MAX_S = 24 * 3600 - 600
"""How far away a deadline may be when it is set. The schedule is a time of day and fires when that comes next, so one
for the day after tomorrow would fire tomorrow; ten minutes are left for clocks that differ."""

DEADLINE_MIN_S = 300
"""A schedule for a minute that has just passed fires a day later, so one that is nearer than this is set this late."""
