"""grafos' tags in EC2's shape and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from grafos_connectors.contract import TAG_PREFIX, Desired

NAME_TAG = "Name"  # what the AWS console shows beside an id


def specifications(desired: Desired, *resource_types: str) -> list[dict[str, Any]]:
    """``TagSpecifications`` of a create call: the same tags on each resource that the call makes."""
    return [{"ResourceType": resource_type, "Tags": pairs(desired)} for resource_type in resource_types]


def pairs(desired: Desired) -> list[dict[str, str]]:
    """The tags as a call takes them."""
    return [{"Key": name, "Value": value} for name, value in sorted({NAME_TAG: desired.name, **desired.tags}.items())]


def ours(tags: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Those of a resource's tags that are grafos'."""
    return {tag["Key"]: tag.get("Value", "") for tag in tags if tag["Key"].startswith(TAG_PREFIX)}


def name_of(tags: Iterable[Mapping[str, Any]]) -> str:
    return next((str(tag.get("Value", "")) for tag in tags if tag["Key"] == NAME_TAG), "")


def tag_filter(name: str, value: str) -> dict[str, Any]:
    """The filter of a Describe call for one tag."""
    return {"Name": f"tag:{name}", "Values": [value]}
