"""What Azure is asked for, call by call, as the emulated one records it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from azure_place import AZURE_KINDS, AzurePlace
from contract_work import FABRIC, Work

from grafos_connectors.azure import describe, permissions
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.deadline import deadline_body, time_of_day
from grafos_connectors.azure.ids import parse
from grafos_connectors.azure.kind_calls import read_resource
from grafos_connectors.azure.listing import READ_ALONE_MAX
from grafos_connectors.azure.machine import USER_DATA_MAX_BYTES, machine_body
from grafos_connectors.azure.shapes import DEADLINE_MAX_S, DEADLINE_MIN_S
from grafos_connectors.azure.tags import ASKED
from grafos_connectors.contract import TAG_EXPIRES, TAG_KEY, CloudError, Desired, Kind, Ref, State
from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings

SHARED = (Kind.GROUP, Kind.NETWORK, Kind.FIREWALL, Kind.SUBNET)
OWN = (Kind.ADDRESS, Kind.NIC, Kind.MACHINE, Kind.DEADLINE)
GROUP = "/subscriptions/s/resourceGroups/g"
NIC = f"{GROUP}/providers/Microsoft.Network/networkInterfaces/n"
HOUR_S = 3600
SECRET = "#!/bin/sh\necho one-time-secret\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AzurePlace]:
    clock = VirtualClock()
    with EmulatedClouds(tmp_path, Settings(clouds=("azure",), boots=False), clock=clock) as clouds:
        yield AzurePlace(clouds, clock)


@pytest.fixture
def work(place: AzurePlace) -> Work:
    return Work(place)


@pytest.fixture
def calls(place: AzurePlace) -> AzureCalls:
    return AzureCalls(environment=place.environment())


def changes(place: AzurePlace) -> list[str]:
    return [call.action for call in place.clouds.journal() if call.mutating]


@pytest.mark.parametrize("kind", AZURE_KINDS.shapes)
def test_each_step_is_one_changing_call(place: AzurePlace, work: Work, kind: Kind) -> None:
    work.lay_ground(kind)
    before = len(changes(place))
    operation = work.connector.begin_create(work.desired(kind), "token")
    assert len(changes(place)) == before + 1
    found = work.finish(operation)
    if found is not None and kind in AZURE_KINDS.retagged:
        work.finish(work.connector.begin_update(found.ref, work.desired(kind)))
        before += 1
    operation = work.connector.begin_delete(operation.ref)
    assert len(changes(place)) == before + 2
    work.finish(operation)
    assert len(changes(place)) == before + 2


def test_a_first_cell_takes_eight_changing_calls_and_a_further_one_four(place: AzurePlace, work: Work) -> None:
    for kind in (*SHARED, *OWN):
        work.make(kind)
    assert len(changes(place)) == 8
    for kind in OWN:
        work.make(kind, f"second-{kind.value}")
    assert len(changes(place)) == 8 + 4


def test_a_cell_goes_by_two_changing_calls(place: AzurePlace, work: Work) -> None:
    """The machine takes its disk, card and address along; its schedule stays, and is deleted by itself."""
    work.lay_ground(Kind.ADDRESS)
    for kind in (*SHARED[1:], *OWN):
        work.make(kind)
    before = len(changes(place))
    for kind in (Kind.MACHINE, Kind.DEADLINE):
        work.finish(work.connector.begin_delete(ref_of(work, kind)))
    work.settle()
    assert len(changes(place)) == before + 2
    assert {thing.kind for thing in place.clouds.world()} == {
        "resourceGroup",
        "virtualNetwork",
        "networkSecurityGroup",
        "subnet",
    }


def ref_of(work: Work, kind: Kind) -> Ref:
    return Ref(key="", kind=kind, id=work.ids[kind.value], region=work.place.region)


# What a machine is asked to be ----------------------------------------------------------------------------------------


def asked_machine(work: Work, **inputs: Any) -> Desired:
    work.pretend_ground()
    work.ids |= {"nic": NIC, "group": GROUP}
    return work.desired(Kind.MACHINE, **{"user_data": SECRET, **inputs})


def test_a_machine_lets_nobody_in_and_takes_all_that_is_its_own_along(work: Work, calls: AzureCalls) -> None:
    desired = asked_machine(work)
    body = machine_body(calls, desired)
    properties = body["properties"]
    assert body["location"] == "eastus"
    assert body["zones"] == ["1"]
    assert "identity" not in body
    assert body["tags"] == {**desired.tags, ASKED: body["tags"][ASKED]}
    disk = properties["storageProfile"]["osDisk"]
    assert (disk["deleteOption"], disk["diskSizeGB"], disk["name"]) == ("Delete", 30, "grafos-machine-disk")
    assert disk["managedDisk"] == {"storageAccountType": "StandardSSD_LRS"}
    assert properties["networkProfile"]["networkInterfaces"] == [
        {"id": NIC, "properties": {"primary": True, "deleteOption": "Delete"}}
    ]
    profile = properties["osProfile"]
    assert base64.b64decode(profile["customData"]).decode() == SECRET
    assert "adminPassword" not in profile
    assert profile["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert properties["diagnosticsProfile"] == {"bootDiagnostics": {"enabled": True}}
    assert properties["securityProfile"]["securityType"] == "TrustedLaunch"
    assert "priority" not in properties


def test_a_baked_machine_has_secure_boot_where_its_image_came_with_its_certificate(
    work: Work, calls: AzureCalls
) -> None:
    own = {"baked": True, "image": "/subscriptions/s/an/image"}
    plain = machine_body(calls, asked_machine(work, **own))["properties"]["securityProfile"]
    signed = machine_body(calls, asked_machine(work, **own, secure_boot=True))["properties"]["securityProfile"]
    assert plain == {"securityType": "Standard"}
    assert (signed["securityType"], signed["uefiSettings"]["secureBootEnabled"]) == ("TrustedLaunch", True)


def test_nobody_holds_the_key_that_azure_demands(work: Work, calls: AzureCalls) -> None:
    desired = asked_machine(work)
    keys = [
        machine_body(calls, desired)["properties"]["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"]
        for _ in range(2)
    ]
    assert all(key.startswith("ssh-ed25519 ") for key in keys)
    assert keys[0] != keys[1]


def test_a_spot_machine_costs_at_most_what_a_usual_one_does_and_leaves_nothing(work: Work, calls: AzureCalls) -> None:
    properties = machine_body(calls, asked_machine(work, spot=True))["properties"]
    assert (properties["priority"], properties["evictionPolicy"]) == ("Spot", "Delete")
    assert properties["billingProfile"] == {"maxPrice": -1}


def test_a_machine_that_is_the_regions_names_no_zone(work: Work, calls: AzureCalls) -> None:
    body = machine_body(calls, msgspec.structs.replace(asked_machine(work), zone=""))
    assert "zones" not in body


def test_user_data_beyond_the_limit_is_refused_before_any_call(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    before = changes(place)
    refusal = work.refused(work.desired(Kind.MACHINE, user_data="x" * (USER_DATA_MAX_BYTES + 1)))
    assert refusal.code == "cloud_invalid"
    assert changes(place) == before


@pytest.mark.parametrize("image", ["", "debian", "Debian:debian-13:13-gen2", "a:b:c:", "a:b:c:d:e"])
def test_an_image_that_is_no_urn_is_refused(work: Work, image: str) -> None:
    work.lay_ground(Kind.MACHINE)
    assert work.refused(work.desired(Kind.MACHINE, image=image)).code == "cloud_invalid"


@pytest.mark.parametrize("need", ["x", "/subscriptions/s/resourceGroups/g", "/subscriptions//resourceGroups/"])
def test_a_need_of_another_kind_or_subscription_is_refused(work: Work, need: str) -> None:
    work.lay_ground(Kind.MACHINE)
    work.ids["nic"] = need
    assert work.refused(work.desired(Kind.MACHINE)).code == "cloud_invalid"


def test_what_is_journalled_of_a_machine_holds_no_secret_and_stays_small(work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    operation = work.connector.begin_create(work.desired(Kind.MACHINE, user_data=SECRET), "token")
    text = json.loads(operation.handle)["token"]
    opened = base64.b64decode(text).decode()
    for hidden in (SECRET, base64.b64encode(SECRET.encode()).decode(), "customData", "Authorization"):
        assert hidden not in opened + text
        content = json.loads(opened)["data"]["response"]["content"]
        assert hidden not in base64.b64decode(content).decode()
    assert len(operation.handle) <= 64 * 1024


# The deadline ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends_at", "now", "expected"),
    [
        (0, -86_000, "0000"),
        (1, -86_000, "0001"),  # the minute after it, never before
        (60, -86_000, "0001"),
        (61, -86_000, "0002"),
        (23 * 3600 + 59 * 60 + 1, 0, "0000"),
        (100, 50, "0006"),  # a minute that is about to pass would come again only tomorrow
        (-500, 0, "0005"),
    ],
)
def test_a_schedule_fires_at_the_minute_at_or_after_the_end(ends_at: int, now: float, expected: str) -> None:
    assert time_of_day(ends_at, now) == expected


def test_a_schedule_fires_never_before_the_end_and_less_than_a_minute_after() -> None:
    for now in range(0, 2 * 86_400, 4_999):
        for ahead in range(DEADLINE_MIN_S, DEADLINE_MAX_S, 3_701):
            told = time_of_day(now + ahead, now)
            of_day = int(told[:2]) * 3600 + int(told[2:]) * 60
            fires = next(moment for day in range(5) if (moment := day * 86_400 + of_day) > now)
            assert 0 <= fires - (now + ahead) < 60, (now, ahead)


def test_a_deadline_that_is_a_day_away_is_refused_since_it_would_fire_too_early(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.DEADLINE)
    before, now = changes(place), int(place.clock.now())
    refusal = work.refused(work.desired(Kind.DEADLINE, ends_at=now + DEADLINE_MAX_S + 60))
    assert refusal.code == "cloud_invalid"
    assert "extend" in refusal.next
    made = work.make(Kind.DEADLINE, ends_at=now + DEADLINE_MAX_S - 60)
    late = work.desired(Kind.DEADLINE, ends_at=now + DEADLINE_MAX_S + 7200)
    with pytest.raises(CloudError) as raised:
        work.connector.begin_update(made.ref, late)
    assert raised.value.code == "cloud_invalid"
    assert len(changes(place)) == len(before) + 1


def test_the_schedule_deallocates_the_machine_and_its_disk_bills_on(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.DEADLINE)
    now = int(place.clock.now())
    work.make(Kind.DEADLINE, ends_at=now + 3600)
    place.pass_time(3500)
    assert work.connector.observe(ref_of(work, Kind.MACHINE)).state is State.READY
    for _ in range(2):  # it fires, and then deallocating takes a moment
        place.pass_time(200)
        place.world()
    found = work.connector.observe(ref_of(work, Kind.MACHINE))
    assert (found.state, found.billable, found.attributes["power"]) == (State.STOPPED, False, "deallocated")
    assert {one.ref.kind for one in work.listed() if one.billable} == {Kind.DISK, Kind.ADDRESS}


def test_a_deadline_that_was_moved_fires_then_and_bears_its_new_tags(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.DEADLINE)
    now = int(place.clock.now())
    made = work.make(Kind.DEADLINE, ends_at=now + 3600)
    later = work.desired(Kind.DEADLINE, ends_at=now + 7200)
    later = msgspec.structs.replace(later, tags={**later.tags, TAG_EXPIRES: "1900009999"})
    moved = work.finish(work.connector.begin_update(made.ref, later))
    assert moved is not None
    assert moved.attributes["ends_at"] == str(now + 7200)
    assert moved.tags == later.tags
    place.pass_time(4000)
    assert work.connector.observe(ref_of(work, Kind.MACHINE)).state is State.READY
    place.pass_time(3600)
    assert work.connector.observe(ref_of(work, Kind.MACHINE)).state is State.STOPPED
    assert work.connector.begin_create(later, "token").ref.id == made.ref.id, "an equal call finds its equal"


def test_a_schedule_that_somebody_switched_off_counts_as_failed(place: AzurePlace, work: Work) -> None:
    work.lay_ground(Kind.DEADLINE)
    made = work.make(Kind.DEADLINE)
    desired = work.desired(Kind.DEADLINE)
    body = deadline_body(desired, place.clock.now())
    body["properties"]["status"] = "Disabled"
    url = f"{place.clouds.endpoint}{made.ref.id}?api-version=2018-09-15"
    assert requests.put(url, json=body, timeout=10).ok
    assert work.connector.observe(made.ref).state is State.FAILED


# What lives and is listed ---------------------------------------------------------------------------------------------


def test_a_machines_disk_is_told_with_the_machines_tags_as_they_are_now(work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    desired = work.desired(Kind.MACHINE)
    newer = msgspec.structs.replace(desired, tags={**desired.tags, TAG_EXPIRES: "1900009999"})
    work.finish(work.connector.begin_update(made.ref, newer))
    work.settle()
    disk = next(found for found in work.listed() if found.ref.kind is Kind.DISK)
    assert disk.tags == newer.tags
    assert disk.ref.key == newer.tags[TAG_KEY]
    assert disk.attributes["machine"] == made.ref.id
    assert work.connector.observe(disk.ref).tags == newer.tags


def test_somebody_elses_tags_on_a_resource_of_ours_are_left_alone(place: AzurePlace, work: Work) -> None:
    made = work.make(Kind.GROUP)
    url = f"{place.clouds.endpoint}{made.ref.id}?api-version=2025-04-01"
    there = requests.get(url, timeout=10).json()["tags"]
    assert requests.patch(url, json={"tags": {**there, "cost-centre": "7"}}, timeout=10).ok
    work.finish(work.connector.begin_update(made.ref, work.desired(Kind.GROUP)))
    assert requests.get(url, timeout=10).json()["tags"]["cost-centre"] == "7"


def test_ids_are_spelled_one_way_however_arm_spells_them(work: Work) -> None:
    work.lay_ground(Kind.SUBNET)
    made = work.make(Kind.SUBNET)
    shouted = Ref(key="", kind=Kind.SUBNET, id=made.ref.id.upper(), region="eastus")
    found = work.connector.observe(shouted)
    assert found.ref.id == made.ref.id
    assert found.attributes["carrier"] == work.ids["network"]


def test_a_group_with_anything_in_it_is_not_deleted(place: AzurePlace, work: Work) -> None:
    """Its deletion would take along what is not ours."""
    work.lay_ground(Kind.NETWORK)
    work.make(Kind.NETWORK)
    before = changes(place)
    with pytest.raises(CloudError) as raised:
        work.connector.begin_delete(ref_of(work, Kind.GROUP))
    assert raised.value.code == "cloud_in_use"
    assert changes(place) == before


@pytest.mark.parametrize("kind", [Kind.NETWORK, Kind.FIREWALL, Kind.ADDRESS])
def test_what_was_put_into_a_group_a_moment_ago_keeps_it(place: AzurePlace, work: Work, kind: Kind) -> None:
    """ARM's own list does not show it yet, and the group would take it along."""
    work.lay_ground(kind)
    place.clouds.set({"visible_after_s": HOUR_S})
    work.make(kind)
    refused = work.why_not(lambda: work.connector.begin_delete(ref_of(work, Kind.GROUP)))
    assert refused.code == "cloud_in_use"


