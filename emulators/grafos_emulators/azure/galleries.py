"""Galleries, the images in them, and the versions of these: each is made in the one before, and goes before it.

A version is made of a managed disk that was filled, and has its bytes from then on.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from grafos_emulators.azure import uploads
from grafos_emulators.azure.errors import ArmError, not_emulated
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.references import referenced
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import DISK, GALLERY, GALLERY_IMAGE, GALLERY_IMAGE_VERSION
from grafos_emulators.certificates import fingerprint

_GALLERY_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.]{0,78}[A-Za-z0-9])?")
_VERSION_NAME = re.compile(r"\d{1,10}\.\d{1,10}\.\d{1,10}")
NUMBER_MAX = 2**31 - 1


class _Holder(Kind):
    """What holds others, and stays while it does."""

    def check_unused(self, resource: Resource) -> None:
        inside = next(iter(self.account.store.below(resource.id)), None)
        if inside is not None:
            what = f"Can not delete resource before nested resources are deleted: {inside.name}."
            raise ArmError(409, "CannotDeleteResource", what)

    def patch(self, resource: Resource, body: dict[str, Any]) -> None:
        if set(body) - {"tags"}:
            raise not_emulated(f"changing {resource.name}: only its tags")

    def _check_parent(self, ask: Ask) -> Resource:
        parent = self.account.store.get(ask.call.place.parent.id)
        if parent is None:
            above = ask.call.place.parent.name
            what = f"Can not perform requested operation on nested resource. Parent resource '{above}' not found."
            raise ArmError(404, "ParentResourceNotFound", what)
        return parent


class Galleries(_Holder):
    type: ClassVar[str] = GALLERY
    model: ClassVar[str] = "compute.Gallery"

    def accept(self, ask: Ask) -> dict[str, Any]:
        if not _GALLERY_NAME.fullmatch(ask.call.place.name):
            raise ArmError(400, "InvalidParameter", "The gallery name is invalid: letters, digits, '.' and '_'.")
        return ask.body


class GalleryImages(_Holder):
    type: ClassVar[str] = GALLERY_IMAGE
    model: ClassVar[str] = "compute.GalleryImage"

    def accept(self, ask: Ask) -> dict[str, Any]:
        self._check_parent(ask)
        return ask.body


class GalleryImageVersions(_Holder):
    type: ClassVar[str] = GALLERY_IMAGE_VERSION
    model: ClassVar[str] = "compute.GalleryImageVersion"
    is_billable: ClassVar[bool] = True

    def accept(self, ask: Ask) -> dict[str, Any]:
        family = self._check_parent(ask)
        name = ask.call.place.name
        if not _VERSION_NAME.fullmatch(name) or any(int(each) > NUMBER_MAX for each in name.split(".")):
            raise ArmError(400, "InvalidParameter", f"The version name '{name}' is invalid: Major.Minor.Patch.")
        if ask.old is None:
            uploads.check_vhd(self._disk(ask.body, name, ask.location))
        _check_firmware(ask.body, family)
        return ask.body

    def begin_make(self, resource: Resource, operation: Any, fault: Any) -> None:
        resource.runtime["pages"] = uploads.check_vhd(self._disk(resource.body, resource.id, resource.location))
        super().begin_make(resource, operation, fault)

    def _disk(self, body: dict[str, Any], by: str, location: str) -> Resource:
        storage = (body.get("properties") or {}).get("storageProfile") or {}
        source = ((storage.get("osDiskImage") or {}).get("source") or {}).get("id", "")
        return referenced(self.account, source, DISK, by, location)


def _check_firmware(body: dict[str, Any], family: Resource) -> None:
    """Certificates for the firmware go with an image that is said to take Trusted Launch."""
    settings = ((body.get("properties") or {}).get("securityProfile") or {}).get("uefiSettings")
    if not settings:
        return
    features = {each.get("name"): each.get("value") for each in family.body["properties"].get("features") or []}
    if not str(features.get("SecurityType", "")).startswith("TrustedLaunch"):
        what = "The security profile's UEFI settings need an image definition with a SecurityType of TrustedLaunch."
        raise ArmError(400, "InvalidParameter", what)
    keys = [key for group in ("kek", "db") for key in (settings.get("additionalSignatures") or {}).get(group) or []]
    for key in keys:
        if key.get("type") != "x509" or not all(map(fingerprint, key.get("value") or [""])):
            raise ArmError(400, "InvalidParameter", "An additional signature is no certificate of type x509.")
