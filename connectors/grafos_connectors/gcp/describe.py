"""What Compute Engine tells of each kind, and how that reads in our words. Reading only.

A resource is known by its path below the project ("zones/Z/instances/N"), which is made of names that we chose: ``get``
by it is never behind the truth, as lists may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from grafos_connectors.contract import TAG_KEY, CloudError, Desired, Found, Kind, Ref, State
from grafos_connectors.gcp import labels
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.endpoints import region_of
from grafos_connectors.gcp.errors import says_not_found

Item = Mapping[str, Any]
GLOBAL = "global"


@dataclass(frozen=True)
class Described:
    """``client`` is the SDK's for the kind, ``collection`` its part of a path, ``argument`` how a call names one.

    ``scope`` is where it is: in a "zone", a "region" or "global". ``attributes`` and ``state`` read one document.
    """

    client: str
    collection: str
    argument: str
    scope: str
    attributes: Callable[[Item], dict[str, Any]]
    state: Callable[[Item], State] = lambda _: State.READY
    labelled: bool = True


MACHINE_STATES = {
    "PENDING": State.PENDING,
    "PROVISIONING": State.PENDING,
    "STAGING": State.PENDING,
    "RUNNING": State.READY,
    "REPAIRING": State.PENDING,
    # A machine is stopped on its way to being deleted, and says no more than that it stops.
    "STOPPING": State.DELETING,
    "PENDING_STOP": State.DELETING,
    "DEPROVISIONING": State.DELETING,
    "SUSPENDING": State.STOPPED,
    "SUSPENDED": State.STOPPED,
    "STOPPED": State.STOPPED,
    "TERMINATED": State.STOPPED,
}
DISK_STATES = {
    "CREATING": State.PENDING,
    "RESTORING": State.PENDING,
    "UNAVAILABLE": State.PENDING,
    "READY": State.READY,
    "DELETING": State.DELETING,
    "FAILED": State.FAILED,
}
IMAGE_STATES = {
    "PENDING": State.PENDING,
    "READY": State.READY,
    "FAILED": State.FAILED,
    "DELETING": State.DELETING,
}
ADDRESS_STATES = {"RESERVING": State.PENDING, "RESERVED": State.READY, "IN_USE": State.READY}
BILLED_STATES = {
    Kind.MACHINE: {State.PENDING, State.READY},
    Kind.DISK: {State.PENDING, State.READY, State.FAILED},
    Kind.ADDRESS: {State.PENDING, State.READY},
    Kind.IMAGE: {State.PENDING, State.READY, State.FAILED},
}
BILLED_STATUSES = {"SUSPENDING", "SUSPENDED"}  # of machines: their memory is kept, and paid for


def _known(states: Mapping[str, State], word: str) -> State:
    """What a status means; one that did not exist when this was written is an error, not a guess."""
    if word not in states:
        raise CloudError("cloud_unknown", f"Google Cloud tells a status that grafos does not know: {word}.")
    return states[word]


def _machine(item: Item) -> dict[str, Any]:
    interface: Item = next(iter(item.get("networkInterfaces", ())), {})
    outside: Item = next(iter(interface.get("accessConfigs", ())), {})
    scheduling = item.get("scheduling", {})
    return {
        "machine_type": last_part(item.get("machineType", "")),
        "public_ip": outside.get("natIP"),
        "private_ip": interface.get("networkIP"),
        "network": path_of(interface.get("network", "")),
        "subnet": path_of(interface.get("subnetwork", "")),
        "made_at": unix_seconds(item.get("creationTimestamp", "")),
        "signed_id": item.get("id"),
        "ends_at": unix_seconds(scheduling.get("terminationTime", "")),
        "spot": "true" if scheduling.get("provisioningModel") == "SPOT" else "",
        "reason": item.get("statusMessage"),
        "reason_code": item.get("status") if item.get("status") in {"STOPPING", "STOPPED", "TERMINATED"} else "",
    }


def _disk(item: Item) -> dict[str, Any]:
    user = next(iter(item.get("users", ())), "")
    return {
        "size_gib": item.get("sizeGb"),
        "machine": path_of(user),
        "made_at": unix_seconds(item.get("creationTimestamp", "")),
    }


def _firewall_rule(item: Item) -> dict[str, Any]:
    allowed: Item = next(iter(item.get("allowed", ())), {})
    return {
        "network": path_of(item.get("network", "")),
        "port": next(iter(allowed.get("ports", ())), ""),
        "cidr": next(iter(item.get("sourceRanges", ())), ""),
        "target": next(iter(item.get("targetTags", ())), ""),
    }


def _image(item: Item) -> dict[str, Any]:
    return {
        "arch": {"X86_64": "amd64", "ARM64": "arm64"}.get(item.get("architecture", ""), ""),
        "size_gib": item.get("diskSizeGb"),
        "made_at": unix_seconds(item.get("creationTimestamp", "")),
    }


DESCRIBED: dict[Kind, Described] = {
    Kind.MACHINE: Described(
        "instances",
        "instances",
        "instance",
        "zone",
        _machine,
        lambda item: _known(MACHINE_STATES, item.get("status", "")),
    ),
    Kind.DISK: Described(
        "disks", "disks", "disk", "zone", _disk, lambda item: _known(DISK_STATES, item.get("status", ""))
    ),
    Kind.FIREWALL_RULE: Described("firewalls", "firewalls", "firewall", GLOBAL, _firewall_rule, labelled=False),
    Kind.ADDRESS: Described(
        "addresses",
        "addresses",
        "address",
        "region",
        lambda item: {"public_ip": item.get("address"), "machine": path_of(next(iter(item.get("users", ())), ""))},
        lambda item: _known(ADDRESS_STATES, item.get("status", "")),
        labelled=False,
    ),
    Kind.SUBNET: Described(
        "subnetworks",
        "subnetworks",
        "subnetwork",
        "region",
        lambda item: {"cidr": item.get("ipCidrRange"), "network": path_of(item.get("network", ""))},
        labelled=False,
    ),
    Kind.IMAGE: Described(
        "images", "images", "image", GLOBAL, _image, lambda item: _known(IMAGE_STATES, item.get("status", ""))
    ),
    Kind.NETWORK: Described("networks", "networks", "network", GLOBAL, lambda _: {}, labelled=False),
}


def described(kind: Kind) -> Described:
    """Raises ``cloud_invalid`` for a kind that Google Cloud does not have, or that is part of another there."""
    if kind not in DESCRIBED:
        raise CloudError("cloud_invalid", f"Google Cloud has no {kind.value} of its own.", where="gcp")
    return DESCRIBED[kind]


def id_of(desired: Desired) -> str:
    """The path that a resource will have, since it follows from names."""
    of_kind = described(desired.kind)
    place = {"zone": f"zones/{desired.zone}", "region": f"regions/{desired.region}"}.get(of_kind.scope, of_kind.scope)
    return f"{place}/{of_kind.collection}/{desired.name}"


def fields_of(ref: Ref) -> dict[str, str]:
    """The fields of a call about one resource: its name and where it is. Raises ``cloud_invalid`` for another's id."""
    of_kind = described(ref.kind)
    match ref.id.split("/"):
        case ["global", of_kind.collection, name] if name and of_kind.scope == GLOBAL:
            return {of_kind.argument: name}
        case [scope, place, of_kind.collection, name] if scope == f"{of_kind.scope}s" and place and name:
            return {of_kind.scope: place, of_kind.argument: name}
    raise CloudError("cloud_invalid", f"{ref.id!r} is no id of a {ref.kind.value} on Google Cloud.", where="gcp")


