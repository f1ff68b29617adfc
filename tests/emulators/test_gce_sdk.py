"""The emulated Compute Engine asked by Google's own client, with machines that boot."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gce_here import GceHere
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from grafos_core.clock import SystemClock

PROJECT, ZONE, REGION = "grafos-emulated", "us-central1-a", "us-central1"
HOST_FAMILY = {
    "X86_64": ("debian-13", "e2-medium", "pd-balanced"),
    "ARM64": ("debian-13-arm64", "t2a-standard-1", "pd-balanced"),
}
LIMIT_S = 60.0


class Sdk:
    """Clients of Google's library, all sent to the emulator; ``done`` polls as a connector would."""

    def __init__(self, emulator: GceHere) -> None:
        self.emulator = emulator
        arguments: Any = {
            "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
            "client_options": {"api_endpoint": emulator.endpoint},
        }
        self.networks = compute_v1.NetworksClient(**arguments)
        self.subnetworks = compute_v1.SubnetworksClient(**arguments)
        self.instances = compute_v1.InstancesClient(**arguments)
        self.disks = compute_v1.DisksClient(**arguments)
        self.images = compute_v1.ImagesClient(**arguments)
        self.addresses = compute_v1.AddressesClient(**arguments)
        self.firewalls = compute_v1.FirewallsClient(**arguments)
        self.zone_operations = compute_v1.ZoneOperationsClient(**arguments)
        self.region_operations = compute_v1.RegionOperationsClient(**arguments)
        self.global_operations = compute_v1.GlobalOperationsClient(**arguments)

    def done(self, operation: Any) -> Any:
        deadline = time.monotonic() + LIMIT_S
        while operation.status != compute_v1.Operation.Status.DONE:
            assert time.monotonic() < deadline, operation
            name = operation.name
            if operation.zone:
                operation = self.zone_operations.wait(project=PROJECT, zone=ZONE, operation=name)
            elif operation.region:
                operation = self.region_operations.wait(project=PROJECT, region=REGION, operation=name)
            else:
                operation = self.global_operations.wait(project=PROJECT, operation=name)
        return operation

    def network(self) -> None:
        network = compute_v1.Network(name="net", auto_create_subnetworks=False, description='{"key": "k"}')
        self.done(self.networks.insert_unary(project=PROJECT, network_resource=network))
        subnet = compute_v1.Subnetwork(name="net", network="global/networks/net", ip_cidr_range="10.7.0.0/24")
        self.done(self.subnetworks.insert_unary(project=PROJECT, region=REGION, subnetwork_resource=subnet))

    def insert(self, script: str, name: str = "vm", request_id: str = "", **changes: Any) -> Any:
        family, machine_type, disk_type = HOST_FAMILY[self.emulator.architecture]
        disk = compute_v1.AttachedDiskInitializeParams(
            source_image=f"projects/debian-cloud/global/images/family/{family}",
            disk_type=f"zones/{ZONE}/diskTypes/{disk_type}",
            disk_size_gb=10,
            labels={"grafos_key": "k"},
        )
        interface = compute_v1.NetworkInterface(
            subnetwork=f"regions/{REGION}/subnetworks/net",
            access_configs=[compute_v1.AccessConfig(name="external-nat", type_="ONE_TO_ONE_NAT")],
        )
        instance = compute_v1.Instance(
            name=name,
            machine_type=f"zones/{ZONE}/machineTypes/{machine_type}",
            disks=[compute_v1.AttachedDisk(boot=True, auto_delete=True, initialize_params=disk)],
            network_interfaces=[interface],
            labels={"grafos_key": "k"},
            metadata=compute_v1.Metadata(items=[compute_v1.Items(key="startup-script", value=script)]),
            **changes,
        )
        return self.instances.insert_unary(
            compute_v1.InsertInstanceRequest(
                project=PROJECT, zone=ZONE, instance_resource=instance, request_id=request_id or None
            )
        )

    def instance(self, name: str = "vm") -> Any:
        return self.instances.get(project=PROJECT, zone=ZONE, instance=name)

    def console(self, name: str = "vm") -> str:
        output = self.instances.get_serial_port_output(project=PROJECT, zone=ZONE, instance=name)
        return str(output.contents)


@pytest.fixture
def sdk(tmp_path: Path) -> Iterator[Sdk]:
    with GceHere(tmp_path / "emulator", clock=SystemClock(), boots=True) as emulator:
        yield Sdk(emulator)


def test_the_sdk_makes_boots_reads_and_deletes_a_machine(sdk: Sdk, until: Callable[..., Any]) -> None:
    sdk.network()
    token = "6f3a2c1e-0000-4000-8000-000000000001"
    first = sdk.insert("#!/bin/sh\necho hello from the script\n", request_id=token)
    assert sdk.insert("#!/bin/sh\necho hello from the script\n", request_id=token).name == first.name
    with pytest.raises(exceptions.Conflict):
        sdk.insert("#!/bin/sh\n")
    sdk.done(first)
    made = sdk.instance()
    assert (made.status, made.labels) == ("RUNNING", {"grafos_key": "k"})
    until(lambda: "hello from the script" in sdk.console())
    listed = dict(sdk.instances.aggregated_list(project=PROJECT))
    assert [each.name for each in listed[f"zones/{ZONE}"].instances] == ["vm"]
    disks = list(sdk.disks.list(project=PROJECT, zone=ZONE))
    assert [(disk.name, disk.labels) for disk in disks] == [("vm", {"grafos_key": "k"})]
    sdk.done(sdk.instances.delete_unary(project=PROJECT, zone=ZONE, instance="vm"))
    for read in (sdk.instance, lambda: sdk.disks.get(project=PROJECT, zone=ZONE, disk="vm")):
        with pytest.raises(exceptions.NotFound):
            read()
    failed = sdk.done(sdk.networks.delete_unary(project=PROJECT, network="net"))
    assert failed.error.errors[0].code == "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"
    sdk.done(sdk.subnetworks.delete_unary(project=PROJECT, region=REGION, subnetwork="net"))
    assert not sdk.done(sdk.networks.delete_unary(project=PROJECT, network="net")).error.errors


