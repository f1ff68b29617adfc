"""Ids inside of requests: what a resource names must exist, and in the same location."""

from __future__ import annotations

from typing import Any

from grafos_emulators.azure import places
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.store import Resource


def sub_id(value: Any) -> str:
    """The id in ``{"id": …}``, or empty."""
    return str(value.get("id") or "") if isinstance(value, dict) else ""


def referenced(account: AzureAccount, resource_id: str, kind: str, by: str, location: str) -> Resource:
    """The resource that ``by`` names; ``InvalidResourceReference`` when it is not there, or elsewhere."""
    if places.read(resource_id).type.lower() != kind.lower():
        raise ArmError(
            400,
            "LinkedInvalidPropertyId",
            f"Property id '{resource_id}' is invalid. Expect fully qualified resource Id that start with "
            f"'/subscriptions/{{subscriptionId}}' or '/providers/{{resourceProviderNamespace}}/'.",
        )
    found = account.store.get(resource_id)
    if found is None or found.location != location or found.state == "Deleting":
        raise ArmError(
            400,
            "InvalidResourceReference",
            f"Resource {resource_id} referenced by resource {by} was not found. Please make sure that the referenced "
            "resource exists, and that both resources are in the same region.",
        )
    return found
