from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from grafos_emulators.emulator import EmulatedClouds


def refused(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_the_stock_image_is_found_as_debians_own_is(ec2: Any) -> None:
    """By the owner and the name that https://wiki.debian.org/Cloud/AmazonEC2Image gives."""
    filters = [
        {"Name": "name", "Values": ["debian-13-amd64-*", "debian-13-arm64-*"]},
        {"Name": "state", "Values": ["available"]},
        {"Name": "root-device-type", "Values": ["ebs"]},
        {"Name": "virtualization-type", "Values": ["hvm"]},
    ]
    (image,) = ec2.describe_images(Owners=["136693071363"], Filters=filters)["Images"]
    assert image["OwnerId"] == "136693071363"
    assert image["Name"].startswith("debian-13-" + {"x86_64": "amd64", "arm64": "arm64"}[image["Architecture"]])


def test_the_stock_image_is_of_the_hosts_architecture_and_tells_the_hosts_python(ec2: Any) -> None:
    import platform
    import sys

    (image,) = ec2.describe_images(Owners=["136693071363"])["Images"]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert image["Architecture"] == {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    assert image["Tags"] == [{"Key": "python", "Value": version}]
    assert f"python {version}" in image["Description"]


def test_a_machine_type_of_each_architecture_is_offered(ec2: Any) -> None:
    for name, architecture in (("t3.medium", "x86_64"), ("t4g.medium", "arm64")):
        (found,) = ec2.describe_instance_types(InstanceTypes=[name])["InstanceTypes"]
        assert found["ProcessorInfo"]["SupportedArchitectures"] == [architecture]
        assert (found["VCpuInfo"]["DefaultVCpus"], found["MemoryInfo"]["SizeInMiB"]) == (2, 4096)
        offers = ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [name]}]
        )
        assert offers["InstanceTypeOfferings"]


def test_each_machine_has_a_loopback_address_of_its_own_and_the_api_tells_it(launch: Any) -> None:
    instances = [launch() for _ in range(3)]
    addresses = {each["PrivateIpAddress"] for each in instances}
    assert len(addresses) == 3
    assert all(address.startswith("127.") and address != "127.0.0.1" for address in addresses)
    assert {each["PublicIpAddress"] for each in instances} == addresses
    assert {each["NetworkInterfaces"][0]["PrivateIpAddress"] for each in instances} == addresses


def test_a_machine_without_a_public_address_has_none(ec2: Any, launch: Any) -> None:
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    nic = {"DeviceIndex": 0, "SubnetId": subnet, "AssociatePublicIpAddress": False}
    assert "PublicIpAddress" not in launch(NetworkInterfaces=[nic])


def test_as_many_machines_are_launched_as_asked_for_at_most(ec2: Any, launch: Any) -> None:
    launch(MinCount=1, MaxCount=3)
    assert sum(len(each["Instances"]) for each in ec2.describe_instances()["Reservations"]) == 3


def test_tags_reach_instance_volume_and_interface_in_the_create_call(aws: EmulatedClouds, launch: Any) -> None:
    kinds = ("instance", "volume", "network-interface")
    launch(TagSpecifications=[{"ResourceType": kind, "Tags": [{"Key": "of", "Value": kind}]} for kind in kinds])
    assert {thing.kind: thing.tags["of"] for thing in aws.world()} == {
        "instance": "instance",
        "volume": "volume",
        "nic": "network-interface",
    }


def test_the_root_volume_is_the_images_changed_as_asked(ec2: Any, launch: Any) -> None:
    launch(BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 10, "Encrypted": True}}])
    (volume,) = ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["Encrypted"], volume["VolumeType"]) == (10, True, "gp3")
    assert volume["Attachments"][0]["DeleteOnTermination"] is True


def test_a_root_volume_smaller_than_the_images_is_refused(launch: Any) -> None:
    with pytest.raises(ClientError) as error:
        launch(BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 4}}])
    assert refused(error) == "InvalidBlockDeviceMapping"


def test_a_further_volume_outlives_its_machine_unless_asked(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: Any
) -> None:
    instance = launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 1}}])
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    clock.advance(10)
    assert [(thing.kind, thing.state) for thing in aws.world()] == [("volume", "available")]


