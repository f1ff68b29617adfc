"""New tags on what lives already: a cell whose life is extended bears its new end everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from grafos_connectors.aws import describe, tags
from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.aws.kind_calls import SEPARATOR
from grafos_connectors.contract import CloudError, Desired, Kind, Ref


def retag(calls: AwsCalls, ref: Ref, desired: Desired) -> None:
    """CreateTags, once, on the resource and on the parts that its create call made; each tag there is overwritten."""
    if SEPARATOR in ref.id:
        raise CloudError("unsupported", f"A {ref.kind.value} bears no tags on AWS.", where=f"aws {ref.region}")
    resources = [ref.id, *(_parts(calls, ref) if ref.kind is Kind.MACHINE else ())]
    calls.change("create_tags", ref.region, Resources=resources, Tags=tags.pairs(desired))


def _parts(calls: AwsCalls, ref: Ref) -> Iterator[str]:
    """The machine's disks and network interfaces."""
    pair = describe.by_id(calls, ref.kind, ref.id, ref.region)
    if pair is None:
        raise CloudError("cloud_not_found", f"There is no machine {ref.id}.", where=f"aws {ref.region}")
    for device in pair[0].get("BlockDeviceMappings", ()):
        yield str(device["Ebs"]["VolumeId"])
    for nic in pair[0].get("NetworkInterfaces", ()):
        yield str(nic["NetworkInterfaceId"])
