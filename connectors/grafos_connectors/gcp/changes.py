"""The changing calls: one for each create and each delete, and what is made of their first answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from grafos_connectors.contract import TAG_FABRIC, CloudError, Desired, Found, Kind, Ref, State
from grafos_connectors.gcp import labels
from grafos_connectors.gcp.client import GcpCalls
from grafos_connectors.gcp.describe import Item, by_id, described, fields_of, id_of, path_of
from grafos_connectors.gcp.errors import says_already_exists, says_not_found
from grafos_connectors.gcp.images import image_body, same_image
from grafos_connectors.gcp.machine import machine_body, same_machine
from grafos_connectors.gcp.network import (
    address_body,
    network_body,
    rule_body,
    same_address,
    same_network,
    same_rule,
    same_subnet,
    subnet_body,
)
from grafos_connectors.gcp.progress import Handle

# Under this name request ids are made from tokens; itself made once, by chance.
REQUEST_NAMESPACE = uuid.UUID("8f0c7f3b-52c5-4c35-9f0e-6f2a8a1d4b77")
OPERATION_CLIENTS = {"zones": "zone_operations", "regions": "region_operations", "global": "global_operations"}


@dataclass(frozen=True)
class Maker:
    """How a kind is made. ``same`` tells whether what has the name already is what was asked for."""

    body_field: str
    body: Callable[[Desired, str], dict[str, Any]]
    same: Callable[[Item, Desired], bool]


MAKERS: dict[Kind, Maker] = {
    Kind.NETWORK: Maker("network_resource", network_body, same_network),
    Kind.SUBNET: Maker("subnetwork_resource", subnet_body, same_subnet),
    Kind.FIREWALL_RULE: Maker("firewall_resource", rule_body, same_rule),
    Kind.ADDRESS: Maker("address_resource", address_body, same_address),
    Kind.IMAGE: Maker("image_resource", image_body, same_image),
    Kind.MACHINE: Maker("instance_resource", machine_body, same_machine),
}


def create(calls: GcpCalls, desired: Desired, token: str) -> Handle:
    """One insert; what has its name already is taken for its effect when it is ours and the same."""
    maker = MAKERS[desired.kind]
    ref = Ref(key=desired.key, kind=desired.kind, id=id_of(desired), region=desired.region, zone=desired.zone)
    kind = described(desired.kind)
    fields: dict[str, Any] = {name: value for name, value in fields_of(ref).items() if name != kind.argument}
    fields[maker.body_field] = _with_reserved(calls, desired, maker.body(desired, calls.project))
    try:
        began = calls.change(kind.client, "insert", **fields, request_id=request_id(desired, token))
    except CloudError as refusal:
        if not says_already_exists(refusal):
            raise
        return _adopted(calls, desired, ref, refusal)
    if began.get("status") == "DONE" and not began.get("error") and _is_gone(calls, ref):
        raise _conflict(desired, "its token is used up: what it made is gone", cloud_code="requestId")
    return Handle(operations=(path_of(began["selfLink"]),))


def _with_reserved(calls: GcpCalls, desired: Desired, body: dict[str, Any]) -> dict[str, Any]:
    """A machine's body with the reserved address that it needs, which goes by its number and not by its name."""
    if "address" not in desired.needs:
        return body
    ref = Ref(key="", kind=Kind.ADDRESS, id=desired.needs["address"], region=desired.region)
    pair = by_id(calls, ref)
    if pair is None:
        raise CloudError("cloud_not_found", f"There is no address {ref.id}.", where=f"gcp {desired.region}")
    [interface] = body["networkInterfaces"]
    reserved = {**interface["accessConfigs"][0], "natIP": pair[0]["address"]}
    return {**body, "networkInterfaces": [{**interface, "accessConfigs": [reserved]}]}


def _is_gone(calls: GcpCalls, ref: Ref) -> bool:
    """Whether what an operation made is known to be gone. Where nobody can say, it is there: the call was accepted."""
    try:
        return by_id(calls, ref) is None
    except CloudError:
        return False


def request_id(desired: Desired, token: str) -> str:
    """From token and resource alone, so that it is the same in every process.

    Compute Engine does not compare what comes with an id: it gives the first request's operation. So another resource
    under one token must have another id, and then meets its own name.
    """
    return str(uuid.uuid5(REQUEST_NAMESPACE, f"{token}\n{msgspec.json.encode(desired, order='sorted').hex()}"))


