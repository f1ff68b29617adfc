"""Networks, subnets, gateways and the way out: what many machines share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from grafos_connectors.aws import describe, tags
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.kind_calls import SEPARATOR, KindCalls, not_shown_yet, occupied
from grafos_connectors.contract import CloudError, Desired, Found, Kind, Ref, State


def create_network(calls: AwsCalls, desired: Desired, _token: str) -> str:
    answer = calls.change(
        "create_vpc",
        desired.region,
        CidrBlock=desired.inputs["cidr"],
        TagSpecifications=tags.specifications(desired, "vpc"),
    )
    return str(answer["Vpc"]["VpcId"])


def create_subnet(calls: AwsCalls, desired: Desired, _token: str) -> str:
    """Two subnets of a network cannot share a cidr; ours and equal is taken for the one that is asked for."""
    network, cidr = desired.needs["network"], desired.inputs["cidr"]
    try:
        answer = calls.change(
            "create_subnet",
            desired.region,
            VpcId=network,
            CidrBlock=cidr,
            AvailabilityZone=desired.zone,
            TagSpecifications=tags.specifications(desired, "subnet"),
        )
    except CloudError as refusal:
        if refusal.cloud_code != "InvalidSubnet.Conflict":
            raise
        return _subnet_in_place(calls, desired, refusal)
    return str(answer["Subnet"]["SubnetId"])


def _subnet_in_place(calls: AwsCalls, desired: Desired, refusal: CloudError) -> str:
    wanted = ip_network(str(desired.inputs["cidr"]))
    network = {"Name": "vpc-id", "Values": [desired.needs["network"]]}
    subnets = [found for _, found in describe.search(calls, Kind.SUBNET, desired.region, network)]
    return in_place(desired, refusal, [found for found in subnets if wanted.overlaps(_cidr_of(found))])


def _cidr_of(found: Found) -> IPv4Network | IPv6Network:
    return ip_network(found.attributes["cidr"])


def create_gateway(calls: AwsCalls, desired: Desired, _token: str) -> str:
    answer = calls.change(
        "create_internet_gateway", desired.region, TagSpecifications=tags.specifications(desired, "internet-gateway")
    )
    return str(answer["InternetGateway"]["InternetGatewayId"])


def attach_gateway(calls: AwsCalls, desired: Desired, _token: str) -> str:
    network, gateway = desired.needs["network"], desired.needs["gateway"]
    try:
        calls.change("attach_internet_gateway", desired.region, InternetGatewayId=gateway, VpcId=network)
    except CloudError as refusal:
        if refusal.cloud_code != "Resource.AlreadyAssociated":
            raise
        pair = describe.by_id(calls, Kind.GATEWAY, gateway, desired.region)
        attached_to = pair[1].attributes.get("network", "") if pair else ""
        if not attached_to:
            raise not_shown_yet(desired, refusal) from refusal
        if attached_to != network:
            raise occupied(desired, refusal, f"the gateway is attached to {attached_to}") from refusal
    return f"{gateway}{SEPARATOR}{network}"


def create_route(calls: AwsCalls, desired: Desired, _token: str) -> str:
    """A route in the network's main table, which EC2 made with the network."""
    cidr, gateway = str(desired.inputs["cidr"]), desired.needs["gateway"]
    table = main_table(calls, desired.needs["network"], desired.region)
    if table is None:
        raise CloudError(
            "cloud_not_found",
            f"The main route table of {desired.needs['network']} does not show up yet.",
            where=f"aws {desired.region}",
        )
    route_id = f"{table['RouteTableId']}{SEPARATOR}{cidr}"
    try:
        calls.change(
            "create_route",
            desired.region,
            RouteTableId=table["RouteTableId"],
            DestinationCidrBlock=cidr,
            GatewayId=gateway,
        )
    except CloudError as refusal:
        if refusal.cloud_code != "RouteAlreadyExists":
            raise
        there = observe_route(calls, Ref(key="", kind=Kind.ROUTE, id=route_id, region=desired.region))
        if there is None:
            raise not_shown_yet(desired, refusal) from refusal
        if there.attributes.get("gateway") != gateway:
            raise occupied(desired, refusal, "the network has another way to the same addresses") from refusal
    return route_id


def in_place(desired: Desired, refusal: CloudError, there: Sequence[Found]) -> str:
    """The id of what is in a place that EC2 said is taken, if it is ours and bears the same key."""
    if not there:
        raise not_shown_yet(desired, refusal) from refusal
    if there[0].ref.key != desired.key:
        raise occupied(desired, refusal, f"{there[0].ref.id} is in its place") from refusal
    return there[0].ref.id


