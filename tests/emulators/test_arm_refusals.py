"""What the emulated ARM refuses, and in which words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from arm_here import (
    COMPUTE,
    GROUP,
    MACHINE,
    NETWORK,
    SUBSCRIPTION,
    ArmHere,
    address,
    interface,
    machine,
    network,
)

from grafos_core.clock import VirtualClock
from grafos_emulators.faults import Effect, ErrorClass

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmHere]:
    with ArmHere(tmp_path / "state", clock=VirtualClock()) as here:
        yield here


@pytest.fixture
def laid(arm: ArmHere) -> ArmHere:
    arm.make_network()
    return arm


def test_a_real_token_is_refused(arm: ArmHere) -> None:
    answer = arm.ask("GET", SUBSCRIPTION, Authorization="Bearer eyJ0eXAiOiJKV1Qi.real.one")
    assert (answer.status, answer.code) == (401, "InvalidAuthenticationToken")
    assert arm.ask("GET", SUBSCRIPTION, Authorization="Bearer grafos-emulated").status == 200
    assert arm.ask("GET", SUBSCRIPTION).status == 200


def test_an_api_version_is_demanded(arm: ArmHere) -> None:
    assert arm.ask("GET", SUBSCRIPTION, version="").code == "MissingApiVersionParameter"
    assert arm.ask("GET", SUBSCRIPTION, version="latest").code == "InvalidApiVersionParameter"


def test_other_subscriptions_groups_and_resources_are_not_found(arm: ArmHere) -> None:
    stranger = "/subscriptions/00000000-0000-0000-0000-000000000000"
    assert arm.ask("GET", f"{stranger}/resourceGroups").code == "SubscriptionNotFound"
    assert arm.ask("GET", MACHINE).code == "ResourceGroupNotFound"
    arm.ask("PUT", GROUP, {"location": "eastus"})
    assert arm.ask("GET", MACHINE).code == "ResourceNotFound"
    assert arm.ask("DELETE", MACHINE).status == 204


def test_what_the_emulator_does_not_know_says_so(arm: ArmHere) -> None:
    arm.ask("PUT", GROUP, {"location": "eastus"})
    assert arm.ask("PUT", f"{NETWORK}/loadBalancers/lb", {"location": "eastus"}).code == "NotEmulated"
    storage = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/a"
    assert arm.ask("PUT", storage, {"location": "eastus"}).code == "InvalidResourceNamespace"


@pytest.mark.parametrize(
    ("change", "code", "target"),
    [
        (lambda body: body.update(speed=1), "InvalidRequestContent", "speed"),
        (lambda body: body["properties"].update(osProfil={}), "InvalidRequestContent", "properties.osProfil"),
        (lambda body: body["properties"].update(priority="Cheap"), "InvalidParameter", "properties.priority"),
        (lambda body: body["properties"].update(osProfile=[]), "InvalidRequestContent", "properties.osProfile"),
        (lambda body: body.pop("location"), "LocationRequired", None),
        (lambda body: body.update(location="moonbase"), "LocationNotAvailableForResourceType", None),
        (lambda body: body["properties"].pop("hardwareProfile"), "InvalidParameter", "hardwareProfile.vmSize"),
        (lambda body: body["properties"].pop("osProfile"), "InvalidParameter", "osProfile.adminUsername"),
        (lambda body: body["properties"]["osProfile"].pop("linuxConfiguration"), "InvalidParameter", "adminPassword"),
        (
            lambda body: body["properties"]["osProfile"].update(adminUsername="root"),
            "InvalidParameter",
            "adminUsername",
        ),
        (lambda body: body["properties"]["osProfile"].update(customData="no base64"), "InvalidParameter", "customData"),
        (lambda body: body["properties"].update(evictionPolicy="Delete"), "InvalidParameter", "evictionPolicy"),
        (
            lambda body: body["properties"]["hardwareProfile"].update(vmSize="Standard_Z9"),
            "InvalidParameter",
            "vmSize",
        ),
        (
            lambda body: body["properties"]["storageProfile"]["imageReference"].update(version="1"),
            "PlatformImageNotFound",
            None,
        ),
        (
            lambda body: body["properties"]["storageProfile"]["imageReference"].update(sku="13-arm64-gen2"),
            "BadRequest",
            None,
        ),
        (lambda body: body["properties"]["storageProfile"]["osDisk"].update(diskSizeGB=8), "OperationNotAllowed", None),
        (lambda body: body.update(identity={"type": "SystemAssigned"}), "NotEmulated", None),
        (lambda body: body["properties"].update(userData="no base64"), "InvalidParameter", "userData"),
        (lambda body: body.update(zones=["4"]), "InvalidAvailabilityZone", None),
        (
            lambda body: body["properties"]["networkProfile"].update(
                networkInterfaces=[{"id": f"{NETWORK}/networkInterfaces/none"}]
            ),
            "InvalidResourceReference",
            None,
        ),
    ],
)
def test_a_machine_that_arm_would_not_make_is_refused(
    laid: ArmHere, change: Change, code: str, target: str | None
) -> None:
    body = machine(hardwareProfile={"vmSize": "Standard_B2s"})
    body["properties"]["storageProfile"]["imageReference"]["sku"] = "13-gen2"
    change(body)
    before = laid.kinds()
    answer = laid.ask("PUT", MACHINE, body)
    assert (answer.code, answer.body["error"].get("target")) == (code, target)
    assert laid.kinds() == before


def test_an_interface_in_another_region_is_no_interface_of_this_machine(arm: ArmHere) -> None:
    arm.make_network("westeurope")
    assert arm.ask("PUT", MACHINE, machine("eastus")).code == "InvalidResourceReference"


def test_a_region_without_zones_takes_none(arm: ArmHere) -> None:
    arm.make_network("westus")
    assert arm.ask("PUT", MACHINE, machine("westus", zones=["1"])).code == "LocationDoesNotSupportAvailabilityZones"


def test_the_same_put_twice_is_one_machine(arm: ArmHere) -> None:
    first = arm.make_machine()
    again = arm.ask("PUT", MACHINE, machine())
    assert again.status == 200
    assert arm.settle(again)["status"] == "Succeeded"
    assert arm.ask("GET", MACHINE).body["properties"]["vmId"] == first["properties"]["vmId"]
    assert arm.kinds().count("disk") == 1


def test_if_none_match_makes_nothing_twice(arm: ArmHere) -> None:
    arm.make_machine()
    answer = arm.ask("PUT", MACHINE, machine(), If_None_Match="*")
    assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert arm.ask("PUT", GROUP, {"location": "eastus"}, If_None_Match="*").status == 412


def test_if_match_holds_to_what_was_seen(laid: ArmHere) -> None:
    place = f"{NETWORK}/publicIPAddresses/ip"
    seen = laid.ask("GET", place).body["etag"]
    assert laid.ask("PATCH", place, {"tags": {"a": "1"}}, If_Match=seen).status == 200
    assert laid.ask("PATCH", place, {"tags": {"a": "2"}}, If_Match=seen).status == 412
    assert laid.ask("DELETE", f"{NETWORK}/publicIPAddresses/other", If_Match=seen).status == 204


@pytest.mark.parametrize("path", ["osProfile.customData", "zones", "osProfile.computerName"])
def test_what_is_fixed_at_the_making_is_not_changed(arm: ArmHere, path: str) -> None:
    arm.make_machine()
    body = machine()
    match path:
        case "osProfile.customData":
            body["properties"]["osProfile"]["customData"] = "b3RoZXI="
        case "osProfile.computerName":
            body["properties"]["osProfile"]["computerName"] = "other"
        case _:
            body["zones"] = ["1"]
    answer = arm.ask("PUT", MACHINE, body)
    assert (answer.status, answer.code, answer.body["error"]["target"]) == (409, "PropertyChangeNotAllowed", path)


def test_a_resize_is_said_to_be_beyond_the_emulator(arm: ArmHere) -> None:
    arm.make_machine()
    answer = arm.ask("PUT", MACHINE, machine(hardwareProfile={"vmSize": "Standard_B2ms"}))
    assert (answer.status, answer.code) == (501, "NotEmulated")


def test_secrets_are_never_told_again(arm: ArmHere) -> None:
    made = arm.make_machine(user_data="#!/bin/sh\n: secret\n")
    assert "customData" not in made["properties"]["osProfile"]
    assert "customData" not in arm.ask("PATCH", MACHINE, {"tags": {"a": "b"}}).body["properties"]["osProfile"]


def test_a_quota_is_told_with_its_numbers(laid: ArmHere) -> None:
    laid.account.limits["cores"] = 1
    answer = laid.ask("PUT", MACHINE, machine())
    assert (answer.status, answer.code) == (409, "OperationNotAllowed")
    message = answer.body["error"]["message"]
    assert "exceeding approved Total Regional Cores quota" in message
    assert "Current Limit: 1, Current Usage: 0, Additional Required: 2, (Minimum) New Limit Required: 2" in message


def test_usages_follow_the_machines(arm: ArmHere) -> None:
    arm.make_machine()
    place = f"{SUBSCRIPTION}/providers/Microsoft.Compute/locations/eastus/usages"

    def cores() -> int:
        (found,) = [each for each in arm.ask("GET", place).body["value"] if each["name"]["value"] == "cores"]
        return int(found["currentValue"])

    assert cores() == 2
    arm.settle(arm.ask("POST", f"{MACHINE}/deallocate"))
    assert cores() == 0


def test_a_restricted_size_is_listed_as_such_and_refused_at_once(laid: ArmHere) -> None:
    size = machine()["properties"]["hardwareProfile"]["vmSize"]
    laid.account.restricted[size, "eastus/1"] = "NotAvailableForSubscription"
    answer = laid.ask("PUT", MACHINE, machine(zones=["1"]))
    assert (answer.status, answer.code) == (409, "SkuNotAvailable")
    listed = laid.ask("GET", f"{SUBSCRIPTION}/providers/Microsoft.Compute/skus?$filter=location eq 'eastus'").body
    (restriction,) = next(each["restrictions"] for each in listed["value"] if each["name"] == size)
    assert (restriction["type"], restriction["restrictionInfo"]["zones"]) == ("Zone", ["1"])
    assert laid.ask("PUT", MACHINE, machine(zones=["2"])).status == 201


def test_a_lock_holds_what_it_locks(laid: ArmHere) -> None:
    laid.account.locks[f"{NETWORK}/publicIPAddresses/ip"] = "CanNotDelete"
    assert laid.ask("DELETE", f"{NETWORK}/publicIPAddresses/ip").code == "ScopeLocked"
    answer = laid.ask("DELETE", GROUP)
    assert (answer.status, answer.code) == (409, "ScopeLocked")
    laid.account.locks = {GROUP: "ReadOnly"}
    assert laid.ask("PUT", MACHINE, machine()).code == "ScopeLocked"


def test_what_the_caller_may_not_do_is_refused_and_told(laid: ArmHere) -> None:
    laid.account.denied = ("Microsoft.Compute/virtualMachines/write",)
    answer = laid.ask("PUT", MACHINE, machine())
    assert (answer.status, answer.code) == (403, "AuthorizationFailed")
    assert "Microsoft.Compute/virtualMachines/write" in answer.body["error"]["message"]
    (told,) = laid.ask("GET", f"{GROUP}/providers/Microsoft.Authorization/permissions").body["value"]
    assert told["notActions"] == ["Microsoft.Compute/virtualMachines/write"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ErrorClass.CAPACITY, 409, "SkuNotAvailable"),
        (ErrorClass.QUOTA, 409, "OperationNotAllowed"),
        (ErrorClass.THROTTLED, 429, "TooManyRequests"),
        (ErrorClass.DENIED, 403, "AuthorizationFailed"),
        (ErrorClass.AUTH, 401, "ExpiredAuthenticationToken"),
        (ErrorClass.UNAVAILABLE, 503, "ServiceUnavailable"),
        (ErrorClass.INTERNAL, 500, "InternalExecutionError"),
    ],
)
def test_each_class_of_fault_has_arms_words(laid: ArmHere, error: ErrorClass, status: int, code: str) -> None:
    laid.break_next("virtualMachines.*", Effect.REFUSE, error, retry_after_s=7.0)
    answer = laid.ask("PUT", MACHINE, machine())
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["Retry-After"] == ("7" if error is ErrorClass.THROTTLED else None)
    assert "virtualMachine" not in laid.kinds()


def test_an_address_has_one_interface_and_an_interface_one_machine(arm: ArmHere) -> None:
    arm.make_machine()
    assert arm.ask("PUT", f"{NETWORK}/networkInterfaces/second", interface()).code == "PublicIPAddressInUse"
    assert arm.ask("PUT", f"{COMPUTE}/virtualMachines/second", machine()).code == "OperationNotAllowed"


def test_addresses_are_standard_and_static(arm: ArmHere) -> None:
    arm.ask("PUT", GROUP, {"location": "eastus"})
    place = f"{NETWORK}/publicIPAddresses/ip"
    assert arm.ask("PUT", place, {"location": "eastus"}).code == "IPv4BasicSkuPublicIpCountLimitReached"
    dynamic = {**address(), "properties": {"publicIPAllocationMethod": "Dynamic"}}
    assert arm.ask("PUT", place, dynamic).code == "StandardSkuPublicIpAddressMustBeStatic"


def test_subnets_lie_within_their_network_and_apart(laid: ArmHere) -> None:
    second = f"{NETWORK}/virtualNetworks/v/subnets/second"
    outside = {"properties": {"addressPrefix": "10.1.0.0/24"}}
    assert laid.ask("PUT", second, outside).code == "NetcfgInvalidSubnet"
    overlapping = {"properties": {"addressPrefix": "10.0.1.128/25"}}
    assert laid.ask("PUT", second, overlapping).code == "NetcfgSubnetRangesOverlap"
    crooked = {"properties": {"addressPrefix": "10.0.2.7/24"}}
    assert laid.ask("PUT", second, crooked).code == "InvalidCIDRNotation"


def test_a_network_takes_one_change_at_a_time(arm: ArmHere) -> None:
    arm.ask("PUT", GROUP, {"location": "eastus"})
    assert arm.ask("PUT", f"{NETWORK}/virtualNetworks/v", network()).status == 201
    subnet = {"properties": {"addressPrefix": "10.0.1.0/24"}}
    answer = arm.ask("PUT", f"{NETWORK}/virtualNetworks/v/subnets/s", subnet)
    assert (answer.status, answer.code) == (409, "AnotherOperationInProgress")


def test_a_network_put_again_without_subnets_keeps_them(laid: ArmHere) -> None:
    laid.make(f"{NETWORK}/virtualNetworks/v", network())
    assert len(laid.ask("GET", f"{NETWORK}/virtualNetworks/v").body["properties"]["subnets"]) == 1


def test_rules_have_a_place_of_their_own_and_defaults_beside_them(laid: ArmHere) -> None:
    rule = {
        "properties": {
            "protocol": "Tcp",
            "access": "Allow",
            "direction": "Inbound",
            "priority": 200,
            "sourceAddressPrefix": "*",
            "sourcePortRange": "*",
            "destinationAddressPrefix": "*",
            "destinationPortRange": "443",
        }
    }
    group = f"{NETWORK}/networkSecurityGroups/f"
    laid.make(f"{group}/securityRules/https", rule)
    told = laid.ask("GET", group).body["properties"]
    assert [each["name"] for each in told["securityRules"]] == ["https"]
    assert [each["properties"]["access"] for each in told["defaultSecurityRules"]].count("Deny") == 2
    assert laid.ask("PUT", f"{group}/securityRules/other", rule).code == "SecurityRuleConflict"
    rule["properties"]["priority"] = 99
    assert laid.ask("PUT", f"{group}/securityRules/other", rule).code == "SecurityRuleInvalidPriority"


def test_a_group_stays_where_it_is(arm: ArmHere) -> None:
    arm.ask("PUT", GROUP, {"location": "eastus"})
    assert arm.ask("PUT", GROUP, {"location": "westus"}).code == "InvalidResourceGroupLocation"
    assert arm.ask("PUT", f"{SUBSCRIPTION}/resourceGroups/bad.", {"location": "eastus"}).code == "InvalidResourceGroup"
