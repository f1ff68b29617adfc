"""What EC2 tells of each kind that bears tags, and how that reads in our words. Reading only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from grafos_connectors.aws import tags
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.contract import TAG_KEY, CloudError, Found, Kind, Ref, State
from grafos_connectors.uploads import FILLED, NO, YES

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Described:
    """One Describe call. ``attributes`` and ``state`` read one item of its answer; ``tag_field`` holds its tags."""

    operation: str
    results: str
    id_field: str
    id_filter: str
    attributes: Callable[[Item], dict[str, Any]]
    state: Callable[[Item], State] = lambda _: State.READY
    zone: Callable[[Item], str] = lambda item: str(item.get("AvailabilityZone", ""))
    tag_field: str = "Tags"
    paged: bool = True
    also: Mapping[str, Any] = field(default_factory=dict)  # further parameters of the call


MACHINE_STATES = {
    "pending": State.PENDING,
    "running": State.READY,
    "stopping": State.STOPPED,
    "stopped": State.STOPPED,
    "shutting-down": State.DELETING,
    "terminated": State.GONE,
}
DISK_STATES = {
    "creating": State.PENDING,
    "available": State.READY,
    "in-use": State.READY,
    "deleting": State.DELETING,
    "deleted": State.GONE,
    "error": State.FAILED,
}
SNAPSHOT_STATES = {
    "pending": State.READY,  # to be filled, or being taken over; FILLED tells
    "completed": State.READY,
    "error": State.FAILED,
    "recoverable": State.GONE,  # in a recycle bin that somebody set up; nothing of ours makes use of it
    "recovering": State.PENDING,
}
IMAGE_STATES = {
    "pending": State.PENDING,
    "available": State.READY,
    "transient": State.PENDING,
    "invalid": State.FAILED,
    "failed": State.FAILED,
    "error": State.FAILED,
    "disabled": State.STOPPED,
    "deregistered": State.GONE,
}
ARCHES = {"x86_64": "amd64", "arm64": "arm64"}
BILLED_STATES = {
    Kind.MACHINE: {State.PENDING, State.READY},
    Kind.DISK: {State.PENDING, State.READY, State.FAILED},
    Kind.ADDRESS: {State.READY},
    Kind.SNAPSHOT: {State.PENDING, State.READY, State.FAILED},
}


UNTOLD = "none"  # a machine that was launched without one, which no machine of ours is


def _known(states: Mapping[str, State], word: str) -> State:
    """What a state of EC2's means; one that did not exist when this was written is an error, not a guess."""
    if word not in states:
        raise CloudError("cloud_unknown", f"AWS tells a state that grafos does not know: {word}.", cloud_code=word)
    return states[word]


def _available(item: Item) -> State:
    return State.READY if item.get("State", "available") == "available" else State.PENDING


def _gateway(item: Item) -> dict[str, Any]:
    return {"network": next((attached["VpcId"] for attached in item.get("Attachments", ())), "")}


def _rule(item: Item) -> dict[str, Any]:
    return {"carrier": item.get("GroupId"), "port": item.get("FromPort"), "cidr": item.get("CidrIpv4")}


def _machine(item: Item) -> dict[str, Any]:
    reason = item.get("StateReason", {})
    return {
        "machine_type": item.get("InstanceType"),
        "image": item.get("ImageId"),
        "public_ip": item.get("PublicIpAddress"),
        "private_ip": item.get("PrivateIpAddress"),
        "network": item.get("VpcId"),
        "subnet": item.get("SubnetId"),
        "made_at": _unix_seconds(item.get("LaunchTime")),
        "client_token": item.get("ClientToken") or UNTOLD,
        "reason": reason.get("Message") or item.get("StateTransitionReason"),
        "reason_code": reason.get("Code"),
    }


def _disk(item: Item) -> dict[str, Any]:
    return {"size_gib": item.get("Size"), "machine": _first(item.get("Attachments"), "InstanceId")}


def _snapshot(item: Item) -> dict[str, Any]:
    filled = YES if item.get("State") == "completed" else NO
    return {FILLED: filled, "size_gib": item.get("VolumeSize"), "made_at": _unix_seconds(item.get("StartTime"))}


def _image(item: Item) -> dict[str, Any]:
    disks = [mapping.get("Ebs", {}) for mapping in item.get("BlockDeviceMappings", ())]
    return {
        "arch": ARCHES.get(str(item.get("Architecture", "")), item.get("Architecture")),
        "snapshot": _first(disks, "SnapshotId"),
        "root_device": item.get("RootDeviceName"),
        "cloud_name": item.get("Name"),
    }


def _nic(item: Item) -> dict[str, Any]:
    return {
        "network": item.get("VpcId"),
        "subnet": item.get("SubnetId"),
        "machine": item.get("Attachment", {}).get("InstanceId"),
    }


