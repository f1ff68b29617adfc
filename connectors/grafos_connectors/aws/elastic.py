"""Elastic addresses: a public address that outlives its machine, and its place at one.

The call that allocates one takes no token, so after a lost answer it is found by its tags. The place is a kind without
tags of its own: it goes with its machine, and the address stays.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/elastic-ip-addresses-eip.html
"""

from __future__ import annotations

from grafos_connectors.aws import describe, tags
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.kind_calls import SEPARATOR, KindCalls, not_shown_yet, occupied
from grafos_connectors.contract import CloudError, Desired, Found, Kind, Ref, State
from grafos_connectors.shapes import Shape

ELASTIC_SHAPES: dict[Kind, Shape] = {
    Kind.ADDRESS: Shape(),
    Kind.ADDRESS_ATTACHMENT: Shape(needs=("address", "machine"), tagged=False),
}
TAKEN = "Resource.AlreadyAssociated"
NOT_RUNNING = ("InvalidInstanceID", "IncorrectInstanceState")
"""EC2 gives an address to no machine that is still being started."""


def allocate_address(calls: AwsCalls, desired: Desired, _token: str) -> str:
    answer = calls.change(
        "allocate_address", desired.region, Domain="vpc", TagSpecifications=tags.specifications(desired, "elastic-ip")
    )
    return str(answer["AllocationId"])


def release_address(calls: AwsCalls, ref: Ref) -> None:
    calls.change("release_address", ref.region, AllocationId=ref.id)


def attach_address(calls: AwsCalls, desired: Desired, _token: str) -> str:
    """AssociateAddress, which takes it from nobody; asked for again, it gives the same."""
    address, machine = desired.needs["address"], desired.needs["machine"]
    try:
        calls.change(
            "associate_address", desired.region, AllocationId=address, InstanceId=machine, AllowReassociation=False
        )
    except CloudError as refusal:
        if refusal.cloud_code in NOT_RUNNING:
            raise not_shown_yet(desired, refusal) from refusal
        if refusal.cloud_code != TAKEN:
            raise
        pair = describe.by_id(calls, Kind.ADDRESS, address, desired.region)
        holder = pair[1].attributes.get("machine", "") if pair else ""
        if not holder:
            raise not_shown_yet(desired, refusal) from refusal
        if holder != machine:
            raise occupied(desired, refusal, f"{address} is at {holder}") from refusal
    return f"{address}{SEPARATOR}{machine}"


def observe_attachment(calls: AwsCalls, ref: Ref) -> Found | None:
    pair = _holding(calls, ref)
    if pair is None:
        return None
    address = pair[1]
    place = Ref(key="", kind=Kind.ADDRESS_ATTACHMENT, id=ref.id, region=ref.region)
    shown = {"carrier": address.ref.id, "machine": address.attributes["machine"]}
    return Found(ref=place, state=State.READY, tags=address.tags, attributes=shown)


def find_attachment(calls: AwsCalls, desired: Desired) -> Found | None:
    place = f"{desired.needs['address']}{SEPARATOR}{desired.needs['machine']}"
    return observe_attachment(calls, Ref(key="", kind=desired.kind, id=place, region=desired.region))


def detach_address(calls: AwsCalls, ref: Ref) -> None:
    pair = _holding(calls, ref)
    if pair is None:
        raise CloudError("cloud_not_found", f"{ref.id} is no address at a machine.", where=f"aws {ref.region}")
    calls.change("disassociate_address", ref.region, AssociationId=pair[0]["AssociationId"])


def _holding(calls: AwsCalls, ref: Ref) -> tuple[describe.Item, Found] | None:
    """The address, if it is at that very machine."""
    address, _, machine = ref.id.partition(SEPARATOR)
    pair = describe.by_id(calls, Kind.ADDRESS, address, ref.region)
    return pair if pair is not None and pair[1].attributes.get("machine", "") == machine else None


ELASTIC_KINDS: dict[Kind, KindCalls] = {
    Kind.ADDRESS: KindCalls(release_address, allocate_address),
    Kind.ADDRESS_ATTACHMENT: KindCalls(detach_address, attach_address, find_attachment, observe_attachment),
}
