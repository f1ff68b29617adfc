"""What goes wrong in the emulated EC2, told in EC2's own words to the real SDK."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from grafos_core.clock import VirtualClock
from grafos_emulators.capacity import Limit
from grafos_emulators.emulator import EmulatedClouds
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule

SPOT = {
    "InstanceMarketOptions": {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
    }
}


def befalls(aws: EmulatedClouds, effect: Effect, error: ErrorClass = ErrorClass.INTERNAL, **more: Any) -> None:
    aws.faults.add(FaultRule(Fault(effect, error, **more), provider="aws", operation="RunInstances"))


def state_of(ec2: Any, instance: dict[str, Any]) -> dict[str, Any]:
    found = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])
    return dict(found["Reservations"][0]["Instances"][0])


def metadata(aws: EmulatedClouds, instance: dict[str, Any], path: str) -> tuple[int, str]:
    def ask(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        with contextlib.closing(http.client.HTTPConnection(aws.endpoint.removeprefix("http://"))) as connection:
            connection.request(method, f"/imds/{instance['InstanceId']}/latest/{path}", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    _, token = ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    return ask("GET", f"meta-data/{path}", {"X-aws-ec2-metadata-token": token})


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ErrorClass.CAPACITY, "InsufficientInstanceCapacity", 500),
        (ErrorClass.QUOTA, "VcpuLimitExceeded", 400),
        (ErrorClass.THROTTLED, "RequestLimitExceeded", 503),
        (ErrorClass.DENIED, "UnauthorizedOperation", 403),
        (ErrorClass.AUTH, "AuthFailure", 401),
        (ErrorClass.UNAVAILABLE, "Unavailable", 503),
        (ErrorClass.INTERNAL, "InternalError", 500),
    ],
)
def test_a_refusal_is_in_ec2s_words_and_has_no_effect(
    aws: EmulatedClouds, launch: Any, error: ErrorClass, code: str, status: int
) -> None:
    befalls(aws, Effect.REFUSE, error)
    with pytest.raises(ClientError) as raised:
        launch()
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert aws.world() == ()
    assert aws.journal()[-1].result == code


@pytest.mark.parametrize(
    ("error", "sts", "quotas"),
    [
        (ErrorClass.THROTTLED, ("Throttling", 400), ("ThrottlingException", 400)),
        (ErrorClass.DENIED, ("AccessDenied", 403), ("AccessDeniedException", 400)),
        (ErrorClass.AUTH, ("ExpiredToken", 403), ("ExpiredTokenException", 400)),
        (ErrorClass.UNAVAILABLE, ("ServiceUnavailable", 503), ("ServiceUnavailable", 503)),
        (ErrorClass.INTERNAL, ("InternalFailure", 500), ("InternalFailure", 500)),
    ],
)
def test_other_services_refuse_in_words_of_their_own(
    aws: EmulatedClouds, client: Any, error: ErrorClass, sts: tuple[str, int], quotas: tuple[str, int]
) -> None:
    aws.faults.add(FaultRule(Fault(Effect.REFUSE, error), times=2))
    asked = [
        (sts, lambda: client("sts").get_caller_identity()),
        (quotas, lambda: client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")),
    ]
    for words, ask in asked:
        with pytest.raises(ClientError) as raised:
            ask()
        told = raised.value.response
        assert (told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]) == words


@pytest.mark.parametrize(
    ("action", "arguments", "code"),
    [
        ("create_vpc", {"CidrBlock": "10.1.0.0/16"}, "VpcLimitExceeded"),
        ("create_internet_gateway", {}, "InternetGatewayLimitExceeded"),
        ("create_volume", {"AvailabilityZone": "us-east-1a", "Size": 1}, "VolumeLimitExceeded"),
    ],
)
def test_a_limit_is_named_after_what_there_are_too_many_of(
    aws: EmulatedClouds, ec2: Any, action: str, arguments: dict[str, Any], code: str
) -> None:
    aws.faults.add(FaultRule(Fault(Effect.REFUSE, ErrorClass.QUOTA)))
    with pytest.raises(ClientError) as raised:
        getattr(ec2, action)(**arguments)
    assert raised.value.response["Error"]["Code"] == code


def test_a_quota_that_refuses_tells_the_limit_in_force(aws: EmulatedClouds, launch: Any) -> None:
    aws.aws.vcpu_limit = 77
    befalls(aws, Effect.REFUSE, ErrorClass.QUOTA)
    with pytest.raises(ClientError, match="vCPU limit of 77 allows"):
        launch()
    befalls(aws, Effect.REFUSE, ErrorClass.QUOTA)
    with pytest.raises(ClientError, match="Max spot instance count exceeded"):
        launch(**SPOT)


def test_a_refusal_for_want_of_room_names_the_zones_that_offer_the_type(
    aws: EmulatedClouds, ec2: Any, launch: Any
) -> None:
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    made = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24", AvailabilityZone="us-east-1b")
    befalls(aws, Effect.REFUSE, ErrorClass.CAPACITY)
    with pytest.raises(ClientError, match=r"requested \(us-east-1b\).* or choosing us-east-1a, us-east-1c"):
        launch(InstanceType="t3.medium", SubnetId=made["Subnet"]["SubnetId"])
    befalls(aws, Effect.REFUSE, ErrorClass.CAPACITY)
    with pytest.raises(ClientError, match="There is no Spot capacity available"):
        launch(InstanceType="t3.medium", **SPOT)


def test_a_throttled_caller_is_told_how_long_to_wait_when_the_rule_says_so(aws: EmulatedClouds, launch: Any) -> None:
    befalls(aws, Effect.REFUSE, ErrorClass.THROTTLED, retry_after_s=2.5)
    with pytest.raises(ClientError) as raised:
        launch()
    assert raised.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "2.5"


def test_an_action_that_is_denied_is_refused_and_so_is_its_dry_run(
    aws: EmulatedClouds, ec2: Any, client: Any, launch: Any
) -> None:
    aws.aws.denied.add("ec2:Run*")
    for dry_run in (False, True):
        with pytest.raises(ClientError) as raised:
            launch(DryRun=dry_run)
        assert raised.value.response["Error"]["Code"] == "UnauthorizedOperation"
    told = client("iam").simulate_principal_policy(
        PolicySourceArn=client("sts").get_caller_identity()["Arn"], ActionNames=["ec2:RunInstances", "ec2:CreateVpc"]
    )
    decisions = {each["EvalActionName"]: each["EvalDecision"] for each in told["EvaluationResults"]}
    assert decisions == {"ec2:RunInstances": "implicitDeny", "ec2:CreateVpc": "allowed"}
    assert ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]


@pytest.mark.parametrize(
    ("operation", "state"), [("TerminateInstances", "shutting-down"), ("StopInstances", "stopping")]
)
def test_an_order_that_says_done_and_is_not_leaves_the_instance_as_it_was(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: VirtualClock, operation: str, state: str
) -> None:
    instance = launch()
    clock.advance(1.0)
    aws.faults.add(FaultRule(Fault(Effect.SAYS_DONE_AND_IS_NOT), operation=operation))
    order = {"TerminateInstances": ec2.terminate_instances, "StopInstances": ec2.stop_instances}[operation]
    (told,) = next(iter(value for value in order(InstanceIds=[instance["InstanceId"]]).values() if value))
    assert (told["PreviousState"]["Name"], told["CurrentState"]["Name"]) == ("running", state)
    clock.advance(10.0)
    assert state_of(ec2, instance)["State"]["Name"] == "running"


def test_what_was_said_to_be_made_or_deleted_may_not_be(aws: EmulatedClouds, ec2: Any, launch: Any) -> None:
    aws.faults.add(FaultRule(Fault(Effect.SAYS_DONE_AND_IS_NOT), operation="CreateVpc"))
    lost = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    assert aws.world() == ()
    with pytest.raises(ClientError, match="does not exist"):
        ec2.describe_vpcs(VpcIds=[lost])
    kept = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    aws.faults.add(FaultRule(Fault(Effect.SAYS_DONE_AND_IS_NOT), operation="DeleteVpc"))
    ec2.delete_vpc(VpcId=kept)
    assert [thing.id for thing in aws.world()] == [kept]
    ec2.delete_vpc(VpcId=kept)
    assert aws.world() == ()


def test_a_launch_that_says_done_and_is_not_ends_at_once(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: VirtualClock
) -> None:
    befalls(aws, Effect.SAYS_DONE_AND_IS_NOT, ErrorClass.QUOTA)
    instance = launch()
    for _ in range(2):  # whoever looks first may find it on its way out
        clock.advance(1.0)
        seen = state_of(ec2, instance)
    assert (seen["State"]["Name"], seen["StateReason"]["Code"]) == ("terminated", "Client.VolumeLimitExceeded")
    assert aws.world() == ()


@pytest.mark.parametrize(("effect", "there"), [(Effect.LOST_REQUEST, 0), (Effect.LOST_ANSWER, 1)])
def test_what_is_lost_before_the_effect_did_nothing_and_what_is_lost_after_it_did_all(
    aws: EmulatedClouds, launch: Any, effect: Effect, there: int
) -> None:
    befalls(aws, effect)
    with pytest.raises(BotoCoreError):
        launch()
    assert len([thing for thing in aws.world() if thing.kind == "instance"]) == there
    assert aws.journal()[-1].result == "dropped"


@pytest.mark.parametrize("effect", [Effect.OPERATION_ERROR, Effect.LAUNCH_THEN_DIE])
def test_an_instance_that_launches_and_dies_tells_of_what(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: VirtualClock, effect: Effect
) -> None:
    befalls(aws, effect, ErrorClass.CAPACITY, after_s=1.0)
    instance = launch()
    assert state_of(ec2, instance)["State"]["Name"] == "pending"
    clock.advance(1.0)
    assert state_of(ec2, instance)["State"]["Name"] == "shutting-down"
    clock.advance(1.0)
    seen = state_of(ec2, instance)
    assert seen["State"]["Name"] == "terminated"
    assert seen["StateReason"]["Code"] == "Server.InsufficientInstanceCapacity"
    assert aws.world() == ()


def test_a_spot_instance_has_its_notice_two_minutes_before_its_end(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: VirtualClock
) -> None:
    befalls(aws, Effect.SPOT_NOTICE, after_s=60.0)
    instance = launch(**SPOT)
    assert state_of(ec2, instance)["InstanceLifecycle"] == "spot"
    clock.advance(10.0)
    assert metadata(aws, instance, "spot/instance-action")[0] == 404
    clock.advance(50.0)
    notice = json.loads(metadata(aws, instance, "spot/instance-action")[1])
    assert notice["action"] == "terminate"
    assert aws.aws.world.states()[instance["InstanceId"]]["notice"] == f"taken back at {notice['time']}"
    clock.advance(119.0)
    assert state_of(ec2, instance)["State"]["Name"] == "running"
    clock.advance(1.0)
    assert state_of(ec2, instance)["State"]["Name"] == "shutting-down"
    assert state_of(ec2, instance)["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_a_fault_of_a_launch_waits_for_one(aws: EmulatedClouds, ec2: Any, launch: Any, clock: VirtualClock) -> None:
    aws.faults.add(FaultRule(Fault(Effect.OPERATION_ERROR, ErrorClass.CAPACITY), provider="aws"))
    aws.faults.add(FaultRule(Fault(Effect.SPOT_NOTICE), provider="aws"))
    ec2.create_vpc(CidrBlock="10.1.0.0/16")
    ec2.describe_vpcs()
    assert len(aws.faults.rules()) == 2
    died = launch()
    clock.advance(2.0)
    assert state_of(ec2, died)["StateReason"]["Code"] == "Server.InsufficientInstanceCapacity"
    launch()
    assert [rule.fault.effect for rule in aws.faults.rules()] == [Effect.SPOT_NOTICE]
    launch(**SPOT)
    assert aws.faults.rules() == ()


def test_spot_instances_have_a_quota_of_their_own(aws: EmulatedClouds, launch: Any) -> None:
    aws.aws.spot_vcpu_limit, aws.aws.vcpu_limit = 2, 2
    launch(InstanceType="t3.medium", **SPOT)
    launch(InstanceType="t3.medium")
    with pytest.raises(ClientError) as raised:
        launch(InstanceType="t3.medium", **SPOT)
    assert raised.value.response["Error"]["Code"] == "MaxSpotInstanceCountExceeded"


def test_a_spot_instance_is_cheaper_than_one_on_demand(ec2: Any) -> None:
    history = ec2.describe_spot_price_history(InstanceTypes=["t3.medium"])["SpotPriceHistory"]
    assert {row["AvailabilityZone"] for row in history} >= {"us-east-1a", "us-east-1b"}
    assert {row["SpotPrice"] for row in history} == {"0.016640"}


def test_a_full_zone_names_those_that_have_room(aws: EmulatedClouds, launch: Any) -> None:
    """https://repost.aws/knowledge-center/ec2-insufficient-capacity-errors; clients parse the sentence."""
    aws.capacity.limit(Limit("aws", "us-east-1a", "t3.medium", 1))
    in_a = {"InstanceType": "t3.medium", "Placement": {"AvailabilityZone": "us-east-1a"}}
    launch(**in_a)
    with pytest.raises(ClientError, match=r"or choosing us-east-1b, us-east-1c") as raised:
        launch(**in_a)
    assert raised.value.response["Error"]["Code"] == "InsufficientInstanceCapacity"
    launch(InstanceType="t3.medium", Placement={"AvailabilityZone": "us-east-1b"})


