"""What the credentials must allow, what they do not, and the role that would."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.contract import CloudError
from grafos_connectors.unanswered import UNANSWERED

ACTIONS = (
    "Microsoft.Compute/disks/beginGetAccess/action",
    "Microsoft.Compute/disks/delete",
    "Microsoft.Compute/disks/endGetAccess/action",
    "Microsoft.Compute/disks/read",
    "Microsoft.Compute/disks/write",
    "Microsoft.Compute/galleries/delete",
    "Microsoft.Compute/galleries/images/delete",
    "Microsoft.Compute/galleries/images/read",
    "Microsoft.Compute/galleries/images/versions/delete",
    "Microsoft.Compute/galleries/images/versions/read",
    "Microsoft.Compute/galleries/images/versions/write",
    "Microsoft.Compute/galleries/images/write",
    "Microsoft.Compute/galleries/read",
    "Microsoft.Compute/galleries/write",
    "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read",
    "Microsoft.Compute/locations/usages/read",
    "Microsoft.Compute/skus/read",
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.Compute/virtualMachines/instanceView/read",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/retrieveBootDiagnosticsData/action",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.DevTestLab/schedules/delete",
    "Microsoft.DevTestLab/schedules/read",
    "Microsoft.DevTestLab/schedules/write",
    "Microsoft.Network/locations/usages/read",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkSecurityGroups/delete",
    "Microsoft.Network/networkSecurityGroups/join/action",
    "Microsoft.Network/networkSecurityGroups/read",
    "Microsoft.Network/networkSecurityGroups/write",
    "Microsoft.Network/publicIPAddresses/delete",
    "Microsoft.Network/publicIPAddresses/join/action",
    "Microsoft.Network/publicIPAddresses/read",
    "Microsoft.Network/publicIPAddresses/write",
    "Microsoft.Network/virtualNetworks/delete",
    "Microsoft.Network/virtualNetworks/read",
    "Microsoft.Network/virtualNetworks/subnets/delete",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
    "Microsoft.Network/virtualNetworks/subnets/read",
    "Microsoft.Network/virtualNetworks/subnets/write",
    "Microsoft.Network/virtualNetworks/write",
    "Microsoft.Resources/subscriptions/locations/read",
    "Microsoft.Resources/subscriptions/providers/read",
    "Microsoft.Resources/subscriptions/read",
    "Microsoft.Resources/subscriptions/resourceGroups/delete",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.Resources/subscriptions/resourceGroups/write",
    "Microsoft.Resources/subscriptions/resources/read",
)
"""All that this folder ever does, but for the question about permissions itself."""
HELPFUL = ("Microsoft.Compute/locations/usages/read", "Microsoft.Network/locations/usages/read")
"""Those that it can do without: a limit may stay unknown."""
PUBLISHING = tuple(action for action in ACTIONS if "/galleries/" in action or "GetAccess" in action)
"""Those that only who publishes an image needs."""
NEEDED = tuple(action for action in ACTIONS if action not in {*HELPFUL, *PUBLISHING})
PERMISSIONS_API = "2022-04-01"
PERMISSIONS = "/providers/Microsoft.Authorization/permissions"
PAGES_MAX = 20  # of the roles that one caller has; each page holds many


def missing(calls: AzureCalls, actions: Sequence[str]) -> tuple[str, ...]:
    """Those of ``actions`` that no role of the caller allows on the subscription.

    A role on one resource group only counts as lacking, since the group does not exist before the first cell.
    """
    try:
        permissions = list(_permissions(calls))
    except CloudError as error:
        if error.code in UNANSWERED:
            return ()
        raise
    return tuple(action for action in actions if not allowed(action, permissions))


def _permissions(calls: AzureCalls) -> Iterable[Mapping[str, Any]]:
    path = f"subscriptions/{calls.subscription}{PERMISSIONS}"
    told = calls.read("resources", "resources.get_by_id", "", path, api_version=PERMISSIONS_API)
    for _ in range(PAGES_MAX):
        yield from told.get("value") or ()
        if not told.get("nextLink"):
            return
        told = calls.get_link(told["nextLink"], "listing permissions")


def allowed(action: str, permissions: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one permission allows the action and does not take it out again. Azure knows no case here."""
    return any(
        _matches(action, permission.get("actions") or ()) and not _matches(action, permission.get("notActions") or ())
        for permission in permissions
    )


def _matches(action: str, patterns: Iterable[str]) -> bool:
    """``*`` stands for any characters, also for slashes."""
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.lower().split("*"))), action.lower()) for pattern in patterns
    )


def fragment(actions: Sequence[str], subscription: str) -> str:
    """The custom role that allows them, as ``az role definition create --role-definition`` takes it."""
    role = {
        "Name": "grafos",
        "IsCustom": True,
        "Description": "What grafos does in this subscription",
        "Actions": sorted(actions),
        "NotActions": [],
        "AssignableScopes": [f"/subscriptions/{subscription}"],
    }
    return json.dumps(role, indent=2)