def _adopted(calls: GcpCalls, desired: Desired, ref: Ref, refusal: CloudError) -> Handle:
    try:
        pair = by_id(calls, ref)
    except CloudError as unanswered:
        # Something has the name, and may be what an earlier call made.
        unanswered.context["ambiguous"] = unanswered.ambiguous = True
        raise
    if pair is None:
        raise CloudError(
            "cloud_not_found",
            f"The {desired.kind.value} {desired.name} existed a moment ago and does not any more.",
            where=refusal.where,
            why=refusal.why,
            cloud_code=refusal.cloud_code,
            request_id=refusal.request_id,
        ) from refusal
    item, found = pair
    ours = found.ref.key == desired.key and found.tags.get(TAG_FABRIC) == desired.tags[TAG_FABRIC]
    if not ours or found.state is State.DELETING or not MAKERS[desired.kind].same(item, desired):
        why = "its name is taken by another" if not ours else "it exists, and is not what is asked for"
        raise _conflict(desired, why, cloud_code=refusal.cloud_code, said=refusal.why) from refusal
    return Handle()


def delete(calls: GcpCalls, ref: Ref) -> Handle:
    """One delete, without a request id: the answer to an earlier delete of the same name is not wanted."""
    try:
        began = calls.change(described(ref.kind).client, "delete", **fields_of(ref))
    except CloudError as refusal:
        if not says_not_found(refusal):
            raise
        return Handle(unseen=True)
    return Handle(operations=(path_of(began["selfLink"]),))


def retag(calls: GcpCalls, ref: Ref, tags: Mapping[str, str]) -> Handle:
    """New labels on a machine and on the disk that came with it, or on a disk or an image alone.

    Compute Engine changes the labels of one resource in one call: the disk's first. Where a crash falls between the two
    the repeated update makes up for it, and a resource that bears its labels already gets no call.
    """
    if ref.kind not in {Kind.MACHINE, Kind.DISK, Kind.IMAGE}:
        raise CloudError(
            "unsupported",
            f"The tags of a {ref.kind.value} cannot be changed on Google Cloud.",
            where=f"gcp {ref.region}",
            why="they are in its description, which is written once",
        )
    pair = by_id(calls, ref)
    if pair is None:
        raise CloudError("cloud_not_found", f"There is no {ref.kind.value} {ref.id}.", where=f"gcp {ref.zone}")
    item, found = pair
    disks = [path_of(disk["source"]) for disk in item.get("disks", ()) if disk.get("autoDelete")]
    parts = [by_id(calls, Ref(key="", kind=Kind.DISK, id=disk, region=ref.region)) for disk in disks]
    wanted = [pair for pair in (*parts, (item, found)) if pair is not None]
    began = [_relabel(calls, item, found, tags) for item, found in wanted if dict(found.tags) != dict(tags)]
    return Handle(operations=tuple(began), tags=tags)


def _relabel(calls: GcpCalls, item: Item, found: Found, tags: Mapping[str, str]) -> str:
    """One setLabels; refused when somebody else changed the labels since they were read."""
    place = fields_of(found.ref)
    body = {
        "labels": labels.retagged(item.get("labels", {}), tags),
        "labelFingerprint": item.get("labelFingerprint", ""),
    }
    if found.ref.kind is Kind.MACHINE:
        began = calls.change("instances", "set_labels", **place, instances_set_labels_request_resource=body)
    elif found.ref.kind is Kind.IMAGE:
        image = place["image"]
        began = calls.change("images", "set_labels", resource=image, global_set_labels_request_resource=body)
    else:
        named = {"zone": place["zone"], "resource": place["disk"]}
        began = calls.change("disks", "set_labels", **named, zone_set_labels_request_resource=body)
    return path_of(began["selfLink"])


def operation_now(calls: GcpCalls, path: str) -> Mapping[str, Any] | None:
    """One operation's document; None when Compute Engine has forgotten it, as it does after two weeks."""
    *scope, _, name = path.split("/")
    place = {} if scope == ["global"] else {scope[0].removesuffix("s"): scope[1]}
    try:
        return calls.read(OPERATION_CLIENTS[scope[0]], "get", operation=name, **place)
    except CloudError as refusal:
        if says_not_found(refusal):
            return None
        raise


def _conflict(desired: Desired, why: str, *, cloud_code: str = "", said: str = "") -> CloudError:
    return CloudError(
        "cloud_conflict",
        f"The {desired.kind.value} {desired.name} cannot be made: {why}.",
        where=f"gcp {desired.zone or desired.region}",
        why=said,
        cloud_code=cloud_code,
    )
