"""What a virtual machine's request must hold, and what of it can never change: judged before anything is made."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from grafos_emulators.azure import catalogue
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.disks import check_size
from grafos_emulators.azure.errors import ArmError, not_emulated
from grafos_emulators.azure.places import Place
from grafos_emulators.azure.references import referenced, sub_id
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import GALLERY_IMAGE_VERSION, NETWORK_INTERFACE, VIRTUAL_MACHINE

MAX_CUSTOM_DATA_CHARACTERS = 87_380  # 64 KiB in base64
_RESERVED_NAMES = frozenset({"admin", "administrator", "root", "user", "test", "guest"})
_KEY_TYPES = ("ssh-rsa", "ssh-ed25519")
_MIN_PASSWORD, _MAX_PASSWORD = 12, 72
# What would change what a machine is or does, and is not heeded here.
_UNHEEDED = frozenset({"availabilitySet", "virtualMachineScaleSet", "host", "hostGroup", "capacityReservation"})
_UNHEEDED_BESIDE = frozenset({"identity", "plan", "extendedLocation", "placement"})
_FIXED = (
    ("osProfile", "customData"),
    ("osProfile", "adminUsername"),
    ("osProfile", "computerName"),
    ("storageProfile", "imageReference"),
    ("priority",),
)


def invalid(target: str, text: str) -> ArmError:
    return ArmError(400, "InvalidParameter", text, target=target)


def demanded(properties: dict[str, Any], *path: str) -> Any:
    """The value at ``path``; ``InvalidParameter`` in ARM's words when it is not there."""
    found: Any = properties
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if found in (None, "", []):
        place = ".".join(path)
        raise invalid(place, f"Required parameter '{place}' is missing (null).")
    return found


def check_heeded(body: dict[str, Any]) -> None:
    """Refuses what the emulator would store and not heed."""
    asked = {name for name, value in body.items() if value} & _UNHEEDED_BESIDE
    asked |= {name for name, value in (body.get("properties") or {}).items() if value} & _UNHEEDED
    if asked:
        raise not_emulated(f"machines with {', '.join(sorted(asked))}")


def check_size_name(
    account: AzureAccount, properties: dict[str, Any], location: str, zones: list[str]
) -> catalogue.Size:
    """The size; refused when it is none, or when the subscription may not have it here."""
    name = str(demanded(properties, "hardwareProfile", "vmSize"))
    size = catalogue.SIZES.get(name.lower())
    if size is None:
        raise invalid("vmSize", f"The value {name} provided for the VM size is not valid. The valid sizes in the "
                      f"current region are: {','.join(each.name for each in catalogue.SIZES.values())}.")  # fmt: skip
    if any((size.name, place) in account.restricted for place in (location, *(f"{location}/{zone}" for zone in zones))):
        raise sku_not_available(size.name, location)
    return size


def sku_not_available(size: str, location: str) -> ArmError:
    return ArmError(
        409,
        "SkuNotAvailable",
        "The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: "
        f"{size}' is currently not available in location '{location}'. Please try another size or deploy to a "
        "different location or different zone. See https://aka.ms/azureskunotavailable for details.",
    )


def check_image(
    account: AzureAccount, properties: dict[str, Any], size: catalogue.Size, by: str, location: str
) -> dict[str, Any]:
    """The image reference with its exact version."""
    image = dict(demanded(properties, "storageProfile", "imageReference"))
    if image.get("sharedGalleryImageId") or image.get("communityGalleryImageId"):
        raise not_emulated("images that others share: only Debian's of the catalogue, and those of galleries here")
    if image.get("id"):
        own = referenced(account, str(image["id"]), GALLERY_IMAGE_VERSION, by, location)
        family = account.store.get(own.place.parent.id)
        assert family is not None, "what holds others stays while it does"
        _check_architecture(str(family.properties.get("architecture", "x64")), size)
        return {"id": own.id, "exactVersion": own.name}
    for field in ("publisher", "offer", "sku", "version"):
        demanded({"imageReference": image}, "imageReference", field)
    known = catalogue.IMAGES.get(image["sku"].lower())
    ours = image["publisher"].lower() == catalogue.PUBLISHER.lower() and image["offer"].lower() == catalogue.OFFER
    version = catalogue.IMAGE_VERSIONS[-1] if image["version"].lower() == "latest" else image["version"]
    if not ours or known is None or version not in catalogue.IMAGE_VERSIONS:
        raise ArmError(
            404,
            "PlatformImageNotFound",
            f"The platform image '{image['publisher']}:{image['offer']}:{image['sku']}:{image['version']}' is not "
            "available. Verify that all fields in the storage profile are correct. For more details about storage "
            "profile information, please refer to https://aka.ms/storageprofile",
        )
    _check_architecture(known, size)
    return {**image, "exactVersion": version}


