"""What goes wrong in the emulated Google Cloud goes wrong in Compute Engine's own two ways."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gce_here import GceHere

from grafos_core.clock import VirtualClock
from grafos_emulators.capacity import Limit
from grafos_emulators.census import Thing
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_emulators.gate import CloudCall
from grafos_emulators.gcp.calls import ApiCall
from grafos_emulators.gcp.troubles import refusal_for, trouble_for

PROJECT, ZONE, REGION = "grafos-emulated", "us-central1-a", "us-central1"
BELOW = f"/compute/v1/projects/{PROJECT}/"
NETWORK = {"name": "net", "autoCreateSubnetworks": False}


class World:
    """``world("GET", path)`` gives status, JSON and headers."""

    def __init__(self, gcp: GceHere, clock: VirtualClock) -> None:
        self.gcp, self.clock = gcp, clock

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.gcp.endpoint}{BELOW}{path}", data, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310  loopback
                return response.status, json.loads(response.read()), response.headers
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.loads(refusal.read()), refusal.headers

    def befalls(self, effect: Effect, operation: str, **changes: Any) -> None:
        fields = changes.pop("fields", {})
        self.gcp.faults.add(FaultRule(Fault(effect, **changes), operation=operation, fields=fields))

    def done(self, begun: tuple[int, Any, Any]) -> Any:
        assert begun[0] == 200, begun
        self.clock.advance(1)
        operation = self("GET", begun[1]["selfLink"].partition(BELOW)[2])[1]
        assert operation["status"] == "DONE"
        return operation

    def network(self) -> None:
        self.done(self("POST", "global/networks", NETWORK))
        subnet = {"name": "net", "network": "global/networks/net", "ipCidrRange": "10.7.0.0/24"}
        self.done(self("POST", f"regions/{REGION}/subnetworks", subnet))

    def launch(self, **changes: Any) -> tuple[int, Any, Any]:
        image = {"sourceImage": "projects/debian-cloud/global/images/family/debian-13"}
        body = {
            "name": "vm",
            "machineType": f"zones/{ZONE}/machineTypes/e2-medium",
            "disks": [{"boot": True, "autoDelete": True, "initializeParams": image}],
            "networkInterfaces": [{"subnetwork": f"regions/{REGION}/subnetworks/net"}],
            **changes,
        }
        return self("POST", f"zones/{ZONE}/instances", body)

    def status(self) -> str:
        code, body, _ = self("GET", f"zones/{ZONE}/instances/vm")
        return str(body["status"]) if code == 200 else str(code)

    def preempted(self) -> str:
        machine = self("GET", f"zones/{ZONE}/instances/vm")[1]["id"]
        url = f"{self.gcp.endpoint}/imds/{machine}/computeMetadata/v1/instance/preempted"
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})  # noqa: S310  loopback
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return str(response.read().decode())

    def kinds(self) -> list[str]:
        return [thing.kind for thing in self.gcp.world()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = VirtualClock()
    with GceHere(tmp_path / "emulator", clock=clock, boots=False) as gcp:
        yield World(gcp, clock)


@pytest.mark.parametrize(
    ("error", "retry_after_s", "status", "reason"),
    [
        (ErrorClass.CAPACITY, None, 503, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"),
        (ErrorClass.QUOTA, None, 403, "quotaExceeded"),
        (ErrorClass.THROTTLED, None, 403, "rateLimitExceeded"),
        (ErrorClass.THROTTLED, 7.0, 429, "rateLimitExceeded"),
        (ErrorClass.DENIED, None, 403, "forbidden"),
        (ErrorClass.AUTH, None, 401, "authError"),
        (ErrorClass.UNAVAILABLE, None, 503, "backendError"),
        (ErrorClass.INTERNAL, None, 500, "backendError"),
    ],
)
def test_a_refused_call_has_no_effect_and_its_reason(
    world: World, error: ErrorClass, retry_after_s: float | None, status: int, reason: str
) -> None:
    world.befalls(Effect.REFUSE, "networks.insert", error=error, retry_after_s=retry_after_s)
    refused, body, headers = world("POST", "global/networks", NETWORK)
    assert (refused, body["error"]["code"], body["error"]["errors"][0]["reason"]) == (status, status, reason)
    assert headers["Retry-After"] == (None if retry_after_s is None else "7")
    assert world.gcp.world() == ()
    assert [(call.action, call.result) for call in world.gcp.journal()] == [("networks.insert", reason)]
    assert world("POST", "global/networks", NETWORK)[0] == 200


def test_a_zone_without_room_says_so_by_the_operation_and_the_machine_vanishes_with_its_disk(world: World) -> None:
    world.network()
    capacity = world.gcp.capacity
    capacity.fill("gcp", ZONE, "e2-medium")
    capacity.fill("gcp", "us-central1-b")
    begun = world.launch()
    assert world.status() == "PROVISIONING"
    failed = world.done(begun)
    (error,) = failed["error"]["errors"]
    assert error["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    assert failed["httpErrorStatusCode"] == 503
    assert error["errorDetails"][0]["errorInfo"]["metadatas"]["zonesAvailable"] == "us-central1-c,us-central1-f"
    assert world.status() == "404"
    assert world.kinds() == ["network", "subnetwork"]


def test_a_zone_with_room_for_one_takes_one_and_starts_none_beside_it(world: World) -> None:
    world.network()
    assert "error" not in world.done(world.launch())
    world.done(world("POST", f"zones/{ZONE}/instances/vm/stop"))
    world.gcp.capacity.fill("gcp", ZONE, "e2-medium")
    failed = world.done(world("POST", f"zones/{ZONE}/instances/vm/start"))
    assert failed["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    assert world.status() == "TERMINATED"
    world.gcp.capacity.limit(Limit("gcp", ZONE, "e2-medium", 1))
    assert "error" not in world.done(world("POST", f"zones/{ZONE}/instances/vm/start"))
    assert world.status() == "RUNNING"


def test_a_quota_that_a_machine_would_pass_says_so_by_the_operation(world: World) -> None:
    world.network()
    world.gcp.gcp.quota_limits[("CPUS", REGION)] = 1.0
    failed = world.done(world.launch())
    (error,) = failed["error"]["errors"]
    assert (error["code"], failed["httpErrorStatusCode"]) == ("QUOTA_EXCEEDED", 403)
    assert error["errorDetails"][0]["quotaInfo"]["limit"] == 1.0
    assert error["message"] == f"Quota 'CPUS' exceeded.  Limit: 1.0 in region {REGION}."
    assert world.status() == "404"


def test_a_rule_may_fail_an_operation_for_one_machine_type(world: World) -> None:
    world.network()
    rule = {"error": ErrorClass.QUOTA, "fields": {"machine_type": "e2-*"}}
    world.befalls(Effect.OPERATION_ERROR, "instances.insert", **rule)
    assert world.done(world.launch())["error"]["errors"][0]["code"] == "QUOTA_EXCEEDED"
    assert "error" not in world.done(world.launch())


@pytest.mark.parametrize("effect", [Effect.OPERATION_ERROR, Effect.SAYS_DONE_AND_IS_NOT])
def test_a_delete_that_fails_leaves_the_machine(world: World, effect: Effect) -> None:
    world.network()
    world.done(world.launch())
    world.befalls(effect, "instances.delete")
    operation = world.done(world("DELETE", f"zones/{ZONE}/instances/vm"))
    assert ("error" in operation) == (effect is Effect.OPERATION_ERROR)
    assert world.status() == "RUNNING"


def test_what_was_said_to_be_made_and_is_not_leaves_nothing(world: World) -> None:
    world.befalls(Effect.SAYS_DONE_AND_IS_NOT, "networks.insert")
    assert "error" not in world.done(world("POST", "global/networks", NETWORK))
    assert world.gcp.world() == ()


@pytest.mark.parametrize(("action", "comes_to"), [("DELETE", "404"), ("STOP", "TERMINATED")])
def test_a_spot_machine_is_told_before_it_is_taken_back(world: World, action: str, comes_to: str) -> None:
    world.network()
    world.befalls(Effect.SPOT_NOTICE, "instances.insert", after_s=100.0)
    spot = {"provisioningModel": "SPOT", "instanceTerminationAction": action}
    world.done(world.launch(scheduling=spot))
    assert world.preempted() == "FALSE"
    world.clock.advance(100)
    assert world.preempted() == "TRUE"
    (shown,) = world.gcp.gcp.world.states().values()
    assert shown["notice"].startswith("taken back at ")
    assert world.status() == "RUNNING"
    world.clock.advance(30)
    world.status()
    world.clock.advance(1)
    assert world.status() == comes_to
    operations = world("GET", f"zones/{ZONE}/operations")[1]["items"]
    assert "compute.instances.preempted" in [each["operationType"] for each in operations]


def test_a_machine_that_is_no_spot_machine_is_never_taken_back(world: World) -> None:
    world.network()
    world.befalls(Effect.SPOT_NOTICE, "instances.insert", after_s=10.0)
    world.done(world.launch())
    world.clock.advance(1000)
    assert world.status() == "RUNNING"


def test_a_fault_of_a_spot_machine_waits_for_one(world: World) -> None:
    world.befalls(Effect.SPOT_NOTICE, "*")
    world.network()
    world.done(world.launch())
    assert len(world.gcp.faults.rules()) == 1
    world.done(world.launch(name="spot", scheduling={"provisioningModel": "SPOT"}))
    assert world.gcp.faults.rules() == ()


def test_a_machine_may_run_and_then_die(world: World) -> None:
    world.network()
    world.befalls(Effect.LAUNCH_THEN_DIE, "instances.insert", after_s=5.0)
    world.done(world.launch())
    assert world.status() == "RUNNING"
    world.clock.advance(5)
    world.status()
    world.clock.advance(1)
    assert world.status() == "TERMINATED"


def test_a_lost_answer_has_its_effect_and_a_lost_request_has_none(world: World) -> None:
    for effect, things in ((Effect.LOST_REQUEST, 0), (Effect.LOST_ANSWER, 1)):
        world.befalls(effect, "networks.insert")
        with pytest.raises(OSError, match=r"(?i)reset|closed|aborted|pipe"):
            world("POST", "global/networks", NETWORK)
        assert len(world.gcp.world()) == things


def test_lists_lag_and_reading_by_name_does_not(world: World) -> None:
    world.gcp.set({"visible_after_s": 10.0})
    world.network()
    world.done(world.launch())
    assert world.status() == "RUNNING"

    def listed() -> list[str]:
        items = world("GET", "aggregated/instances")[1]["items"]
        return [each["name"] for scope in items.values() for each in scope.get("instances", ())]

    assert listed() == []
    world.clock.advance(10)
    assert listed() == ["vm"]


def test_the_census_counts_what_a_list_does_not_show_and_knows_what_bills(world: World) -> None:
    world.gcp.set({"visible_after_s": 1000.0})
    world.network()
    world.done(world.launch(labels={"grafos_key": "k"}))
    world.done(world("POST", f"regions/{REGION}/addresses", {"name": "ip"}))

    def seen(kind: str) -> Thing:
        return next(thing for thing in world.gcp.world() if thing.kind == kind)

    assert world.kinds() == ["network", "address", "subnetwork", "disk", "instance"]
    machine = seen("instance")
    assert (machine.id, machine.region, machine.state) == (f"zones/{ZONE}/instances/vm", REGION, "RUNNING")
    assert (machine.tags, machine.billable) == ({"grafos_key": "k"}, True)
    world.done(world("POST", f"zones/{ZONE}/instances/vm/stop"))
    assert not seen("instance").billable
    assert [seen(kind).billable for kind in ("disk", "address", "network")] == [True, True, False]


def test_every_trouble_of_every_class_can_be_told(world: World) -> None:
    call = CloudCall("gcp", "compute", "instances.insert", REGION, mutating=True, request_id="1", zone=ZONE)
    for error in ErrorClass:
        assert refusal_for(world.gcp.gcp, call, Fault(Effect.REFUSE, error)).http_status >= 400
        assert trouble_for(world.gcp.gcp, call, Fault(Effect.OPERATION_ERROR, error)).fails
    assert ApiCall.trouble == trouble_for(world.gcp.gcp, call, None)


def test_the_journal_names_call_place_token_and_outcome(world: World) -> None:
    token = "6f3a2c1e-0000-4000-8000-000000000001"
    world("POST", f"global/networks?requestId={token}", NETWORK)
    world("GET", f"zones/{ZONE}/disks/none")
    made, missing = world.gcp.journal()
    assert (made.provider, made.service, made.action, made.token, made.mutating, made.result) == (
        "gcp",
        "compute",
        "networks.insert",
        token,
        True,
        "ok",
    )
    assert (missing.action, missing.region, missing.mutating, missing.result) == (
        "disks.get",
        REGION,
        False,
        "notFound",
    )
