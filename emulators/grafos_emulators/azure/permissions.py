"""What the caller may do: told by ``Microsoft.Authorization/permissions``, and held to."""

from __future__ import annotations

import fnmatch
from typing import Any

from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError

_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete", "POST": "action"}
CALLER = "67726166-6f73-4000-8000-0000000000bb"  # the object id that a refusal names


def listed(account: AzureAccount) -> dict[str, Any]:
    """The one permission of the one caller, the same at every scope."""
    permission = {
        "actions": list(account.allowed),
        "notActions": list(account.denied),
        "dataActions": [],
        "notDataActions": [],
    }
    return {"value": [permission]}


def check(account: AzureAccount, call: ArmCall) -> None:
    """``AuthorizationFailed`` (403) for an action that the caller does not have."""
    action = action_of(call)
    if not may(account, action):
        raise ArmError(
            403,
            "AuthorizationFailed",
            f"The client '{CALLER}' with object id '{CALLER}' does not have authorization to perform action '{action}' "
            f"over scope '{call.place.id}' or the scope is invalid. If access was recently granted, please refresh "
            "your credentials.",
        )


def may(account: AzureAccount, action: str) -> bool:
    return _matches(action, account.allowed) and not _matches(action, account.denied)


def action_of(call: ArmCall) -> str:
    """The action in Azure's words: ``Microsoft.Compute/virtualMachines/write``, ``…/start/action``."""
    place, verb = call.place, _VERBS.get(call.method, "action")
    if not place.namespace:
        of_groups = "resourcegroups" in call.request.path.lower() and not place.root
        return f"Microsoft.Resources/subscriptions/{'resourceGroups/' if of_groups else ''}{verb}"
    if len(place.rest) % 2 == 0 or call.method != "POST":
        return f"{place.type}/{verb}"
    parent = place.parent.type if place.parent.rest else place.namespace
    return f"{parent}/{place.rest[-1]}/action"


def _matches(action: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)
