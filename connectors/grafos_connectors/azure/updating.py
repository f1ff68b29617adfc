"""New tags, and a deadline's new time, on what lives already."""

from __future__ import annotations

from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.deadline import moved_body
from grafos_connectors.azure.ids import parse
from grafos_connectors.azure.kind_calls import read_resource, replace, retag
from grafos_connectors.azure.tags import renewed
from grafos_connectors.contract import CloudError, Desired, Kind, Ref


def update(calls: AzureCalls, ref: Ref, desired: Desired, now: float) -> None:
    """One PATCH of the tags, or of a deadline one PUT of the whole schedule.

    ARM changes one resource per call: a machine's disk keeps its own tags, and is told with the machine's.
    """
    if ref.kind is Kind.SUBNET:
        raise CloudError("unsupported", "A subnet bears no tags on Azure.", where=f"azure {ref.region}")
    arm_id = parse(ref.id)
    there = read_resource(calls, arm_id, ref.region)
    if there is None:
        raise CloudError("cloud_not_found", f"There is no {ref.kind.value} {ref.id}.", where=f"azure {ref.region}")
    if ref.kind is Kind.DEADLINE:
        replace(calls, arm_id, ref.region, moved_body(there, desired, now))
    else:
        retag(calls, arm_id, ref.region, renewed(there.get("tags"), desired))
