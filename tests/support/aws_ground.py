"""A ground on the emulated AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from crash_sweep import REGION
from emulated_ground import EmulatedCloud

from grafos_connectors.aws.connector import PAUSE_S, AwsConnector
from grafos_connectors.contract import Connector, Found, Kind, Scope

ZONE = f"{REGION}a"
ONE_OF_EACH = ("vpc", "gateway", "subnet", "security_group", "instance", "volume", "nic")


class OneRegion(AwsConnector):
    """An account with one region switched on, so that a look at all of them takes eight requests and not 140."""

    def list(self, scope: Scope) -> Iterator[tuple[Found, ...]]:
        return super().list(Scope(scope.fabric, scope.regions or (REGION,)))


class AwsCloud(EmulatedCloud):
    """An emulated account with its connector."""

    provider = "aws"
    whole = dict.fromkeys(ONE_OF_EACH, 1)
    whole_orchestrator: Mapping[str, int] = {**whole, "address": 1}
    uncounted = ("security_group_rule", "route")
    plantable = (
        Kind.NETWORK,
        Kind.GATEWAY,
        Kind.FIREWALL,
        Kind.SUBNET,
        Kind.DISK,
        Kind.NIC,
        Kind.ADDRESS,
        Kind.MACHINE,
    )

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._ec2: Any = boto3.client("ec2", **self.clouds.client_arguments())
        self._number = self._subnets = 0
        before = {thing.id for thing in self.clouds.world()}
        self._vpc = self._ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
        self._subnet = self._new_subnet([])
        images = self._ec2.describe_images(Filters=[{"Name": "state", "Values": ["available"]}])["Images"]
        self._image = images[0]["ImageId"]
        self.planting(before)

    def open(self, lag_s: float) -> Connector:
        connector = OneRegion(REGION, environment=self.clouds.environment(), clock=self.clock, listing_lag_s=lag_s)
        connector._pause_s = PAUSE_S  # as on a real cloud: the clock is stepped, so nobody waits
        events: Any = connector._calls._session
        events.register("before-send", self.moment)
        events.register("response-received", self.moment)
        return connector

    def show_after(self, lag_s: float) -> None:
        self.clouds.set({"visible_after_s": lag_s})

    def plant(self, kind: Kind, tags: Mapping[str, str], name: str) -> None:
        pairs = [{"Key": key, "Value": value} for key, value in {"Name": name, **tags}.items()]
        self._number += 1
        how: dict[Kind, tuple[str, Callable[[list[dict[str, Any]]], object]]] = {
            Kind.NETWORK: ("vpc", lambda on: self._ec2.create_vpc(CidrBlock="10.77.0.0/16", TagSpecifications=on)),
            Kind.GATEWAY: ("internet-gateway", lambda on: self._ec2.create_internet_gateway(TagSpecifications=on)),
            Kind.FIREWALL: ("security-group", lambda on: self._new_group(name, on)),
            Kind.SUBNET: ("subnet", self._new_subnet),
            Kind.DISK: ("volume", self._new_volume),
            Kind.NIC: ("network-interface", self._new_card),
            Kind.ADDRESS: ("elastic-ip", lambda on: self._ec2.allocate_address(Domain="vpc", TagSpecifications=on)),
            Kind.MACHINE: ("instance", self._new_machine),
        }
        resource_type, create = how[kind]
        create([{"ResourceType": resource_type, "Tags": pairs}])

    def _new_subnet(self, tagged: list[dict[str, Any]]) -> str:
        cidr = f"10.50.{self._subnets // 16}.{self._subnets % 16 * 16}/28"
        self._subnets += 1
        answer = self._ec2.create_subnet(
            VpcId=self._vpc, CidrBlock=cidr, AvailabilityZone=ZONE, TagSpecifications=tagged
        )
        return str(answer["Subnet"]["SubnetId"])

    def _new_group(self, name: str, tagged: list[dict[str, Any]]) -> None:
        called = f"{name}-{self._number}"
        self._ec2.create_security_group(GroupName=called, Description="x", VpcId=self._vpc, TagSpecifications=tagged)

    def _new_volume(self, tagged: list[dict[str, Any]]) -> None:
        self._ec2.create_volume(AvailabilityZone=ZONE, Size=1, TagSpecifications=tagged)

    def _new_card(self, tagged: list[dict[str, Any]]) -> None:
        self._ec2.create_network_interface(SubnetId=self._subnet, TagSpecifications=tagged)

    def _new_machine(self, tagged: list[dict[str, Any]]) -> None:
        self._ec2.run_instances(
            ImageId=self._image,
            InstanceType="t3.medium",
            MinCount=1,
            MaxCount=1,
            SubnetId=self._subnet,
            TagSpecifications=tagged,
        )
