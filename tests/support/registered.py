"""A registered cell, as it is planned on Compute Engine and on Azure before any cloud is asked."""

from __future__ import annotations

from typing import Any

from grafos_connectors.contract import Image, Kind, Offer, Price
from grafos_connectors.shapes import Shape
from grafos_core.ids import FabricId
from grafos_stacks.layouts import layout_of
from grafos_stacks.plan import BundlePin, CellFacts, StackPlan
from grafos_stacks.planner import plan_cell
from grafos_stacks.spec import CellSpec, check_spec

CLOUDS = ("gcp", "azure")
REGIONS = {"gcp": "us-central1", "azure": "eastus"}
NOW = 1_800_000_000.5
SHAPES: dict[str, dict[Kind, Shape]] = {
    "gcp": {
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
    },
    "azure": {
        Kind.GROUP: Shape(),
        Kind.NETWORK: Shape(needs=("group",), inputs={"cidr": str}),
        Kind.FIREWALL: Shape(needs=("group",), inputs={"description": str}, optional={"port": int, "cidr": str}),
        Kind.SUBNET: Shape(needs=("network",), inputs={"cidr": str}, tagged=False),
        Kind.ADDRESS: Shape(needs=("group",)),
        Kind.NIC: Shape(needs=("group", "subnet", "firewall", "address"), optional={"keeps_address": bool}),
        Kind.MACHINE: Shape(
            needs=("group", "nic"),
            inputs={"machine_type": str, "image": str, "disk_gib": int, "user_data": str},
            optional={"spot": bool, "baked": bool, "secure_boot": bool},
        ),
        Kind.DEADLINE: Shape(needs=("group", "machine"), inputs={"ends_at": int}),
    },
}
"""What each cloud's connector takes; its own table is checked against the plan where that connector is tested."""


def asked(provider: str, cell_id: str = "one", **inputs: Any) -> CellSpec:
    return CellSpec(provider, cell_id, REGIONS[provider], "", **inputs)


def facts(provider: str) -> CellFacts:
    machine_type = layout_of(provider).default_types["amd64"]
    zone = {"gcp": "us-central1-a", "azure": ""}[provider]
    return CellFacts(
        account="emulated",
        emulated=True,
        offer=Offer(REGIONS[provider], zone, machine_type, "amd64", 2, 4 << 30),
        image=Image("image-1", "debian-13", "amd64", "3.13"),
        price=Price(REGIONS[provider], machine_type, 3_350_000, 8_000_000, 500_000, "test", "2026-11-21", True),
        bundle=BundlePin("", 0),
    )


def plan(provider: str, cell_id: str = "one", fabric: str = "fab-1", **inputs: Any) -> StackPlan:
    return plan_cell(check_spec(asked(provider, cell_id, **inputs)), facts(provider), FabricId(fabric), NOW)
