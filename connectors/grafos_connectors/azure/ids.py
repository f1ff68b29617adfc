"""ARM ids: what names a resource, its kind and its place.

    /subscriptions/S/resourceGroups/G[/providers/NAMESPACE/TYPE/NAME[/TYPE/NAME]]

ARM compares ids without regard to case and answers in whatever case it likes: a disk's group often comes in capitals.
So that ids can be compared as strings, all that leaves this folder has names in lower case, types as ARM spells them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from grafos_connectors.contract import CloudError, Desired, Kind

SCHEDULE_PREFIX = "shutdown-computevm-"  # the one name under which Azure takes a machine's schedule
TYPES: dict[Kind, str] = {
    Kind.GROUP: "",
    Kind.NETWORK: "Microsoft.Network/virtualNetworks",
    Kind.FIREWALL: "Microsoft.Network/networkSecurityGroups",
    Kind.SUBNET: "Microsoft.Network/virtualNetworks/subnets",
    Kind.ADDRESS: "Microsoft.Network/publicIPAddresses",
    Kind.NIC: "Microsoft.Network/networkInterfaces",
    Kind.DISK: "Microsoft.Compute/disks",
    Kind.MACHINE: "Microsoft.Compute/virtualMachines",
    Kind.DEADLINE: "Microsoft.DevTestLab/schedules",
    Kind.GALLERY: "Microsoft.Compute/galleries",
    Kind.IMAGE_FAMILY: "Microsoft.Compute/galleries/images",
    Kind.IMAGE: "Microsoft.Compute/galleries/images/versions",
}
KINDS: dict[str, Kind] = {spelled.lower(): kind for kind, spelled in TYPES.items()}
ROLES: dict[str, Kind] = {
    "group": Kind.GROUP,
    "network": Kind.NETWORK,
    "firewall": Kind.FIREWALL,
    "subnet": Kind.SUBNET,
    "address": Kind.ADDRESS,
    "nic": Kind.NIC,
    "machine": Kind.MACHINE,
    "gallery": Kind.GALLERY,
    "family": Kind.IMAGE_FAMILY,
    "disk": Kind.DISK,
}
PARENTS: dict[Kind, str] = {Kind.IMAGE_FAMILY: "gallery", Kind.IMAGE: "family"}
VERSION_NUMBERS = 3
NAME = re.compile(r"[A-Za-z0-9_.()-]{0,127}[A-Za-z0-9_()-]")  # of anything in an id; none is a way up, as ".." is


class ArmId(NamedTuple):
    """One id in its parts; ``type`` is empty for a resource group, whose name is then in ``group``."""

    subscription: str
    group: str
    type: str
    names: tuple[str, ...]

    @property
    def kind(self) -> Kind | None:
        return KINDS.get(self.type.lower())

    @property
    def name(self) -> str:
        return self.names[-1] if self.names else self.group

    def __str__(self) -> str:
        base = f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
        if not self.type:
            return base
        namespace, *types = self.type.split("/")
        words = [word for pair in zip(types, self.names, strict=True) for word in pair]
        return "/".join((base, "providers", namespace, *words))


def parse(id: str) -> ArmId:
    """The parts of an id in the one spelling of this folder; ``cloud_invalid`` for what is no such id."""
    words = id.split("/")
    head = [word.lower() for word in words[:5]]
    named = words[8::2]
    fits = head[1:2] == ["subscriptions"] and head[3:4] == ["resourcegroups"] and len(words) in {5, 9, 11, 13}
    fits = fits and head[0] == "" and all(NAME.fullmatch(word) for word in (words[2], words[4], *words[5:]))
    if not fits or (len(words) > 5 and words[5].lower() != "providers"):
        raise CloudError("cloud_invalid", f"{id!r} is no id of an Azure resource.", where="azure")
    told = "/".join((words[6], *words[7::2])) if len(words) > 5 else ""
    kind = KINDS.get(told.lower())
    return ArmId(head[2], head[4], TYPES[kind] if kind else told, tuple(name.lower() for name in named))


def canonical(id: object) -> str:
    """The id in the one spelling of this folder; empty for none."""
    return str(parse(id)) if isinstance(id, str) and id else ""


def id_of(desired: Desired, subscription: str) -> ArmId:
    """What the resource will be called; every need must be of the kind that its role says, in this subscription."""
    needs = {role: _need(desired, role, subscription) for role in desired.needs}
    if desired.kind is Kind.GROUP:
        return ArmId(subscription.lower(), desired.name, "", ())
    if desired.kind is Kind.SUBNET:
        network = needs["network"]
        return ArmId(network.subscription, network.group, TYPES[Kind.SUBNET], (network.name, desired.name))
    if desired.kind in PARENTS:
        above = needs[PARENTS[desired.kind]]
        name = image_version(desired.key) if desired.kind is Kind.IMAGE else desired.name
        return ArmId(above.subscription, above.group, TYPES[desired.kind], (*above.names, name))
    name = SCHEDULE_PREFIX + needs["machine"].name if desired.kind is Kind.DEADLINE else desired.name
    group = needs["group"]
    if desired.kind is Kind.GALLERY:  # whose name may have no dash
        name = name.replace("-", "_")
    return ArmId(group.subscription, group.group, TYPES[desired.kind], (name,))


def image_version(key: str) -> str:
    """A version has three numbers for a name: these hold the beginning of its key."""
    return f"1.{int(key[:4], 16)}.{int(key[4:8], 16)}"


def plain_name(id: ArmId) -> str:
    """The name as other kinds have it: a gallery's with dashes, a version's after its family with its key's tail."""
    if id.kind is Kind.GALLERY:
        return id.name.replace("_", "-")
    numbers = id.name.split(".")
    if id.kind is Kind.IMAGE and len(numbers) == VERSION_NUMBERS and all(each.isdecimal() for each in numbers):
        return f"{id.names[-2].rpartition('-')[0]}-{int(numbers[1]):04x}{int(numbers[2]):04x}"
    return id.name


def _need(desired: Desired, role: str, subscription: str) -> ArmId:
    need = parse(desired.needs[role])
    if need.kind is not ROLES[role] or need.subscription != subscription.lower():
        raise CloudError(
            "cloud_invalid",
            f"The {desired.kind.value} {desired.name} cannot be made: {desired.needs[role]} is no {role} of this "
            "subscription.",
            where=f"azure {desired.region}",
        )
    return need
