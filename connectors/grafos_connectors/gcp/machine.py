"""Machines: what ``instances.insert`` is asked for, and what a machine writes to its console."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from grafos_connectors.contract import PRIVATE_INPUT, CloudError, Desired, Ref
from grafos_connectors.gcp import labels
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.describe import Item, fields_of, last_part, path_of, unix_seconds
from grafos_connectors.gcp.families import HYPERDISK, disk_type, is_arm, stays_through_maintenance

STARTUP_SCRIPT, SYSTEMD_USER_DATA = "startup-script", "systemd-userdata"
USER_DATA_MAX_BYTES = 256 * 1024  # Compute Engine's limit of one metadata value
# With these alone a machine's own access token opens nothing of the project, whatever rights its account has there.
IDENTITY_SCOPES = ("https://www.googleapis.com/auth/userinfo.email",)
CONSOLE_PORT = 1
CONSOLE_MAX_BYTES = 64 * 1024  # of the last MiB that Compute Engine keeps
# Of a balanced Hyperdisk: what its price by size includes. What is left open is chosen by Compute Engine, and billed.
# Source: https://cloud.google.com/compute/docs/disks/hd-types/hyperdisk-balanced (baseline performance)
INCLUDED_SPEED = {"provisionedIops": "3000", "provisionedThroughput": "140"}

# What a guest reads of its own machine, and who may enter it: nobody, by whichever way Google has.
METADATA = {
    "block-project-ssh-keys": "TRUE",
    "enable-oslogin": "TRUE",
    "serial-port-enable": "FALSE",  # the interactive console; what the machine writes is read all the same
    "serial-port-logging-enable": "FALSE",  # else the console goes to Cloud Logging, stays there and costs
}


def machine_body(desired: Desired, project: str) -> dict[str, Any]:
    """The instance that is asked for. It has no service account, so nothing in it can act on the project; with the
    input ``identity`` it has the project's default one, for Google to sign who it is, and no scope to act with."""
    inputs = desired.inputs
    user_data = str(inputs[PRIVATE_INPUT])
    if len(user_data.encode()) > USER_DATA_MAX_BYTES:
        raise CloudError("cloud_invalid", f"The user data has more than {USER_DATA_MAX_BYTES} bytes.", where="gcp")
    machine_type = str(inputs["machine_type"])
    metadata = {**METADATA, user_data_key(desired): user_data}
    return {
        "name": desired.name,
        "machineType": f"zones/{desired.zone}/machineTypes/{machine_type}",
        "labels": labels.labels(desired.tags),
        "disks": [_root_disk(desired)],
        "networkInterfaces": [_interface(desired, project)],
        "metadata": {"items": [{"key": key, "value": value} for key, value in sorted(metadata.items())]},
        "scheduling": _scheduling(desired, machine_type),
        "shieldedInstanceConfig": {
            # Compute Engine has it for x86 only; and what was baked is signed by our own key or by none.
            "enableSecureBoot": not is_arm(machine_type)
            and (not inputs.get("baked") or bool(inputs.get("secure_boot"))),
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
        },
        **({"tags": {"items": [inputs["network_tag"]]}} if "network_tag" in inputs else {}),
        "canIpForward": False,
        "deletionProtection": False,
        **(
            {"serviceAccounts": [{"email": "default", "scopes": list(IDENTITY_SCOPES)}]}
            if inputs.get("identity")
            else {}
        ),
    }


def user_data_key(desired: Desired) -> str:
    """Under which metadata key the machine looks for what it is told: a stock image runs a script, a cell's own image
    reads credentials."""
    return SYSTEMD_USER_DATA if desired.inputs.get("baked") else STARTUP_SCRIPT


def _root_disk(desired: Desired) -> dict[str, Any]:
    """It has the machine's name, and goes with it."""
    kind = disk_type(str(desired.inputs["machine_type"]))
    return {
        "boot": True,
        "autoDelete": True,
        "type": "PERSISTENT",
        "mode": "READ_WRITE",
        "initializeParams": {
            "sourceImage": desired.inputs["image"],
            "diskSizeGb": str(desired.inputs["disk_gib"]),
            "diskType": f"zones/{desired.zone}/diskTypes/{kind}",
            "labels": labels.labels(desired.tags),
            **(INCLUDED_SPEED if kind == HYPERDISK else {}),
        },
    }


def _interface(desired: Desired, project: str) -> dict[str, Any]:
    """The address is for dialling out: no rule of the network lets anything in, but to what bears a tag that one names.
    A reserved one is put in by who may ask what it is."""
    interface: dict[str, Any] = {"subnetwork": f"projects/{project}/{desired.needs['subnet']}"}
    if desired.inputs.get("public_address", True):
        interface["accessConfigs"] = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT", "networkTier": "PREMIUM"}]
    return interface


def _scheduling(desired: Desired, machine_type: str) -> dict[str, Any]:
    """At ``ends_at`` Compute Engine itself deletes the machine, and the disk with it, whatever became of us."""
    spot = bool(desired.inputs.get("spot"))
    ends_at = datetime.fromtimestamp(int(desired.inputs["ends_at"]), UTC)
    return {
        "terminationTime": ends_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "instanceTerminationAction": "DELETE",
        "provisioningModel": "SPOT" if spot else "STANDARD",
        "preemptible": spot,
        "automaticRestart": not spot,
        "onHostMaintenance": "MIGRATE" if stays_through_maintenance(machine_type) and not spot else "TERMINATE",
    }


def same_machine(item: Item, desired: Desired) -> bool:
    """Whether an instance is what ``desired`` asks for, in all that matters."""
    interface: Mapping[str, Any] = next(iter(item.get("networkInterfaces", ())), {})
    metadata = {each.get("key"): each.get("value") for each in item.get("metadata", {}).get("items", ())}
    scheduling = item.get("scheduling", {})
    wanted_tags = [desired.inputs["network_tag"]] if "network_tag" in desired.inputs else []
    return (
        last_part(item.get("machineType", "")) == desired.inputs["machine_type"]
        and metadata.get(user_data_key(desired)) == desired.inputs[PRIVATE_INPUT]
        and path_of(interface.get("subnetwork", "")) == desired.needs["subnet"]
        and unix_seconds(scheduling.get("terminationTime", "")) == str(desired.inputs["ends_at"])
        and (scheduling.get("provisioningModel") == "SPOT") == bool(desired.inputs.get("spot"))
        and list(item.get("tags", {}).get("items", ())) == wanted_tags
    )


def console_output(calls: GcpCalls, ref: Ref) -> str:
    """The end of what it wrote: a negative start counts from there."""
    answer = calls.read(
        "instances", "get_serial_port_output", **fields_of(ref), port=CONSOLE_PORT, start=-CONSOLE_MAX_BYTES
    )
    return str(answer.get("contents", ""))
