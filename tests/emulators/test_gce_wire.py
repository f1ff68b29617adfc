"""The emulated Compute Engine over plain HTTP, on a clock that the test steps."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gce_here import PROJECT, REGION, ZONE, Gce, GceHere, machine

from grafos_core.clock import VirtualClock
from grafos_emulators.gcp.listing import page_of


@pytest.fixture
def gce(tmp_path: Path) -> Iterator[Gce]:
    clock = VirtualClock()
    with GceHere(tmp_path / "emulator", clock=clock, boots=False) as emulator:
        yield Gce(emulator, clock)


# Operations


def test_an_operation_is_pending_then_running_then_done(gce: Gce) -> None:
    begun = gce("POST", "global/networks", {"name": "net", "autoCreateSubnetworks": False})
    assert begun[1]["status"] == "PENDING"
    gce.clock.advance(0.2)
    assert gce.operation(begun)["status"] == "RUNNING"
    assert gce.done(begun)["endTime"]


def test_a_network_is_there_at_once_and_ready_when_its_operation_is_done(gce: Gce) -> None:
    begun = gce("POST", "global/networks", {"name": "net", "autoCreateSubnetworks": False})
    assert gce("GET", "global/networks/net")[0] == 200
    subnet = {"name": "sub", "network": "global/networks/net", "ipCidrRange": "10.7.0.0/24"}
    assert gce.reason("POST", f"regions/{REGION}/subnetworks", subnet) == (400, "resourceNotReady")
    gce.done(begun)
    assert "error" not in gce.done(gce("POST", f"regions/{REGION}/subnetworks", subnet))
    shown = gce("GET", "global/networks/net")[1]["subnetworks"]
    assert [each.rpartition("/")[2] for each in shown] == ["sub"]


def test_a_request_id_is_answered_with_the_operation_that_it_began_whatever_is_asked_again(gce: Gce) -> None:
    token = str(uuid.uuid4())
    first = gce("POST", "global/networks", {"name": "one", "autoCreateSubnetworks": False}, requestId=token)[1]
    other = gce("POST", "global/networks", {"name": "two", "autoCreateSubnetworks": False}, requestId=token)[1]
    assert first["name"] == other["name"]
    assert first["clientOperationId"] == token
    assert gce("GET", "global/networks/two")[0] == 404


@pytest.mark.parametrize("token", ["once", "00000000-0000-0000-0000-000000000000"])
def test_a_request_id_is_a_uuid_and_not_zero(gce: Gce, token: str) -> None:
    body = {"name": "net", "autoCreateSubnetworks": False}
    assert gce.reason("POST", "global/networks", body, requestId=token) == (400, "invalid")


def test_a_name_is_taken_once(gce: Gce) -> None:
    gce.network()
    body = {"name": "net", "autoCreateSubnetworks": False}
    assert gce.reason("POST", "global/networks", body) == (409, "alreadyExists")
    assert gce.reason("DELETE", "global/networks/other") == (404, "notFound")


def test_a_network_in_use_is_refused_by_its_operation_and_a_subnetwork_by_the_request(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch())
    assert gce.reason("DELETE", f"regions/{REGION}/subnetworks/net") == (400, "resourceInUseByAnotherResource")
    failed = gce.done(gce("DELETE", "global/networks/net"))
    assert failed["error"]["errors"][0]["code"] == "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"
    assert failed["httpErrorStatusCode"] == 400
    gce.done(gce("DELETE", f"zones/{ZONE}/instances/vm"))
    gce.done(gce("DELETE", f"regions/{REGION}/subnetworks/net"))
    assert "error" not in gce.done(gce("DELETE", "global/networks/net"))
    assert gce("GET", "global/networks/net")[0] == 404


def test_what_is_being_deleted_is_there_until_the_end_and_cannot_be_used(gce: Gce) -> None:
    gce.network()
    begun = gce("DELETE", f"regions/{REGION}/subnetworks/net")
    assert gce("GET", f"regions/{REGION}/subnetworks/net")[0] == 200
    assert gce.reason("DELETE", f"regions/{REGION}/subnetworks/net") == (400, "resourceNotReady")
    assert gce.launch()[0] == 400
    gce.done(begun)
    assert gce("GET", f"regions/{REGION}/subnetworks/net")[0] == 404


def test_waiting_ends_when_the_operation_is_done(gce: Gce) -> None:
    begun = gce("POST", "global/networks", {"name": "net", "autoCreateSubnetworks": False})
    gce.done(begun)
    status, waited = gce("POST", f"global/operations/{begun[1]['name']}/wait")
    assert (status, waited["status"]) == (200, "DONE")
    by_number = gce("GET", f"global/operations/{begun[1]['id']}")[1]
    assert by_number["name"] == begun[1]["name"]


# What is checked of a request


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"name": "net", "autoCreateSubnetworks": False, "lables": {}}, "invalid"),
        ({"name": "net", "autoCreateSubnetworks": "no"}, "invalid"),
        ({"name": "Net", "autoCreateSubnetworks": False}, "invalid"),
        ({"autoCreateSubnetworks": False}, "required"),
        ({"name": "net", "autoCreateSubnetworks": False, "mtu": "many"}, "invalid"),
        ({"name": "net", "routingConfig": {"routingMode": "LOCAL"}, "autoCreateSubnetworks": False}, "invalid"),
        ({"name": "net"}, "invalid"),
    ],
)
def test_a_body_that_the_discovery_document_does_not_allow_is_refused(
    gce: Gce, body: dict[str, Any], reason: str
) -> None:
    assert gce.reason("POST", "global/networks", body) == (400, reason)
    assert gce("GET", "global/networks")[1].get("items") is None


def test_a_refusal_names_the_field(gce: Gce) -> None:
    body = machine("vm", scheduling={"provisioningModel": "CHEAP"})
    assert (
        "resource.scheduling.provisioningModel" in gce("POST", f"zones/{ZONE}/instances", body)[1]["error"]["message"]
    )


def test_an_answer_of_ours_that_breaks_the_document_is_never_sent(gce: Gce) -> None:
    gce.network()
    gce.emulator.gcp.resources["global/networks/net"].body["id"] = 7
    status, body = gce("GET", "global/networks/net")
    assert (status, body["error"]["errors"][0]["reason"]) == (500, "internalError")
    assert "Network.id" in body["error"]["message"]


def test_what_only_the_cloud_may_set_is_ignored(gce: Gce) -> None:
    body = {"name": "net", "autoCreateSubnetworks": False, "id": "7", "selfLink": "elsewhere"}
    gce.done(gce("POST", "global/networks", body))
    assert gce("GET", "global/networks/net")[1]["id"] != "7"


def test_an_unknown_parameter_an_unknown_path_and_a_method_that_is_not_imitated_are_told_apart(gce: Gce) -> None:
    assert gce.reason("GET", "global/networks", colour="red") == (400, "invalid")
    assert gce.reason("GET", "global/nonsense/x/y") == (404, "notFound")
    assert gce.reason("GET", "global/backendServices") == (501, "notImplemented")


def test_another_project_is_not_the_callers(gce: Gce) -> None:
    status, body = gce.raw("GET", "/compute/v1/projects/somebody-else/global/networks")
    assert (status, body["error"]["errors"][0]["reason"]) == (403, "forbidden")


@pytest.mark.parametrize("header", ["Bearer ya29.real", "Basic Zm9v"])
def test_a_credential_is_refused_whatever_is_asked(gce: Gce, header: str) -> None:
    for path in (
        f"/compute/v1/projects/{PROJECT}/global/networks",
        "/gcp/cloudbilling/v1/services/6F81-5844-456A/skus",
    ):
        status, body = gce.raw("GET", path, authorization=header)
        assert (status, body["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_nobody_can_change_a_networks_description(gce: Gce) -> None:
    gce.network()
    assert gce.reason("PATCH", "global/networks/net", {"description": "new"}) == (400, "invalid")
    routing = {"routingConfig": {"routingMode": "GLOBAL"}}
    assert "error" not in gce.done(gce("PATCH", "global/networks/net", routing))
    assert gce("GET", "global/networks/net")[1]["routingConfig"] == {"routingMode": "GLOBAL"}
    subnet = gce("GET", f"regions/{REGION}/subnetworks/net")[1]
    path = f"regions/{REGION}/subnetworks/net"
    assert gce.reason("PATCH", path, {"privateIpGoogleAccess": True}) == (412, "conditionNotMet")
    change = {"fingerprint": subnet["fingerprint"], "description": "new"}
    assert gce.reason("PATCH", path, change) == (400, "invalid")


# Instances and their disks


def test_an_instance_brings_a_labelled_disk_that_goes_with_it(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch())
    disk = gce("GET", f"zones/{ZONE}/disks/vm")[1]
    assert (disk["labels"], disk["sizeGb"], disk["status"]) == ({"a": "b"}, "10", "READY")
    assert disk["users"] == [gce.instance()["selfLink"]]
    assert gce.reason("DELETE", f"zones/{ZONE}/disks/vm") == (400, "resourceInUseByAnotherResource")
    gce.done(gce("DELETE", f"zones/{ZONE}/instances/vm"))
    assert gce("GET", f"zones/{ZONE}/instances/vm")[0] == 404
    assert gce("GET", f"zones/{ZONE}/disks/vm")[0] == 404


def test_a_disk_without_auto_delete_stays_behind(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch(disk={"autoDelete": False}))
    gce.done(gce("DELETE", f"zones/{ZONE}/instances/vm"))
    disk = gce("GET", f"zones/{ZONE}/disks/vm")[1]
    assert "users" not in disk
    assert gce.reason("POST", f"zones/{ZONE}/instances", machine("vm")) == (409, "alreadyExists")
    gce.done(gce("DELETE", f"zones/{ZONE}/disks/vm"))
    assert gce("GET", f"zones/{ZONE}/disks/vm")[0] == 404


def test_a_stopped_instance_keeps_its_disk_and_loses_its_address(gce: Gce) -> None:
    gce.network()
    interface = {"subnetwork": f"regions/{REGION}/subnetworks/net", "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}
    gce.done(gce.launch(networkInterfaces=[interface]))
    assert gce.instance()["networkInterfaces"][0]["accessConfigs"][0]["natIP"].startswith("127.")
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/stop"))
    assert gce.instance()["status"] == "TERMINATED"
    assert "natIP" not in gce.instance()["networkInterfaces"][0]["accessConfigs"][0]
    assert gce("GET", f"zones/{ZONE}/disks/vm")[0] == 200
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/start"))
    assert gce.instance()["status"] == "RUNNING"


@pytest.mark.parametrize(
    "changes",
    [
        {"machineType": f"zones/{ZONE}/machineTypes/z9-huge"},
        {"machineType": "zones/europe-west1-b/machineTypes/e2-medium"},
        {"machineType": f"zones/{ZONE}/machineTypes/t2a-standard-1"},  # an x86 image
        {"machineType": f"zones/{ZONE}/machineTypes/g2-standard-4", "scheduling": {"onHostMaintenance": "MIGRATE"}},
        {"disks": []},
        {"disk": {"initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-99"}}},
        {"networkInterfaces": [{"network": "global/networks/net"}]},
        {"networkInterfaces": [{"subnetwork": f"regions/{REGION}/subnetworks/other"}]},
        {"networkInterfaces": []},
        {"labels": {"Upper": "x"}},
        {"metadata": {"items": [{"key": "startup-script", "value": "x" * (256 * 1024 + 1)}]}},
        {"metadata": {"items": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}},
        {"scheduling": {"instanceTerminationAction": "DELETE"}},
        {"scheduling": {"terminationTime": "2027-01-15T08:00:10Z"}},
        {"scheduling": {"terminationTime": "tomorrow"}},
        {"scheduling": {"provisioningModel": "SPOT", "automaticRestart": True}},
    ],
)
def test_an_instance_that_cannot_be_is_refused_and_leaves_nothing(gce: Gce, changes: dict[str, Any]) -> None:
    gce.network()
    assert gce.reason("POST", f"zones/{ZONE}/instances", machine("vm", **changes)) == (400, "invalid")
    assert gce("GET", f"zones/{ZONE}/instances/vm")[0] == 404
    assert gce("GET", f"zones/{ZONE}/disks/vm")[0] == 404


def test_labels_change_under_their_fingerprint(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch(labels={"one": "1"}))
    path = f"zones/{ZONE}/instances/vm/setLabels"
    assert gce.reason("POST", path, {"labels": {"two": "2"}, "labelFingerprint": "AAAA"}) == (412, "conditionNotMet")
    current = gce.instance()["labelFingerprint"]
    gce.done(gce("POST", path, {"labels": {"two": "2"}, "labelFingerprint": current}))
    assert gce.instance()["labels"] == {"two": "2"}
    assert gce.instance()["labelFingerprint"] != current
    disk = gce("GET", f"zones/{ZONE}/disks/vm")[1]
    new = {"labels": {"c": "d"}, "labelFingerprint": disk["labelFingerprint"]}
    gce.done(gce("POST", f"zones/{ZONE}/disks/vm/setLabels", new))
    assert gce("GET", f"zones/{ZONE}/disks/vm")[1]["labels"] == {"c": "d"}


def test_a_machine_may_be_deleted_before_it_runs(gce: Gce) -> None:
    gce.network()
    begun = gce.launch()
    deleted = gce("DELETE", f"zones/{ZONE}/instances/vm")
    assert gce.reason("DELETE", f"zones/{ZONE}/instances/vm") == (400, "resourceNotReady")
    gce.done(deleted)
    assert gce.operation(begun)["status"] == "DONE"
    assert gce("GET", f"zones/{ZONE}/disks/vm")[0] == 404


def test_a_machine_stopped_before_it_runs_leaves_no_operation_open(gce: Gce) -> None:
    gce.network()
    making = gce.launch()
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/stop"))
    assert gce.operation(making)["status"] == "DONE"
    assert gce.instance()["status"] == "TERMINATED"


def test_a_machine_that_is_just_stopping_cannot_be_started(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch())
    stopping = gce("POST", f"zones/{ZONE}/instances/vm/stop")
    assert gce.reason("POST", f"zones/{ZONE}/instances/vm/start") == (400, "resourceNotReady")
    gce.done(stopping)
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/start"))
    assert gce.instance()["status"] == "RUNNING"


def test_a_field_that_nothing_here_would_heed_is_refused(gce: Gce) -> None:
    gce.network()
    body = machine("vm", guestAccelerators=[{"acceleratorCount": 1}])
    assert gce.reason("POST", f"zones/{ZONE}/instances", body) == (501, "notImplemented")
    body = {"name": "sub", "network": "global/networks/net", "ipCidrRange": "10.8.0.0/24", "purpose": "PRIVATE_NAT"}
    assert gce.reason("POST", f"regions/{REGION}/subnetworks", body) == (501, "notImplemented")
    assert gce("POST", f"regions/{REGION}/subnetworks", {**body, "purpose": "PRIVATE"})[0] == 200


# Time limits and Spot


def _in_seconds(gce: Gce, seconds: float) -> dict[str, str]:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(gce.clock.now() + seconds, UTC)
    return {"terminationTime": moment.isoformat(), "instanceTerminationAction": "DELETE"}


def test_the_cloud_deletes_a_machine_and_its_disk_at_its_termination_time(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch(scheduling=_in_seconds(gce, 600)))
    assert gce.instance()["resourceStatus"]["scheduling"]["terminationTimestamp"]
    gce.clock.advance(597)
    assert gce.instance()["status"] == "RUNNING"
    gce.clock.advance(2)
    gce.instance()
    gce.clock.advance(1)
    assert gce("GET", f"zones/{ZONE}/instances/vm")[0] == 404
    assert gce("GET", f"zones/{ZONE}/disks/vm")[0] == 404
    ended = [each for each in gce("GET", f"zones/{ZONE}/operations")[1]["items"] if each["user"] == "system"]
    assert [each["operationType"] for each in ended] == ["delete"]


def test_a_stopped_machine_has_no_limit_any_more(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch(scheduling=_in_seconds(gce, 60)))
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/stop"))
    assert "resourceStatus" not in gce.instance()
    gce.clock.advance(120)
    assert gce.instance()["status"] == "TERMINATED"
    assert gce.reason("POST", f"zones/{ZONE}/instances/vm/start") == (400, "invalid")


def test_a_longest_run_time_counts_from_each_start_and_stops_by_default(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch(scheduling={"maxRunDuration": {"seconds": "60"}}))
    gce.clock.advance(40)
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/stop"))
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/start"))
    gce.clock.advance(40)
    assert gce.instance()["status"] == "RUNNING"
    gce.clock.advance(20)
    gce.instance()
    gce.clock.advance(1)
    assert gce.instance()["status"] == "TERMINATED"


def test_a_running_machine_keeps_its_scheduling(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch(scheduling=_in_seconds(gce, 600)))
    path = f"zones/{ZONE}/instances/vm/setScheduling"
    assert gce.reason("POST", path, _in_seconds(gce, 6000)) == (400, "invalid")
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/stop"))
    gce.done(gce("POST", path, _in_seconds(gce, 6000)))
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/start"))
    gce.clock.advance(3000)
    assert gce.instance()["status"] == "RUNNING"


# Lists


def test_an_aggregated_list_names_every_scope_and_filters_by_label(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch("one", labels={"fabric": "f1", "cell": "a"}))
    gce.done(gce.launch("two", labels={"fabric": "f2", "cell": "a"}))
    gce.clock.advance(60)
    for wanted, names in (
        ("labels.fabric=f1", ["one"]),
        ("labels.cell:*", ["one", "two"]),
        ("labels.fabric:* AND NOT name=one", ["two"]),
        ("(labels.fabric=f1) OR (labels.fabric=f2)", ["one", "two"]),
        ('labels.fabric = "f2" status=RUNNING', ["two"]),
        ("name eq o.*", ["one"]),
        ("labels.fabric=f3", []),
    ):
        items = gce("GET", "aggregated/instances", filter=wanted)[1]["items"]
        found = [each["name"] for each in items[f"zones/{ZONE}"].get("instances", [])]
        assert found == names, wanted
        assert items["zones/europe-west1-b"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
    assert gce.reason("GET", "aggregated/instances", filter="labels.fabric==(") == (400, "invalid")


def test_a_list_comes_in_pages(gce: Gce) -> None:
    for name in ("a", "b", "c"):
        gce.done(gce("POST", f"zones/{ZONE}/disks", {"name": name, "sizeGb": "10"}))
    gce.clock.advance(60)
    first = gce("GET", "aggregated/disks", maxResults="2")[1]
    second = gce("GET", "aggregated/disks", maxResults="2", pageToken=first["nextPageToken"])[1]
    pages = [page["items"][f"zones/{ZONE}"]["disks"] for page in (first, second)]
    assert [[each["name"] for each in page] for page in pages] == [["a", "b"], ["c"]]
    assert "nextPageToken" not in second
    assert gce.reason("GET", f"zones/{ZONE}/disks", pageToken="*") == (400, "invalid")


def test_a_page_is_made_of_what_it_shows_and_of_no_more() -> None:
    """With ten thousand things of others, every page would take as long as all of them."""
    looked: list[int] = []

    def view(number: int) -> dict[str, Any]:
        looked.append(number)
        return {"name": f"n{number:03}"}

    entries = [(f"global/networks/n{number:03}", partial(view, number)) for number in range(100)]
    page = page_of({"maxResults": "10"}, entries)
    assert [body["name"] for _, body in page.views] == [f"n{number:03}" for number in range(10)]
    after = page_of({"maxResults": "10", "pageToken": page.next_token}, entries)
    assert after.views[0][1]["name"] == "n010"
    assert len(looked) <= 22


def test_a_list_without_anything_has_no_items(gce: Gce) -> None:
    assert "items" not in gce("GET", "global/firewalls")[1]


def test_what_google_offers_can_be_read(gce: Gce) -> None:
    zones = gce("GET", "zones")[1]["items"]
    assert ZONE in [each["name"] for each in zones]
    types = gce("GET", "aggregated/machineTypes")[1]["items"][f"zones/{ZONE}"]["machineTypes"]
    by_name = {each["name"]: each for each in types}
    assert by_name["g2-standard-4"]["accelerators"] == [
        {"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}
    ]
    assert by_name["c4a-standard-1"]["architecture"] == "ARM64"
    image = gce.raw("GET", "/compute/v1/projects/debian-cloud/global/images/family/debian-13-arm64")[1]
    assert (image["architecture"], image["status"]) == ("ARM64", "READY")
    by_its_name = gce.raw("GET", f"/compute/v1/projects/debian-cloud/global/images/{image['name']}")[1]
    assert by_its_name["id"] == image["id"]
    assert gce("GET", "")[0] == 404
    assert gce.raw("GET", f"/compute/v1/projects/{PROJECT}")[1]["name"] == PROJECT


def test_usage_counts_what_exists(gce: Gce) -> None:
    gce.network()
    gce.done(gce.launch())

    def used(metric: str) -> float:
        quotas = gce("GET", f"regions/{REGION}")[1]["quotas"]
        return next(float(each["usage"]) for each in quotas if each["metric"] == metric)

    assert (used("CPUS"), used("INSTANCES"), used("DISKS_TOTAL_GB")) == (2, 1, 10)
    gce.done(gce("POST", f"zones/{ZONE}/instances/vm/stop"))
    assert (used("CPUS"), used("INSTANCES"), used("DISKS_TOTAL_GB")) == (0, 1, 10)
