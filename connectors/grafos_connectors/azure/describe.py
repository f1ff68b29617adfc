"""What ARM tells of each kind, and how that reads in our words. Reading only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from grafos_connectors.azure import tags
from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.ids import ArmId, canonical, parse, plain_name
from grafos_connectors.azure.kind_calls import read_resource
from grafos_connectors.contract import TAG_KEY, CloudError, Found, Kind, Ref, State
from grafos_connectors.uploads import FILLED, NO, YES

Document = Mapping[str, Any]

PROVISIONING_STATES = {
    "accepted": State.PENDING,
    "canceled": State.FAILED,
    "creating": State.PENDING,
    "deleting": State.DELETING,
    "failed": State.FAILED,
    "migrating": State.PENDING,
    "succeeded": State.READY,
    "updating": State.PENDING,
}
POWER_STATES = {
    "starting": State.PENDING,
    "running": State.READY,
    "stopping": State.STOPPED,
    "stopped": State.STOPPED,
    "deallocating": State.STOPPED,
    "deallocated": State.STOPPED,
    "hibernating": State.STOPPED,
    "hibernated": State.STOPPED,
}
UNBILLED_POWER = frozenset(
    {"deallocated", "hibernated"}
)  # one that only switched itself off is billed like one that runs
PARTS_BILLED = frozenset({Kind.DISK, Kind.ADDRESS, Kind.IMAGE})  # by existing, whatever they are joined to


def found(document: Document, id: ArmId, region: str = "") -> Found:
    """One resource's document in our words; ``region`` for a kind that tells none."""
    kind = id.kind
    assert kind is not None, "only kinds that we know are read"
    its_tags = tags.ours(document.get("tags"))
    state = machine_state(document) if kind is Kind.MACHINE else _state(document)
    attributes = {"name": plain_name(id), **_ATTRIBUTES.get(kind, _nothing)(document, id)}
    if kind is Kind.DEADLINE and _properties(document).get("status", "Enabled").lower() != "enabled":
        state, attributes["reason"] = State.FAILED, "the schedule is switched off"
    zones = document.get("zones") if kind is Kind.MACHINE else None
    return Found(
        ref=Ref(
            key=its_tags.get(TAG_KEY, ""),
            kind=kind,
            id=str(id),
            region=normal_region(document.get("location") or region),
            zone=str(zones[0]) if zones else "",
        ),
        state=state,
        tags=its_tags,
        attributes={name: str(value) for name, value in attributes.items() if value not in {None, ""}},
        billable=_is_billed(kind, state, document),
    )


def observe(calls: AzureCalls, id: ArmId, region: str) -> Found | None:
    """The resource as it is now; None if there is none. A running machine is told with its addresses."""
    document = read_resource(calls, id, region)
    if document is None:
        return None
    told = found(document, id, region)
    if told.ref.kind is Kind.MACHINE and told.state is State.READY:
        more = addresses(calls, document, region)
        shown = {name: value for name, value in more.items() if value}
        return msgspec.structs.replace(told, attributes={**told.attributes, **shown})
    if told.ref.kind is Kind.DISK:
        owner = canonical(document.get("managedBy"))
        machine = read_resource(calls, parse(owner), region) if owner else None
        return told if machine is None else carried_by(found(machine, parse(owner), region), told)
    return told


def carried_by(machine: Found, disk: Found) -> Found:
    """A machine's disk with the machine's tags as they are now: a change of tags reaches one resource at a time."""
    if not machine.tags:
        return disk
    ref = msgspec.structs.replace(disk.ref, key=machine.ref.key)
    attributes = {**disk.attributes, "machine": machine.ref.id}
    return msgspec.structs.replace(disk, ref=ref, tags=machine.tags, attributes=attributes)


