"""Whatever EC2's calls can make is in the emulated world from the first moment to the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from grafos_core.clock import VirtualClock
from grafos_emulators.aws.makers import MAKES, MAKING_VERBS, PARTS
from grafos_emulators.emulator import EmulatedClouds

TAGS = {"of": "a test"}


def tagged(kind: str) -> dict[str, Any]:
    """``TagSpecifications`` for one kind, in EC2's word."""
    return {
        "TagSpecifications": [{"ResourceType": kind, "Tags": [{"Key": key, "Value": TAGS[key]} for key in TAGS]}],
    }


class Scenes:
    """One method for each action: makes one thing, and gives its id and how to remove it."""

    def __init__(self, ec2: Any) -> None:
        self.ec2 = ec2

    def default_subnet(self) -> dict[str, str]:
        subnet: dict[str, str] = self.ec2.describe_subnets()["Subnets"][0]
        return subnet

    def volume(self) -> str:
        """A volume that is not ours to look at."""
        return str(self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"])

    def AllocateAddress(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802  named as the actions are
        made = self.ec2.allocate_address(Domain="vpc", **tagged("elastic-ip"))["AllocationId"]
        return made, lambda: self.ec2.release_address(AllocationId=made)

    def CopySnapshot(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        first = self.ec2.create_snapshot(VolumeId=self.volume())["SnapshotId"]
        asked = {"SourceRegion": "us-east-1", "SourceSnapshotId": first, **tagged("snapshot")}
        made = self.ec2.copy_snapshot(**asked)["SnapshotId"]
        return made, lambda: self.ec2.delete_snapshot(SnapshotId=made)

    def CreateInternetGateway(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        made = self.ec2.create_internet_gateway(**tagged("internet-gateway"))["InternetGateway"]["InternetGatewayId"]
        return made, lambda: self.ec2.delete_internet_gateway(InternetGatewayId=made)

    def CreateKeyPair(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        self.ec2.create_key_pair(KeyName="k", **tagged("key-pair"))
        return "k", lambda: self.ec2.delete_key_pair(KeyName="k")

    def ImportKeyPair(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1k0CjX1ihpJvbVDRD7Q9TRqHhmHGbrM0QV1V9Hbe2i x"
        self.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public.encode(), **tagged("key-pair"))
        return "k", lambda: self.ec2.delete_key_pair(KeyName="k")

    def CreateLaunchTemplate(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        asked = {"LaunchTemplateName": "t", "LaunchTemplateData": {"InstanceType": "t3.micro"}}
        made = self.ec2.create_launch_template(**asked, **tagged("launch-template"))
        template = made["LaunchTemplate"]["LaunchTemplateId"]
        return template, lambda: self.ec2.delete_launch_template(LaunchTemplateId=template)

    def CreateNatGateway(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        asked = {"SubnetId": self.default_subnet()["SubnetId"], "ConnectivityType": "private", **tagged("natgateway")}
        made = self.ec2.create_nat_gateway(**asked)["NatGateway"]["NatGatewayId"]
        return made, lambda: self.ec2.delete_nat_gateway(NatGatewayId=made)

    def CreateNetworkInterface(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        asked = {"SubnetId": self.default_subnet()["SubnetId"], **tagged("network-interface")}
        made = self.ec2.create_network_interface(**asked)["NetworkInterface"]["NetworkInterfaceId"]
        return made, lambda: self.ec2.delete_network_interface(NetworkInterfaceId=made)

    def CreateRouteTable(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        asked = {"VpcId": self.default_subnet()["VpcId"], **tagged("route-table")}
        made = self.ec2.create_route_table(**asked)["RouteTable"]["RouteTableId"]
        return made, lambda: self.ec2.delete_route_table(RouteTableId=made)

    def CreateSecurityGroup(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        made = self.ec2.create_security_group(GroupName="g", Description="d", **tagged("security-group"))["GroupId"]
        return made, lambda: self.ec2.delete_security_group(GroupId=made)

    def CreateSnapshot(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        made = self.ec2.create_snapshot(VolumeId=self.volume(), **tagged("snapshot"))["SnapshotId"]
        return made, lambda: self.ec2.delete_snapshot(SnapshotId=made)

    def RegisterImage(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        disk = {"SnapshotId": self.ec2.create_snapshot(VolumeId=self.volume())["SnapshotId"]}
        made = self.ec2.register_image(
            Name="image",
            Architecture="arm64",
            RootDeviceName="/dev/xvda",
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": disk}],
            **tagged("image"),
        )["ImageId"]
        return made, lambda: self.ec2.deregister_image(ImageId=made)

    def CreateSubnet(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        made = self.ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24", **tagged("subnet"))["Subnet"]["SubnetId"]
        return made, lambda: self.ec2.delete_subnet(SubnetId=made)

    def CreateVolume(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        made = self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, **tagged("volume"))["VolumeId"]
        return made, lambda: self.ec2.delete_volume(VolumeId=made)

    def CreateVpc(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        made = self.ec2.create_vpc(CidrBlock="10.9.0.0/16", **tagged("vpc"))["Vpc"]["VpcId"]
        return made, lambda: self.ec2.delete_vpc(VpcId=made)

    def CreateVpcEndpoint(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        service = "com.amazonaws.us-east-1.s3"
        asked = {"VpcId": self.default_subnet()["VpcId"], "ServiceName": service, "VpcEndpointType": "Gateway"}
        made = self.ec2.create_vpc_endpoint(**asked, **tagged("vpc-endpoint"))["VpcEndpoint"]["VpcEndpointId"]
        return made, lambda: self.ec2.delete_vpc_endpoints(VpcEndpointIds=[made])

    def RunInstances(self) -> tuple[str, Callable[[], Any]]:  # noqa: N802
        image = self.ec2.describe_images(Owners=["136693071363"])["Images"][0]
        name = {"x86_64": "t3.medium", "arm64": "t4g.medium"}[image["Architecture"]]
        asked = {"ImageId": image["ImageId"], "InstanceType": name, "MinCount": 1, "MaxCount": 1}
        made = self.ec2.run_instances(**asked, **tagged("instance"))["Instances"][0]["InstanceId"]
        return made, lambda: self.ec2.terminate_instances(InstanceIds=[made])


@pytest.mark.parametrize("action", sorted(MAKES))
def test_what_an_action_makes_is_counted_with_its_tags_until_it_is_removed(
    aws: EmulatedClouds, ec2: Any, clock: VirtualClock, action: str
) -> None:
    made, remove = getattr(Scenes(ec2), action)()
    found = [thing for thing in aws.world() if thing.id == made]
    assert [(thing.kind, thing.tags) for thing in found] == [(MAKES[action], TAGS)]
    remove()
    for _ in range(3):  # a machine ends, and then is gone
        clock.advance(1)
    assert made not in {thing.id for thing in aws.world()}


def test_nothing_can_be_made_that_nobody_counts() -> None:
    from grafos_emulators.aws.ec2 import KNOWN_ACTIONS

    snake = {"".join(("_" + each.lower()) if each.isupper() else each for each in name)[1:] for name in MAKES | PARTS}
    making = {name for name in KNOWN_ACTIONS if name.startswith(tuple(f"{verb.lower()}_" for verb in MAKING_VERBS))}
    assert snake <= making, "an action that moto has"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("create_transit_gateway", {}),
        ("create_vpn_gateway", {"Type": "ipsec.1"}),
        ("allocate_hosts", {"AvailabilityZone": "us-east-1a", "InstanceType": "m5.large", "Quantity": 1}),
        ("purchase_reserved_instances_offering", {"InstanceCount": 1, "ReservedInstancesOfferingId": "x"}),
        ("create_default_vpc", {}),
    ],
)
def test_what_would_bill_and_not_be_counted_is_refused(ec2: Any, verb: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as error:
        getattr(ec2, verb)(**arguments)
    assert error.value.response["Error"]["Code"] == "NotEmulated"


def test_a_launch_that_is_refused_half_way_leaves_nothing(aws: EmulatedClouds, ec2: Any, launch: Any) -> None:
    broken = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 8, "SnapshotId": "snap-0123456789abcdef0"}}]
    with pytest.raises(ClientError):
        launch(BlockDeviceMappings=broken)
    assert aws.world() == ()


def test_a_volume_that_stays_behind_is_counted_when_its_machine_is_gone(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: VirtualClock
) -> None:
    instance = launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 8}}])
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert {thing.kind: thing.state for thing in aws.world()}["instance"] == "shutting-down"
    clock.advance(1)
    assert [(thing.kind, thing.state, thing.billable) for thing in aws.world()] == [("volume", "available", True)]


def test_a_machine_says_when_it_was_launched_by_the_clouds_own_clock(
    ec2: Any, launch: Any, clock: VirtualClock
) -> None:
    clock.advance(86_400)
    instance = launch()
    assert instance["LaunchTime"].timestamp() == clock.now()
    clock.advance(1)
    ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
    clock.advance(86_400)
    ec2.start_instances(InstanceIds=[instance["InstanceId"]])
    [found] = ec2.describe_instances()["Reservations"][0]["Instances"]
    assert found["LaunchTime"].timestamp() == clock.now(), "and when it was started last"
