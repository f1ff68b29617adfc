"""Sources: the EC2 developer guide on idempotency; boto3 issue 4406 for IdempotentInstanceTerminated."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from grafos_emulators.emulator import EmulatedClouds


def refused(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_the_same_token_gives_the_same_instance(aws: EmulatedClouds, launch: Any) -> None:
    first, second = launch(ClientToken="t"), launch(ClientToken="t")
    assert first["InstanceId"] == second["InstanceId"]
    assert [thing.kind for thing in aws.world()] == ["instance", "volume", "nic"]


def test_many_calls_at_once_with_one_token_give_one_instance(aws: EmulatedClouds, launch: Any) -> None:
    together = threading.Barrier(16)

    def launch_together(_: int) -> str:
        together.wait()
        return str(launch(ClientToken="t", UserData="x" * 8000)["InstanceId"])

    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(launch_together, range(16)))
    assert len(ids) == 1
    assert [thing.id for thing in aws.world() if thing.kind == "instance"] == list(ids)


def test_the_same_token_with_other_parameters_is_refused(aws: EmulatedClouds, launch: Any) -> None:
    launch(ClientToken="t", UserData="one")
    with pytest.raises(ClientError) as error:
        launch(ClientToken="t", UserData="two")
    assert refused(error) == "IdempotentParameterMismatch"
    assert len([thing for thing in aws.world() if thing.kind == "instance"]) == 1


def test_a_token_is_the_regions_own(aws: EmulatedClouds, client: Any, launch: Any) -> None:
    elsewhere = client("ec2", region_name="eu-west-1")
    first = launch(ClientToken="t")
    image = elsewhere.describe_images(Owners=["136693071363"])["Images"][0]["ImageId"]
    answer = elsewhere.run_instances(
        ImageId=image, InstanceType=first["InstanceType"], MinCount=1, MaxCount=1, ClientToken="t"
    )
    assert answer["Instances"][0]["InstanceId"] != first["InstanceId"]
    assert {thing.region for thing in aws.world()} == {"us-east-1", "eu-west-1"}


@pytest.mark.parametrize("passed_s", [0, 10])
def test_the_token_of_a_terminated_instance_is_spent(ec2: Any, launch: Any, clock: Any, passed_s: int) -> None:
    instance = launch(ClientToken="t")
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    clock.advance(passed_s)
    with pytest.raises(ClientError) as error:
        launch(ClientToken="t")
    assert refused(error) == "IdempotentInstanceTerminated"


def test_the_token_is_spent_also_when_ec2_has_forgotten_the_instance(ec2: Any, launch: Any, clock: Any) -> None:
    instance = launch(ClientToken="t")
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    clock.advance(10)
    ec2.describe_instances()
    clock.advance(4000)
    with pytest.raises(ClientError) as error:
        ec2.describe_instances(InstanceIds=[instance["InstanceId"]])
    assert refused(error) == "InvalidInstanceID.NotFound"
    with pytest.raises(ClientError) as error:
        launch(ClientToken="t")
    assert refused(error) == "IdempotentInstanceTerminated"


def test_a_refused_call_leaves_its_token_free(launch: Any) -> None:
    with pytest.raises(ClientError):
        launch(ClientToken="t", InstanceType="t3.gigantic")
    assert launch(ClientToken="t")["InstanceId"]


def test_a_dry_run_does_not_use_its_token_up(launch: Any) -> None:
    with pytest.raises(ClientError) as error:
        launch(ClientToken="t", DryRun=True)
    assert refused(error) == "DryRunOperation"
    assert launch(ClientToken="t", UserData="other")["InstanceId"]


def test_instances_are_found_by_their_token(ec2: Any, launch: Any) -> None:
    wanted = launch(ClientToken="t")
    launch(ClientToken="other")
    launch(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}])
    found = ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["t"]}])["Reservations"]
    assert [each["InstanceId"] for reservation in found for each in reservation["Instances"]] == [wanted["InstanceId"]]


def test_other_actions_keep_their_tokens_too(aws: EmulatedClouds, ec2: Any) -> None:
    zone = "us-east-1a"
    ids = {ec2.create_volume(AvailabilityZone=zone, Size=1, ClientToken="t")["VolumeId"] for _ in range(2)}
    assert len(ids) == 1
    assert [thing.id for thing in aws.world()] == list(ids)
