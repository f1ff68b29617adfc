"""What Google Cloud is asked for, call by call, and what its answers are read as."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contract_work import Work
from gcp_place import GCP_KINDS, GcpPlace, gcp_place

from grafos_connectors.contract import (
    TAG_EXPIRES,
    TAG_FABRIC,
    TAG_KEY,
    CloudError,
    Desired,
    Kind,
    Scope,
    State,
)
from grafos_connectors.gcp import labels
from grafos_connectors.gcp.changes import request_id
from grafos_connectors.gcp.describe import described
from grafos_connectors.gcp.families import disk_type, is_arm, stays_through_maintenance
from grafos_connectors.gcp.labels import DESCRIPTION_MAX_CHARACTERS
from grafos_connectors.gcp.machine import USER_DATA_MAX_BYTES, machine_body
from grafos_connectors.gcp.network import network_body
from grafos_emulators.faults import Effect, Fault, FaultRule

ENDS_AT = 1_800_000_000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[GcpPlace]:
    with gcp_place(tmp_path) as place:
        yield place


@pytest.fixture
def work(place: GcpPlace) -> Work:
    return Work(place)


# How many calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GCP_KINDS.shapes)
def test_each_step_is_one_changing_call(place: GcpPlace, work: Work, kind: Kind) -> None:
    work.lay_ground(kind)
    before = len(place.changes())
    operation = work.connector.begin_create(work.desired(kind), "token")
    assert len(place.changes()) == before + 1
    work.finish(operation)
    operation = work.connector.begin_delete(operation.ref)
    assert len(place.changes()) == before + 2
    work.finish(operation)
    assert len(place.changes()) == before + 2


def test_a_first_cell_takes_three_changing_calls_and_a_further_one_one_to_make_and_one_to_end(
    place: GcpPlace, work: Work
) -> None:
    for kind in (Kind.NETWORK, Kind.SUBNET, Kind.MACHINE):
        work.make(kind)
    assert len(place.changes()) == 3
    second = work.make(Kind.MACHINE, "second-machine")
    assert len(place.changes()) == 3 + 1
    work.finish(work.connector.begin_delete(second.ref))
    assert len(place.changes()) == 3 + 1 + 1


def test_a_poll_is_one_question_while_the_operation_runs_and_two_when_it_ended(place: GcpPlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    operation = work.connector.begin_create(work.desired(Kind.MACHINE), "token")
    before = len(place.asked())
    work.connector.poll(operation)
    assert place.asked()[before:] == ["zoneOperations.get"]
    place.pass_time(60)
    work.connector.poll(operation)
    assert place.asked()[before + 1 :] == ["zoneOperations.get", "instances.get"]


def test_a_machine_type_is_asked_about_once(place: GcpPlace, work: Work) -> None:
    work.connector.price(place.region, place.machine_type)
    before = len(place.asked())
    work.connector.price(place.region, place.machine_type)
    work.connector.offers(place.region, place.machine_type)
    assert len(place.asked()) == before


# What is asked for ---------------------------------------------------------------------------------------------------


def machine(**inputs: Any) -> Desired:
    key = "0" * 32
    usual = {
        "machine_type": "e2-medium",
        "image": "projects/debian-cloud/global/images/debian-13-x",
        "disk_gib": 16,
        "user_data": "#!/bin/sh\n",
        "ends_at": ENDS_AT,
    }
    return Desired(
        key=key,
        kind=Kind.MACHINE,
        name="cell-1",
        region="us-central1",
        zone="us-central1-b",
        needs={"subnet": "regions/us-central1/subnetworks/s"},
        inputs={**usual, **inputs},
        tags={TAG_FABRIC: "f", TAG_KEY: key},
    )


def test_a_machine_is_asked_for_without_rights_with_an_end_and_with_labels_on_all_its_parts() -> None:
    """No service account and no keys; the cloud itself deletes it at its end; its disk dies with it."""
    its_labels = {"grafos_fabric": "f", "grafos_key": "0" * 32}
    assert machine_body(machine(), "p") == {
        "name": "cell-1",
        "machineType": "zones/us-central1-b/machineTypes/e2-medium",
        "labels": its_labels,
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "type": "PERSISTENT",
                "mode": "READ_WRITE",
                "initializeParams": {
                    "sourceImage": "projects/debian-cloud/global/images/debian-13-x",
                    "diskSizeGb": "16",
                    "diskType": "zones/us-central1-b/diskTypes/pd-balanced",
                    "labels": its_labels,
                },
            }
        ],
        "networkInterfaces": [
            {
                "subnetwork": "projects/p/regions/us-central1/subnetworks/s",
                "accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT", "networkTier": "PREMIUM"}],
            }
        ],
        "metadata": {
            "items": [
                {"key": "block-project-ssh-keys", "value": "TRUE"},
                {"key": "enable-oslogin", "value": "TRUE"},
                {"key": "serial-port-enable", "value": "FALSE"},
                {"key": "serial-port-logging-enable", "value": "FALSE"},
                {"key": "startup-script", "value": "#!/bin/sh\n"},
            ]
        },
        "scheduling": {
            "terminationTime": "2027-01-15T08:00:00Z",
            "instanceTerminationAction": "DELETE",
            "provisioningModel": "STANDARD",
            "preemptible": False,
            "automaticRestart": True,
            "onHostMaintenance": "MIGRATE",
        },
        "shieldedInstanceConfig": {
            "enableSecureBoot": True,
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
        },
        "canIpForward": False,
        "deletionProtection": False,
    }


def test_a_spot_machine_is_deleted_when_it_is_taken_back() -> None:
    scheduling = machine_body(machine(spot=True), "p")["scheduling"]
    assert (scheduling["provisioningModel"], scheduling["instanceTerminationAction"]) == ("SPOT", "DELETE")
    assert (scheduling["automaticRestart"], scheduling["onHostMaintenance"]) == (False, "TERMINATE")


@pytest.mark.parametrize(
    ("machine_type", "stays", "disk", "arm"),
    [
        ("e2-medium", True, "pd-balanced", False),
        ("g2-standard-4", False, "pd-balanced", False),
        ("a2-highgpu-1g", False, "pd-balanced", False),
        ("c4a-standard-1", True, "hyperdisk-balanced", True),
        ("n4-standard-2", True, "hyperdisk-balanced", False),
        ("t2a-standard-1", True, "pd-balanced", True),
    ],
)
def test_a_family_decides_on_maintenance_disk_and_architecture(
    machine_type: str, disk: str, *, stays: bool, arm: bool
) -> None:
    """A machine with a GPU cannot be moved to another host; the newest families take Hyperdisks only."""
    assert (stays_through_maintenance(machine_type), disk_type(machine_type), is_arm(machine_type)) == (
        stays,
        disk,
        arm,
    )
    body = machine_body(machine(machine_type=machine_type), "p")
    assert body["scheduling"]["onHostMaintenance"] == ("MIGRATE" if stays else "TERMINATE")
    assert body["disks"][0]["initializeParams"]["diskType"].endswith(disk)
    assert body["shieldedInstanceConfig"]["enableSecureBoot"] is not arm


@pytest.mark.parametrize("signed", [True, False])
def test_a_baked_machine_has_secure_boot_where_its_image_came_with_its_certificate(*, signed: bool) -> None:
    body = machine_body(machine(machine_type="e2-small", baked=True, **({"secure_boot": True} if signed else {})), "p")
    assert body["shieldedInstanceConfig"]["enableSecureBoot"] is signed


def test_a_hyperdisk_is_asked_for_with_the_speed_that_costs_nothing_beside_its_size() -> None:
    """Left open, Compute Engine chooses one and bills what goes beyond, which no plan holds."""
    asked = machine_body(machine(machine_type="n4-standard-2"), "p")["disks"][0]["initializeParams"]
    assert (asked["provisionedIops"], asked["provisionedThroughput"]) == ("3000", "140")
    assert "provisionedIops" not in machine_body(machine(), "p")["disks"][0]["initializeParams"]


def test_a_machine_without_a_public_address_gets_none() -> None:
    assert "accessConfigs" not in machine_body(machine(public_address=False), "p")["networkInterfaces"][0]


def test_user_data_beyond_the_limit_is_refused_before_the_call() -> None:
    with pytest.raises(CloudError) as raised:
        machine_body(machine(user_data="ä" * (USER_DATA_MAX_BYTES // 2 + 1)), "p")
    assert raised.value.code == "cloud_invalid"


def test_a_request_id_is_the_same_in_every_process_and_another_for_anything_else() -> None:
    """Compute Engine answers a known id with the first request's operation, whatever came with it."""
    same = request_id(machine(), "token")
    assert same == request_id(machine(), "token") == "16e1d23c-02e6-5d2e-ab4c-e0e19adfe211"
    others = {
        request_id(machine(), "token-2"),
        request_id(machine(user_data="other"), "token"),
        request_id(msgspec.structs.replace(machine(), name="cell-2"), "token"),
    }
    assert len(others | {same}) == 4