def test_a_guest_that_powers_itself_off_stays_as_a_terminated_instance_with_its_disk(
    sdk: Sdk, until: Callable[..., Any]
) -> None:
    sdk.network()
    sdk.done(sdk.insert("#!/bin/sh\nshutdown -h now\n"))
    until(lambda: sdk.instance().status == "TERMINATED")
    assert sdk.disks.get(project=PROJECT, zone=ZONE, disk="vm").status == "READY"


def test_a_startup_script_runs_at_each_boot(sdk: Sdk, until: Callable[..., Any]) -> None:
    sdk.network()
    sdk.done(sdk.insert("#!/bin/sh\necho booted\n"))
    until(lambda: sdk.console().count("\nbooted\n") == 1)
    sdk.done(sdk.instances.stop_unary(project=PROJECT, zone=ZONE, instance="vm"))
    sdk.done(sdk.instances.start_unary(project=PROJECT, zone=ZONE, instance="vm"))
    until(lambda: sdk.console().count("\nbooted\n") == 2)


def test_a_machine_reads_its_own_metadata(sdk: Sdk, until: Callable[..., Any]) -> None:
    script = """#!/usr/bin/env python3
import os, urllib.request
place = os.environ["GRAFOS_METADATA_ENDPOINT"] + "computeMetadata/v1/instance/name"
request = urllib.request.Request(place, headers={"Metadata-Flavor": "Google"})
print("I am", urllib.request.urlopen(request).read().decode(), flush=True)
"""
    sdk.network()
    sdk.done(sdk.insert(script))
    until(lambda: "I am vm" in sdk.console())


def test_a_serial_port_is_read_on_from_where_it_was_left(sdk: Sdk, until: Callable[..., Any]) -> None:
    sdk.network()
    sdk.done(sdk.insert("#!/bin/sh\necho one\n"))
    until(lambda: "exit code 0" in sdk.console())
    whole = sdk.console()
    request = compute_v1.GetSerialPortOutputInstanceRequest(
        project=PROJECT, zone=ZONE, instance="vm", start=len(whole) - 5
    )
    rest = sdk.instances.get_serial_port_output(request)
    assert (rest.contents, rest.next_) == (whole[-5:], len(whole))


def test_firewall_rules_and_addresses_come_and_go(sdk: Sdk) -> None:
    sdk.network()
    allowed = [compute_v1.Allowed(I_p_protocol="tcp", ports=["443"])]
    rule = compute_v1.Firewall(name="web", network="global/networks/net", allowed=allowed)
    sdk.done(sdk.firewalls.insert_unary(project=PROJECT, firewall_resource=rule))
    assert sdk.firewalls.get(project=PROJECT, firewall="web").source_ranges == ["0.0.0.0/0"]
    sdk.done(sdk.firewalls.delete_unary(project=PROJECT, firewall="web"))
    address = compute_v1.Address(name="own")
    sdk.done(sdk.addresses.insert_unary(project=PROJECT, region=REGION, address_resource=address))
    assert sdk.addresses.get(project=PROJECT, region=REGION, address="own").status == "RESERVED"
    sdk.done(sdk.addresses.delete_unary(project=PROJECT, region=REGION, address="own"))


def test_the_stock_image_is_found_by_its_family(sdk: Sdk) -> None:
    image = sdk.images.get_from_family(project="debian-cloud", family="debian-13")
    assert (image.architecture, image.status) == ("X86_64", "READY")
    assert "python 3." in image.description


# The metadata service, which no client library asks


def _metadata(sdk: Sdk, path: str, **headers: str) -> tuple[int, str]:
    url = f"{sdk.emulator.endpoint}/imds/{sdk.instance().id}/computeMetadata/v1/{path}"
    request = urllib.request.Request(url, headers=headers or {"Metadata-Flavor": "Google"})  # noqa: S310  loopback
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def test_the_metadata_service_tells_what_the_real_one_tells(sdk: Sdk) -> None:
    sdk.network()
    sdk.done(sdk.insert("#!/bin/sh\n"))
    assert _metadata(sdk, "instance/name", X_Other="1")[0] == 403
    assert _metadata(sdk, "instance/name") == (200, "vm")
    assert _metadata(sdk, "instance/zone")[1].endswith(f"/zones/{ZONE}")
    assert _metadata(sdk, "instance/attributes/startup-script") == (200, "#!/bin/sh\n")
    assert _metadata(sdk, "instance/preempted") == (200, "FALSE")
    assert _metadata(sdk, "instance/network-interfaces/0/access-configs/0/external-ip")[1].startswith("127.")
    assert _metadata(sdk, "project/project-id") == (200, PROJECT)
    assert "network-interfaces/\n" in _metadata(sdk, "instance/")[1]
    whole = json.loads(_metadata(sdk, "instance/?recursive=true")[1])
    assert (whole["name"], whole["networkInterfaces"][0]["accessConfigs"][0]["type"]) == ("vm", "ONE_TO_ONE_NAT")
    assert whole["attributes"]["startup-script"] == "#!/bin/sh\n"
    assert _metadata(sdk, "instance/nothing")[0] == 404
    assert _metadata(sdk, "instance/name?wait_for_change=true")[0] == 501
