"""Things that grafos did not make, planted in an account by the claims about strangers, and taken out again.

They are a network, on Azure a group, which costs nothing. They bear no tag of grafos, or a copy of one; what was
planted is found by its name, which begins with that of the run.
"""

from __future__ import annotations

import json
import time
from typing import Any

PAUSE_S_MIN = 0.05
GONE_WITHIN_S = 300.0  # an empty group takes a quarter of a minute


def plant(connector: Any, region: str, prefix: str, tags: dict[str, str]) -> str:
    """A network (on Azure a group) that grafos did not make, whose name begins with ``prefix``; gives its id."""
    return _PLANTS[connector.provider](connector, region, prefix, tags)


def uproot(connector: Any, region: str, prefix: str) -> list[str]:
    """Deletes all that was planted under the prefix; gives the ids of what is left."""
    _UPROOTS[connector.provider](connector, region, prefix)
    return planted(connector, region, prefix)


def planted(connector: Any, region: str, prefix: str) -> list[str]:
    """The ids of all that was planted under the prefix and is there."""
    return _PLANTED[connector.provider](connector, region, prefix)


def _plant_on_aws(connector: Any, region: str, prefix: str, tags: dict[str, str]) -> str:
    named = [{"Key": name, "Value": value} for name, value in {"Name": prefix, **tags}.items()]
    tagged = [{"ResourceType": "vpc", "Tags": named}]
    made = connector._calls.change("create_vpc", region, CidrBlock="10.99.0.0/16", TagSpecifications=tagged)
    return str(made["Vpc"]["VpcId"])


def _planted_on_aws(connector: Any, region: str, prefix: str) -> list[str]:
    wanted = [{"Name": "tag:Name", "Values": [prefix]}]
    pages = connector._calls.pages("ec2", "describe_vpcs", region, Filters=wanted)
    return [str(vpc["VpcId"]) for page in pages for vpc in page["Vpcs"]]


def _uproot_on_aws(connector: Any, region: str, prefix: str) -> None:
    for one in _planted_on_aws(connector, region, prefix):
        connector._calls.change("delete_vpc", region, VpcId=one)


def _plant_on_gcp(connector: Any, region: str, prefix: str, tags: dict[str, str]) -> str:
    name = f"{prefix}-{time.time_ns() % 10**10:010d}"
    body = {"name": name, "autoCreateSubnetworks": False, "description": json.dumps({**tags, "region": region})}
    _done_on_gcp(connector, connector._calls.change("networks", "insert", network_resource=body))
    return f"global/networks/{name}"


def _done_on_gcp(connector: Any, operation: dict[str, Any]) -> None:
    while operation.get("status") != "DONE":
        time.sleep(PAUSE_S_MIN)
        operation = connector._calls.read("global_operations", "get", operation=operation["name"])


def _planted_on_gcp(connector: Any, region: str, prefix: str) -> list[str]:
    pages = connector._calls.pages("networks", "list")
    names = [str(one["name"]) for page in pages for one in page.get("items", ())]
    return [f"global/networks/{name}" for name in names if name.startswith(prefix)]


def _uproot_on_gcp(connector: Any, region: str, prefix: str) -> None:
    for one in _planted_on_gcp(connector, region, prefix):
        _done_on_gcp(connector, connector._calls.change("networks", "delete", network=one.rpartition("/")[2]))


def _plant_on_azure(connector: Any, region: str, prefix: str, tags: dict[str, str]) -> str:
    name = f"{prefix}-{time.time_ns() % 10**10:010d}"
    body = {"location": region, "tags": tags}
    connector._calls.change("resources", "resource_groups.create_or_update", region, name, body)
    return f"/subscriptions/{connector._calls.subscription}/resourceGroups/{name}"


def _planted_on_azure(connector: Any, region: str, prefix: str) -> list[str]:
    groups = connector._calls.items("resources", "resource_groups.list")
    return [str(group["id"]) for group in groups if str(group["name"]).startswith(prefix)]


def _uproot_on_azure(connector: Any, region: str, prefix: str) -> None:
    for one in _planted_on_azure(connector, region, prefix):
        connector._calls.change("resources", "resource_groups.begin_delete", region, one.rpartition("/")[2])
    until = time.monotonic() + GONE_WITHIN_S
    while _planted_on_azure(connector, region, prefix) and time.monotonic() < until:
        time.sleep(connector._calls.pause_s)


_PLANTS = {"aws": _plant_on_aws, "azure": _plant_on_azure, "gcp": _plant_on_gcp}
_PLANTED = {"aws": _planted_on_aws, "azure": _planted_on_azure, "gcp": _planted_on_gcp}
_UPROOTS = {"aws": _uproot_on_aws, "azure": _uproot_on_azure, "gcp": _uproot_on_gcp}
