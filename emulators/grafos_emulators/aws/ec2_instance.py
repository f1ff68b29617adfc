"""What an emulated machine's life means for its EC2 instance: states, reasons, addresses, what follows it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from moto.ec2.models.instances import Instance, StateReason

from grafos_core.clock import Clock
from grafos_emulators.aws.account import Account
from grafos_emulators.aws.launch_checks import read_user_data
from grafos_emulators.lifecycle import MachineState
from grafos_emulators.world import Machine

EC2_STATES: dict[MachineState, tuple[str, int]] = {
    MachineState.STARTING: ("pending", 0),
    MachineState.RUNNING: ("running", 16),
    MachineState.STOPPING: ("stopping", 64),
    MachineState.STOPPED: ("stopped", 80),
    MachineState.ENDING: ("shutting-down", 32),
    MachineState.GONE: ("terminated", 48),
}
_REASONS = {
    "user": ("User initiated", "Client.UserInitiatedShutdown", "User initiated shutdown"),
    "machine": ("User initiated", "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"),
    "spot": (
        "Server.SpotInstanceTermination",
        "Server.SpotInstanceTermination",
        "Spot instance termination",
    ),
    "no-capacity": (
        "Server.InsufficientInstanceCapacity",
        "Server.InsufficientInstanceCapacity",
        "Insufficient capacity available to satisfy the launch request",
    ),
    "no-volume": (
        "Client.VolumeLimitExceeded",
        "Client.VolumeLimitExceeded",
        "Volume limit exceeded",
    ),
    "crash": ("Server.InternalError", "Server.InternalError", "Internal error on launch or while running"),
}


def follow(instance: Any, machine: Machine, clock: Clock) -> None:
    """Takes over the machine's state. A machine that is gone lets go of its volumes, interfaces and groups."""
    reason = instance.state_transition_reason, instance.state_reason
    if machine.state is MachineState.GONE:
        for nic in instance.nics.values():  # detached first, as a real one is
            nic.status, nic.attachment_id, nic.instance = "available", None, None
        Instance.terminate(instance)
        instance.security_groups = []
    elif machine.state in {MachineState.STARTING, MachineState.RUNNING}:
        reason = "", StateReason()
    if machine.state is MachineState.STARTING:  # told again at each start; moto has the host's time
        instance.launch_time = datetime.fromtimestamp(clock.now(), UTC).replace(tzinfo=None)
    if machine.reason and machine.state in {MachineState.STOPPING, MachineState.ENDING}:
        reason = _reason(machine.reason, clock)
    instance._reason, instance.state_reason = reason  # noqa: SLF001  moto has no other way in
    instance.instance_state.name, instance.instance_state.code = EC2_STATES[machine.state]


def _reason(by: str, clock: Clock) -> tuple[str, StateReason]:
    words, code, message = _REASONS[by]
    moment = time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime(clock.now()))
    return f"{words} ({moment})", StateReason(f"{code}: {message}", code)


def give_address(instance: Any, address: str) -> None:
    """Makes the loopback address the instance's only one, private and, where it was to have one, public."""
    nic = instance.nics[0]
    nic.subnet.del_subnet_ip(nic.private_ip_address)  # the one moto drew is free for others
    nic.private_ip_address = address
    nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
    if nic.public_ip is not None:
        nic.public_ip = address


class InstanceMetadata:
    """What the metadata service tells of one instance; read when it is asked for, so it is never stale."""

    def __init__(self, instance: Any, account: Account) -> None:
        self._instance = instance
        self._account = account

    @property
    def answers(self) -> bool:
        state = self._instance.instance_state.name
        return bool(state != "terminated" and self._instance.metadata_options.http_endpoint == "enabled")

    @property
    def is_spot(self) -> bool:
        return bool(self._instance.lifecycle == "spot")

    @property
    def user_data(self) -> bytes:
        encoded = self._instance.user_data
        return b"" if encoded is None else read_user_data(str(encoded.as_bytes(), "ascii"))

    @property
    def identity(self) -> dict[str, Any]:
        instance = self._instance
        return {
            "accountId": self._account.account_id,
            "architecture": instance.architecture,
            "availabilityZone": instance.placement.zone,
            "billingProducts": None,
            "devpayProductCodes": None,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.instance_type,
            "kernelId": None,
            "marketplaceProductCodes": None,
            "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "privateIp": instance.private_ip_address,
            "ramdiskId": None,
            "region": instance.region_name,
            "version": "2017-09-30",
        }

    @property
    def values(self) -> dict[str, str]:
        instance = self._instance
        values = {
            "ami-id": instance.image_id,
            "hostname": instance.private_dns_name,
            "instance-id": instance.id,
            "instance-type": instance.instance_type,
            "local-ipv4": instance.private_ip_address,
            "placement/availability-zone": instance.placement.zone,
            "placement/region": instance.region_name,
        }
        notice = self._account.spot_notices.get(instance.id)
        if notice is not None:
            values["spot/instance-action"] = notice
        if instance.public_ip_address:
            values["public-ipv4"] = instance.public_ip_address
        if instance.metadata_options.instance_metadata_tags == "enabled":
            values |= {f"tags/instance/{tag['key']}": tag["value"] for tag in instance.get_tags()}
        return values
