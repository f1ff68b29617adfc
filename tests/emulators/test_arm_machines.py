"""Machines of the emulated Azure: their states, what bills in each, what stops them, and what befalls them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from arm_here import (
    COMPUTE,
    GROUP,
    MACHINE,
    NETWORK,
    SCHEDULE,
    SUBSCRIPTION,
    ArmHere,
    address,
    interface,
    machine,
    schedule,
)

from grafos_core.clock import VirtualClock
from grafos_emulators.azure import catalogue
from grafos_emulators.faults import Effect, ErrorClass
from grafos_emulators.lifecycle import Happening

START = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC

SPOT_SIZE = "Standard_D2ps_v5" if catalogue.host_architecture() == catalogue.ARM64 else "Standard_D2s_v5"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START)


@pytest.fixture
def arm(tmp_path: Path, clock: VirtualClock) -> Iterator[ArmHere]:
    """On a clock that the test steps; machines are states only."""
    with ArmHere(tmp_path / "state", clock=clock) as here:
        yield here


def test_a_machine_that_switches_itself_off_is_billed_on(arm: ArmHere) -> None:
    made = arm.make_machine()
    assert arm.billed() == ["disk", "publicIPAddress", "virtualMachine"]
    arm.world.ask(made["properties"]["vmId"], Happening.STOP, reason="machine")
    arm.until(lambda: arm.power() == "stopped")
    assert arm.billed() == ["disk", "publicIPAddress", "virtualMachine"]


def test_a_deallocated_machine_bills_its_disk_and_address_only(arm: ArmHere) -> None:
    arm.make_machine()
    arm.settle(arm.ask("POST", f"{MACHINE}/deallocate"))
    assert (arm.power(), arm.billed()) == ("deallocated", ["disk", "publicIPAddress"])
    arm.settle(arm.ask("POST", f"{MACHINE}/start"))
    assert (arm.power(), arm.billed()) == ("running", ["disk", "publicIPAddress", "virtualMachine"])


def test_a_stopped_machine_can_be_deallocated_too(arm: ArmHere) -> None:
    arm.make_machine()
    arm.settle(arm.ask("POST", f"{MACHINE}/powerOff"))
    assert arm.power() == "stopped"
    arm.settle(arm.ask("POST", f"{MACHINE}/deallocate"))
    assert arm.power() == "deallocated"


def test_a_schedule_deallocates_once_a_day_and_deletes_nothing(arm: ArmHere, clock: VirtualClock) -> None:
    arm.make_machine()
    arm.make(SCHEDULE, schedule("1900"))
    clock.advance(10 * 3600)
    assert arm.power() == "running"
    clock.advance(3600)
    arm.until(lambda: arm.power() == "deallocated")
    assert arm.billed() == ["disk", "publicIPAddress"]
    arm.settle(arm.ask("POST", f"{MACHINE}/start"))
    clock.advance(24 * 3600)
    arm.until(lambda: arm.power() == "deallocated")


def test_a_schedule_that_was_moved_fires_at_its_new_time_alone(arm: ArmHere, clock: VirtualClock) -> None:
    arm.make_machine()
    arm.make(SCHEDULE, schedule("0900"))
    later = {"properties": {"dailyRecurrence": {"time": "1000"}}}
    assert arm.ask("PATCH", SCHEDULE, later).body["properties"]["dailyRecurrence"] == {"time": "1000"}
    clock.advance(3600 + 60)
    assert arm.power() == "running"
    clock.advance(3600)
    arm.until(lambda: arm.power() == "deallocated")


def test_a_schedule_outlives_its_machine_and_harms_nobody(arm: ArmHere, clock: VirtualClock) -> None:
    arm.make_machine()
    arm.make(SCHEDULE, schedule("0900"))
    arm.settle(arm.ask("DELETE", MACHINE))
    clock.advance(48 * 3600)
    assert "schedule" in arm.kinds()
    assert arm.ask("DELETE", SCHEDULE).status == 202
    assert "schedule" not in arm.kinds()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"timeZoneId": "Europe/Berlin"}, "InvalidParameter"),
        ({"dailyRecurrence": {"time": "2400"}}, "InvalidParameter"),
        ({"targetResourceId": f"{COMPUTE}/virtualMachines/other"}, "InvalidResourceReference"),
        ({"taskType": "LabVmsShutdownTask"}, "InvalidParameter"),
        ({"everyFortnight": True}, "InvalidRequestContent"),
    ],
)
def test_a_schedule_that_could_never_fire_is_refused(arm: ArmHere, change: dict[str, object], code: str) -> None:
    arm.make_machine()
    asked = schedule("1900")
    asked["properties"] |= change
    assert arm.ask("PUT", SCHEDULE, asked).code == code


def test_a_schedule_has_the_machines_name_in_its_own(arm: ArmHere) -> None:
    arm.make_machine()
    elsewhere = SCHEDULE.replace("shutdown-computevm-vm", "at-night")
    assert arm.ask("PUT", elsewhere, schedule("1900")).code == "InvalidScheduleName"


def test_a_spot_machine_is_told_and_then_deallocated(arm: ArmHere, clock: VirtualClock) -> None:
    arm.break_next("virtualMachines.createOrUpdate", Effect.SPOT_NOTICE, after_s=60.0)
    made = arm.make_machine(priority="Spot", hardwareProfile={"vmSize": SPOT_SIZE})
    events = f"/imds/{made['properties']['vmId']}/metadata/scheduledevents"
    assert arm.ask("GET", events, version="2020-07-01", Metadata="true").body["Events"] == []
    clock.advance(60.0)
    (event,) = arm.ask("GET", events, version="2020-07-01", Metadata="true").body["Events"]
    assert (event["EventType"], event["Resources"], event["EventStatus"]) == ("Preempt", ["vm"], "Scheduled")
    assert arm.power() == "running"
    assert arm.world.states()[made["properties"]["vmId"]]["notice"].startswith("taken back at ")
    clock.advance(30.0)
    arm.until(lambda: arm.power() == "deallocated")


def test_a_fault_of_an_operation_waits_for_one(arm: ArmHere) -> None:
    arm.break_next("virtualMachines.*", Effect.OPERATION_ERROR)
    assert arm.ask("GET", MACHINE).status == 404
    assert arm.clouds.faults.clear() == 1


def test_a_notice_waits_for_a_spot_machine(arm: ArmHere) -> None:
    arm.break_next("*", Effect.SPOT_NOTICE)
    arm.make_machine()
    assert arm.clouds.faults.clear() == 1


def test_a_spot_machine_whose_policy_is_delete_goes_with_what_it_takes_along(arm: ArmHere, clock: VirtualClock) -> None:
    arm.break_next("virtualMachines.createOrUpdate", Effect.SPOT_NOTICE)
    size = {"vmSize": SPOT_SIZE}
    arm.make_machine(priority="Spot", evictionPolicy="Delete", hardwareProfile=size)
    clock.advance(1.0)
    arm.kinds()
    clock.advance(30.0)
    arm.until(lambda: arm.billed() == [])
    assert "virtualMachine" not in arm.kinds()


def test_a_machine_that_dies_after_its_launch_is_down_and_billed(arm: ArmHere, clock: VirtualClock) -> None:
    arm.break_next("virtualMachines.createOrUpdate", Effect.LAUNCH_THEN_DIE, after_s=5.0)
    arm.make_machine()
    clock.advance(5.0)
    arm.until(lambda: arm.power() == "stopped")
    assert "virtualMachine" in arm.billed()


def test_an_operation_may_say_done_of_a_machine_that_is_not_there(arm: ArmHere) -> None:
    arm.make_network()
    arm.break_next("virtualMachines.createOrUpdate", Effect.SAYS_DONE_AND_IS_NOT)
    assert arm.settle(arm.ask("PUT", MACHINE, machine()))["status"] == "Succeeded"
    assert arm.ask("GET", MACHINE).code == "ResourceNotFound"


def test_an_operation_may_say_deleted_of_a_machine_that_bills_on(arm: ArmHere) -> None:
    arm.make_machine()
    arm.break_next("virtualMachines.delete", Effect.SAYS_DONE_AND_IS_NOT)
    assert arm.settle(arm.ask("DELETE", MACHINE))["status"] == "Succeeded"
    assert "virtualMachine" in arm.billed()


def test_no_room_in_a_zone_is_said_by_the_operation(arm: ArmHere) -> None:
    arm.make_network()
    arm.break_next("virtualMachines.createOrUpdate", Effect.OPERATION_ERROR, ErrorClass.CAPACITY)
    status = arm.settle(arm.ask("PUT", MACHINE, machine(zones=["2"])))
    assert (status["status"], status["error"]["code"]) == ("Failed", "ZonalAllocationFailed")
    codes = [each["code"] for each in arm.ask("GET", f"{MACHINE}/instanceView").body["statuses"]]
    assert codes == ["ProvisioningState/failed/ZonalAllocationFailed"]
    assert arm.billed() == ["disk", "publicIPAddress"]
    arm.settle(arm.ask("DELETE", MACHINE))
    arm.until(lambda: arm.billed() == [])


def test_a_machine_deleted_while_it_is_made_is_gone_and_its_making_canceled(arm: ArmHere) -> None:
    arm.make_network()
    making = arm.ask("PUT", MACHINE, machine())
    assert arm.settle(arm.ask("DELETE", MACHINE))["status"] == "Succeeded"
    assert arm.ask("GET", making.headers["Azure-AsyncOperation"]).body["status"] == "Canceled"
    arm.until(lambda: arm.billed() == [])


def test_a_delete_repeated_is_one_operation_and_then_nothing(arm: ArmHere) -> None:
    arm.make_machine()
    first, second = arm.ask("DELETE", MACHINE), arm.ask("DELETE", MACHINE)
    assert (first.status, second.status) == (202, 202)
    assert first.headers["Azure-AsyncOperation"] == second.headers["Azure-AsyncOperation"]
    arm.settle(first)
    assert arm.ask("DELETE", MACHINE).status == 204


def test_without_delete_options_disk_and_nic_stay_behind(arm: ArmHere) -> None:
    nic = {"id": f"{NETWORK}/networkInterfaces/nic"}
    disk = {**machine()["properties"]["storageProfile"]["osDisk"], "deleteOption": "Detach"}
    storage = {**machine()["properties"]["storageProfile"], "osDisk": disk}
    arm.make_machine(networkProfile={"networkInterfaces": [nic]}, storageProfile=storage)
    arm.settle(arm.ask("DELETE", MACHINE))
    assert arm.billed() == ["disk", "publicIPAddress"]
    assert arm.ask("GET", f"{COMPUTE}/disks/vm-disk").body["properties"]["diskState"] == "Unattached"


def test_a_group_with_machines_goes_in_the_right_order(arm: ArmHere) -> None:
    arm.make_machine()
    answer = arm.ask("DELETE", GROUP)
    assert answer.headers["Azure-AsyncOperation"] is None
    link = answer.headers["Location"]
    assert arm.ask("GET", link).status == 202
    assert arm.ask("PUT", f"{COMPUTE}/disks/late", {"location": "eastus"}).code == "ResourceGroupBeingDeleted"
    arm.until(lambda: arm.ask("GET", link).status != 202)
    assert arm.things() == ()


def test_custom_data_runs_once_and_its_console_is_a_blob(tmp_path: Path) -> None:
    script = "#!/usr/bin/env python3\nimport os\nprint('endpoint', os.environ['GRAFOS_METADATA_ENDPOINT'])\n"
    with ArmHere(tmp_path / "state", boots=True) as here:
        made = here.make_machine(user_data=script)
        vm_id = made["properties"]["vmId"]

        def console() -> str:
            blobs = here.ask("POST", f"{MACHINE}/retrieveBootDiagnosticsData").body
            raw = here.ask("GET", blobs["serialConsoleLogBlobUri"], version="").body
            return raw.decode() if raw else ""

        text = here.until(lambda: found if "user-data ended, exit code 0" in (found := console()) else "")
        assert f"endpoint {here.endpoint}/imds/{vm_id}/" in text
        here.settle(here.ask("POST", f"{MACHINE}/deallocate"))
        here.settle(here.ask("POST", f"{MACHINE}/start"))
        assert console().count("endpoint http") == 1
        blob = here.ask("POST", f"{MACHINE}/retrieveBootDiagnosticsData").body["serialConsoleLogBlobUri"]
        assert here.ask("GET", blob.partition("?")[0], version="").status == 403


def test_a_failed_machine_is_tried_again_by_the_same_put(arm: ArmHere) -> None:
    arm.make_network()
    arm.break_next("virtualMachines.createOrUpdate", Effect.OPERATION_ERROR, ErrorClass.CAPACITY)
    assert arm.settle(arm.ask("PUT", MACHINE, machine()))["error"]["code"] == "AllocationFailed"
    arm.make(MACHINE, machine())
    assert (arm.power(), arm.kinds().count("disk")) == ("running", 1)


def test_a_spot_machine_in_a_zone_can_be_too_much_to_ask(arm: ArmHere) -> None:
    arm.make_network()
    arm.break_next("virtualMachines.createOrUpdate", Effect.OPERATION_ERROR, ErrorClass.CAPACITY)
    spot = machine(zones=["1"], priority="Spot", hardwareProfile={"vmSize": SPOT_SIZE})
    assert arm.settle(arm.ask("PUT", MACHINE, spot))["error"]["code"] == "OverconstrainedZonalAllocationRequest"


def test_a_region_without_room_makes_no_machine_and_starts_none(arm: ArmHere) -> None:
    arm.make_machine()
    arm.settle(arm.ask("POST", f"{MACHINE}/deallocate"))
    arm.clouds.capacity.fill("azure", "eastus")
    assert arm.settle(arm.ask("POST", f"{MACHINE}/start"))["error"]["code"] == "AllocationFailed"
    assert arm.power() == "deallocated"


def test_a_zone_without_room_is_full_for_itself_alone(arm: ArmHere) -> None:
    arm.make_network()
    arm.clouds.capacity.fill("azure", "eastus/1")
    assert arm.settle(arm.ask("PUT", MACHINE, machine(zones=["1"])))["error"]["code"] == "ZonalAllocationFailed"
    arm.settle(arm.ask("DELETE", MACHINE))
    arm.until(lambda: "networkInterface" not in arm.kinds() and "publicIPAddress" not in arm.kinds())
    arm.make(f"{NETWORK}/publicIPAddresses/ip", address())
    arm.make(f"{NETWORK}/networkInterfaces/nic", interface())
    arm.make(MACHINE, machine(zones=["2"]))
    assert arm.power() == "running"


def test_machines_are_listed_by_group_and_by_subscription(arm: ArmHere) -> None:
    arm.make_machine()
    for place in (f"{COMPUTE}/virtualMachines", f"{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines"):
        assert [each["name"] for each in arm.ask("GET", place).body["value"]] == ["vm"]


def test_two_changes_of_one_machine_at_once_are_a_conflict(arm: ArmHere) -> None:
    arm.make_network()
    arm.ask("PUT", MACHINE, machine())
    assert arm.ask("PUT", MACHINE, machine()).code == "Conflict"
    assert arm.ask("POST", f"{MACHINE}/deallocate").code == "Conflict"


def test_a_lost_answer_leaves_the_machine_behind(arm: ArmHere) -> None:
    arm.make_network()
    arm.break_next("virtualMachines.createOrUpdate", Effect.LOST_ANSWER)
    with pytest.raises(OSError, match=r"reset|aborted|closed"):
        arm.ask("PUT", MACHINE, machine())
    assert "virtualMachine" in arm.kinds()
    assert [call.result for call in arm.clouds.journal() if call.action == "virtualMachines.createOrUpdate"] == [
        "dropped"
    ]


def test_a_machine_that_powers_off_inside_is_stopped_and_billed(tmp_path: Path) -> None:
    with ArmHere(tmp_path / "state", boots=True) as here:
        here.make_machine(user_data="#!/bin/sh\npoweroff\n")
        here.until(lambda: here.power() == "stopped")
        assert here.billed() == ["disk", "publicIPAddress", "virtualMachine"]


def test_a_start_that_is_refused_changes_nothing_about_the_deallocation_under_way(arm: ArmHere) -> None:
    arm.make_machine()
    deallocation = arm.ask("POST", f"{MACHINE}/deallocate")
    refused = arm.ask("POST", f"{MACHINE}/start")
    assert (refused.status, refused.code) == (409, "OperationNotAllowed")
    assert arm.settle(deallocation)["status"] == "Succeeded"
    assert (arm.power(), arm.billed()) == ("deallocated", ["disk", "publicIPAddress"])


@pytest.mark.parametrize("first", ["start", "deallocate"])
def test_an_order_that_a_delete_overtakes_is_canceled_and_never_hangs(arm: ArmHere, first: str) -> None:
    arm.make_machine()
    if first == "start":
        arm.settle(arm.ask("POST", f"{MACHINE}/deallocate"))
    order = arm.ask("POST", f"{MACHINE}/{first}")
    arm.settle(arm.ask("DELETE", MACHINE))
    assert arm.settle(order)["status"] == "Canceled"


def test_a_start_that_a_deallocation_overtakes_is_canceled(arm: ArmHere) -> None:
    arm.make_machine()
    arm.settle(arm.ask("POST", f"{MACHINE}/deallocate"))
    start = arm.ask("POST", f"{MACHINE}/start")
    assert arm.settle(arm.ask("POST", f"{MACHINE}/deallocate"))["status"] == "Succeeded"
    assert arm.settle(start)["status"] == "Canceled"
    assert arm.power() == "deallocated"


def test_a_schedule_leaves_a_machine_alone_that_is_just_made(arm: ArmHere, clock: VirtualClock) -> None:
    arm.make_network()
    arm.world.set_times(starting_s=100.0)
    making = arm.ask("PUT", MACHINE, machine())
    assert arm.ask("PUT", SCHEDULE, schedule("0801")).status == 201
    for _ in range(2):  # 08:01 passes while it is made
        clock.advance(60)
        arm.things()
    assert arm.settle(making)["status"] == "Succeeded"
    assert arm.power() == "running"


def test_nothing_is_put_in_the_place_of_what_is_being_deleted_by_its_owner(arm: ArmHere) -> None:
    """The interface that a machine takes along: a change of it would be lost a moment later."""
    arm.make_machine()
    arm.settle(arm.ask("DELETE", MACHINE))
    assert {thing.state for thing in arm.things() if thing.kind == "networkInterface"} == {"Deleting"}
    again = arm.ask("PUT", f"{NETWORK}/networkInterfaces/nic", interface())
    assert again.status in {409, 429}
    arm.until(lambda: "networkInterface" not in arm.kinds())
