"""What an instance is made of: read from ``instances.insert`` and checked as a whole, before anything is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grafos_emulators.gcp.calls import ApiCall, only
from grafos_emulators.gcp.catalog import MachineType, check_zone, image_of, machine_type_in
from grafos_emulators.gcp.disks import disk_body, type_in
from grafos_emulators.gcp.errors import bad_request, in_use, invalid, not_emulated
from grafos_emulators.gcp.images import own_image
from grafos_emulators.gcp.labels import checked
from grafos_emulators.gcp.networks import referenced
from grafos_emulators.gcp.project import Project, Resource, fingerprint, region_of
from grafos_emulators.gcp.scheduling import Scheduling, parse

MAX_METADATA_VALUE_BYTES = 256 << 10
MAX_METADATA_BYTES = 512 << 10
STARTUP_SCRIPT, USER_DATA = "startup-script", "systemd-userdata"
_METADATA_KEY = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_KEPT = ("canIpForward", "deletionProtection", "description", "hostname", "minCpuPlatform", "shieldedInstanceConfig")
_HEEDED = frozenset(
    {*_KEPT, "disks", "labels", "machineType", "metadata", "networkInterfaces", "scheduling", "serviceAccounts", "tags"}
)
_UNKNOWN_WAYS = ("sourceInstanceTemplate", "sourceMachineImage")


@dataclass(frozen=True)
class NewDisk:
    """A disk to be made with the instance."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class InstancePlan:
    """``body`` lacks what the cloud adds: addresses, status. ``reserved`` is the path of its reserved address, if any.
    ``runs_script``: its image is a stock image of ours; ``runs_image``: it is one that was published here."""

    path: str
    zone: str
    machine_type: MachineType
    scheduling: Scheduling
    body: Mapping[str, Any]
    disks: tuple[NewDisk, ...]
    runs_script: bool
    runs_image: bool
    boot_image: str
    external: bool
    reserved: str = ""

    @property
    def region(self) -> str:
        return region_of(f"zones/{self.zone}")


def plan(project: Project, call: ApiCall) -> InstancePlan:
    """The plan, or Compute Engine's refusal."""
    zone, body = call.path["zone"], call.body
    check_zone(zone)
    only(body, _HEEDED, "an instance")
    for way in _UNKNOWN_WAYS:
        if call.query.get(way):
            raise not_emulated(f"instances made from a {way}")
    path = f"{call.scope}/instances/{body['name']}"
    machine_type = machine_type_in(zone, body.get("machineType", ""))
    scheduling = parse(body.get("scheduling", {}), machine_type, project.world.clock.now())
    new_disks, attached, boot_image = _disks(project, call.scope, body, machine_type)
    interface, reserved = _interface(project, region_of(call.scope), body)
    fields = {
        **{name: body[name] for name in _KEPT if name in body},
        "machineType": project.link(f"{call.scope}/machineTypes/{machine_type.name}"),
        "zone": project.link(call.scope),
        "disks": attached,
        "networkInterfaces": [interface],
        "metadata": metadata(body.get("metadata", {}), "resource.metadata"),
        "tags": _tags(body.get("tags", {})),
        "scheduling": dict(scheduling.shown),
        "serviceAccounts": list(body.get("serviceAccounts", ())),
        "cpuPlatform": "Unknown CPU Platform",
        "deletionProtection": bool(body.get("deletionProtection")),
        "startRestricted": False,
        **checked(body.get("labels"), "resource.labels"),
    }
    if machine_type.gpu:
        accelerator = project.link(f"{call.scope}/acceleratorTypes/{machine_type.gpu}")
        fields["guestAccelerators"] = [{"acceleratorType": accelerator, "acceleratorCount": machine_type.gpus}]
    image = image_of(boot_image)
    native = machine_type.architecture == project.architecture
    runs_script, runs_image = image is not None and native, own_image(project, boot_image) is not None and native
    external = "accessConfigs" in interface
    return InstancePlan(
        path, zone, machine_type, scheduling, fields, new_disks, runs_script, runs_image, boot_image, external, reserved
    )


