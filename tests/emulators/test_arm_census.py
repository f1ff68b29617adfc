"""Whatever ARM's calls can make is in the emulated world from the first moment to the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arm_here import COMPUTE, GROUP, MACHINE, NETWORK, SCHEDULE, ArmHere, address, interface, machine, network, schedule

from grafos_connectors.azure.images import footer, vhd_bytes
from grafos_connectors.uploads import MIB
from grafos_core.clock import VirtualClock
from grafos_emulators.azure.census import KINDS
from grafos_emulators.disk_files import DiskFile
from grafos_emulators.faults import Effect, ErrorClass

TAGS = {"of": "a test"}
DISK = {
    "location": "eastus",
    "sku": {"name": "Standard_LRS"},
    "properties": {"creationData": {"createOption": "Empty"}, "diskSizeGB": 4},
}
UPLOAD = {
    "location": "eastus",
    "properties": {"creationData": {"createOption": "Upload", "uploadSizeBytes": vhd_bytes(MIB)}},
}
IDENTIFIER = {"publisher": "p", "offer": "o", "sku": "s"}
FAMILY = {
    "location": "eastus",
    "properties": {"osType": "Linux", "osState": "Specialized", "identifier": IDENTIFIER},
}
VERSION = {
    "location": "eastus",
    "properties": {"storageProfile": {"osDiskImage": {"source": {"id": f"{COMPUTE}/disks/full"}}}},
}
RULE = {"protocol": "Tcp", "access": "Allow", "direction": "Inbound", "priority": 100, "sourceAddressPrefix": "*"}
RULE |= {"destinationAddressPrefix": "*", "sourcePortRange": "*", "destinationPortRange": "22"}

# By kind: where one more of it goes, beside what ``laid`` has, and what is asked for.
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "disk": (f"{COMPUTE}/disks/more", DISK),
    "gallery": (f"{COMPUTE}/galleries/more", {"location": "eastus"}),
    "galleryImage": (f"{COMPUTE}/galleries/g/images/more", FAMILY),
    "galleryImageVersion": (f"{COMPUTE}/galleries/g/images/i/versions/1.0.0", VERSION),
    "networkInterface": (f"{NETWORK}/networkInterfaces/more", interface()),
    "networkSecurityGroup": (f"{NETWORK}/networkSecurityGroups/more", {"location": "eastus"}),
    "publicIPAddress": (f"{NETWORK}/publicIPAddresses/more", address()),
    "schedule": (SCHEDULE, schedule("0900")),
    "securityRule": (f"{NETWORK}/networkSecurityGroups/f/securityRules/more", {"properties": RULE}),
    "subnet": (f"{NETWORK}/virtualNetworks/v/subnets/more", {"properties": {"addressPrefix": "10.0.2.0/24"}}),
    "virtualMachine": (f"{COMPUTE}/virtualMachines/more", machine()),
    "virtualNetwork": (f"{NETWORK}/virtualNetworks/more", network()),
}
COLLECTIONS = {kind: f"{path.split('/')[-2]}.createOrUpdate" for kind, (path, _) in MORE.items()}
UNTAGGED = {"securityRule", "subnet"}  # parts of others
AT_ONCE = {"schedule"}  # no operation of their own


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmHere]:
    with ArmHere(tmp_path / "state", clock=VirtualClock()) as here:
        here.make_network()
        yield here


def more(arm: ArmHere, kind: str) -> tuple[str, dict[str, Any]]:
    """Where one more goes and its request, with all that it needs made before."""
    path, asked = MORE[kind]
    if kind == "schedule":
        arm.make(MACHINE, machine())
    if kind.startswith("galleryImage"):
        arm.make(f"{COMPUTE}/galleries/g", {"location": "eastus"})
    if kind == "galleryImageVersion":
        arm.make(f"{COMPUTE}/galleries/g/images/i", FAMILY)
        make_full_disk(arm)
    if kind == "networkInterface":
        asked = interface()
        del asked["properties"]["ipConfigurations"][0]["properties"]["publicIPAddress"]
    return path, asked if kind in UNTAGGED else {**asked, "tags": TAGS}


def make_full_disk(arm: ArmHere) -> None:
    """One that was filled with a megabyte of zeros."""
    arm.make(f"{COMPUTE}/disks/full", UPLOAD)
    full = arm.account.store.get(f"{COMPUTE}/disks/full")
    assert full is not None
    pages = DiskFile(vhd_bytes(MIB))
    pages.write(MIB, footer("0" * 64, MIB))
    full.runtime |= {"pages": pages, "whole": True}


def states(arm: ArmHere, kind: str, path: str) -> list[str]:
    """The states of what the world has of a kind at a path: one, or none."""
    return [thing.state for thing in arm.things() if (thing.kind, thing.id) == (kind, path)]


def test_the_world_knows_every_kind_that_can_be_made() -> None:
    assert set(KINDS.values()) == {*MORE, "resourceGroup"}


@pytest.mark.parametrize("kind", sorted(MORE))
def test_a_thing_is_counted_from_its_request_until_its_deletion_is_done(arm: ArmHere, kind: str) -> None:
    path, asked = more(arm, kind)
    making = arm.ask("PUT", path, asked)
    assert making.status < 300, making
    assert len(states(arm, kind, path)) == 1, "while it is made"
    arm.settle(making)
    [made] = [thing for thing in arm.things() if (thing.kind, thing.id) == (kind, path)]
    assert made.tags == ({} if kind in UNTAGGED else TAGS)
    leaving = arm.ask("DELETE", path)
    assert leaving.status == 202
    assert len(states(arm, kind, path)) == (0 if kind in AT_ONCE else 1), "while it is deleted"
    arm.settle(leaving)
    assert states(arm, kind, path) == []


@pytest.mark.parametrize("kind", sorted(MORE))
def test_a_thing_whose_making_failed_is_counted_and_can_be_tried_again_or_deleted(arm: ArmHere, kind: str) -> None:
    path, asked = more(arm, kind)
    for last in (False, True):
        arm.break_next(COLLECTIONS[kind], Effect.OPERATION_ERROR, ErrorClass.INTERNAL)
        assert arm.settle(arm.ask("PUT", path, asked))["status"] == "Failed"
        assert len(states(arm, kind, path)) == 1
        if last:
            arm.settle(arm.ask("DELETE", path))
            assert states(arm, kind, path) == []
        else:
            arm.make(path, asked)
            arm.settle(arm.ask("DELETE", path))
            if kind == "virtualMachine":  # it took its interface and that one's address along
                arm.until(lambda: "networkInterface" not in arm.kinds() and "publicIPAddress" not in arm.kinds())
                arm.make(f"{NETWORK}/publicIPAddresses/ip", address())
                arm.make(f"{NETWORK}/networkInterfaces/nic", interface())


@pytest.mark.parametrize("kind", sorted(MORE))
def test_a_thing_whose_deletion_failed_or_only_says_done_is_counted_on(arm: ArmHere, kind: str) -> None:
    path, asked = more(arm, kind)
    arm.make(path, asked)
    deletion = COLLECTIONS[kind].replace("createOrUpdate", "delete")
    for effect, said in ((Effect.OPERATION_ERROR, "Failed"), (Effect.SAYS_DONE_AND_IS_NOT, "Succeeded")):
        arm.break_next(deletion, effect)
        assert arm.settle(arm.ask("DELETE", path))["status"] == said
        assert len(states(arm, kind, path)) == 1


def test_a_group_is_counted_until_the_last_thing_in_it_is_gone(arm: ArmHere) -> None:
    arm.make(MACHINE, machine())
    before = arm.kinds()
    assert "resourceGroup" in before
    assert arm.ask("DELETE", GROUP).status == 202
    assert arm.kinds() == before
    arm.until(lambda: "virtualMachine" not in arm.kinds())
    assert "resourceGroup" in arm.kinds()
    arm.until(lambda: arm.things() == ())


def test_a_group_whose_deletion_failed_is_counted_on(arm: ArmHere) -> None:
    before, began = arm.kinds(), arm.clock.now()
    arm.break_next("resourceGroups.delete", Effect.OPERATION_ERROR)
    assert arm.ask("DELETE", GROUP).status == 202
    arm.until(lambda: arm.clock.now() > began + 1)
    assert arm.kinds() == before


def test_a_machines_disk_never_takes_the_place_of_another(arm: ArmHere) -> None:
    """It would be an orphan that nobody sees."""
    arm.make(f"{COMPUTE}/disks/vm-disk", DISK | {"tags": TAGS})
    refused = arm.ask("PUT", MACHINE, machine())
    assert (refused.status, refused.code) == (409, "ConflictingUserInput")
    assert "virtualMachine" not in arm.kinds()
    [disk] = [thing for thing in arm.things() if thing.kind == "disk"]
    assert disk.tags == TAGS


def test_what_outlives_its_machine_is_counted_and_billed_on(arm: ArmHere) -> None:
    asked = machine()
    asked["properties"]["storageProfile"]["osDisk"]["deleteOption"] = "Detach"
    asked["properties"]["networkProfile"]["networkInterfaces"][0]["properties"]["deleteOption"] = "Detach"
    arm.make(MACHINE, asked)
    arm.settle(arm.ask("DELETE", MACHINE))
    left = {thing.kind: thing.billable for thing in arm.things()}
    assert "virtualMachine" not in left
    assert (left["disk"], left["publicIPAddress"], left["networkInterface"]) == (True, True, False)


def test_an_address_is_given_back_once_whatever_becomes_of_its_owner(arm: ArmHere) -> None:
    free = arm.account.network.taken_count
    arm.make(MACHINE, machine())
    arm.settle(arm.ask("DELETE", MACHINE))
    arm.until(lambda: "publicIPAddress" not in arm.kinds())
    assert arm.account.network.taken_count == free - 1, "the one that the network was laid with went with its machine"
