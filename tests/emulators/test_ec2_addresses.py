"""Elastic addresses: they outlive the machines that they are at, and what comes in at one reaches its machine."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds

SOON_S = 60.0


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def listening_at(address: str) -> Iterator[int]:
    """A machine's program, and its port."""
    with HTTPServer((address, 0), Hello) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def machine(ec2: Any, launch: Any, clock: VirtualClock) -> dict[str, Any]:
    """One that runs."""
    launched: dict[str, Any] = launch()
    clock.advance(SOON_S)
    return described(ec2, launched["InstanceId"])


def described(ec2: Any, instance: str) -> dict[str, Any]:
    [reservation] = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    found: dict[str, Any] = reservation["Instances"][0]
    return found


def of(ec2: Any, allocation: str) -> dict[str, Any]:
    [address] = ec2.describe_addresses(AllocationIds=[allocation])["Addresses"]
    found: dict[str, Any] = address
    return found


def put(ec2: Any, allocation: str, machine: dict[str, Any], **more: Any) -> None:
    ec2.associate_address(AllocationId=allocation, InstanceId=machine["InstanceId"], **more)


def refused(ask: Any, **asked: Any) -> str:
    with pytest.raises(ClientError) as raised:
        ask(**asked)
    return str(raised.value.response["Error"]["Code"])


def test_an_address_is_on_loopback_and_becomes_its_machine_s(ec2: Any, machine: dict[str, Any]) -> None:
    made = ec2.allocate_address(Domain="vpc")
    assert ipaddress.ip_address(made["PublicIp"]).is_loopback
    put(ec2, made["AllocationId"], machine)
    assert described(ec2, machine["InstanceId"])["PublicIpAddress"] == made["PublicIp"]
    assert of(ec2, made["AllocationId"])["InstanceId"] == machine["InstanceId"]
    before = of(ec2, made["AllocationId"])["AssociationId"]
    put(ec2, made["AllocationId"], machine, AllowReassociation=False)  # again, and nothing changes
    assert of(ec2, made["AllocationId"])["AssociationId"] == before


def test_what_comes_in_at_it_reaches_its_machine_at_the_open_ports(ec2: Any, machine: dict[str, Any]) -> None:
    made = ec2.allocate_address(Domain="vpc")
    with listening_at(machine["PrivateIpAddress"]) as port:
        group = machine["SecurityGroups"][0]["GroupId"]
        opened = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[opened])
        put(ec2, made["AllocationId"], machine)
        url = f"http://{made['PublicIp']}:{port}/"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"hello"
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=10)
    ec2.disassociate_address(AssociationId=of(ec2, made["AllocationId"])["AssociationId"])
    socket.create_server((made["PublicIp"], port)).close()  # nobody listens there any more


def test_one_that_a_machine_has_is_not_released_and_outlives_it(
    ec2: Any, machine: dict[str, Any], clock: VirtualClock
) -> None:
    made = ec2.allocate_address(Domain="vpc")
    put(ec2, made["AllocationId"], machine)
    assert refused(ec2.release_address, AllocationId=made["AllocationId"]) == "InvalidIPAddress.InUse"
    ec2.terminate_instances(InstanceIds=[machine["InstanceId"]])
    clock.advance(SOON_S)
    assert not of(ec2, made["AllocationId"])["InstanceId"]
    ec2.release_address(AllocationId=made["AllocationId"])
    gone = refused(ec2.release_address, AllocationId=made["AllocationId"])
    assert gone == "InvalidAllocationID.NotFound"


def test_it_is_taken_from_another_machine_unless_that_is_forbidden(
    ec2: Any, launch: Any, machine: dict[str, Any], clock: VirtualClock
) -> None:
    other = launch()
    made = ec2.allocate_address(Domain="vpc")["AllocationId"]
    asked = {"AllocationId": made, "InstanceId": other["InstanceId"]}
    assert refused(ec2.associate_address, **asked) == "InvalidInstanceID"  # it does not run yet
    clock.advance(SOON_S)
    put(ec2, made, machine)
    assert refused(ec2.associate_address, **asked, AllowReassociation=False) == "Resource.AlreadyAssociated"
    put(ec2, made, other)
    assert of(ec2, made)["InstanceId"] == other["InstanceId"]
    assert "PublicIpAddress" not in described(ec2, machine["InstanceId"])


def test_a_young_one_is_not_seen_for_a_while(ec2: Any, aws: EmulatedClouds, clock: VirtualClock) -> None:
    aws.set({"visible_after_s": 30.0})
    made = ec2.allocate_address(Domain="vpc")["AllocationId"]
    assert ec2.describe_addresses()["Addresses"] == []
    assert [thing.id for thing in aws.world()] == [made]
    clock.advance(31.0)
    assert of(ec2, made)["AllocationId"] == made


def test_what_is_not_imitated_is_refused(ec2: Any) -> None:
    assert refused(ec2.allocate_address, Domain="vpc", Address="192.0.2.1") == "NotEmulated"
    made = ec2.allocate_address(Domain="vpc")["AllocationId"]
    assert refused(ec2.associate_address, AllocationId=made, NetworkInterfaceId="eni-1") == "NotEmulated"