def by_id(calls: GcpCalls, ref: Ref) -> tuple[Item, Found] | None:
    """The resource now, with its reading; None when there is none. One that is not ready yet raises."""
    kind = described(ref.kind)
    try:
        item = calls.read(kind.client, "get", **fields_of(ref))
    except CloudError as refusal:
        if says_not_found(refusal):
            return None
        raise
    return item, found(ref.kind, item, ref.region)


def found(kind: Kind, item: Item, region: str = "") -> Found:
    """One document in our words. ``region`` is for a network that does not say to which region's cells it belongs."""
    of_kind = described(kind)
    path = path_of(item["selfLink"])
    zone = path.split("/")[1] if path.startswith("zones/") else ""
    if of_kind.labelled:
        ours, said_region = labels.ours(item.get("labels", {})), region_of(zone)
        said_region = said_region or next(iter(item.get("storageLocations", ())), "")
    else:
        ours, said_region = labels.described(item.get("description", ""))
        said_region = path.split("/")[1] if path.startswith("regions/") else said_region
    attributes = {"name": item["name"], **of_kind.attributes(item)}
    state = of_kind.state(item)
    return Found(
        ref=Ref(key=ours.get(TAG_KEY, ""), kind=kind, id=path, region=said_region or region, zone=zone),
        state=state,
        tags=ours,
        attributes={name: str(value) for name, value in attributes.items() if value not in {None, ""}},
        billable=state in BILLED_STATES.get(kind, set()) or item.get("status") in BILLED_STATUSES,
    )


def path_of(link: str) -> str:
    """The path below the project of a full or partial URL; a path stays one."""
    _, is_url, below = link.partition("projects/")
    return below.partition("/")[2] if is_url else link


def last_part(link: str) -> str:
    return link.rpartition("/")[2]


def unix_seconds(moment: str) -> str:
    """Whole Unix seconds of an RFC 3339 time; empty for none."""
    return str(int(datetime.fromisoformat(moment).timestamp())) if moment else ""
