"""By which of the SDK's calls each kind is read, made, changed and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grafos_connectors.azure.client import AzureCalls, Begun
from grafos_connectors.azure.errors import no_answer
from grafos_connectors.azure.ids import ArmId
from grafos_connectors.contract import CloudError, Kind

SCHEDULES_API = "2018-09-15"  # of Microsoft.DevTestLab, which has no package in use here
ONLY_IF_NEW = {"If-None-Match": "*"}


@dataclass(frozen=True)
class KindCalls:
    """``collection`` is the SDK's name for the kind's operations. ``looks_first``: a PUT is not documented to honour
    ``If-None-Match`` there, so what exists is looked for before it, and the header is sent all the same."""

    service: str
    collection: str
    create: str = "begin_create_or_update"
    update: str = "update_tags"
    listing: str = "list"
    looks_first: bool = True
    by_id: bool = False
    read_options: Mapping[str, Any] | None = None


KIND_CALLS: dict[Kind, KindCalls] = {
    Kind.GROUP: KindCalls("resources", "resource_groups", create="create_or_update", update="update"),
    Kind.NETWORK: KindCalls("network", "virtual_networks"),
    Kind.FIREWALL: KindCalls("network", "network_security_groups"),
    Kind.SUBNET: KindCalls("network", "subnets"),
    Kind.ADDRESS: KindCalls("network", "public_ip_addresses"),
    Kind.NIC: KindCalls("network", "network_interfaces", read_options={"expand": "ipConfigurations/publicIPAddress"}),
    Kind.DISK: KindCalls("compute", "disks", update="begin_update", listing="list_by_resource_group"),
    Kind.MACHINE: KindCalls(
        "compute",
        "virtual_machines",
        update="begin_update",
        looks_first=False,
        read_options={"expand": "instanceView"},
    ),
    Kind.DEADLINE: KindCalls("resources", "resources", by_id=True),
    Kind.GALLERY: KindCalls("compute", "galleries", update="begin_update", listing="list_by_resource_group"),
    Kind.IMAGE_FAMILY: KindCalls("compute", "gallery_images", update="begin_update"),
    Kind.IMAGE: KindCalls("compute", "gallery_image_versions", update="begin_update"),
}


def read_resource(calls: AzureCalls, id: ArmId, region: str) -> Mapping[str, Any] | None:
    """The resource's document; None if ARM does not find it. A GET by name does not lag."""
    kind = _kind_calls(id)
    try:
        if kind.by_id:
            answer = calls.read(
                kind.service, "resources.get_by_id", region, str(id).lstrip("/"), api_version=SCHEDULES_API
            )
        else:
            answer = calls.read(kind.service, f"{kind.collection}.get", region, *place(id), **(kind.read_options or {}))
    except CloudError as refusal:
        if refusal.code != "cloud_not_found":
            raise
        return None
    if not isinstance(answer, dict) or not answer.get("id"):
        raise no_answer(f"the question about {id.name}", region)
    return answer


def any_in_group(calls: AzureCalls, kind: Kind, group: str, region: str) -> bool:
    """Whether a resource group holds any of the kind, by the word of the service that keeps them."""
    by = KIND_CALLS[kind]
    return any(items for items in calls.pages(by.service, f"{by.collection}.{by.listing}", region, group))


def make(calls: AzureCalls, id: ArmId, region: str, body: Mapping[str, Any]) -> Begun:
    """The PUT that makes what does not exist."""
    return _put(calls, id, region, body, headers=ONLY_IF_NEW)


def replace(calls: AzureCalls, id: ArmId, region: str, body: Mapping[str, Any]) -> Begun:
    """The PUT that changes what exists."""
    return _put(calls, id, region, body)


def retag(calls: AzureCalls, id: ArmId, region: str, new: Mapping[str, str]) -> Begun:
    """The PATCH that gives a resource these tags instead of all that it bears."""
    kind = _kind_calls(id)
    return calls.change(kind.service, f"{kind.collection}.{kind.update}", region, *place(id), {"tags": dict(new)})


def remove(calls: AzureCalls, id: ArmId, region: str) -> Begun:
    kind = _kind_calls(id)
    if kind.by_id:
        return calls.change(
            kind.service, "resources.begin_delete_by_id", region, str(id).lstrip("/"), api_version=SCHEDULES_API
        )
    return calls.change(kind.service, f"{kind.collection}.begin_delete", region, *place(id))


def place(id: ArmId) -> tuple[str, ...]:
    """The arguments by which the SDK's calls name a resource."""
    return (id.group, *id.names)


def _put(calls: AzureCalls, id: ArmId, region: str, body: Mapping[str, Any], **options: Any) -> Begun:
    kind = _kind_calls(id)
    if kind.by_id:
        return calls.change(
            kind.service,
            "resources.begin_create_or_update_by_id",
            region,
            str(id).lstrip("/"),
            dict(body),
            api_version=SCHEDULES_API,
            **options,
        )
    return calls.change(kind.service, f"{kind.collection}.{kind.create}", region, *place(id), dict(body), **options)


def _kind_calls(id: ArmId) -> KindCalls:
    if id.kind is None:
        raise CloudError("cloud_invalid", f"{id} is of no kind that grafos makes on Azure.", where="azure")
    return KIND_CALLS[id.kind]
