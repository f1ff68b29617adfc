from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from grafos_emulators.emulator import EmulatedClouds


class Network:
    """A network of the test's own, with one machine in it."""

    def __init__(self, ec2: Any, launch: Any) -> None:
        self.ec2 = ec2
        self.vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
        self.subnet = ec2.create_subnet(VpcId=self.vpc, CidrBlock="10.1.0.0/24", AvailabilityZone="us-east-1a")[
            "Subnet"
        ]["SubnetId"]
        self.gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=self.gateway, VpcId=self.vpc)
        self.group = ec2.create_security_group(GroupName="g", Description="of a test", VpcId=self.vpc)["GroupId"]
        nic = {"DeviceIndex": 0, "SubnetId": self.subnet, "Groups": [self.group], "AssociatePublicIpAddress": True}
        self.instance = launch(NetworkInterfaces=[nic])

    def delete_group(self) -> None:
        self.ec2.delete_security_group(GroupId=self.group)

    def delete_subnet(self) -> None:
        self.ec2.delete_subnet(SubnetId=self.subnet)

    def detach_gateway(self) -> None:
        self.ec2.detach_internet_gateway(InternetGatewayId=self.gateway, VpcId=self.vpc)

    def delete_gateway(self) -> None:
        self.ec2.delete_internet_gateway(InternetGatewayId=self.gateway)

    def delete_vpc(self) -> None:
        self.ec2.delete_vpc(VpcId=self.vpc)

    def terminate(self) -> None:
        self.ec2.terminate_instances(InstanceIds=[self.instance["InstanceId"]])


STEPS = ("delete_group", "delete_subnet", "detach_gateway", "delete_gateway", "delete_vpc")


@pytest.fixture
def network(ec2: Any, launch: Any) -> Network:
    return Network(ec2, launch)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("terminated", [False, True])
def test_nothing_that_a_machine_uses_is_removed_until_it_is_terminated(
    aws: EmulatedClouds, network: Network, step: str, *, terminated: bool
) -> None:
    """A machine that is shutting down still has its interface, for seconds to minutes on the real EC2."""
    if terminated:
        network.terminate()
    before = aws.world()
    with pytest.raises(ClientError) as error:
        getattr(network, step)()
    assert error.value.response["Error"]["Code"] == "DependencyViolation"
    assert aws.world() == before


def test_all_is_removed_in_order_after_the_machine_is_terminated(
    aws: EmulatedClouds, network: Network, clock: Any
) -> None:
    network.terminate()
    clock.advance(10)
    for step in STEPS:
        getattr(network, step)()
    assert aws.world() == ()


@pytest.mark.parametrize("left", ["group", "gateway"])
def test_a_network_with_a_group_or_a_gateway_is_not_deleted(network: Network, clock: Any, left: str) -> None:
    network.terminate()
    clock.advance(10)
    network.delete_subnet()
    if left == "group":
        network.detach_gateway()
    else:
        network.delete_group()
    with pytest.raises(ClientError) as error:
        network.delete_vpc()
    assert error.value.response["Error"]["Code"] == "DependencyViolation"


def test_a_group_that_another_groups_rule_names_is_in_use(ec2: Any) -> None:
    named = ec2.create_security_group(GroupName="named", Description="of a test")["GroupId"]
    naming = ec2.create_security_group(GroupName="naming", Description="of a test")["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": named}]}
    ec2.authorize_security_group_ingress(GroupId=naming, IpPermissions=[rule])
    with pytest.raises(ClientError) as error:
        ec2.delete_security_group(GroupId=named)
    assert error.value.response["Error"]["Code"] == "DependencyViolation"
    ec2.delete_security_group(GroupId=naming)
    ec2.delete_security_group(GroupId=named)


def test_a_default_group_cannot_be_deleted(ec2: Any) -> None:
    (group,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    with pytest.raises(ClientError) as error:
        ec2.delete_security_group(GroupId=group["GroupId"])
    assert error.value.response["Error"]["Code"] == "CannotDelete"


def test_an_interface_and_a_volume_in_use_are_not_deleted(ec2: Any, launch: Any) -> None:
    instance = launch()
    volume = ec2.describe_volumes()["Volumes"][0]["VolumeId"]
    for delete, code in (
        (lambda: ec2.delete_volume(VolumeId=volume), "VolumeInUse"),
        (
            lambda: ec2.delete_network_interface(
                NetworkInterfaceId=instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
            ),
            "InvalidNetworkInterface.InUse",
        ),
    ):
        with pytest.raises(ClientError) as error:
            delete()
        assert error.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(
    ("verb", "arguments", "code"),
    [
        ("delete_security_group", {"GroupId": "sg-0123456789abcdef0"}, "InvalidGroup.NotFound"),
        ("delete_subnet", {"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ("delete_vpc", {"VpcId": "vpc-0123456789abcdef0"}, "InvalidVpcID.NotFound"),
        (
            "delete_internet_gateway",
            {"InternetGatewayId": "igw-0123456789abcdef0"},
            "InvalidInternetGatewayID.NotFound",
        ),
    ],
)
def test_deleting_what_does_not_exist_says_so(ec2: Any, verb: str, arguments: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as error:
        getattr(ec2, verb)(**arguments)
    assert error.value.response["Error"]["Code"] == code


def test_a_second_group_of_the_same_name_is_refused(ec2: Any) -> None:
    ec2.create_security_group(GroupName="g", Description="of a test")
    with pytest.raises(ClientError) as error:
        ec2.create_security_group(GroupName="g", Description="of a test")
    assert error.value.response["Error"]["Code"] == "InvalidGroup.Duplicate"


def test_the_default_network_reaches_the_internet(ec2: Any) -> None:
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    of_vpc = [{"Name": "attachment.vpc-id", "Values": [vpc["VpcId"]]}]
    (gateway,) = ec2.describe_internet_gateways(Filters=of_vpc)["InternetGateways"]
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["RouteTables"]
    routes = {route["DestinationCidrBlock"]: route.get("GatewayId") for route in tables[0]["Routes"]}
    assert routes["0.0.0.0/0"] == gateway["InternetGatewayId"]