def addresses(calls: AzureCalls, machine: Document, region: str) -> dict[str, str]:
    """Where a machine is reached, told by its network card and by the public address there."""
    card = canonical(_first_id(_properties(machine).get("networkProfile", {}).get("networkInterfaces")))
    document = read_resource(calls, parse(card), region) if card else None
    if document is None:
        return {}
    inner = _configuration(document)
    public = inner.get("publicIPAddress") or {}
    public_ip = _properties(public).get("ipAddress", "")
    if public.get("id") and not public_ip:
        public_ip = _properties(read_resource(calls, parse(public["id"]), region) or {}).get("ipAddress", "")
    told = _nic(document, parse(card))
    return {"public_ip": public_ip or "", "nic": card, **{name: told[name] for name in told if name != "machine"}}


def normal_region(location: str) -> str:
    """``East US`` and ``eastus`` are the same place."""
    return location.replace(" ", "").lower()


# Machines -------------------------------------------------------------------------------------------------------------


def machine_state(document: Document) -> State:
    """From the power state if there is one, else from how the last change went."""
    provisioning = str(_properties(document).get("provisioningState", "")).lower()
    if provisioning in {"creating", "deleting"}:
        return PROVISIONING_STATES[provisioning]
    power = power_state(document)
    if power:
        return _known(POWER_STATES, power)
    return State.PENDING if provisioning == "succeeded" else _state(document)


def power_state(document: Document) -> str:
    """``running`` and the like; empty when the machine never got hardware, or was told without its instance view."""
    return next((code.partition("/")[2] for code, _ in _statuses(document) if code.startswith("powerstate/")), "")


def failure(document: Document) -> tuple[str, str]:
    """ARM's code and message of why it failed, from the instance view."""
    for status in _properties(document).get("instanceView", {}).get("statuses") or ():
        code = str(status.get("code", ""))
        if str(status.get("level", "")).lower() == "error":
            return code.rpartition("/")[2], str(status.get("message") or status.get("displayStatus") or "")
    return "", ""


def _statuses(document: Document) -> list[tuple[str, str]]:
    statuses = _properties(document).get("instanceView", {}).get("statuses") or ()
    return [(str(status.get("code", "")).lower(), str(status.get("message", ""))) for status in statuses]


# The attributes of each kind ------------------------------------------------------------------------------------------


def _machine(document: Document, _: ArmId) -> dict[str, Any]:
    properties = _properties(document)
    storage = properties.get("storageProfile", {})
    image = storage.get("imageReference") or {}
    reason_code, reason = failure(document)
    return {
        "machine_type": properties.get("hardwareProfile", {}).get("vmSize"),
        "image": ":".join(str(image.get(part, "")) for part in IMAGE_PARTS) if image.get("publisher") else "",
        "nic": canonical(_first_id(properties.get("networkProfile", {}).get("networkInterfaces"))),
        "disk": canonical(((storage.get("osDisk") or {}).get("managedDisk") or {}).get("id")),
        "made_at": unix_seconds(properties.get("timeCreated")),
        "signed_id": properties.get("vmId"),
        "power": power_state(document),
        "reason": reason,
        "reason_code": reason_code,
    }


BEING_FILLED = frozenset({"ReadyToUpload", "ActiveUpload"})
IMAGE_PARTS = ("publisher", "offer", "sku", "version")


def _network(document: Document, _: ArmId) -> dict[str, Any]:
    prefixes = (_properties(document).get("addressSpace") or {}).get("addressPrefixes") or [""]
    return {"cidr": prefixes[0]}


def _subnet(document: Document, id: ArmId) -> dict[str, Any]:
    properties = _properties(document)
    network = str(network_of(id))
    cidr = properties.get("addressPrefix") or next(iter(properties.get("addressPrefixes") or ()), "")
    return {"carrier": network, "network": network, "cidr": cidr}


def network_of(subnet: ArmId) -> ArmId:
    """The network that a subnet is part of."""
    return ArmId(subnet.subscription, subnet.group, subnet.type.rpartition("/")[0], subnet.names[:1])