def test_a_subnet_of_another_range_under_our_name_is_a_conflict(work: Work) -> None:
    work.lay_ground(Kind.SUBNET)
    work.make(Kind.SUBNET)
    assert work.refused(work.desired(Kind.SUBNET, cidr="10.77.2.0/24")).code == "cloud_conflict"


def test_a_subnet_bears_no_tags(work: Work) -> None:
    work.lay_ground(Kind.SUBNET)
    made = work.make(Kind.SUBNET)
    with pytest.raises(CloudError) as raised:
        work.connector.begin_update(made.ref, work.desired(Kind.SUBNET))
    assert raised.value.code == "unsupported"


def test_a_list_of_one_region_leaves_out_the_others(work: Work) -> None:
    work.make(Kind.GROUP)
    work.settle()
    assert work.listed("westeurope") == []
    assert [found.ref.kind for found in work.listed_everywhere()] == [Kind.GROUP]


def test_more_than_one_page_is_listed(work: Work) -> None:
    work.lay_ground(Kind.FIREWALL)
    names = [f"grafos-many-{number}" for number in range(120)]
    for name in names:
        work.connector.begin_create(work.desired(Kind.FIREWALL, name), name)
    work.settle()
    listed = [found.attributes["name"] for found in work.listed() if found.ref.kind is Kind.FIREWALL]
    assert sorted(listed) == sorted(names)