def test_what_was_just_made_is_missing_from_reads_for_a_while(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: VirtualClock
) -> None:
    aws.set({"visible_after_s": 30.0})
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    instance = launch()
    assert ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.9.0.0/16"]}])["Vpcs"] == []
    with pytest.raises(ClientError) as raised:
        state_of(ec2, instance)
    assert raised.value.response["Error"]["Code"] == "InvalidInstanceID.NotFound"
    assert {thing.kind for thing in aws.world()} >= {"instance", "vpc"}
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    clock.advance(30.0)
    assert state_of(ec2, instance)["InstanceId"] == instance["InstanceId"]
    assert ec2.describe_subnets(SubnetIds=[subnet])["Subnets"]
    assert ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]


def test_new_tags_replace_the_old_ones(aws: EmulatedClouds, ec2: Any, launch: Any) -> None:
    instance = launch()
    for end in ("1", "2"):
        ec2.create_tags(Resources=[instance["InstanceId"]], Tags=[{"Key": "grafos:expires", "Value": end}])
    assert {"Key": "grafos:expires", "Value": "2"} in state_of(ec2, instance)["Tags"]
    assert {"Key": "grafos:expires", "Value": "1"} not in state_of(ec2, instance)["Tags"]


def test_machines_with_gpus_have_a_quota_of_their_own(aws: EmulatedClouds, client: Any, launch: Any) -> None:
    aws.aws.gpu_vcpu_limit, aws.aws.vcpu_limit = 4, 0
    for code in ("L-DB2E81BA", "L-3819A6DF", "L-417A185B"):
        told = client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)
        assert told["Quota"]["Value"] == 4.0
    gpu = {"x86_64": "g4dn.xlarge", "arm64": "g5g.xlarge"}[aws.aws.architecture]
    launch(InstanceType=gpu)
    with pytest.raises(ClientError, match="vCPU limit of 4 allows"):
        launch(InstanceType=gpu)
