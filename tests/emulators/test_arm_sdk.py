"""The emulated Azure, asked with the real SDK: what its pollers, models and status checks demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arm_here import SCHEDULE, ArmHere, address, interface, machine, network, schedule
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from grafos_emulators.azure.groups import Groups  # noqa: F401  the models are loaded before any test is timed


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmHere]:
    """In real time, because the SDK's pollers sleep."""
    with ArmHere(tmp_path / "state") as here:
        yield here


@pytest.fixture
def laid(arm: ArmHere) -> ArmHere:
    """Everything that a machine needs, made with the SDK."""
    arm.resources.resource_groups.create_or_update("g", {"location": "eastus"})
    arm.network.virtual_networks.begin_create_or_update("g", "v", network()).result()
    subnet = {"properties": {"addressPrefix": "10.0.1.0/24"}}
    arm.network.subnets.begin_create_or_update("g", "v", "s", subnet).result()
    arm.network.network_security_groups.begin_create_or_update("g", "f", {"location": "eastus"}).result()
    arm.network.public_ip_addresses.begin_create_or_update("g", "ip", address()).result()
    arm.network.network_interfaces.begin_create_or_update("g", "nic", interface()).result()
    return arm


def code_of(problem: pytest.ExceptionInfo[HttpResponseError]) -> str:
    assert problem.value.error is not None
    return str(problem.value.error.code)


def test_a_machine_is_made_read_stopped_started_and_deleted(laid: ArmHere) -> None:
    machines = laid.compute.virtual_machines
    made = machines.begin_create_or_update("g", "vm", machine(), headers={"If-None-Match": "*"}).result()
    assert made.properties.provisioning_state == "Succeeded"
    view = machines.get("g", "vm", expand="instanceView").properties.instance_view
    assert [status.code for status in view.statuses] == ["ProvisioningState/succeeded", "PowerState/running"]
    machines.begin_deallocate("g", "vm").result()
    assert machines.instance_view("g", "vm").statuses[1].code == "PowerState/deallocated"
    machines.begin_start("g", "vm").result()
    machines.begin_power_off("g", "vm").result()
    assert machines.instance_view("g", "vm").statuses[1].code == "PowerState/stopped"
    machines.begin_delete("g", "vm").result()
    with pytest.raises(ResourceNotFoundError):
        machines.get("g", "vm")


def test_what_a_machine_takes_along_is_what_its_delete_options_say(laid: ArmHere) -> None:
    laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine()).result()
    laid.compute.virtual_machines.begin_delete("g", "vm").result()
    laid.until(lambda: "networkInterface" not in laid.kinds() and "publicIPAddress" not in laid.kinds())
    assert laid.kinds() == ["networkSecurityGroup", "resourceGroup", "subnet", "virtualNetwork"]


def test_a_group_takes_everything_along(laid: ArmHere) -> None:
    laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine()).result()
    laid.resources.resource_groups.begin_delete("g").result()
    assert laid.things() == ()
    assert not laid.resources.resource_groups.check_existence("g")


def test_an_operation_is_resumed_from_its_token_by_another_client(laid: ArmHere) -> None:
    from azure.mgmt.compute import ComputeManagementClient

    token = laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine()).continuation_token()
    with ComputeManagementClient(**laid.sdk_arguments) as other:
        made = other.virtual_machines.begin_create_or_update("g", "vm", {}, continuation_token=token).result()
    assert made.name == "vm"


def test_disks_are_made_and_deleted_on_their_own(arm: ArmHere) -> None:
    arm.resources.resource_groups.create_or_update("g", {"location": "eastus"})
    asked = {"location": "eastus", "properties": {"creationData": {"createOption": "Empty"}, "diskSizeGB": 8}}
    disk = arm.compute.disks.begin_create_or_update("g", "d", asked).result()
    assert (disk.properties.disk_size_gb, disk.properties.disk_state) == (8, "Unattached")
    arm.compute.disks.begin_delete("g", "d").result()
    arm.compute.disks.begin_delete("g", "d").result()  # what is gone may be deleted again
    assert arm.kinds() == ["resourceGroup"]


def test_a_shutdown_schedule_goes_through_the_generic_calls(laid: ArmHere) -> None:
    laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine()).result()
    generic, version = laid.resources.resources, {"api_version": "2018-09-15"}
    made = generic.begin_create_or_update_by_id(SCHEDULE, schedule("1900"), **version).result()
    assert made.properties["dailyRecurrence"] == {"time": "1900"}
    change = {"properties": {"dailyRecurrence": {"time": "2000"}}}
    generic.begin_update_by_id(SCHEDULE, change, **version).result()
    assert generic.get_by_id(SCHEDULE, **version).properties["dailyRecurrence"] == {"time": "2000"}
    generic.begin_delete_by_id(SCHEDULE, **version).result()
    assert not generic.check_existence_by_id(SCHEDULE, **version)