def metadata(asked: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``metadata`` with its fingerprint; ``invalid`` for keys and sizes that Compute Engine does not take."""
    items = list(asked.get("items", ()))
    keys = [each.get("key", "") for each in items]
    if len(set(keys)) < len(keys):
        raise invalid(where, "items", "Duplicate metadata key.")
    total = 0
    for number, each in enumerate(items):
        size = len(str(each.get("value", "")).encode())
        total += size
        if not _METADATA_KEY.fullmatch(each.get("key", "")):
            raise invalid(f"{where}.items[{number}].key", each.get("key"), "Must match [a-zA-Z0-9_-]{1,128}.")
        if size > MAX_METADATA_VALUE_BYTES:
            why = f"Value is too large: maximum size {MAX_METADATA_VALUE_BYTES} bytes; actual size {size} bytes."
            raise invalid(f"{where}.items[{number}].value", each["key"], why)
    if total > MAX_METADATA_BYTES:
        raise invalid(where, f"{total} bytes", f"All metadata may have {MAX_METADATA_BYTES} bytes.")
    shown = {"items": items} if items else {}
    return {"kind": "compute#metadata", "fingerprint": fingerprint(items), **shown}


def _tags(asked: Mapping[str, Any]) -> dict[str, Any]:
    items = list(asked.get("items", ()))
    return {"fingerprint": fingerprint(items), **({"items": items} if items else {})}


def _disks(
    project: Project, scope: str, body: Mapping[str, Any], machine_type: MachineType
) -> tuple[tuple[NewDisk, ...], list[dict[str, Any]], str]:
    """The disks to be made, how all disks are attached (the first is booted from), and the image of the first."""
    asked = body.get("disks", [])
    if not asked or not asked[0].get("boot"):
        raise invalid("resource.disks", len(asked), "The first disk must be specified, and be a boot disk.")
    new: list[NewDisk] = []
    attached: list[dict[str, Any]] = []
    images: list[str] = []
    for number, disk in enumerate(asked):
        where = f"resource.disks[{number}]"
        if disk.get("source"):
            found = _existing(project, scope, disk["source"], f"{where}.source")
            path, fields = found.path, found.body
        else:
            path, fields = _new_disk(project, scope, body["name"], disk, where)
            new.append(NewDisk(path, fields))
        _check_disk(fields, machine_type, f"{where}.initializeParams", boots=number == 0)
        if any(each["source"] == project.link(path) for each in attached):
            raise invalid(where, path, "The disk is attached twice.")
        attached.append(_attachment(project, number, disk, path, fields))
        images.append(str(fields.get("sourceImage", "")))
    return tuple(new), attached, images[0]


def _new_disk(
    project: Project, scope: str, instance: str, disk: Mapping[str, Any], where: str
) -> tuple[str, dict[str, Any]]:
    if disk.get("type", "PERSISTENT") != "PERSISTENT":
        raise not_emulated("local SSDs (disks of the type SCRATCH)")
    parameters = disk.get("initializeParams", {})
    number = where[where.index("[") + 1 : -1]
    name = parameters.get("diskName") or (instance if number == "0" else f"{instance}-{number}")
    asked = {**parameters, "diskSizeGb": parameters.get("diskSizeGb") or disk.get("diskSizeGb")}
    return f"{scope}/disks/{name}", disk_body(project, scope, asked, f"{where}.initializeParams")


def _existing(project: Project, scope: str, reference: str, where: str) -> Resource:
    disk = referenced(project, reference, where, "disk")
    if disk.scope != scope:
        raise invalid(where, reference, "The disk is in another zone.")
    user = project.user_of(disk.path, kinds=frozenset({"instance"}))
    if user is not None:
        raise in_use("disk", disk.path, user.path, project.project_id)
    return disk


def _check_disk(fields: Mapping[str, Any], machine_type: MachineType, where: str, *, boots: bool) -> None:
    disk_type = type_in(fields)
    if disk_type.startswith("pd-") and not machine_type.takes_persistent_disks:
        raise bad_request(f"{disk_type} disk type cannot be used by {machine_type.name} machine type.", "invalid")
    if not boots:
        return
    if "sourceImage" not in fields:
        raise invalid(f"{where}.sourceImage", "", "A boot disk needs an image.")
    if fields["architecture"] != machine_type.architecture:
        raise bad_request(
            f"The selected machine type ({machine_type.name}) has the architecture {machine_type.architecture}, and the"
            f" image has {fields['architecture']}.",
            "invalid",
        )


def _attachment(
    project: Project, number: int, disk: Mapping[str, Any], path: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": disk.get("mode", "READ_WRITE"),
        "source": project.link(path),
        "deviceName": disk.get("deviceName", f"persistent-disk-{number}"),
        "index": number,
        "boot": number == 0,
        "autoDelete": bool(disk.get("autoDelete")),
        "interface": disk.get("interface", "SCSI"),
        "diskSizeGb": fields["sizeGb"],
    }


def _interface(project: Project, region: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The network interface, and the path of the reserved address that it has, if any."""
    where = "resource.networkInterfaces"
    asked = body.get("networkInterfaces", [])
    if len(asked) != 1:
        if not asked:
            raise invalid(where, "", "At least one network interface is required.")
        raise not_emulated("instances with several network interfaces")
    if not asked[0].get("subnetwork"):
        referenced(project, asked[0].get("network"), f"{where}[0].network", "network")
        why = "Network interface must specify a subnet if the network resource is in custom subnet mode."
        raise invalid(f"{where}[0].subnetwork", "", why)
    subnet = referenced(project, asked[0]["subnetwork"], f"{where}[0].subnetwork", "subnetwork")
    if region_of(subnet.scope) != region:
        raise invalid(f"{where}[0].subnetwork", asked[0]["subnetwork"], "The subnetwork is in another region.")
    network = asked[0].get("network")
    if network and project.link(str(project.path_of(network))) != subnet.body["network"]:
        raise invalid(f"{where}[0].network", network, "The subnetwork is part of another network.")
    interface: dict[str, Any] = {
        "kind": "compute#networkInterface",
        "name": "nic0",
        "network": subnet.body["network"],
        "subnetwork": project.link(subnet.path),
        "stackType": "IPV4_ONLY",
        "fingerprint": fingerprint(body["name"]),
    }
    configs, reserved = asked[0].get("accessConfigs", []), ""
    if configs:
        interface["accessConfigs"] = [_access_config(configs[0])]
        reserved = _reserved(project, region, str(configs[0].get("natIP") or ""))
    return interface, reserved


def _reserved(project: Project, region: str, number: str) -> str:
    """The path of the reserved address of that number, which nobody may have yet; empty for none."""
    if not number:
        return ""
    where = "resource.networkInterfaces[0].accessConfigs[0].natIP"
    for address in project.of_kind("address", f"regions/{region}"):
        if address.body["address"] == number and address.ready:
            holder = project.holder_of(address)
            if holder is not None:
                raise in_use("address", address.path, holder.path, project.project_id)
            return address.path
    raise invalid(where, number, "The specified external IP address was not found in this region.")


def _access_config(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "compute#accessConfig",
        "type": "ONE_TO_ONE_NAT",
        "name": asked.get("name", "external-nat"),
        "networkTier": asked.get("networkTier", "PREMIUM"),
    }