def test_without_groups_a_machine_is_in_the_default_group(launch: Any) -> None:
    assert [group["GroupName"] for group in launch()["SecurityGroups"]] == ["default"]


def test_groups_named_with_the_interface_are_the_instances_too(ec2: Any, launch: Any) -> None:
    group = ec2.create_security_group(GroupName="own", Description="of this test")["GroupId"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    nic = {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group], "AssociatePublicIpAddress": True}
    instance = launch(NetworkInterfaces=[nic])
    assert [each["GroupId"] for each in instance["SecurityGroups"]] == [group]
    assert instance["PublicIpAddress"]


def test_instance_options_are_told_back(ec2: Any, launch: Any) -> None:
    instance = launch(
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "InstanceMetadataTags": "enabled"},
        InstanceInitiatedShutdownBehavior="terminate",
        ClientToken="token-1",
    )
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert instance["ClientToken"] == "token-1"
    behaviour = ec2.describe_instance_attribute(
        InstanceId=instance["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )
    assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "image"}, "InvalidAMIID.Malformed"),
        ({"InstanceType": "t3.gigantic"}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroups": ["nobody's"]}, "InvalidGroup.NotFound"),
        ({"UserData": "x" * 16385}, "InvalidParameterValue"),
        ({"MinCount": 2}, "InvalidParameterCombination"),
        ({"Placement": {"AvailabilityZone": "us-east-1e"}}, "Unsupported"),
        ({"Placement": {"AvailabilityZone": "eu-west-1a"}}, "Unsupported"),
        ({"ClientToken": "x" * 65}, "InvalidParameterValue"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "Ebs": {}}]}, "MissingParameter"),
        ({"LaunchTemplate": {"LaunchTemplateName": "any"}}, "NotEmulated"),
        ({"InstanceMarketOptions": {"MarketType": "capacity-block"}}, "NotEmulated"),
    ],
)
def test_a_launch_that_ec2_would_refuse_is_refused_and_leaves_nothing(
    aws: EmulatedClouds, ec2: Any, launch: Any, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as error:
        launch(**changes)
    assert refused(error) == code
    assert aws.world() == ()
    assert ec2.describe_instances()["Reservations"] == []


def test_an_image_of_another_architecture_than_the_type_is_refused(aws: EmulatedClouds, ec2: Any, launch: Any) -> None:
    (image,) = ec2.describe_images(Owners=["136693071363"])["Images"]
    other = {"x86_64": "t4g.medium", "arm64": "t3.medium"}[image["Architecture"]]
    with pytest.raises(ClientError, match="architecture") as error:
        launch(InstanceType=other)
    assert refused(error) == "InvalidParameterValue"
    assert aws.world() == ()


def test_user_data_of_exactly_the_limit_is_taken(launch: Any) -> None:
    assert launch(UserData="x" * 16384)["InstanceId"]


def test_user_data_may_hold_any_bytes(ec2: Any, launch: Any) -> None:
    instance = launch(UserData=bytes(range(256)))
    told = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    import base64

    assert base64.b64decode(told["UserData"]["Value"]) == bytes(range(256))


def test_a_dry_run_tells_that_it_would_succeed_and_makes_nothing(aws: EmulatedClouds, launch: Any) -> None:
    with pytest.raises(ClientError) as error:
        launch(DryRun=True)
    assert refused(error) == "DryRunOperation"
    assert aws.world() == ()


def test_the_quota_of_standard_vcpus_bounds_the_machines(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: Any
) -> None:
    aws.set({"vcpu_limit": 4})
    first = launch()
    launch()
    with pytest.raises(ClientError) as error:
        launch()
    assert refused(error) == "VcpuLimitExceeded"
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
    clock.advance(10)
    assert launch()["InstanceId"]


def test_machines_of_another_network_are_not_put_into_a_group(ec2: Any, launch: Any) -> None:
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="own", Description="of this test", VpcId=vpc)["GroupId"]
    with pytest.raises(ClientError) as error:
        launch(SecurityGroupIds=[group])
    assert refused(error) == "InvalidParameter"
