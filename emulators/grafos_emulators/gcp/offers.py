"""The reading methods of what Google offers: the project itself, regions, zones, machine types, images."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from functools import partial
from typing import Any

from grafos_emulators.gcp.calls import ApiCall, Handler
from grafos_emulators.gcp.catalog import (
    ALL_ZONES,
    EVERYWHERE,
    IMAGE_GIB,
    IMAGE_PROJECT,
    IMAGES,
    MACHINE_TYPES,
    SCOPES_BY_ZONE,
    ZONES,
    Image,
    MachineType,
    check_zone,
)
from grafos_emulators.gcp.errors import not_found
from grafos_emulators.gcp.listing import Entry, aggregated, listed
from grafos_emulators.gcp.project import API_PATH, Project, region_of
from grafos_emulators.gcp.quotas import project_quotas, region_quotas
from grafos_emulators.host import host_python

PUBLISHED = "2025-11-11T00:00:00.000-08:00"


def handlers(project: Project) -> dict[str, Handler]:
    """The reading methods of all that Google offers; nobody can change it."""
    return {
        "compute.projects.get": lambda _: _project(project),
        "compute.regions.get": lambda call: _region(project, _known(call.path["region"], ZONES, "regions", project)),
        "compute.regions.list": lambda call: listed(
            project, call, "region", [(f"regions/{each}", partial(_region, project, each)) for each in ZONES]
        ),
        "compute.zones.get": lambda call: _zone(project, _known(call.path["zone"], EVERYWHERE, "zones", project)),
        "compute.zones.list": lambda call: listed(
            project, call, "zone", [(f"zones/{each}", partial(_zone, project, each)) for each in ALL_ZONES]
        ),
        "compute.machineTypes.get": lambda call: _machine_type_named(project, call),
        "compute.machineTypes.list": lambda call: listed(
            project, call, "machineType", _machine_types(project, call.path["zone"])
        ),
        "compute.machineTypes.aggregatedList": lambda call: aggregated(
            project,
            call,
            "machineType",
            "machineTypes",
            [entry for zone in ALL_ZONES for entry in _machine_types(project, zone)],
            SCOPES_BY_ZONE,
        ),
    }


def image_handlers(project: Project) -> dict[str, Handler]:
    """The reading methods of images, which belong to Debian's project and not to the caller's."""

    def view(image: Image) -> dict[str, Any]:
        return _image(project, image)

    def named(call: ApiCall) -> dict[str, Any]:
        wanted = call.path.get("image") or call.path["family"]
        found = [each for each in IMAGES if wanted == (each.name if "image" in call.path else each.family)]
        if not found:
            raise not_found(call.target, IMAGE_PROJECT)
        return view(found[0])

    return {
        "compute.images.get": named,
        "compute.images.getFromFamily": named,
        "compute.images.list": lambda call: listed(
            project, call, "image", [(each.path, partial(view, each)) for each in IMAGES]
        ),
    }


def _known(name: str, names: Container[str], collection: str, project: Project) -> str:
    if name not in names:
        raise not_found(f"{collection}/{name}", project.project_id)
    return name


def _fixed_id(*words: str) -> str:
    """What exists from the beginning has the same id in every emulator."""
    return str(int(hashlib.sha256(" ".join(words).encode()).hexdigest()[:15], 16))


def _project(project: Project) -> dict[str, Any]:
    return {
        "kind": "compute#project",
        "id": project.number,
        "name": project.project_id,
        "creationTimestamp": PUBLISHED,
        "commonInstanceMetadata": {"kind": "compute#metadata"},
        "defaultNetworkTier": "PREMIUM",
        "quotas": project_quotas(project),
        "selfLink": f"{project.endpoint}{API_PATH}projects/{project.project_id}",
    }


def _region(project: Project, region: str) -> dict[str, Any]:
    return {
        "kind": "compute#region",
        "id": _fixed_id("region", region),
        "name": region,
        "creationTimestamp": PUBLISHED,
        "description": region,
        "status": "UP",
        "zones": [project.link(f"zones/{zone}") for zone in ZONES[region]],
        "quotas": region_quotas(project, region),
        "selfLink": project.link(f"regions/{region}"),
    }


def _zone(project: Project, zone: str) -> dict[str, Any]:
    return {
        "kind": "compute#zone",
        "id": _fixed_id("zone", zone),
        "name": zone,
        "creationTimestamp": PUBLISHED,
        "description": zone,
        "status": "UP",
        "region": project.link(f"regions/{region_of(f'zones/{zone}')}"),
        "selfLink": project.link(f"zones/{zone}"),
    }


def _machine_types(project: Project, zone: str) -> list[Entry]:
    check_zone(zone)
    offered = (each for each in MACHINE_TYPES.values() if zone in each.zones)
    return [(f"zones/{zone}/machineTypes/{each.name}", partial(_machine_type, project, zone, each)) for each in offered]


def _machine_type_named(project: Project, call: ApiCall) -> dict[str, Any]:
    machine_type = MACHINE_TYPES.get(call.path["machineType"])
    if machine_type is None or call.path["zone"] not in machine_type.zones:
        raise not_found(call.target, project.project_id)
    return _machine_type(project, call.path["zone"], machine_type)


def _machine_type(project: Project, zone: str, machine_type: MachineType) -> dict[str, Any]:
    name, memory = machine_type.name, machine_type.memory_mib
    body: dict[str, Any] = {
        "kind": "compute#machineType",
        "id": _fixed_id("machineType", name),
        "name": name,
        "creationTimestamp": PUBLISHED,
        "description": f"{machine_type.vcpus} vCPUs, {memory // 1024} GB RAM",
        "guestCpus": machine_type.vcpus,
        "memoryMb": memory,
        "imageSpaceGb": 0,
        "maximumPersistentDisks": 128,
        "maximumPersistentDisksSizeGb": "263168",
        "isSharedCpu": machine_type.shared,
        "architecture": machine_type.architecture,
        "zone": zone,
        "selfLink": project.link(f"zones/{zone}/machineTypes/{name}"),
    }
    if machine_type.gpu:
        body["accelerators"] = [{"guestAcceleratorType": machine_type.gpu, "guestAcceleratorCount": machine_type.gpus}]
    return body


def _image(project: Project, image: Image) -> dict[str, Any]:
    return {
        "kind": "compute#image",
        "id": _fixed_id("image", image.name),
        "name": image.name,
        "family": image.family,
        "creationTimestamp": PUBLISHED,
        "description": f"Debian 13, emulated by grafos: no content, python {host_python()}",
        "architecture": image.architecture,
        "diskSizeGb": str(IMAGE_GIB),
        "archiveSizeBytes": "0",
        "status": "READY",
        "sourceType": "RAW",
        "guestOsFeatures": [{"type": "UEFI_COMPATIBLE"}, {"type": "VIRTIO_SCSI_MULTIQUEUE"}, {"type": "GVNIC"}],
        "licenses": [f"{project.endpoint}{API_PATH}projects/{IMAGE_PROJECT}/global/licenses/{image.family}"],
        "labelFingerprint": "42WmSpB8rSM=",
        "selfLink": f"{project.endpoint}{API_PATH}{image.path}",
    }
