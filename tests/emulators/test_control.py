"""The journal, the world's census, the hook, and the control path."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from grafos_core.clock import VirtualClock
from grafos_core.errors import GrafosError
from grafos_emulators.emulator import EmulatedClouds, Settings
from grafos_emulators.http import DropConnectionError, Request, Response, Server


def control(aws: EmulatedClouds, method: str, name: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(aws.endpoint.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, f"/_grafos/{name}", json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_the_journal_has_each_call_with_its_token_and_result(aws: EmulatedClouds, ec2: Any, launch: Any) -> None:
    launch(ClientToken="t")
    with pytest.raises(ClientError):
        launch(InstanceType="t3.gigantic")
    with pytest.raises(ClientError):
        ec2.terminate_instances(InstanceIds=["i-0123456789abcdef0"], DryRun=True)
    read, *changes = aws.journal()
    assert (read.action, read.mutating, read.result) == ("DescribeImages", False, "ok")
    told = [(call.service, call.action, call.region, call.mutating, call.result) for call in changes]
    assert told == [
        ("ec2", "RunInstances", "us-east-1", True, "ok"),
        ("ec2", "RunInstances", "us-east-1", True, "InvalidParameterValue"),
        ("ec2", "TerminateInstances", "us-east-1", False, "DryRunOperation"),
    ]
    assert changes[0].token == "t"


def test_the_journals_request_id_is_the_one_that_the_client_saw(aws: EmulatedClouds, ec2: Any) -> None:
    seen = ec2.describe_vpcs()["ResponseMetadata"]["RequestId"]
    assert aws.journal()[-1].request_id == seen
    with pytest.raises(ClientError) as error:
        ec2.delete_vpc(VpcId="vpc-0123456789abcdef0")
    assert aws.journal()[-1].request_id == error.value.response["ResponseMetadata"]["RequestId"]


def test_journal_and_world_are_told_over_the_control_path_too(aws: EmulatedClouds, launch: Any) -> None:
    instance = launch(TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}])
    status, world = control(aws, "GET", "world")
    assert status == 200
    assert world[0] == {
        "provider": "aws",
        "kind": "instance",
        "id": instance["InstanceId"],
        "region": "us-east-1",
        "state": "pending",
        "billable": True,
        "tags": {"a": "b"},
    }
    assert [call["action"] for call in control(aws, "GET", "journal")[1]] == ["DescribeImages", "RunInstances"]
    assert control(aws, "GET", "machines")[1][instance["InstanceId"]]["address"] == instance["PrivateIpAddress"]
    assert control(aws, "GET", "health")[1]["account_id"] == aws.account_id


def test_a_new_account_counts_as_empty(aws: EmulatedClouds, ec2: Any, client: Any) -> None:
    """What AWS itself puts into it (default networks, public images) is nobody's to clean up."""
    ec2.describe_vpcs()
    client("ec2", region_name="eu-central-1").describe_vpcs()
    assert aws.world() == ()


def test_everything_that_is_made_is_counted(aws: EmulatedClouds, ec2: Any, launch: Any) -> None:
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    ec2.create_internet_gateway()
    ec2.create_security_group(GroupName="g", Description="of a test", VpcId=vpc)
    ec2.create_route_table(VpcId=vpc)
    ec2.create_network_interface(SubnetId=subnet)
    ec2.allocate_address(Domain="vpc")
    ec2.create_key_pair(KeyName="k")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    ec2.create_snapshot(VolumeId=volume)
    launch()
    kinds = sorted(thing.kind for thing in aws.world())
    assert kinds == [
        "address",
        "gateway",
        "instance",
        "key_pair",
        "nic",
        "nic",
        "route_table",
        "security_group",
        "snapshot",
        "subnet",
        "volume",
        "volume",
        "vpc",
    ]
    assert {thing.kind for thing in aws.world() if thing.billable} == {"address", "instance", "snapshot", "volume"}


def test_what_costs_by_existing_is_marked(aws: EmulatedClouds, ec2: Any, launch: Any, clock: Any) -> None:
    instance = launch()
    clock.advance(1)
    ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
    clock.advance(1)
    assert {thing.kind: thing.billable for thing in aws.world()} == {"instance": False, "volume": True, "nic": False}


def test_emulators_of_one_process_do_not_see_each_other(
    aws: EmulatedClouds, ec2: Any, launch: Any, tmp_path: Path
) -> None:
    launch()
    with EmulatedClouds(tmp_path / "other", Settings(clouds=("aws",), boots=False)) as other:
        assert other.account_id != aws.account_id
        assert other.world() == ()
    assert aws.world() != ()


def test_a_second_emulator_with_the_same_state_directory_is_refused(aws: EmulatedClouds, tmp_path: Path) -> None:
    with pytest.raises(GrafosError) as error:
        EmulatedClouds(tmp_path / "emulator", Settings(clouds=("aws",)))
    assert error.value.code == "emulator_running"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"starting_s": 2, "vcpu_limit": 8}, 200),
        ({"starting_s": -1}, 400),
        ({"unknown": 1}, 400),
        ({"starting_s": "long"}, 400),
        (["starting_s"], 400),
    ],
)
def test_settings_are_checked_before_they_are_taken(aws: EmulatedClouds, body: Any, status: int) -> None:
    answer = control(aws, "POST", "set", body)
    assert answer[0] == status
    assert answer[1].get("starting_s", 0.5) == (2 if status == 200 else 0.5)


