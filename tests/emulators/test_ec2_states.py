from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from grafos_emulators.emulator import EmulatedClouds


def state(ec2: Any, instance: dict[str, Any]) -> str:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


def described(ec2: Any, instance: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = ec2.describe_instances(InstanceIds=[instance["InstanceId"]])["Reservations"][0][
        "Instances"
    ][0]
    return found


def test_an_instance_passes_through_its_states_as_time_passes(ec2: Any, launch: Any, clock: Any) -> None:
    instance = launch()
    assert instance["State"] == {"Name": "pending", "Code": 0}
    assert state(ec2, instance) == "pending"
    clock.advance(0.6)
    assert state(ec2, instance) == "running"
    (change,) = ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])["TerminatingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    assert state(ec2, instance) == "shutting-down"
    clock.advance(0.6)
    assert state(ec2, instance) == "terminated"


def test_the_times_can_be_set(aws: EmulatedClouds, ec2: Any, launch: Any, clock: Any) -> None:
    assert aws.set({"starting_s": 30})["starting_s"] == 30
    instance = launch()
    clock.advance(29)
    assert state(ec2, instance) == "pending"
    clock.advance(1)
    assert state(ec2, instance) == "running"


def test_volume_and_interface_follow_their_instance_when_it_is_terminated_and_not_before(
    aws: EmulatedClouds, ec2: Any, launch: Any, clock: Any
) -> None:
    instance = launch()
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert [thing.kind for thing in aws.world()] == ["instance", "volume", "nic"]
    clock.advance(0.6)
    assert aws.world() == ()
    assert ec2.describe_volumes()["Volumes"] == []
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def test_a_terminated_instance_says_who_ended_it(ec2: Any, launch: Any, clock: Any) -> None:
    instance = launch()
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    clock.advance(0.6)
    found = described(ec2, instance)
    assert found["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert found["StateTransitionReason"].startswith("User initiated (")
    assert found["SecurityGroups"] == []
    assert "PublicIpAddress" not in found


def test_terminating_again_changes_nothing(ec2: Any, launch: Any, clock: Any) -> None:
    instance = launch()
    for expected in ("shutting-down", "shutting-down"):
        (change,) = ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])["TerminatingInstances"]
        assert change["CurrentState"]["Name"] == expected
    clock.advance(0.6)
    (change,) = ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])["TerminatingInstances"]
    assert change["CurrentState"]["Name"] == "terminated"


def test_of_several_instances_all_are_terminated_or_none(ec2: Any, launch: Any) -> None:
    instance = launch()
    with pytest.raises(ClientError) as error:
        ec2.terminate_instances(InstanceIds=[instance["InstanceId"], "i-0123456789abcdef0"])
    assert error.value.response["Error"]["Code"] == "InvalidInstanceID.NotFound"
    assert state(ec2, instance) == "pending"


def test_a_protected_instance_is_not_terminated(ec2: Any, launch: Any) -> None:
    instance = launch(DisableApiTermination=True)
    with pytest.raises(ClientError) as error:
        ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert error.value.response["Error"]["Code"] == "OperationNotPermitted"
    ec2.modify_instance_attribute(InstanceId=instance["InstanceId"], DisableApiTermination={"Value": False})
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert state(ec2, instance) == "shutting-down"


def test_an_instance_stops_and_starts_again_with_its_address(ec2: Any, launch: Any, clock: Any) -> None:
    instance = launch()
    clock.advance(0.6)
    ec2.stop_instances(InstanceIds=[instance["InstanceId"]])
    assert state(ec2, instance) == "stopping"
    clock.advance(0.6)
    assert state(ec2, instance) == "stopped"
    ec2.start_instances(InstanceIds=[instance["InstanceId"]])
    assert state(ec2, instance) == "pending"
    clock.advance(0.6)
    assert state(ec2, instance) == "running"
    assert described(ec2, instance)["PrivateIpAddress"] == instance["PrivateIpAddress"]


def test_a_terminated_instance_does_not_start(ec2: Any, launch: Any, clock: Any) -> None:
    instance = launch()
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    clock.advance(0.6)
    with pytest.raises(ClientError) as error:
        ec2.start_instances(InstanceIds=[instance["InstanceId"]])
    assert error.value.response["Error"]["Code"] == "IncorrectInstanceState"


def test_a_terminated_instance_is_listed_for_an_hour(ec2: Any, launch: Any, clock: Any) -> None:
    instance = launch()
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    clock.advance(0.6)
    assert state(ec2, instance) == "terminated"
    clock.advance(3500)
    assert state(ec2, instance) == "terminated"
    clock.advance(200)
    assert ec2.describe_instances()["Reservations"] == []


def test_the_sdks_waiters_find_what_they_wait_for(real_ec2: Any, boot: Any) -> None:
    instance = boot()
    ids = {"InstanceIds": [instance["InstanceId"]], "WaiterConfig": {"Delay": 0.05, "MaxAttempts": 600}}
    real_ec2.get_waiter("instance_running").wait(**ids)
    real_ec2.get_waiter("instance_status_ok").wait(**ids)
    real_ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    real_ec2.get_waiter("instance_terminated").wait(**ids)


def test_an_address_is_another_machines_only_after_all_others(ec2: Any, launch: Any, clock: Any) -> None:
    first = launch()
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
    clock.advance(0.6)
    assert launch()["PrivateIpAddress"] != first["PrivateIpAddress"]


def test_a_region_that_is_not_switched_on_is_told_only_to_whoever_asks_for_all(ec2: Any) -> None:
    def statuses(**asked: Any) -> dict[str, str]:
        return {region["RegionName"]: region["OptInStatus"] for region in ec2.describe_regions(**asked)["Regions"]}

    everywhere, usable = statuses(AllRegions=True), statuses()
    off = {name for name, status in everywhere.items() if status == "not-opted-in"}
    assert off
    assert off == everywhere.keys() - usable.keys()
    assert statuses(RegionNames=["us-east-1"]) == {"us-east-1": "opt-in-not-required"}