DESCRIBED: dict[Kind, Described] = {
    Kind.MACHINE: Described(
        "describe_instances",
        "Reservations",
        "InstanceId",
        "instance-id",
        _machine,
        lambda item: _known(MACHINE_STATES, item["State"]["Name"]),
        lambda item: str(item.get("Placement", {}).get("AvailabilityZone", "")),
    ),
    Kind.DISK: Described(
        "describe_volumes", "Volumes", "VolumeId", "volume-id", _disk, lambda item: _known(DISK_STATES, item["State"])
    ),
    Kind.NIC: Described(
        "describe_network_interfaces",
        "NetworkInterfaces",
        "NetworkInterfaceId",
        "network-interface-id",
        _nic,
        lambda item: State.DELETING if item.get("Status") == "detaching" else State.READY,
        tag_field="TagSet",
    ),
    Kind.ADDRESS: Described(
        "describe_addresses",
        "Addresses",
        "AllocationId",
        "allocation-id",
        lambda item: {"public_ip": item.get("PublicIp"), "machine": item.get("InstanceId")},
        paged=False,
    ),
    Kind.SNAPSHOT: Described(
        "describe_snapshots",
        "Snapshots",
        "SnapshotId",
        "snapshot-id",
        _snapshot,
        lambda item: _known(SNAPSHOT_STATES, item["State"]),
        also={"OwnerIds": ["self"]},  # else everybody's public ones are looked through
    ),
    Kind.IMAGE: Described(
        "describe_images",
        "Images",
        "ImageId",
        "image-id",
        _image,
        lambda item: _known(IMAGE_STATES, item["State"]),
        also={"Owners": ["self"], "IncludeDisabled": True},
    ),
    Kind.FIREWALL: Described(
        "describe_security_groups",
        "SecurityGroups",
        "GroupId",
        "group-id",
        lambda item: {"network": item.get("VpcId"), "name": item.get("GroupName")},
    ),
    Kind.FIREWALL_RULE: Described(
        "describe_security_group_rules",
        "SecurityGroupRules",
        "SecurityGroupRuleId",
        "security-group-rule-id",
        _rule,
    ),
    Kind.SUBNET: Described(
        "describe_subnets",
        "Subnets",
        "SubnetId",
        "subnet-id",
        lambda item: {"network": item.get("VpcId"), "cidr": item.get("CidrBlock")},
        _available,
    ),
    Kind.GATEWAY: Described(
        "describe_internet_gateways", "InternetGateways", "InternetGatewayId", "internet-gateway-id", _gateway
    ),
    Kind.NETWORK: Described(
        "describe_vpcs", "Vpcs", "VpcId", "vpc-id", lambda item: {"cidr": item.get("CidrBlock")}, _available
    ),
}


def pages(
    calls: AwsCalls, kind: Kind, region: str, *filters: dict[str, Any]
) -> Iterator[tuple[tuple[Item, Found], ...]]:
    """What EC2 has of one kind under all filters, page by page: each item with its reading."""
    described = DESCRIBED[kind]
    if described.paged:
        answers = calls.pages("ec2", described.operation, region, Filters=list(filters), **described.also)
    else:
        answers = iter([calls.read("ec2", described.operation, region, Filters=list(filters), **described.also)])
    for answer in answers:
        items = answer[described.results]
        if kind is Kind.MACHINE:  # instances come in the batches in which they were launched
            items = [instance for reservation in items for instance in reservation["Instances"]]
        yield tuple((item, found(kind, item, region)) for item in items)


def search(calls: AwsCalls, kind: Kind, region: str, *filters: dict[str, Any]) -> list[tuple[Item, Found]]:
    """All of ``pages`` at once; for filters that leave few."""
    return [pair for page in pages(calls, kind, region, *filters) for pair in page]


def by_id(calls: AwsCalls, kind: Kind, id: str, region: str) -> tuple[Item, Found] | None:
    """The one with that id; asked by filter, so that an unknown or malformed id is no error but nothing."""
    pairs = search(calls, kind, region, {"Name": DESCRIBED[kind].id_filter, "Values": [id]})
    return pairs[0] if pairs else None


def found(kind: Kind, item: Item, region: str) -> Found:
    """One item of a Describe answer in our words."""
    described = DESCRIBED[kind]
    its_tags = item.get(described.tag_field, ())
    ours = tags.ours(its_tags)
    attributes = {"name": tags.name_of(its_tags), **described.attributes(item)}
    state = described.state(item)
    return Found(
        ref=Ref(
            key=ours.get(TAG_KEY, ""),
            kind=kind,
            id=item[described.id_field],
            region=region,
            zone=described.zone(item),
        ),
        state=state,
        tags=ours,
        attributes={name: str(value) for name, value in attributes.items() if value not in {None, ""}},
        billable=state in BILLED_STATES.get(kind, set()),
    )


def _first(items: Any, field: str) -> str:
    return next((str(item.get(field, "")) for item in items or ()), "")


def _unix_seconds(moment: object) -> str:
    return str(int(moment.timestamp())) if isinstance(moment, datetime) else ""