# The two kinds that no Describe call is about -----------------------------------------------------------------------


def attachment_of(gateway: Found) -> Found | None:
    """The attachment that a gateway's description shows; it bears the gateway's tags."""
    network = gateway.attributes.get("network", "")
    if not network:
        return None
    return Found(
        ref=Ref(
            key="",
            kind=Kind.GATEWAY_ATTACHMENT,
            id=f"{gateway.ref.id}{SEPARATOR}{network}",
            region=gateway.ref.region,
        ),
        state=State.READY,
        tags=gateway.tags,
        attributes={"carrier": gateway.ref.id, "gateway": gateway.ref.id, "network": network},
    )


def observe_attachment(calls: AwsCalls, ref: Ref) -> Found | None:
    gateway, _, _ = ref.id.partition(SEPARATOR)
    pair = describe.by_id(calls, Kind.GATEWAY, gateway, ref.region)
    attachment = attachment_of(pair[1]) if pair else None
    return attachment if attachment is not None and attachment.ref.id == ref.id else None


def find_attachment(calls: AwsCalls, desired: Desired) -> Found | None:
    attachment_id = f"{desired.needs['gateway']}{SEPARATOR}{desired.needs['network']}"
    return observe_attachment(calls, Ref(key="", kind=desired.kind, id=attachment_id, region=desired.region))


def main_table(calls: AwsCalls, network: str, region: str) -> Mapping[str, Any] | None:
    filters = [{"Name": "vpc-id", "Values": [network]}, {"Name": "association.main", "Values": ["true"]}]
    return next(iter(calls.read("ec2", "describe_route_tables", region, Filters=filters)["RouteTables"]), None)


def observe_route(calls: AwsCalls, ref: Ref) -> Found | None:
    table_id, _, cidr = ref.id.partition(SEPARATOR)
    filters = [{"Name": "route-table-id", "Values": [table_id]}]
    tables = calls.read("ec2", "describe_route_tables", ref.region, Filters=filters)["RouteTables"]
    return _route_in(tables[0], cidr, ref.region) if tables else None


def find_route(calls: AwsCalls, desired: Desired) -> Found | None:
    table = main_table(calls, desired.needs["network"], desired.region)
    route = _route_in(table, str(desired.inputs["cidr"]), desired.region) if table is not None else None
    return route if route is not None and route.attributes.get("gateway") == desired.needs["gateway"] else None


def _route_in(table: Mapping[str, Any], cidr: str, region: str) -> Found | None:
    route = next((route for route in table["Routes"] if route.get("DestinationCidrBlock") == cidr), None)
    if route is None:
        return None
    dead = route.get("State") == "blackhole"
    attributes = {
        "carrier": table["VpcId"],
        "network": table["VpcId"],
        "gateway": route.get("GatewayId", ""),
        "cidr": cidr,
        "reason": "its gateway is gone or detached" if dead else "",
    }
    return Found(
        ref=Ref(key="", kind=Kind.ROUTE, id=f"{table['RouteTableId']}{SEPARATOR}{cidr}", region=region),
        state=State.FAILED if dead else State.READY,
        attributes={name: value for name, value in attributes.items() if value},
    )


def delete_network(calls: AwsCalls, ref: Ref) -> None:
    calls.change("delete_vpc", ref.region, VpcId=ref.id)


def delete_subnet(calls: AwsCalls, ref: Ref) -> None:
    calls.change("delete_subnet", ref.region, SubnetId=ref.id)


def delete_gateway(calls: AwsCalls, ref: Ref) -> None:
    calls.change("delete_internet_gateway", ref.region, InternetGatewayId=ref.id)


def detach_gateway(calls: AwsCalls, ref: Ref) -> None:
    gateway, _, network = ref.id.partition(SEPARATOR)
    calls.change("detach_internet_gateway", ref.region, InternetGatewayId=gateway, VpcId=network)


def delete_route(calls: AwsCalls, ref: Ref) -> None:
    table, _, cidr = ref.id.partition(SEPARATOR)
    calls.change("delete_route", ref.region, RouteTableId=table, DestinationCidrBlock=cidr)


NETWORK_KINDS: dict[Kind, KindCalls] = {
    Kind.NETWORK: KindCalls(delete_network, create_network),
    Kind.SUBNET: KindCalls(delete_subnet, create_subnet),
    Kind.GATEWAY: KindCalls(delete_gateway, create_gateway),
    Kind.GATEWAY_ATTACHMENT: KindCalls(detach_gateway, attach_gateway, find_attachment, observe_attachment),
    Kind.ROUTE: KindCalls(delete_route, create_route, find_route, observe_route),
}
