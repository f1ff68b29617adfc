"""What AWS is asked for, call by call, as the emulated one records it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_place import EC2_KINDS, AwsPlace
from botocore import xform_name
from botocore.session import Session
from contract_work import Work

from grafos_connectors.aws import account, describe, permissions, prices
from grafos_connectors.aws.client import PAGE_SIZE, AwsCalls
from grafos_connectors.aws.listing import usable_regions
from grafos_connectors.aws.machine import USER_DATA_MAX_BYTES, launch_parameters
from grafos_connectors.contract import TAG_FABRIC, TAG_KEY, CloudError, Desired, Done, Kind
from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings

NETWORK_KINDS = EC2_KINDS.all_of(Kind.ROUTE, Kind.SUBNET)
CELL_KINDS = (Kind.FIREWALL, Kind.FIREWALL_RULE, Kind.MACHINE)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AwsPlace]:
    clock = VirtualClock()
    with EmulatedClouds(tmp_path, Settings(clouds=("aws",), boots=False), clock=clock) as aws:
        yield AwsPlace(aws, clock)


@pytest.fixture
def work(place: AwsPlace) -> Work:
    return Work(place)


@pytest.fixture
def ec2(place: AwsPlace) -> Any:
    return boto3.client("ec2", **place.aws.client_arguments())


def changes(place: AwsPlace) -> list[str]:
    return [call.action for call in place.aws.journal() if call.mutating]


@pytest.mark.parametrize("kind", EC2_KINDS.shapes)
def test_each_step_is_one_changing_call(place: AwsPlace, work: Work, kind: Kind) -> None:
    work.lay_ground(kind)
    before = len(changes(place))
    operation = work.connector.begin_create(work.desired(kind), "token")
    assert len(changes(place)) == before + 1
    work.finish(operation)
    operation = work.connector.begin_delete(operation.ref)
    assert len(changes(place)) == before + 2
    work.finish(operation)
    assert len(changes(place)) == before + 2


def test_a_first_cell_takes_eight_changing_calls_and_a_further_one_three(place: AwsPlace, work: Work) -> None:
    """The goals are twelve and three."""
    for kind in (*NETWORK_KINDS, *CELL_KINDS):
        work.make(kind)
    assert len(changes(place)) == 8
    for kind in CELL_KINDS:
        work.make(kind, f"second-{kind.value.replace('_', '-')}")
    assert len(changes(place)) == 8 + 3


def machine(**inputs: Any) -> Desired:
    key = "0" * 32
    usual = {
        "machine_type": "t4g.medium",
        "image": "ami-1",
        "root_device": "/dev/xvda",
        "disk_gib": 16,
        "user_data": "#!/bin/sh\n",
    }
    return Desired(
        key=key,
        kind=Kind.MACHINE,
        name="cell-1",
        region="us-east-1",
        zone="us-east-1b",
        needs={"subnet": "subnet-1", "firewall": "sg-1"},
        inputs={**usual, **inputs},
        tags={TAG_FABRIC: "f", TAG_KEY: key},
    )


def test_a_machine_is_launched_safe_and_cheap() -> None:
    """Metadata only with a token, an encrypted disk and an address that die with it, power-off ends it, no credits."""
    tags = [{"Key": "Name", "Value": "cell-1"}, {"Key": TAG_FABRIC, "Value": "f"}, {"Key": TAG_KEY, "Value": "0" * 32}]
    assert launch_parameters(machine(), "token") == {
        "ClientToken": "token",
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": "ami-1",
        "InstanceType": "t4g.medium",
        "UserData": "#!/bin/sh\n",
        "InstanceInitiatedShutdownBehavior": "terminate",
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeSize": 16, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
            }
        ],
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": "subnet-1",
                "Groups": ["sg-1"],
                "AssociatePublicIpAddress": True,
                "DeleteOnTermination": True,
            }
        ],
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpEndpoint": "enabled",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "enabled",
        },
        "CreditSpecification": {"CpuCredits": "standard"},
        "Placement": {"AvailabilityZone": "us-east-1b"},
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
        ],
    }


def test_a_type_without_credits_is_not_asked_about_them() -> None:
    """EC2 refuses the question for a type that has none."""
    assert "CreditSpecification" not in launch_parameters(machine(machine_type="m7g.large"), "token")


def test_a_machine_without_a_public_address_gets_none() -> None:
    asked = launch_parameters(machine(public_address=False), "token")
    assert asked["NetworkInterfaces"][0]["AssociatePublicIpAddress"] is False


def test_user_data_beyond_the_limit_is_refused_before_the_call() -> None:
    with pytest.raises(CloudError) as raised:
        launch_parameters(machine(user_data="ä" * (USER_DATA_MAX_BYTES // 2 + 1)), "token")
    assert raised.value.code == "cloud_invalid"


def test_disk_and_interface_bear_the_tags_from_the_launch_on(work: Work, ec2: Any) -> None:
    work.lay_ground(Kind.MACHINE)
    work.make(Kind.MACHINE)
    tagged = [{"Name": f"tag:{TAG_FABRIC}", "Values": [work.fabric]}]
    assert len(ec2.describe_volumes(Filters=tagged)["Volumes"]) == 1
    assert len(ec2.describe_network_interfaces(Filters=tagged)["NetworkInterfaces"]) == 1
    group = [{"Name": "group-id", "Values": [work.ids["firewall"]]}]
    assert len(ec2.describe_network_interfaces(Filters=group)["NetworkInterfaces"]) == 1


def test_only_the_rules_port_is_open_and_only_to_its_address(work: Work, ec2: Any) -> None:
    work.lay_ground(Kind.FIREWALL_RULE)
    work.make(Kind.FIREWALL_RULE)
    group = ec2.describe_security_groups(GroupIds=[work.ids["firewall"]])["SecurityGroups"][0]
    (permission,) = group["IpPermissions"]
    assert (permission["IpProtocol"], permission["FromPort"], permission["ToPort"]) == ("tcp", 7443, 7443)
    assert [addresses["CidrIp"] for addresses in permission["IpRanges"]] == ["192.0.2.7/32"]


def test_the_list_goes_through_all_pages(place: AwsPlace, work: Work, ec2: Any) -> None:
    count = PAGE_SIZE + 5
    place.aws.set({"vcpu_limit": 2 * count})
    tags = [{"ResourceType": "instance", "Tags": [{"Key": TAG_FABRIC, "Value": work.fabric}]}]
    one = {"ImageId": work.image.id, "InstanceType": place.machine_type, "MinCount": 1, "MaxCount": 1}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ec2.run_instances(**one, TagSpecifications=tags), range(count)))
    ids = {found.ref.id for found in work.listed() if found.ref.kind is Kind.MACHINE}
    assert len(ids) == count
    assert [call.action for call in place.aws.journal()].count("DescribeInstances") == 2


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        *(("ec2", described.operation) for described in describe.DESCRIBED.values() if described.paged),
        ("ec2", "describe_instance_type_offerings"),
        ("ec2", "describe_instance_types"),
        ("pricing", "get_products"),
        ("iam", "simulate_principal_policy"),
    ],
)
def test_no_page_is_larger_than_its_operation_allows(service: str, operation: str) -> None:
    """AWS refuses a larger one (InvalidParameterValue); the SDK only checks the lower bound, the emulator none."""
    model = Session().get_service_model(service)
    members = model.operation_model(operation.title().replace("_", "")).input_shape.members  # type: ignore[union-attr]  # each has one
    limits = [members[name].metadata for name in ("MaxResults", "MaxItems") if name in members]
    assert limits
    assert all(limit.get("min", 1) <= PAGE_SIZE <= limit.get("max", PAGE_SIZE) for limit in limits)


def test_the_list_looks_into_each_region_that_is_named(place: AwsPlace, work: Work) -> None:
    work.make(Kind.NETWORK)
    assert work.listed("eu-west-1") == []
    assert [found.ref.region for found in work.listed("eu-west-1", "us-east-1")] == ["us-east-1"]
    with pytest.raises(CloudError) as raised:
        work.listed("us-esat-1")
    assert raised.value.next == "Did you mean 'us-east-1'?"


def test_every_region_is_one_where_the_credentials_work(place: AwsPlace) -> None:
    """Accounts of China and of GovCloud are accounts of their own."""
    calls = AwsCalls(environment=place.aws.environment())
    regions = usable_regions(calls)
    assert {"us-east-1", "eu-central-1"} <= set(regions)
    assert not [region for region in regions if region.startswith(("cn-", "us-gov-", "us-iso"))]


@pytest.mark.deep
def test_a_list_without_regions_looks_into_every_region(work: Work) -> None:
    work.make(Kind.NETWORK)
    assert [found.ref.region for found in work.listed_everywhere()] == [work.place.region]


@pytest.mark.parametrize("kind", [Kind.DISK, Kind.NIC, Kind.ADDRESS])
def test_what_outlived_its_machine_is_listed_and_can_be_deleted(work: Work, ec2: Any, kind: Kind) -> None:
    work.lay_ground(Kind.MACHINE)
    tags = [{"Key": TAG_FABRIC, "Value": work.fabric}]
    if kind is Kind.DISK:
        specification = [{"ResourceType": "volume", "Tags": tags}]
        ec2.create_volume(AvailabilityZone=work.zone, Size=8, TagSpecifications=specification)
    elif kind is Kind.NIC:
        specification = [{"ResourceType": "network-interface", "Tags": tags}]
        ec2.create_network_interface(SubnetId=work.ids["subnet"], TagSpecifications=specification)
    else:
        ec2.allocate_address(Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}])
    (found,) = (each for each in work.listed() if each.ref.kind is kind)
    assert found.billable is (kind is not Kind.NIC)
    assert isinstance(work.outcome(work.connector.begin_delete(found.ref)), Done)
    assert kind not in {each.ref.kind for each in work.listed()}


# Prices --------------------------------------------------------------------------------------------------------------


def product(*usd: str, usage: str = "BoxUsage:t4g.medium") -> str:
    dimensions = {str(number): {"pricePerUnit": {"USD": price}} for number, price in enumerate(usd)}
    terms = {"OnDemand": {"x": {"priceDimensions": dimensions}}, "Reserved": {"y": {}}}
    attributes = {"usagetype": usage}
    return json.dumps(
        {"product": {"attributes": attributes}, "terms": terms, "publicationDate": "2026-11-01T00:00:00Z"}
    )


def test_a_price_is_read_from_the_lists_nesting() -> None:
    assert list(prices.listed_prices(product("0.0336000000"))) == [
        prices.ListedPrice(Decimal("0.0336"), "BoxUsage:t4g.medium", "2026-11-01")
    ]


@pytest.mark.parametrize("usd", ["0.0000000000", "free", ""])
def test_what_costs_nothing_or_is_no_number_is_no_price(usd: str) -> None:
    assert list(prices.listed_prices(product(usd))) == []


def test_a_product_without_an_on_demand_term_has_no_price() -> None:
    assert list(prices.listed_prices({"product": {}, "terms": {"Reserved": {}}})) == []


def test_the_plans_price_is_the_list_price(work: Work) -> None:
    price = work.connector.price("eu-central-1", "t4g.medium")
    assert (price.machine_per_hour, price.disk_per_gib_month) == (3_840_000, 8_000_000)
    assert price.fictional
    assert "emulated" in price.source


# Facts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "python"),
    [
        ({"Tags": [{"Key": "python", "Value": "3.11"}], "Description": "python 3.12"}, "3.11"),
        ({"Description": "Debian 13, emulated, python 3.12"}, "3.12"),
        ({"Description": "Debian 13 (20250814-2204)"}, "3.13"),
        ({}, "3.13"),
    ],
)
def test_an_image_says_its_python_or_its_release_does(image: dict[str, Any], python: str) -> None:
    assert account.python_of(image) == python


def test_cores_of_other_families_do_not_count_against_the_quota() -> None:
    t4g = {"InstanceType": "t4g.medium", "CpuOptions": {"CoreCount": 2, "ThreadsPerCore": 1}}
    t3 = {"InstanceType": "t3.medium", "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 2}}
    gpu = {"InstanceType": "g5.xlarge", "CpuOptions": {"CoreCount": 2, "ThreadsPerCore": 2}}
    assert account.cores_in_use([t4g, t3, gpu]) == 4
    assert account.cores_in_use([t4g, {**t3, "InstanceLifecycle": "spot"}]) == 2
    assert account.cores_in_use([t4g, {"InstanceType": "t3.medium"}]) is None
    assert account.cores_in_use([t4g, t3, gpu], family="gpu_g") == 4
    assert account.cores_in_use([t4g, {**t3, "InstanceLifecycle": "spot"}], account.SPOT) == 2


@pytest.mark.parametrize(
    ("machine_type", "family"),
    [
        ("t4g.medium", "standard"),
        ("m7i.large", "standard"),
        ("g5.xlarge", "gpu_g"),
        ("gr6.4xlarge", "gpu_g"),
        ("vt1.3xlarge", "gpu_g"),
        ("p5.48xlarge", "gpu_p"),
        ("inf2.xlarge", ""),
        ("x2gd.medium", ""),
    ],
)
def test_each_type_counts_against_its_familys_quota(machine_type: str, family: str) -> None:
    assert account.family_of(machine_type) == family


def test_the_quotas_name_what_a_cell_needs(work: Work) -> None:
    quotas = {quota.name: quota for quota in work.connector.quotas(work.place.region)}
    assert set(quotas) == {"machine_cores", "spot_machine_cores", "networks", "gateways"}
    assert {quota.each for quota in quotas.values()} == {0}
    asked = {quota.name: quota for quota in work.connector.quotas(work.place.region, work.place.machine_type)}
    assert {name: (quota.each, quota.market) for name, quota in asked.items()} == {
        "machine_cores": (2, "on_demand"),
        "spot_machine_cores": (2, "spot"),
        "networks": (0, ""),
        "gateways": (0, ""),
    }
    assert quotas["machine_cores"].limit == work.place.aws.set({})["vcpu_limit"]  # type: ignore[attr-defined]
    assert quotas["networks"].limit is None  # the emulator does not say


def test_denied_actions_are_those_not_allowed() -> None:
    pages = [
        {"EvaluationResults": [{"EvalActionName": "ec2:RunInstances", "EvalDecision": "allowed"}]},
        {"EvaluationResults": [{"EvalActionName": "ec2:CreateVpc", "EvalDecision": "implicitDeny"}]},
    ]
    assert permissions.denied_actions(pages) == ("ec2:CreateVpc",)


def test_the_permissions_that_are_asked_for_are_those_of_the_calls_that_the_source_makes() -> None:
    model = Session().get_service_model("ec2")
    by_method = {xform_name(name): name for name in model.operation_names}
    source = "".join(path.read_text() for path in Path(permissions.__file__).parent.glob("*.py"))
    called = {by_method[word] for word in re.findall(r'"([a-z_]+)"', source) if word in by_method}
    asked = {action.partition(":")[2] for action in permissions.ACTIONS if action.startswith("ec2:")}
    assert asked == called


def test_the_policy_fragment_is_a_policy_that_allows_just_that() -> None:
    policy = json.loads(permissions.fragment(["ec2:RunInstances", "ec2:CreateVpc"]))
    assert policy["Version"] == "2012-10-17"
    assert policy["Statement"] == [
        {"Effect": "Allow", "Action": ["ec2:CreateVpc", "ec2:RunInstances"], "Resource": "*"}
    ]


def test_an_assumed_role_is_judged_as_the_role() -> None:
    session = "arn:aws:sts::123456789012:assumed-role/Operator/me@example.net"
    assert permissions.ASSUMED_ROLE.sub(permissions.ROLE_ARN, session) == "arn:aws:iam::123456789012:role/Operator"