def is_own_image(properties: dict[str, Any]) -> bool:
    """Whether a machine is made from an image of a gallery. All that are emulated are specialized."""
    return bool(_at(properties, ("storageProfile", "imageReference", "id")))


def _check_architecture(of_image: str, size: catalogue.Size) -> None:
    if of_image != size.architecture:
        raise ArmError(
            400,
            "BadRequest",
            f"The selected VM size '{size.name}' cannot boot the image's CPU architecture '{of_image}': it is "
            f"'{size.architecture}'.",
        )


def check_storage(properties: dict[str, Any]) -> None:
    profile = demanded(properties, "storageProfile")
    disk = demanded(properties, "storageProfile", "osDisk")
    if demanded(properties, "storageProfile", "osDisk", "createOption").lower() != "fromimage":
        raise not_emulated("machines from a disk that exists: only from an image")
    if profile.get("dataDisks"):
        raise not_emulated("data disks")
    if disk.get("diskSizeGB") is not None:
        check_size(disk["diskSizeGB"])
        if disk["diskSizeGB"] < catalogue.DEFAULT_DISK_GIB and not is_own_image(properties):
            raise ArmError(
                400,
                "OperationNotAllowed",
                f"The specified disk size {disk['diskSizeGB']} GB is smaller than the size of the corresponding disk "
                f"in the VM image: {catalogue.DEFAULT_DISK_GIB} GB. This is not allowed. Please choose equal or "
                "greater size or do not specify an explicit size.",
            )


def check_os(properties: dict[str, Any]) -> None:
    """A name, and a key or a password to come in with: ARM makes no machine without, but from a specialized image, for
    which it takes neither."""
    user_data(properties)
    if is_own_image(properties):
        if properties.get("osProfile"):
            raise invalid("osProfile", "Parameter 'osProfile' is not allowed.")
        return
    user = str(demanded(properties, "osProfile", "adminUsername"))
    demanded(properties, "osProfile", "computerName")
    if user.lower() in _RESERVED_NAMES:
        raise invalid("adminUsername", "The Admin Username specified is not allowed.")
    profile = properties["osProfile"]
    linux = profile.get("linuxConfiguration") or {}
    keys = (linux.get("ssh") or {}).get("publicKeys") or []
    password = profile.get("adminPassword")
    if not keys and not password:
        raise invalid("adminPassword", "Required parameter 'osProfile.adminPassword' is missing (null).")
    if not keys and linux.get("disablePasswordAuthentication"):
        raise invalid("linuxConfiguration", "Authentication using either SSH or by user name and password must be "
                      "enabled in Linux profile.")  # fmt: skip
    if password and not _MIN_PASSWORD <= len(password) <= _MAX_PASSWORD:
        raise invalid("adminPassword", f"The supplied password must be between {_MIN_PASSWORD}-{_MAX_PASSWORD} "
                      "characters long.")  # fmt: skip
    for key in keys:
        _check_key(key, user)
    custom_data(properties)


def _check_key(key: dict[str, Any], user: str) -> None:
    path = f"/home/{user}/.ssh/authorized_keys"
    if key.get("path") != path:
        raise invalid("linuxConfiguration.ssh.publicKeys.path", "Destination path for SSH public keys is currently "
                      f"limited to its default value {path}.")  # fmt: skip
    words = str(key.get("keyData") or "").split()
    try:
        raw = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        raw = b""
    if not words or words[0] not in _KEY_TYPES or not raw[4:].startswith(words[0].encode()):
        raise invalid(
            "linuxConfiguration.ssh.publicKeys.keyData",
            "The value of parameter linuxConfiguration.ssh.publicKeys.keyData is invalid.",
        )


def custom_data(properties: dict[str, Any]) -> bytes:
    """The decoded custom data; empty without."""
    return _decoded((properties.get("osProfile") or {}).get("customData"), "customData", "Custom data in OSProfile")


