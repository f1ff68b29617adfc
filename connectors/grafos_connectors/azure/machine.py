"""Machines: what their PUT asks for, and what they write to their console."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from grafos_connectors.azure import skus, tags
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.ids import parse
from grafos_connectors.azure.kind_calls import place
from grafos_connectors.contract import CloudError, Desired, Ref

USER_DATA_MAX_BYTES = 64 * 1024 - 1  # Azure's limit of custom data, before base64
CONSOLE_MAX_CHARACTERS = 64 * 1024  # as much as EC2 keeps; Azure keeps more
CONSOLE_LINK_MINUTES = 5  # how long the address of a console's text opens it
ADMINISTRATOR = "grafos"
DISK_TYPE = "StandardSSD_LRS"
DISK_SUFFIX = "-disk"  # after the machine's name
URN_PARTS = 4  # publisher:offer:sku:version
TRUSTED = {"securityType": "TrustedLaunch", "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True}}
AT_MOST_ON_DEMAND = -1  # a spot machine's highest price in Azure's words: what a usual one costs
# What a console cannot be had of: a machine that is not there, not yet or not any more.
NO_CONSOLE = frozenset({"cloud_not_found", "cloud_conflict", "cloud_in_use"})


def machine_body(calls: AzureCalls, desired: Desired) -> dict[str, Any]:
    """Nobody may log in, nothing has a permission in the cloud, and all that comes with it goes with it."""
    user_data = str(desired.inputs["user_data"]).encode()
    if len(user_data) > USER_DATA_MAX_BYTES:
        raise CloudError("cloud_invalid", f"The user data has more than {USER_DATA_MAX_BYTES} bytes.", where="azure")
    baked = bool(desired.inputs.get("baked"))
    image = {"id": str(desired.inputs["image"])} if baked else image_reference(desired)
    card = {"id": desired.needs["nic"], "properties": {"primary": True, "deleteOption": "Delete"}}
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": desired.inputs["machine_type"]},
        "storageProfile": {"imageReference": image, "osDisk": _os_disk(desired)},
        **_told(desired.name, user_data, baked=baked),
        "networkProfile": {"networkInterfaces": [card]},
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},  # kept by Azure, in no storage of the account
        **(_security_of_own(calls, desired) if baked else _security(calls, desired, image)),
    }
    if desired.inputs.get("spot"):
        properties |= {
            "priority": "Spot",
            "evictionPolicy": "Delete",
            "billingProfile": {"maxPrice": AT_MOST_ON_DEMAND},
        }
    body = {"location": desired.region, "tags": tags.of(desired), "properties": properties}
    return {**body, "zones": [desired.zone]} if desired.zone else body


def image_reference(desired: Desired) -> dict[str, str]:
    """A marketplace image by its URN, "Debian:debian-13:13-gen2:0.20260112.2355"."""
    urn = str(desired.inputs["image"])
    parts = urn.split(":")
    if len(parts) != URN_PARTS or not all(parts):
        raise CloudError("cloud_invalid", f"{urn!r} is no image: publisher:offer:sku:version.", where="azure")
    publisher, offer, sku, version = parts
    return {"publisher": publisher, "offer": offer, "sku": sku, "version": version}


def _os_disk(desired: Desired) -> dict[str, Any]:
    return {
        "name": desired.name + DISK_SUFFIX,
        "createOption": "FromImage",
        "deleteOption": "Delete",
        "diskSizeGB": desired.inputs["disk_gib"],
        "caching": "ReadWrite",
        "managedDisk": {"storageAccountType": DISK_TYPE},
    }


def _told(name: str, user_data: bytes, *, baked: bool) -> dict[str, Any]:
    """An image of our own is specialized: it has no profile, is told nothing at its making, and reads user data."""
    if baked:
        return {"userData": base64.b64encode(user_data).decode()}
    return {"osProfile": _os_profile(name, user_data)}


def _os_profile(name: str, user_data: bytes) -> dict[str, Any]:
    key = {"path": f"/home/{ADMINISTRATOR}/.ssh/authorized_keys", "keyData": throw_away_key()}
    return {
        "computerName": name,
        "adminUsername": ADMINISTRATOR,
        "customData": base64.b64encode(user_data).decode(),
        "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]}},
    }


def throw_away_key() -> str:
    """A public key whose private half is forgotten at once: Azure makes no machine without one, and nobody needs it."""
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{public.decode()} nobody"


def _security_of_own(calls: AzureCalls, desired: Desired) -> dict[str, Any]:
    """Of a baked image: Secure Boot where it was published with its certificate and the machine type takes it; else
    none, for Azure knows no key that signed it."""
    machine_type = str(desired.inputs["machine_type"])
    if desired.inputs.get("secure_boot") and skus.takes_trusted_launch(calls, desired.region, machine_type):
        return {"securityProfile": TRUSTED}
    return {"securityProfile": {"securityType": "Standard"}}


def _security(calls: AzureCalls, desired: Desired, image: Mapping[str, str]) -> dict[str, Any]:
    """Secure boot and a virtual TPM where both the machine type and the image are said to take them."""
    type_takes = skus.takes_trusted_launch(calls, desired.region, str(desired.inputs["machine_type"]))
    if not type_takes or not _image_takes_trusted_launch(calls, desired.region, image):
        return {}
    return {"securityProfile": TRUSTED}


def _image_takes_trusted_launch(calls: AzureCalls, region: str, image: Mapping[str, str]) -> bool:
    names = (image["publisher"], image["offer"], image["sku"], image["version"])
    try:
        told = calls.remembered(
            ("image", region, *names),
            lambda: calls.read("compute", "virtual_machine_images.get", region, region, *names),
        )
    except CloudError as refusal:
        if refusal.code not in {"cloud_not_found", "cloud_invalid", "cloud_denied"}:
            raise
        return False  # the PUT will say what is wrong with it
    features = (told.get("properties") or {}).get("features") or ()
    return any(
        feature.get("name") == "SecurityType" and "TrustedLaunch" in str(feature.get("value")) for feature in features
    )


def console_text(calls: AzureCalls, ref: Ref) -> str:
    """What it wrote to its serial console until some seconds ago; empty when there is none."""
    try:
        told = calls.read(
            "compute",
            "virtual_machines.retrieve_boot_diagnostics_data",
            ref.region,
            *place(parse(ref.id)),
            sas_uri_expiration_time_in_minutes=CONSOLE_LINK_MINUTES,
        )
        link = told.get("serialConsoleLogBlobUri")
        if not link:
            return ""
        text = calls.fetch(link, "reading the machine's console", ref.region).content.decode(errors="replace")
    except CloudError as refusal:
        if refusal.code in NO_CONSOLE:
            return ""
        raise
    return str(text[-CONSOLE_MAX_CHARACTERS:])
