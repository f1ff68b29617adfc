"""Whatever Compute Engine's calls can make is in the emulated world from the first moment to the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disks import make_disk
from gce_here import REGION, ZONE, Gce, GceHere, machine

from grafos_connectors.gcp.tarball import archive_of
from grafos_core.clock import VirtualClock
from grafos_emulators.census import Thing
from grafos_emulators.disk_files import DiskFile
from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultRule
from grafos_emulators.gcp.buckets import Bucket, StoredObject
from grafos_emulators.gcp.compute import Compute

LABELS = {"of": "a-test"}

# By kind: the collection it goes into, and what is asked for.
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "address": (f"regions/{REGION}/addresses", {"labels": LABELS}),
    "disk": (f"zones/{ZONE}/disks", {"sizeGb": "4", "labels": LABELS}),
    "image": (
        "global/images",
        {"architecture": "X86_64", "rawDisk": {"source": "https://storage.googleapis.com/b/o"}, "labels": LABELS},
    ),
    "firewall": ("global/firewalls", {"network": "global/networks/net", "allowed": [{"IPProtocol": "tcp"}]}),
    "instance": (f"zones/{ZONE}/instances", machine("more", labels=LABELS)),
    "network": ("global/networks", {"autoCreateSubnetworks": False, "description": "of a test"}),
    "subnetwork": (
        f"regions/{REGION}/subnetworks",
        {"network": "global/networks/net", "ipCidrRange": "10.8.0.0/24", "description": "of a test"},
    ),
}
TAGS = {kind: LABELS if "labels" in asked else {"description": "of a test"} for kind, (_, asked) in MORE.items()}
TAGS["firewall"] = {}


@pytest.fixture
def gce(tmp_path: Path) -> Iterator[Gce]:
    clock = VirtualClock()
    with GceHere(tmp_path / "emulator", clock=clock, boots=False) as emulator:
        gce = Gce(emulator, clock)
        gce.network()
        emulator.gcp.buckets["b"] = Bucket(REGION, {}, {"o": StoredObject({}, archive(tmp_path))})
        yield gce


def archive(folder: Path) -> DiskFile:
    """A disk as Compute Engine takes it."""
    with make_disk(folder, 4096, ((0, 10),)) as disk:
        packed = archive_of(disk, folder / "disk.tar.gz").path.read_bytes()
    content = DiskFile(len(packed))
    content.write(0, packed)
    return content


def things(gce: Gce) -> list[Thing]:
    """All but the bucket that an image comes from."""
    return [thing for thing in gce.emulator.world() if thing.kind not in {"bucket", "object"}]


def begun(gce: Gce, kind: str) -> tuple[int, dict[str, Any]]:
    collection, asked = MORE[kind]
    return gce("POST", collection, {**asked, "name": "more"})


def states(gce: Gce, kind: str) -> list[str]:
    """The states of what the world has of a kind under this test's name: one, or none."""
    path = f"{MORE[kind][0]}/more"
    return [thing.state for thing in gce.emulator.world() if (thing.kind, thing.id) == (kind, path)]


def breaks(gce: Gce, kind: str, verb: str, effect: Effect) -> None:
    operation = f"{MORE[kind][0].rpartition('/')[2]}.{verb}"
    gce.emulator.faults.add(FaultRule(Fault(effect, ErrorClass.INTERNAL), operation=operation))


def test_every_method_that_makes_something_is_tried_here(gce: Gce) -> None:
    made = {MORE[kind][0].rpartition("/")[2] for kind in MORE}
    methods = Compute(gce.emulator.gcp).method_ids
    assert {method.split(".")[1] for method in methods if method.endswith(".insert")} == made


@pytest.mark.parametrize("kind", sorted(MORE))
def test_a_thing_is_counted_from_its_request_until_its_deletion_is_done(gce: Gce, kind: str) -> None:
    making = begun(gce, kind)
    assert len(states(gce, kind)) == 1, "while it is made"
    assert "error" not in gce.done(making)
    assert [thing.tags for thing in gce.emulator.world() if thing.id.endswith(f"{MORE[kind][0]}/more")] == [TAGS[kind]]
    leaving = gce("DELETE", f"{MORE[kind][0]}/more")
    assert len(states(gce, kind)) == 1, "while it is deleted"
    assert "error" not in gce.done(leaving)
    assert states(gce, kind) == []


@pytest.mark.parametrize("effect", [Effect.OPERATION_ERROR, Effect.SAYS_DONE_AND_IS_NOT])
@pytest.mark.parametrize("kind", sorted(MORE))
def test_a_thing_that_comes_to_nothing_is_counted_until_then(gce: Gce, kind: str, effect: Effect) -> None:
    breaks(gce, kind, "insert", effect)
    making = begun(gce, kind)
    assert len(states(gce, kind)) == 1
    assert ("error" in gce.done(making)) == (effect is Effect.OPERATION_ERROR)
    assert states(gce, kind) == []
    assert "error" not in gce.done(begun(gce, kind)), "its name is free again, and so is all that it had"


@pytest.mark.parametrize("effect", [Effect.OPERATION_ERROR, Effect.SAYS_DONE_AND_IS_NOT])
@pytest.mark.parametrize("kind", sorted(MORE))
def test_a_thing_whose_deletion_came_to_nothing_is_counted_on(gce: Gce, kind: str, effect: Effect) -> None:
    gce.done(begun(gce, kind))
    breaks(gce, kind, "delete", effect)
    leaving = gce("DELETE", f"{MORE[kind][0]}/more")
    assert ("error" in gce.done(leaving)) == (effect is Effect.OPERATION_ERROR)
    assert len(states(gce, kind)) == 1


def test_what_outlives_its_machine_is_counted_and_billed_on(gce: Gce) -> None:
    gce.done(gce.launch(disks=[{**machine("vm")["disks"][0], "autoDelete": False}]))
    gce.done(gce("DELETE", f"zones/{ZONE}/instances/vm"))
    left = {thing.kind: thing.billable for thing in things(gce)}
    assert left == {"disk": True, "network": False, "subnetwork": False}


def test_a_machine_with_two_disks_of_one_name_is_refused_and_leaves_nothing(gce: Gce) -> None:
    first = machine("vm")["disks"][0]
    second = {"autoDelete": True, "initializeParams": {"diskName": "vm", "diskSizeGb": "4"}}
    assert gce.launch(disks=[first, second])[0] == 400
    assert sorted(thing.kind for thing in things(gce)) == ["network", "subnetwork"]


def test_an_address_is_given_back_when_its_machine_is_gone(gce: Gce) -> None:
    network = gce.emulator.gcp.addresses
    gce.done(gce.launch())
    assert network.taken_count == 1
    gce.done(gce("DELETE", f"zones/{ZONE}/instances/vm"))
    assert network.taken_count == 0