def machines_made(work: Work, count: int) -> list[str]:
    """The ids of so many machines, each with a card of its own."""
    work.lay_ground(Kind.MACHINE)
    ids = []
    for number in range(count):
        work.make(Kind.ADDRESS, f"grafos-address-{number}")
        work.make(Kind.NIC, f"grafos-nic-{number}")
        ids.append(work.make(Kind.MACHINE, f"grafos-machine-{number}").ref.id)
    work.settle()
    return ids


def test_many_machines_are_listed_by_two_requests_and_told_as_one_by_one(
    place: AzurePlace, work: Work, calls: AzureCalls
) -> None:
    ids = machines_made(work, READ_ALONE_MAX + 1)
    url = f"{place.clouds.endpoint}{ids[0]}/deallocate?api-version=2025-04-01"
    assert requests.post(url, timeout=10).status_code == requests.codes.accepted
    place.pass_time(60)
    before = len(place.clouds.journal())
    listed = {found.ref.id: found for found in work.listed() if found.ref.kind is Kind.MACHINE}
    asked = [call.action for call in place.clouds.journal()[before:]]
    assert (asked.count("virtualMachines.list"), asked.count("virtualMachines.get")) == (2, 0)
    alone = {one: describe.found(read_resource(calls, parse(one), "") or {}, parse(one)) for one in ids}
    assert listed == alone
    assert [found.state for found in listed.values()].count(State.STOPPED) == 1


