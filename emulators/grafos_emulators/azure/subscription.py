"""The subscription itself: what it is called, where it may be used, which services are registered."""

from __future__ import annotations

from typing import Any

from grafos_emulators.azure import catalogue, shapes
from grafos_emulators.azure.account import ALWAYS_REGISTERED, NAMESPACES, TENANT_ID, AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError, not_emulated
from grafos_emulators.azure.verbs import document
from grafos_emulators.http import Response

_TYPES = {
    "Microsoft.Compute": ("virtualMachines", "disks", "galleries"),
    "Microsoft.Network": ("virtualNetworks", "networkSecurityGroups", "publicIPAddresses", "networkInterfaces"),
    "Microsoft.DevTestLab": ("schedules",),
    "Microsoft.Authorization": ("permissions",),
    "Microsoft.Resources": ("resourceGroups", "tags"),
}


def check_subscription(account: AzureAccount, call: ArmCall) -> None:
    asked = call.place.subscription
    if asked and asked.lower() != account.subscription:
        raise ArmError(404, "SubscriptionNotFound", f"The subscription '{asked}' could not be found.")


def check_registered(account: AzureAccount, namespace: str) -> None:
    """``MissingSubscriptionRegistration`` (409): what a fresh subscription answers to its first machine."""
    if namespace.lower() in ALWAYS_REGISTERED or namespace.lower() in account.registered:
        return
    if namespace not in _TYPES and namespace.lower() not in {name.lower() for name in _TYPES}:
        raise ArmError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
    raise ArmError(
        409,
        "MissingSubscriptionRegistration",
        f"The subscription is not registered to use namespace '{namespace}'. See https://aka.ms/rps-not-found for how "
        "to register subscriptions.",
        details=[
            {
                "code": "MissingSubscriptionRegistration",
                "target": namespace,
                "message": f"The subscription is not registered to use namespace '{namespace}'. See "
                "https://aka.ms/rps-not-found for how to register subscriptions.",
            }
        ],
    )


def shown(account: AzureAccount) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{account.subscription}",
        "subscriptionId": account.subscription,
        "tenantId": TENANT_ID,
        "displayName": "grafos emulated",
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
        "authorizationSource": "RoleBased",
    }


def locations(account: AzureAccount) -> dict[str, Any]:
    return {
        "value": [
            {
                "id": f"/subscriptions/{account.subscription}/locations/{name}",
                "name": name,
                "type": "Region",
                "displayName": label,
                "regionalDisplayName": label,
                "metadata": {"regionType": "Physical", "regionCategory": "Recommended" if zones else "Other"},
                "availabilityZoneMappings": [
                    {"logicalZone": zone, "physicalZone": f"{name}-az{zone}"} for zone in zones
                ],
            }
            for name, (label, zones) in catalogue.LOCATIONS.items()
        ]
    }


def providers(account: AzureAccount, call: ArmCall) -> Response:
    """``providers[/NAMESPACE[/register|unregister]]`` of the subscription."""
    namespace, rest = call.place.namespace, call.place.rest
    if not namespace:
        return document(200, {"value": [_provider(account, name) for name in _TYPES]})
    known = next((name for name in _TYPES if name.lower() == namespace.lower()), None)
    if known is None:
        raise ArmError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
    if call.method == "POST" and rest[:1] == ("register",):
        account.registered.add(known.lower())
    elif call.method == "POST" and rest[:1] == ("unregister",):
        account.registered.discard(known.lower())
    elif rest or call.method != "GET":
        raise not_emulated(f"{call.method} {call.request.path}")
    return document(200, _provider(account, known))


def _provider(account: AzureAccount, namespace: str) -> dict[str, Any]:
    registered = namespace.lower() in account.registered | ALWAYS_REGISTERED
    labels = [label for label, _ in catalogue.LOCATIONS.values()]
    answer = {
        "id": f"/subscriptions/{account.subscription}/providers/{namespace}",
        "namespace": namespace,
        "registrationState": "Registered" if registered else "NotRegistered",
        "registrationPolicy": "RegistrationRequired" if namespace in NAMESPACES else "RegistrationFree",
        "resourceTypes": [{"resourceType": each, "locations": labels} for each in _TYPES[namespace]],
    }
    shapes.check_answer("resources.Provider", answer)
    return answer