def _address(document: Document, _: ArmId) -> dict[str, Any]:
    joined = (_properties(document).get("ipConfiguration") or {}).get("id", "")
    card = joined.partition("/ipConfigurations/")[0] if joined else ""
    return {"public_ip": _properties(document).get("ipAddress"), "nic": canonical(card)}


def _nic(document: Document, _: ArmId) -> dict[str, Any]:
    inner = _configuration(document)
    subnet = canonical((inner.get("subnet") or {}).get("id"))
    return {
        "private_ip": inner.get("privateIPAddress", ""),
        "subnet": subnet,
        "network": str(network_of(parse(subnet))) if subnet else "",
        "machine": canonical((_properties(document).get("virtualMachine") or {}).get("id")),
    }


def _disk(document: Document, _: ArmId) -> dict[str, Any]:
    properties = _properties(document)
    told = {"size_gib": properties.get("diskSizeGB"), "machine": canonical(document.get("managedBy"))}
    if (properties.get("creationData") or {}).get("createOption") != "Upload":
        return told
    return {**told, FILLED: NO if properties.get("diskState") in BEING_FILLED else YES}


def _deadline(document: Document, _: ArmId) -> dict[str, Any]:
    properties = _properties(document)
    return {
        "machine": canonical(properties.get("targetResourceId")),
        "ends_at": (document.get("tags") or {}).get(tags.ENDS_AT),
        "daily_at": (properties.get("dailyRecurrence") or {}).get("time"),
    }


def _family(document: Document, _: ArmId) -> dict[str, Any]:
    return {"arch": {"x64": "amd64", "arm64": "arm64"}.get(str(_properties(document).get("architecture")).lower(), "")}


def _nothing(_: Document, __: ArmId) -> dict[str, Any]:
    return {}


_ATTRIBUTES = {
    Kind.MACHINE: _machine,
    Kind.NETWORK: _network,
    Kind.SUBNET: _subnet,
    Kind.ADDRESS: _address,
    Kind.NIC: _nic,
    Kind.DISK: _disk,
    Kind.DEADLINE: _deadline,
    Kind.IMAGE_FAMILY: _family,
}


# Parts of documents ---------------------------------------------------------------------------------------------------


def _properties(document: Document) -> Mapping[str, Any]:
    return document.get("properties") or {}


def _configuration(card: Document) -> Mapping[str, Any]:
    """What a network card's one IP configuration holds."""
    return _properties(next(iter(_properties(card).get("ipConfigurations") or ()), {}))


def _first_id(references: Any) -> str:
    return next((str(reference.get("id", "")) for reference in references or ()), "")


def _state(document: Document) -> State:
    word = _properties(document).get("provisioningState") or document.get("provisioningState") or "Succeeded"
    return _known(PROVISIONING_STATES, str(word).lower())


def _known(states: Mapping[str, State], word: str) -> State:
    """What a state of ARM's means; one that did not exist when this was written is an error, not a guess."""
    if word not in states:
        raise CloudError("cloud_unknown", f"Azure tells a state that grafos does not know: {word}.", cloud_code=word)
    return states[word]


def _is_billed(kind: Kind, state: State, document: Document) -> bool:
    if kind is Kind.MACHINE:  # also while it is being deleted, until its hardware is given back
        return state is not State.FAILED and power_state(document) not in UNBILLED_POWER
    return kind in PARTS_BILLED


def unix_seconds(moment: object) -> str:
    """A moment as ARM writes it; Python reads up to six digits of a second, and ARM may write seven."""
    if not isinstance(moment, str) or not moment:
        return ""
    head, _, tail = moment.partition(".")
    zone = "+00:00" if not tail or tail.endswith("Z") else tail.lstrip("0123456789")
    whole = head if tail else head.removesuffix("Z")
    try:
        return str(int(datetime.fromisoformat(whole if "+" in whole else whole + (zone or "+00:00")).timestamp()))
    except ValueError:
        return ""
