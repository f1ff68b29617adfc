"""Managed disks: a size and a life, and no bytes."""

from __future__ import annotations

from typing import Any, ClassVar

from grafos_emulators.azure import catalogue, uploads
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError, not_emulated
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.operations import timestamp
from grafos_emulators.azure.places import Place
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import DISK
from grafos_emulators.faults import Fault

SMALLEST_GIB, LARGEST_GIB = 1, 32_767
GIB = 1 << 30


class Disks(Kind):
    type: ClassVar[str] = DISK
    model: ClassVar[str] = "compute.Disk"
    created: ClassVar[int] = 202  # not 201: the SDK takes no other
    updated: ClassVar[int] = 202
    is_billable: ClassVar[bool] = True

    def accept(self, ask: Ask) -> dict[str, Any]:
        properties = dict(ask.body.get("properties") or {})
        option = (properties.get("creationData") or {}).get("createOption")
        if option is None:
            raise ArmError(400, "InvalidParameter", "Required parameter 'disk.creationData' is missing (null).")
        if option.lower() == "upload" and ask.old is None:
            properties["diskSizeGB"] = uploads.checked_gib(properties["creationData"].get("uploadSizeBytes"))
        elif option.lower() != "empty" and ask.old is None:
            raise not_emulated(
                f"disks made with createOption {option}: only empty ones, uploads, and those of machines"
            )
        check_size(properties.get("diskSizeGB"))
        catalogue.check_zones(list(ask.body.get("zones") or []), ask.location, ask.call.place.name)
        return {**ask.body, "sku": ask.body.get("sku") or {"name": "Standard_LRS"}, "properties": properties}

    def view(self, resource: Resource) -> dict[str, Any]:
        size = int(resource.properties.get("diskSizeGB", catalogue.DEFAULT_DISK_GIB))
        sku = dict(resource.body["sku"])
        sku["tier"] = sku["name"].partition("_")[0]
        owner = resource.runtime.get("machine")
        shown = {
            **resource.body,
            "sku": sku,
            "properties": {
                "encryption": {"type": "EncryptionAtRestWithPlatformKey"},
                "networkAccessPolicy": "AllowAll",
                "publicNetworkAccess": "Enabled",
                **resource.properties,
                "diskSizeGB": size,
                "diskSizeBytes": size * GIB,
                "diskState": self.shown_state(resource),
                "timeCreated": timestamp(resource.made_at),
                "uniqueId": resource.guid,
            },
        }
        return {**shown, "managedBy": owner} if owner else shown

    def check_unused(self, resource: Resource) -> None:
        owner = resource.runtime.get("machine")
        if owner:
            raise ArmError(409, "OperationNotAllowed", f"Disk {resource.name} is attached to VM {owner}.")

    def patch(self, resource: Resource, body: dict[str, Any]) -> None:
        if set(body) - {"tags"}:
            raise not_emulated(f"changing the disk {resource.name}: only its tags")

    def action(self, resource: Resource, call: ArmCall, fault: Fault | None) -> dict[str, Any] | None:  # noqa: ARG002
        """Opens a disk for its bytes, and closes it."""
        if call.place.tail == "begingetaccess":
            return uploads.open_disk(self.account, resource, call.body())
        return uploads.close_disk(resource) if call.place.tail == "endgetaccess" else None

    def shown_state(self, resource: Resource) -> str:
        if (being := uploads.state_of(resource)) is not None:
            return being
        owner = self.account.store.get(resource.runtime.get("machine", ""))
        if owner is None:
            return "Unattached"
        return "Attached" if owner.runtime.get("allocated") else "Reserved"


def make_os_disk(kind: Kind, machine: Resource) -> Resource:
    """The disk that comes with a machine; it is named in the machine's storage profile from then on."""
    profile: dict[str, Any] = machine.properties["storageProfile"]
    wanted = profile["osDisk"]
    name = wanted.get("name") or f"{machine.name}_OsDisk_1_{machine.guid.replace('-', '')}"
    place = Place(machine.place.subscription, machine.place.group, "Microsoft.Compute", ("disks", name))
    name_of_image = "galleryImageReference" if profile["imageReference"].get("id") else "imageReference"
    body: dict[str, Any] = {
        "tags": dict(machine.tags),
        "sku": {"name": (wanted.get("managedDisk") or {}).get("storageAccountType", "Premium_LRS")},
        "properties": {
            "osType": "Linux",
            "hyperVGeneration": "V2",
            "creationData": {"createOption": "FromImage", name_of_image: {"id": image_id(machine)}},
            "diskSizeGB": wanted.get("diskSizeGB") or catalogue.DEFAULT_DISK_GIB,
        },
    }
    if machine.body.get("zones"):
        body["zones"] = list(machine.body["zones"])
    disk = kind.account.new_resource(place, DISK, machine.location, body)
    disk.state, disk.runtime["machine"] = "Succeeded", machine.id
    wanted |= {
        "name": name,
        "diskSizeGB": body["properties"]["diskSizeGB"],
        "managedDisk": {**(wanted.get("managedDisk") or {}), "id": disk.id, "storageAccountType": body["sku"]["name"]},
    }
    kind.account.store.note_names(machine)
    return disk


def image_id(machine: Resource) -> str:
    image = machine.properties["storageProfile"]["imageReference"]
    if image.get("id"):
        return str(image["id"])
    return (
        f"/Subscriptions/{machine.place.subscription}/Providers/Microsoft.Compute/Locations/{machine.location}"
        f"/Publishers/{image['publisher']}/ArtifactTypes/VMImage/Offers/{image['offer']}/Skus/{image['sku']}"
        f"/Versions/{image['exactVersion']}"
    )


def check_size(size_gib: Any) -> None:
    if size_gib is None or not SMALLEST_GIB <= int(size_gib) <= LARGEST_GIB:
        raise ArmError(
            400,
            "InvalidParameter",
            f"The value '{size_gib}' of parameter 'disk.diskSizeGB' is out of range. The value must be between "
            f"'{SMALLEST_GIB}' and '{LARGEST_GIB}', inclusive.",
            target="disk.diskSizeGB",
        )