def test_room_is_limited_and_given_back_over_the_control_path(aws: EmulatedClouds) -> None:
    zone = {"provider": "aws", "place": "us-east-1a"}
    assert control(aws, "POST", "room", zone) == (200, [{**zone, "machine_type": "*", "machines": 0}])
    assert control(aws, "POST", "room", {**zone, "machines": -1})[0] == 400
    assert control(aws, "POST", "room", {**zone, "zone": "us-east-1b"})[0] == 400
    assert len(control(aws, "GET", "room")[1]) == 1
    assert control(aws, "POST", "room/clear", {}) == (200, {"cleared": 1})
    assert aws.capacity.limits() == ()


@pytest.mark.parametrize(("method", "name"), [("GET", "nothing"), ("POST", "world"), ("DELETE", "journal")])
def test_the_control_path_says_what_it_knows(aws: EmulatedClouds, method: str, name: str) -> None:
    status, answer = control(aws, method, name)
    assert status == 404
    assert "journal" in answer["error"]


class Breaks:
    """A hook that breaks the connection at one phase of one action."""

    def __init__(self, phase: str, action: str) -> None:
        self.at = (phase, action)
        self.seen: list[tuple[str, str]] = []

    def __call__(self, phase: str, action: str, parameters: Mapping[str, Any]) -> None:
        self.seen.append((phase, action))
        if (phase, action) == self.at:
            raise DropConnectionError


def test_the_hook_hears_of_changing_calls_before_and_after_their_effect(aws: EmulatedClouds, ec2: Any) -> None:
    hook = Breaks("never", "")
    aws.hook = hook
    ec2.describe_vpcs()
    ec2.create_security_group(GroupName="g", Description="of a test")
    assert hook.seen == [("before", "CreateSecurityGroup"), ("after-effect", "CreateSecurityGroup")]


def test_a_call_broken_before_it_has_no_effect(aws: EmulatedClouds, ec2: Any) -> None:
    aws.hook = Breaks("before", "CreateSecurityGroup")
    with pytest.raises(BotoCoreError):
        ec2.create_security_group(GroupName="g", Description="of a test")
    assert aws.world() == ()
    assert aws.journal()[-1].result == "dropped"


def test_a_lost_answer_leaves_the_effect_and_the_token_finds_it_again(aws: EmulatedClouds, launch: Any) -> None:
    aws.hook = Breaks("after-effect", "RunInstances")
    with pytest.raises(BotoCoreError):
        launch(ClientToken="t")
    (made,) = [thing.id for thing in aws.world() if thing.kind == "instance"]
    aws.hook = None
    assert launch(ClientToken="t")["InstanceId"] == made
    assert len(aws.world()) == 3


def test_an_emulator_that_is_unplugged_answers_nothing_and_does_nothing(aws: EmulatedClouds, ec2: Any) -> None:
    aws.unplug()
    for ask in (ec2.describe_vpcs, lambda: ec2.create_security_group(GroupName="g", Description="of a test")):
        with pytest.raises(BotoCoreError):
            ask()
    aws.plug()
    assert ec2.describe_vpcs()["Vpcs"]
    assert aws.world() == ()


def test_a_hook_that_fails_is_told_to_the_client(aws: EmulatedClouds, ec2: Any) -> None:
    def fails(phase: str, action: str, parameters: Mapping[str, Any]) -> None:
        raise KeyError("a bug of the test")

    aws.hook = fails
    with pytest.raises(ClientError, match="internal error") as error:
        ec2.create_security_group(GroupName="g", Description="of a test")
    assert error.value.response["Error"]["Code"] == "InternalError"


def test_the_environment_leads_an_sdk_here_and_nowhere_else(aws: EmulatedClouds) -> None:
    assert aws.environment() == {
        "AWS_ACCESS_KEY_ID": "AKIAGRAFOSEMULATED00",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret-it-opens-an-emulator-only00",
    }


def test_an_emulator_listens_before_it_has_loaded_ec2_and_a_call_waits_for_that(tmp_path: Path, sdk: Any) -> None:
    """So whoever starts one need not wait for the seconds that moto takes."""
    with contextlib.closing(EmulatedClouds(tmp_path / "emulator", Settings(clouds=("aws",), boots=False))) as aws:
        aws.listen()
        assert control(aws, "GET", "health")[1]["account_id"] == aws.account_id
        assert control(aws, "GET", "world") == (200, [])
        client = sdk.client("ec2", **aws.client_arguments())
        with ThreadPoolExecutor(1) as pool, contextlib.closing(client):
            asked = pool.submit(client.describe_vpcs)
            aws.load()
            assert asked.result()["Vpcs"]


def test_whatever_fails_in_an_answer_is_told_to_the_client_and_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    def fails(_: Request) -> Response:
        raise KeyError("a bug")

    server = Server(fails)
    server.start()
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, b"a bug" in response.read()) == (500, True)
        assert "Traceback" in capfd.readouterr().err
    finally:
        connection.close()
        server.close()


def test_every_answer_tells_the_clouds_time(aws: EmulatedClouds, ec2: Any, clock: VirtualClock) -> None:
    for _ in range(2):
        said = ec2.describe_vpcs()["ResponseMetadata"]["HTTPHeaders"]["date"]
        assert parsedate_to_datetime(said).timestamp() == int(clock.now())
        clock.advance(3600)