def user_data(properties: dict[str, Any]) -> bytes:
    """The decoded user data, which a machine may read at any time; empty without."""
    return _decoded(properties.get("userData"), "userData", "User data")


def _decoded(text: Any, target: str, what: str) -> bytes:
    try:
        if len(str(text or "")) <= MAX_CUSTOM_DATA_CHARACTERS:
            return base64.b64decode(str(text or ""), validate=True)
    except binascii.Error:
        pass
    raise invalid(
        target,
        f"{what} must be in Base64 encoding and with a maximum length of {MAX_CUSTOM_DATA_CHARACTERS} characters.",
    )


def check_interfaces(account: AzureAccount, call: ArmCall, properties: dict[str, Any], location: str) -> list[Resource]:
    """The interfaces that the machine names: each there, in its region, and nobody else's."""
    asked = demanded(properties, "networkProfile", "networkInterfaces")
    if len(asked) > 1:
        raise not_emulated("machines with several network interfaces")
    found = []
    for each in asked:
        nic = referenced(account, sub_id(each), NETWORK_INTERFACE, call.place.id, location)
        if nic.state == "Creating":
            raise ArmError(429, "RetryableError", f"The network interface {nic.id} is not ready: it is {nic.state}.")
        for machine in account.store.who_names(nic.id, VIRTUAL_MACHINE):
            if machine.key != call.place.id.strip("/").lower():
                raise ArmError(
                    409,
                    "OperationNotAllowed",
                    f"Network interface {nic.id} is attached to VM {machine.id}: an interface has one machine.",
                )
        each["id"] = nic.id
        found.append(nic)
    return found


def check_disk_is_new(account: AzureAccount, call: ArmCall, properties: dict[str, Any]) -> None:
    """``ConflictingUserInput`` when the group has a disk of that name: a machine's disk takes no other's place."""
    place = call.place
    name = properties["storageProfile"]["osDisk"].get("name")
    if name and account.store.get(Place(place.subscription, place.group, place.namespace, ("disks", name)).id):
        text = f"Disk {name} already exists in resource group {place.group}. Only CreateOption.Attach is supported."
        raise ArmError(409, "ConflictingUserInput", text, target="disk.name")


def check_priority(properties: dict[str, Any], size: catalogue.Size) -> None:
    """Spot settings only on spot machines, and spot machines only of sizes that have them."""
    spot = str(properties.get("priority", "Regular")).lower() in {"spot", "low"}
    if not spot and (properties.get("evictionPolicy") or properties.get("billingProfile")):
        raise invalid("evictionPolicy", "Eviction policy can be set only on Azure Spot Virtual Machines.")
    if spot and not size.spot:
        raise ArmError(409, "OperationNotAllowed", f"The VM size {size.name} is not supported for Azure Spot.")


def check_unchanged(old: Resource, body: dict[str, Any]) -> None:
    """``PropertyChangeNotAllowed`` for what is fixed when a machine is made. What is not named stays as it is."""
    for path in (*(("properties", *each) for each in _FIXED), ("zones",)):
        was, wanted = _at(old.body, path), _at(body, path)
        if isinstance(was, dict) and isinstance(wanted, dict):
            was = {name: was.get(name) for name in wanted if name != "exactVersion"}
            wanted = {name: value for name, value in wanted.items() if name != "exactVersion"}
        if wanted is not None and wanted != was:
            name = ".".join(path).removeprefix("properties.")
            raise ArmError(409, "PropertyChangeNotAllowed", f"Changing property '{name}' is not allowed.", target=name)


def check_not_emulated_changes(old: Resource, body: dict[str, Any]) -> None:
    """Azure resizes machines, and lets a deallocated one change its interfaces; the emulator does neither."""
    size = _at(body, ("properties", "hardwareProfile", "vmSize"))
    if size is not None and size.lower() != _at(old.body, ("properties", "hardwareProfile", "vmSize")).lower():
        raise not_emulated("resizing a machine")
    named = _at(body, ("properties", "networkProfile", "networkInterfaces"))
    had = _at(old.body, ("properties", "networkProfile", "networkInterfaces"))
    if named is not None and [sub_id(each).lower() for each in named] != [sub_id(each).lower() for each in had]:
        raise not_emulated("changing the network interfaces of a machine")


def _at(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document