def test_only_what_a_rule_lets_in_comes_in_and_there_is_no_rule(place: GcpPlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    work.make(Kind.MACHINE)
    kinds = {resource.kind for resource in place.project.resources.values()}
    assert kinds == {"network", "subnetwork", "instance", "disk"}


def test_the_machine_that_was_made_has_no_service_account_and_an_end(place: GcpPlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE, spot=True)
    body = place.project.resources[made.ref.id].body
    assert not body.get("serviceAccounts")
    assert made.attributes["ends_at"] == str(place.own_inputs["ends_at"])
    assert made.attributes["spot"] == "true"


def test_at_its_end_the_cloud_itself_removes_the_machine_and_its_disk(place: GcpPlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    place.pass_time(int(place.own_inputs["ends_at"]) - place.clock.now())
    assert work.connector.observe(made.ref).state is State.DELETING
    place.pass_time(600)
    assert work.connector.observe(made.ref).state is State.GONE
    assert {found.ref.kind for found in work.listed()} == {Kind.NETWORK, Kind.SUBNET}


# Labels and descriptions ---------------------------------------------------------------------------------------------


def test_tags_become_labels_and_labels_tags() -> None:
    tags = {TAG_FABRIC: "f", TAG_KEY: "0" * 32, "grafos:a_b-c": ""}
    its_labels = labels.labels(tags)
    assert its_labels == {"grafos_fabric": "f", "grafos_key": "0" * 32, "grafos_a_b-c": ""}
    assert labels.ours({**its_labels, "team": "blue"}) == tags


def test_a_persons_own_labels_stay_when_ours_change() -> None:
    now = {"team": "blue", "grafos_fabric": "f", "grafos_old": "x"}
    assert labels.retagged(now, {TAG_FABRIC: "g"}) == {"team": "blue", "grafos_fabric": "g"}


def test_the_longest_tags_fit_into_a_description() -> None:
    tags = {f"grafos:{'n' * 20}{number}": "v" * 63 for number in range(10)}
    desired = msgspec.structs.replace(machine(), kind=Kind.NETWORK, tags=tags)
    assert labels.described(labels.description(desired)) == (tags, "us-central1")
    too_many = {f"grafos:{number}": "v" * 63 for number in range(DESCRIPTION_MAX_CHARACTERS // 60)}
    with pytest.raises(CloudError) as raised:
        network_body(msgspec.structs.replace(desired, tags=too_many), "p")
    assert raised.value.code == "cloud_invalid"


@pytest.mark.parametrize("text", ["", "my network", "[1]", "7", '{"grafos:key": 7, "team": "blue"}', "{"])
def test_somebody_elses_description_bears_no_tags_of_ours(text: str) -> None:
    assert labels.described(text) == ({}, "")


def test_a_network_belongs_to_the_region_that_its_description_names(work: Work) -> None:
    """Networks are global: those of another region's cells are neither listed nor torn down with this one's."""
    made = work.make(Kind.NETWORK)
    assert made.ref.region == work.place.region
    assert [found.ref.id for found in work.listed()] == [made.ref.id]
    assert work.listed("europe-west4") == []
    assert [found.ref.id for found in work.listed_everywhere()] == [made.ref.id]


def test_new_tags_reach_the_disk_too_and_a_label_of_somebody_else_stays(place: GcpPlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    work.settle()
    resources = place.project.resources
    disk = next(found for found in work.listed() if found.ref.kind is Kind.DISK)
    resources[disk.ref.id].body["labels"]["team"] = "blue"
    desired = work.desired(Kind.MACHINE)
    desired = msgspec.structs.replace(desired, tags={**desired.tags, TAG_EXPIRES: "1900009999"})
    before = len(place.changes())
    work.finish(work.connector.begin_update(made.ref, desired))
    assert place.changes()[before:] == ["disks.setLabels", "instances.setLabels"]
    assert dict(work.connector.observe(disk.ref).tags) == dict(desired.tags)
    assert resources[disk.ref.id].body["labels"]["team"] == "blue"
    work.finish(work.connector.begin_update(made.ref, desired))
    assert len(place.changes()) == before + 2  # what bears its labels already gets no call


def test_an_update_that_ended_between_its_two_calls_is_made_up_for(place: GcpPlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    work.settle()
    desired = work.desired(Kind.MACHINE)
    desired = msgspec.structs.replace(desired, tags={**desired.tags, TAG_EXPIRES: "1900009999"})
    rule = FaultRule(Fault(Effect.LOST_REQUEST), provider="gcp", operation="instances.setLabels")
    place.clouds.faults.add(rule)
    with pytest.raises(CloudError) as raised:
        work.connector.begin_update(made.ref, desired)
    assert raised.value.ambiguous
    assert place.changes()[-2:] == ["disks.setLabels", "instances.setLabels"]
    place.pass_time(60)
    again = Work(place)
    again.finish(again.connector.begin_update(made.ref, desired))
    tags = [
        again.connector.observe(found.ref).tags
        for found in again.listed()
        if found.ref.kind in {Kind.MACHINE, Kind.DISK}
    ]
    assert [dict(each) for each in tags] == [dict(desired.tags)] * 2


@pytest.mark.parametrize("kind", [Kind.NETWORK, Kind.SUBNET])
def test_what_has_no_labels_cannot_be_retagged(work: Work, kind: Kind) -> None:
    work.lay_ground(kind)
    made = work.make(kind)
    with pytest.raises(CloudError) as raised:
        work.connector.begin_update(made.ref, work.desired(kind))
    assert raised.value.code == "unsupported"


# Lists ---------------------------------------------------------------------------------------------------------------


def test_what_outlived_its_machine_is_listed_and_can_be_deleted(place: GcpPlace, work: Work) -> None:
    work.lay_ground(Kind.MACHINE)
    made = work.make(Kind.MACHINE)
    project = place.project
    project.resources[made.ref.id].body["disks"][0]["autoDelete"] = False
    work.finish(work.connector.begin_delete(made.ref))
    work.settle()
    (disk,) = (found for found in work.listed() if found.ref.kind is Kind.DISK)
    assert disk.billable
    assert disk.ref.zone == work.zone
    assert work.finish(work.connector.begin_delete(disk.ref)) is None
    assert Kind.DISK not in {found.ref.kind for found in work.listed()}


def test_the_list_looks_into_all_regions_with_one_list_of_each_kind(place: GcpPlace, work: Work) -> None:
    before = len(place.asked())
    assert work.listed_everywhere() == []
    assert place.asked()[before:] == [
        "instances.aggregatedList",
        "disks.aggregatedList",
        "addresses.aggregatedList",
        "images.list",
        "firewalls.list",
        "subnetworks.aggregatedList",
        "networks.list",
        "buckets.list",
    ]


def test_a_list_of_a_region_that_cannot_be_is_refused(work: Work) -> None:
    with pytest.raises(CloudError) as raised:
        list(work.connector.list(Scope(fabric="f", regions=("us-central-1",))))
    assert raised.value.next == "Did you mean 'us-central1'?"


def test_a_description_is_json_that_a_person_can_read() -> None:
    desired = msgspec.structs.replace(machine(), kind=Kind.NETWORK)
    said = json.loads(network_body(desired, "p")["description"])
    assert said == {TAG_FABRIC: "f", TAG_KEY: "0" * 32, "region": "us-central1"}


def test_a_kind_that_google_does_not_have_is_refused() -> None:
    with pytest.raises(CloudError) as raised:
        described(Kind.GATEWAY)
    assert raised.value.code == "cloud_invalid"
