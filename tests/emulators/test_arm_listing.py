"""The list of all resources: by tag, in pages, and late; the providers, the prices and what a machine is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arm_here import GROUP, MACHINE, NETWORK, SCHEDULE, SUBSCRIPTION, ArmHere, address, schedule

from grafos_core.clock import VirtualClock

TAGGED = f"{SUBSCRIPTION}/resources?$filter=tagName eq 'grafos' and tagValue eq 'yes'"
PRICES = "/azure/api/retail/prices"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def arm(tmp_path: Path, clock: VirtualClock) -> Iterator[ArmHere]:
    with ArmHere(tmp_path / "state", clock=clock) as here:
        yield here


def names(arm: ArmHere, link: str = TAGGED) -> list[str]:
    """The names on all pages."""
    found: list[str] = []
    while link:
        page = arm.ask("GET", link).body
        found += [each["name"] for each in page["value"]]
        link = page.get("nextLink", "")
    return sorted(found)


def test_the_list_of_resources_is_late_at_both_ends(arm: ArmHere, clock: VirtualClock) -> None:
    arm.clouds.set({"visible_after_s": 100.0})
    arm.make_machine()
    assert names(arm) == []
    assert arm.ask("GET", MACHINE).status == 200, "a read by name is never late"
    clock.advance(100.0)
    assert names(arm) == ["vm", "vm-disk"]
    arm.settle(arm.ask("DELETE", MACHINE))
    assert names(arm) == ["vm", "vm-disk"]
    clock.advance(100.0)
    assert names(arm) == []


def test_pages_are_followed_by_their_link(arm: ArmHere) -> None:
    arm.make_machine()
    first = arm.ask("GET", f"{SUBSCRIPTION}/resources?$top=2").body
    assert len(first["value"]) == 2
    assert names(arm, f"{SUBSCRIPTION}/resources?$top=2") == ["f", "ip", "nic", "v", "vm", "vm-disk"]


def test_a_schedule_is_listed_with_the_rest(arm: ArmHere) -> None:
    arm.make_machine()
    arm.make(SCHEDULE, schedule("1900"))
    assert names(arm) == ["shutdown-computevm-vm", "vm", "vm-disk"]
    assert names(arm, f"{GROUP}/resources?$filter=resourceType eq 'Microsoft.DevTestLab/schedules'") == [
        "shutdown-computevm-vm"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "tagValue eq 'yes'",
        "tagName eq 'grafos' and resourceType eq 'Microsoft.Compute/disks'",
        "startswith(tagName, 'g')",
        "tagName eq grafos",
    ],
)
def test_filters_that_arm_does_not_take_are_refused(arm: ArmHere, text: str) -> None:
    assert arm.ask("GET", f"{SUBSCRIPTION}/resources?$filter={text}").code == "InvalidFilterInQueryString"


def test_groups_are_listed_by_tag_too(arm: ArmHere) -> None:
    for name, tags in (("ours", {"grafos": "yes"}), ("theirs", {})):
        arm.ask("PUT", f"{SUBSCRIPTION}/resourceGroups/{name}", {"location": "eastus", "tags": tags})
    assert names(arm, f"{SUBSCRIPTION}/resourcegroups?$filter=tagName eq 'grafos' and tagValue eq 'yes'") == ["ours"]


def test_a_patch_replaces_all_tags(arm: ArmHere) -> None:
    arm.make_machine()
    assert arm.ask("PATCH", MACHINE, {"tags": {"other": "1"}}).body["tags"] == {"other": "1"}
    assert arm.ask("PATCH", f"{NETWORK}/networkInterfaces/nic", {"properties": {}}).code == "InvalidRequestContent"
    assert arm.ask("PATCH", GROUP, {"tags": {"a": "1"}}).body["tags"] == {"a": "1"}


def test_tags_keep_arms_limits(arm: ArmHere) -> None:
    many = {str(number): "" for number in range(51)}
    assert arm.ask("PUT", GROUP, {"location": "eastus", "tags": many}).code == "InvalidTags"
    assert arm.ask("PUT", GROUP, {"location": "eastus", "tags": {"a/b": ""}}).code == "InvalidTagNameCharacters"
    assert arm.ask("PUT", GROUP, {"location": "eastus", "tags": {"a": "x" * 257}}).code == "InvalidTagValueLength"


def test_a_fresh_subscription_registers_each_namespace(arm: ArmHere) -> None:
    arm.account.registered.clear()
    arm.ask("PUT", GROUP, {"location": "eastus"})
    place = f"{NETWORK}/publicIPAddresses/ip"
    answer = arm.ask("PUT", place, address())
    assert (answer.status, answer.code) == (409, "MissingSubscriptionRegistration")
    told = arm.ask("GET", f"{SUBSCRIPTION}/providers/Microsoft.Network").body
    assert told["registrationState"] == "NotRegistered"
    arm.ask("POST", f"{SUBSCRIPTION}/providers/Microsoft.Network/register")
    assert arm.ask("PUT", place, address()).status == 201


def prices(arm: ArmHere, text: str) -> list[dict[str, Any]]:
    link, found = f"{PRICES}?$filter={text}", []
    while link:
        page = arm.ask("GET", link, version="").body
        assert page["Count"] == len(page["Items"]) <= 100
        found += page["Items"]
        link = page["NextPageLink"] or ""
    return found


def test_prices_of_one_size_come_in_many_rows_of_which_one_is_meant(arm: ArmHere) -> None:
    rows = prices(arm, "armRegionName eq 'eastus' and armSkuName eq 'Standard_D2s_v5'")
    assert {row["type"] for row in rows} == {"Consumption", "Reservation"}
    meant = [
        row["retailPrice"]
        for row in rows
        if row["type"] == "Consumption"
        and "Windows" not in row["productName"]
        and not row["skuName"].endswith(("Spot", "Low Priority"))
    ]
    assert meant == [0.096]
    (spot,) = [row for row in rows if row["skuName"].endswith("Spot") and "Windows" not in row["productName"]]
    assert spot["retailPrice"] == 0.01056


def test_prices_come_in_pages_and_values_keep_their_case(arm: ArmHere) -> None:
    assert len(prices(arm, "serviceName eq 'Virtual Machines'")) > 100
    assert prices(arm, "serviceName eq 'virtual machines'") == []


def test_disks_and_addresses_have_prices(arm: ArmHere) -> None:
    (disk,) = prices(arm, "armRegionName eq 'westeurope' and meterName eq 'E4 LRS Disk'")
    assert (disk["unitOfMeasure"], disk["productName"]) == ("1/Month", "Standard SSD Managed Disks")
    (public,) = prices(arm, "armRegionName eq 'eastus' and contains(meterName, 'Static Public IP')")
    assert (public["unitOfMeasure"], public["retailPrice"]) == ("1 Hour", 0.005)


def test_a_filter_that_nobody_knows_is_refused(arm: ArmHere) -> None:
    assert arm.ask("GET", f"{PRICES}?$filter=colour eq 'red'", version="").status == 400


def test_a_machine_is_told_who_it_is(arm: ArmHere) -> None:
    made = arm.make_machine(zones=["2"])
    base = f"/imds/{made['properties']['vmId']}/metadata/instance"
    told = arm.ask("GET", base, version="2021-02-01", Metadata="true").body
    compute = told["compute"]
    assert (compute["name"], compute["zone"], compute["location"]) == ("vm", "2", "eastus")
    assert compute["resourceId"] == MACHINE
    assert compute["tagsList"] == [{"name": "grafos", "value": "yes"}]
    one = f"{base}/network/interface/0/ipv4/ipAddress/0/publicIpAddress?format=text"
    assert arm.ask("GET", one, version="2021-02-01", Metadata="true").body.decode() == public_ip(arm)


def public_ip(arm: ArmHere) -> str:
    return str(arm.ask("GET", f"{NETWORK}/publicIPAddresses/ip").body["properties"]["ipAddress"])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("instance", {}, 400),
        ("instance", {"Metadata": "true", "X_Forwarded_For": "10.0.0.1"}, 400),
        ("instance/nothing", {"Metadata": "true"}, 404),
        ("identity/oauth2/token", {"Metadata": "true"}, 404),
    ],
)
def test_metadata_is_refused_as_azure_refuses_it(arm: ArmHere, path: str, headers: dict[str, str], status: int) -> None:
    vm_id = arm.make_machine()["properties"]["vmId"]
    assert arm.ask("GET", f"/imds/{vm_id}/metadata/{path}", version="2021-02-01", **headers).status == status
    assert arm.ask("GET", f"/imds/{vm_id}/metadata/instance", version="", Metadata="true").status == 400
