"""Machines, and what can outlive one: its disk, its network interface."""

from __future__ import annotations

import re
from typing import Any

from grafos_connectors.aws import tags
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.images import ROOT_DEVICE
from grafos_connectors.aws.kind_calls import KindCalls
from grafos_connectors.contract import CloudError, Desired, Kind, Ref

USER_DATA_MAX_BYTES = 16 * 1024  # EC2's limit, before base64
CONSOLE_MAX_CHARACTERS = 64 * 1024  # EC2 keeps the last 64 KiB
BURSTABLE_TYPE = re.compile(r"t\d")


def run_machine(calls: AwsCalls, desired: Desired, token: str) -> str:
    """RunInstances. EC2 compares all parameters of calls with one token, so they follow from ``desired`` alone."""
    answer = calls.change("run_instances", desired.region, **launch_parameters(desired, token))
    return str(answer["Instances"][0]["InstanceId"])


def launch_parameters(desired: Desired, token: str) -> dict[str, Any]:
    """What RunInstances is asked for."""
    inputs = desired.inputs
    user_data = str(inputs["user_data"])
    if len(user_data.encode()) > USER_DATA_MAX_BYTES:
        raise CloudError("cloud_invalid", f"The user data has more than {USER_DATA_MAX_BYTES} bytes.", where="aws")
    parameters: dict[str, Any] = {
        "ClientToken": token,
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": inputs["image"],
        "InstanceType": inputs["machine_type"],
        "UserData": user_data,  # the SDK encodes it
        # The machine ends when its operating system powers off: so its own timer ends its bill.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "BlockDeviceMappings": [_root_disk(desired)],
        "NetworkInterfaces": [_interface(desired)],
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpEndpoint": "enabled",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "enabled",
        },
        "TagSpecifications": tags.specifications(desired, "instance", "volume", "network-interface"),
    }
    if inputs.get("spot"):
        # Without a price of our own the bound is the on-demand price, which is what the hold is for.
        options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        parameters["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    if desired.zone:
        parameters["Placement"] = {"AvailabilityZone": desired.zone}
    if BURSTABLE_TYPE.match(str(inputs["machine_type"])):
        parameters["CreditSpecification"] = {"CpuCredits": "standard"}  # "unlimited" bills surplus credits
    return parameters


def _root_disk(desired: Desired) -> dict[str, Any]:
    return {
        "DeviceName": desired.inputs["root_device"] or ROOT_DEVICE,  # a published image has the one that we gave it
        "Ebs": {
            "VolumeSize": desired.inputs["disk_gib"],
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        },
    }


def _interface(desired: Desired) -> dict[str, Any]:
    return {
        "DeviceIndex": 0,
        "SubnetId": desired.needs["subnet"],
        "Groups": [desired.needs["firewall"]],
        "AssociatePublicIpAddress": bool(desired.inputs.get("public_address", True)),
        "DeleteOnTermination": True,
    }


def console_output(calls: AwsCalls, ref: Ref) -> str:
    """What it wrote until now on Nitro; other machines only have what EC2 kept some minutes after they started."""
    try:
        answer = calls.read("ec2", "get_console_output", ref.region, InstanceId=ref.id, Latest=True)
    except CloudError as refusal:
        if refusal.code != "cloud_invalid":
            raise
        answer = calls.read("ec2", "get_console_output", ref.region, InstanceId=ref.id)
    return str(answer.get("Output", ""))[-CONSOLE_MAX_CHARACTERS:]


def terminate_machine(calls: AwsCalls, ref: Ref) -> None:
    calls.change("terminate_instances", ref.region, InstanceIds=[ref.id])


def delete_disk(calls: AwsCalls, ref: Ref) -> None:
    calls.change("delete_volume", ref.region, VolumeId=ref.id)


def delete_nic(calls: AwsCalls, ref: Ref) -> None:
    calls.change("delete_network_interface", ref.region, NetworkInterfaceId=ref.id)


MACHINE_KINDS: dict[Kind, KindCalls] = {
    Kind.MACHINE: KindCalls(terminate_machine, run_machine),
    Kind.DISK: KindCalls(delete_disk),
    Kind.NIC: KindCalls(delete_nic),
}