def test_a_machine_that_only_the_late_list_still_shows_is_asked_for_and_not_told(place: AzurePlace, work: Work) -> None:
    ids = machines_made(work, READ_ALONE_MAX + 1)
    place.clouds.set({"visible_after_s": HOUR_S})
    place.pass_time(HOUR_S)
    machine = Ref(key="", kind=Kind.MACHINE, id=ids[0], region="eastus")
    work.finish(work.connector.begin_delete(machine))
    before = len(place.clouds.journal())
    listed = [found.ref.id for found in work.listed() if found.ref.kind is Kind.MACHINE]
    asked = [call.action for call in place.clouds.journal()[before:]]
    assert sorted(listed) == sorted(ids[1:])
    assert asked.count("virtualMachines.get") == 1


def test_what_is_listed_is_ours_alone_even_if_the_list_is_told_too_much(work: Work) -> None:
    work.make(Kind.GROUP)
    work.place.plant(fabric=FABRIC + "-2", key="e" * 32)
    work.settle()
    assert [found.ref.id for found in work.listed()] == [work.ids["group"]]


def test_all_that_is_called_is_in_the_list_of_permissions(place: AzurePlace, work: Work) -> None:
    """With exactly those permissions, and that to ask about them, everything works that the emulator checks."""
    place.clouds.azure.allowed = (*permissions.ACTIONS, "Microsoft.Authorization/permissions/read")
    for kind in (*SHARED, *OWN):
        made = work.make(kind)
        if kind in AZURE_KINDS.retagged:
            work.finish(work.connector.begin_update(made.ref, work.desired(kind)))
    work.settle()
    work.connector.console(ref_of(work, Kind.MACHINE))
    assert work.connector.missing_permissions("eastus") == ()
    for found in work.listed():
        work.connector.observe(found.ref)
    for kind in reversed((*SHARED, *OWN)):
        work.finish(work.connector.begin_delete(ref_of(work, kind)))
    assert place.world() == []
