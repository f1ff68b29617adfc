"""What a GET tells of a virtual machine, with the instance view where it was asked for."""

from __future__ import annotations

import copy
from typing import Any

from grafos_emulators.azure.operations import timestamp
from grafos_emulators.azure.store import Resource

_SECRETS = ("adminPassword", "customData")  # never told again
_POWER = {
    "starting": "VM starting",
    "running": "VM running",
    "stopping": "VM stopping",
    "stopped": "VM stopped",
    "deallocating": "VM deallocating",
    "deallocated": "VM deallocated",
}


def model_view(machine: Resource) -> dict[str, Any]:
    """The machine as it was asked for, without its secrets."""
    shown = copy.deepcopy(machine.body)
    properties = shown["properties"]
    properties.pop("userData", None)
    if "osProfile" in properties:  # no machine from a specialized image has one
        for name in _SECRETS:
            properties["osProfile"].pop(name, None)
        properties["osProfile"] = {
            "secrets": [],
            "allowExtensionOperations": True,
            "requireGuestProvisionSignal": True,
            **properties["osProfile"],
        }
    properties["vmId"] = machine.runtime["vm_id"]
    properties["timeCreated"] = timestamp(machine.made_at)
    return shown


def instance_view(machine: Resource, disk: str) -> dict[str, Any]:
    """``instanceView``: the power state and how provisioning went. A machine that never got hardware has no power."""
    runtime = machine.runtime
    statuses = [provisioning_status(machine)]
    power = _POWER.get(runtime.get("power", ""))
    if power:
        statuses.append({"code": f"PowerState/{runtime['power']}", "level": "Info", "displayStatus": power})
    view: dict[str, Any] = {
        "disks": [{"name": disk, "statuses": [_status("Succeeded", machine)]}],
        "hyperVGeneration": "V2",
        "statuses": statuses,
    }
    if runtime.get("power") == "running":
        profile = machine.properties.get("osProfile") or {"computerName": machine.name}
        view |= {"computerName": profile["computerName"], "osName": "debian", "osVersion": "13"}
    if boot_diagnostics_on(machine):
        view["bootDiagnostics"] = {}
    return view


def provisioning_status(machine: Resource) -> dict[str, Any]:
    """The status of the last operation; a failure tells its code as ARM does: ``ProvisioningState/failed/CODE``."""
    error = machine.runtime.get("error")
    if machine.state == "Failed" and error is not None:
        return {
            "code": f"ProvisioningState/failed/{error.code}",
            "level": "Error",
            "displayStatus": "Provisioning failed",
            "message": error.message,
            "time": timestamp(machine.made_at),
        }
    return _status(machine.state, machine)


def _status(state: str, machine: Resource) -> dict[str, Any]:
    return {
        "code": f"ProvisioningState/{state.lower()}",
        "level": "Info",
        "displayStatus": f"Provisioning {state.lower()}",
        "time": timestamp(machine.made_at),
    }


def boot_diagnostics_on(machine: Resource) -> bool:
    profile = machine.properties.get("diagnosticsProfile") or {}
    return bool((profile.get("bootDiagnostics") or {}).get("enabled"))