def test_resources_are_listed_by_tag_over_all_types_in_pages(laid: ArmHere) -> None:
    laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine()).result()
    found = laid.resources.resources.list(filter="tagName eq 'grafos' and tagValue eq 'yes'", top=1)
    assert sorted(each.name for each in found) == ["vm", "vm-disk"]


def test_tags_are_read_merged_and_replaced_at_their_scope(laid: ArmHere) -> None:
    tags, scope = laid.resources.tags, laid.network.network_interfaces.get("g", "nic").id
    tags.begin_create_or_update_at_scope(scope, {"properties": {"tags": {"a": "1"}}}).result()
    tags.begin_update_at_scope(scope, {"operation": "Merge", "properties": {"tags": {"b": "2"}}}).result()
    assert tags.get_at_scope(scope).properties.tags == {"a": "1", "b": "2"}
    assert laid.network.network_interfaces.get("g", "nic").tags == {"a": "1", "b": "2"}


def test_a_namespace_that_is_not_registered_is_refused_until_it_is(laid: ArmHere) -> None:
    laid.resources.providers.unregister("Microsoft.Compute")
    with pytest.raises(ResourceExistsError) as problem:
        laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine())
    assert "MissingSubscriptionRegistration" in str(problem.value)
    assert laid.resources.providers.register("Microsoft.Compute").registration_state == "Registered"
    laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine()).result()


def test_sizes_usages_and_images_are_listed(arm: ArmHere) -> None:
    (size,) = [
        each
        for each in arm.compute.resource_skus.list(filter="location eq 'eastus'")
        if each.name == "Standard_B2pls_v2"
    ]
    told = {each.name: each.value for each in size.capabilities}
    assert (told["vCPUs"], told["MemoryGB"], told["CpuArchitectureType"]) == ("2", "4", "Arm64")
    assert size.location_info[0].zones == ["1", "2", "3"]
    cores = {each.name.value: each.limit for each in arm.compute.usage.list("eastus")}
    assert cores["cores"] == 100
    assert {each.name.value for each in arm.network.usages.list("eastus")} >= {"PublicIPAddresses"}
    images = arm.compute.virtual_machine_images
    assert [each.name for each in images.list_skus("eastus", "Debian", "debian-13")] == ["13-gen2", "13-arm64-gen2"]
    newest = images.list("eastus", "Debian", "debian-13", "13-gen2")[-1].name
    assert images.get("eastus", "Debian", "debian-13", "13-gen2", newest).architecture == "x64"


def test_the_subscription_is_asked_for_plainly(arm: ArmHere) -> None:
    from azure.core.rest import HttpRequest

    def ask(path: str) -> Any:
        answer = arm.resources.send_request(HttpRequest("GET", path, params={"api-version": "2022-12-01"}))
        answer.raise_for_status()
        return answer.json()

    account = arm.account
    assert ask(f"/subscriptions/{account.subscription}")["state"] == "Enabled"
    base = f"/subscriptions/{account.subscription}/providers/Microsoft.Authorization"
    (permission,) = ask(f"{base}/permissions")["value"]
    assert permission["actions"] == ["*"]


def test_a_nic_a_subnet_a_firewall_and_an_address_in_use_stay(laid: ArmHere) -> None:
    laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine()).result()
    client = laid.network
    for delete, code in (
        (lambda: client.network_interfaces.begin_delete("g", "nic"), "NicInUse"),
        (lambda: client.subnets.begin_delete("g", "v", "s"), "InUseSubnetCannotBeDeleted"),
        (lambda: client.virtual_networks.begin_delete("g", "v"), "InUseSubnetCannotBeDeleted"),
        (lambda: client.public_ip_addresses.begin_delete("g", "ip"), "PublicIPAddressCannotBeDeleted"),
        (lambda: client.network_security_groups.begin_delete("g", "f"), "InUseNetworkSecurityGroupCannotBeDeleted"),
    ):
        with pytest.raises(HttpResponseError) as problem:
            delete()
        assert code_of(problem) == code


def test_a_failed_allocation_comes_by_the_operation_and_leaves_everything_behind(laid: ArmHere) -> None:
    from grafos_emulators.faults import Effect, ErrorClass

    laid.break_next("virtualMachines.createOrUpdate", Effect.OPERATION_ERROR, ErrorClass.CAPACITY)
    with pytest.raises(HttpResponseError) as problem:
        laid.compute.virtual_machines.begin_create_or_update("g", "vm", machine()).result()
    assert code_of(problem) == "AllocationFailed"
    assert laid.compute.virtual_machines.get("g", "vm").properties.provisioning_state == "Failed"
    assert {"disk", "networkInterface", "publicIPAddress", "virtualMachine"} <= set(laid.kinds())
    laid.compute.virtual_machines.begin_delete("g", "vm").result()
    laid.until(lambda: laid.billed() == [])
