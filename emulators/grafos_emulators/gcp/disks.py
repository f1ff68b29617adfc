"""Disks: made by themselves, or by the instance that boots from one; each bills until it is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from grafos_emulators.gcp import quotas
from grafos_emulators.gcp.calls import ApiCall, Handler
from grafos_emulators.gcp.catalog import IMAGE_GIB, SCOPES_BY_ZONE, check_zone, image_of
from grafos_emulators.gcp.changes import delete, make
from grafos_emulators.gcp.errors import invalid
from grafos_emulators.gcp.images import own_image
from grafos_emulators.gcp.labels import checked, setter
from grafos_emulators.gcp.listing import readers
from grafos_emulators.gcp.networks import refuse_used
from grafos_emulators.gcp.project import API_PATH, Project, Resource, region_of

DEFAULT_TYPE = "pd-standard"  # Compute Engine's own default
DEFAULT_GIB = 500  # of an empty pd-standard
SMALLEST_GIB, LARGEST_GIB = 1, 65_536
HYPERDISK_SMALLEST_GIB = 4
TYPES = frozenset({"pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced"})


def handlers(project: Project) -> dict[str, Handler]:
    def view(disk: Resource) -> dict[str, Any]:
        user = project.user_of(disk.path, kinds=frozenset({"instance"}))
        status = "DELETING" if disk.leaving else "READY" if disk.ready else "CREATING"
        return disk.body | {"status": status} | ({"users": [project.link(user.path)]} if user else {})

    def insert(call: ApiCall) -> dict[str, Any]:
        check_zone(call.path["zone"])
        body, path = call.body, f"{call.scope}/disks/{call.body['name']}"
        asked = {
            "diskSizeGb": body.get("sizeGb"),
            "diskType": body.get("type"),
            "sourceImage": call.query.get("sourceImage", body.get("sourceImage")),
            "labels": body.get("labels"),
            "description": body.get("description"),
        }
        fields = disk_body(project, call.scope, asked, "resource")
        project.refuse_taken(path)
        quotas.check(project, region_of(call.scope), quotas.disk_needs(int(fields["sizeGb"]), type_in(fields)))
        return make(project, call, "disk", path, fields)

    def remove(call: ApiCall) -> dict[str, Any]:
        disk = project.changeable(call.target)
        refuse_used(project, disk, frozenset({"instance"}))
        return delete(project, call, disk)

    own: dict[str, Handler] = {"compute.disks.insert": insert, "compute.disks.delete": remove}
    return readers(project, "disks", "disk", view, scopes=SCOPES_BY_ZONE) | own | setter(project, "disks")


def type_in(body: Mapping[str, Any]) -> str:
    """The name of a disk's type, from its URL."""
    return str(body["type"]).rpartition("/")[2]


def disk_body(project: Project, scope: str, asked: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A disk's fields from an instance's ``initializeParams``; ``invalid`` for what Compute Engine does not take."""
    image = _source(project, asked.get("sourceImage"), where)
    disk_type = str(asked.get("diskType") or DEFAULT_TYPE).rpartition("/")[2]
    if disk_type not in TYPES:
        raise invalid(f"{where}.diskType", asked["diskType"], "The referenced diskType resource cannot be found.")
    size_gib = int(asked.get("diskSizeGb") or (image.size_gib if image else DEFAULT_GIB))
    smallest = max(image.size_gib if image else SMALLEST_GIB, HYPERDISK_SMALLEST_GIB if "hyper" in disk_type else 0)
    if size_gib < smallest:
        why = f"Requested disk size cannot be smaller than the image size ({smallest} GB)"
        raise invalid(f"{where}.diskSizeGb", size_gib, why if image else f"The smallest size is {smallest} GB.")
    if size_gib > LARGEST_GIB:
        raise invalid(f"{where}.diskSizeGb", size_gib, f"The largest size is {LARGEST_GIB} GB.")
    body: dict[str, Any] = {
        "sizeGb": str(size_gib),
        "type": project.link(f"{scope}/diskTypes/{disk_type}"),
        "zone": project.link(scope),
        "physicalBlockSizeBytes": "4096",
        **checked(asked.get("labels"), f"{where}.labels"),
    }
    if asked.get("description"):
        body["description"] = asked["description"]
    if image is not None:
        body |= {"sourceImage": image.link, "architecture": image.architecture}
    return body


class _Source(NamedTuple):
    """An image to make a disk of."""

    link: str
    architecture: str
    size_gib: int


def _source(project: Project, reference: str | None, where: str) -> _Source | None:
    """A public image, or one of the project's own."""
    if not reference:
        return None
    public, own = image_of(reference), own_image(project, reference)
    if public is not None:
        return _Source(f"{project.endpoint}{API_PATH}{public.path}", public.architecture, IMAGE_GIB)
    if own is None:
        raise invalid(f"{where}.sourceImage", reference, "The referenced image resource cannot be found.")
    return _Source(project.link(own.path), str(own.body["architecture"]), int(own.body["diskSizeGb"]))
