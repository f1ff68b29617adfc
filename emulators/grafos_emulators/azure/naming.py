"""What a call is called in the journal, in hooks and in fault rules: ``virtualMachines.createOrUpdate``."""

from __future__ import annotations

import json
from typing import Any

from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.operations import RESULT, STATUS
from grafos_emulators.azure.quotas import means_spot
from grafos_emulators.azure.store import Store
from grafos_emulators.azure.type_names import VIRTUAL_MACHINE
from grafos_emulators.gate import CloudCall

_VERBS = {"PUT": "createOrUpdate", "PATCH": "update", "DELETE": "delete", "GET": "get", "HEAD": "checkExistence"}
ARM = "Microsoft.Resources"


def operation_of(call: ArmCall) -> str:
    """The collection and what is done to it, in the SDK's words; a poll is ``operations.get``."""
    place = call.place
    words = [*place.root, *place.rest]
    if call.method == "GET" and len(words) >= 2 and words[-2].lower() in {STATUS, RESULT.lower()}:
        return f"{words[-2]}.get"
    if not place.namespace:
        collection = "resourceGroups" if place.group and not place.root else "/".join(place.root)
        collection = "resourceGroups" if collection.lower() == "resourcegroups" else collection or "subscriptions"
        listed = call.method == "GET" and bool(place.root)
        return f"{collection}.{'list' if listed else _VERBS.get(call.method, call.method)}"
    if not place.rest:
        return f"providers.{_VERBS.get(call.method, call.method)}"
    if place.is_instance:
        return f"{place.rest[-2]}.{_VERBS.get(call.method, call.method)}"
    if call.method == "POST":
        return f"{place.rest[-3] if len(place.rest) > 2 else 'providers'}.{place.rest[-1]}"
    return f"{place.rest[-1]}.list"


def cloud_call(call: ArmCall, store: Store) -> CloudCall:
    """The call as gate, journal and fault rules see it. A body that is no JSON is refused later, by who reads it."""
    body = _body(call)
    existing = store.get(call.place.id)
    zones = body.get("zones") or (existing.body.get("zones") if existing else None) or [""]
    properties = body["properties"] if isinstance(body.get("properties"), dict) else {}
    size = (properties.get("hardwareProfile") or {}).get("vmSize") or (
        existing.properties.get("hardwareProfile", {}).get("vmSize", "") if existing else ""
    )
    launches = call.method == "PUT" and call.place.type.lower() == VIRTUAL_MACHINE.lower()
    location = str(body.get("location") or (existing.location if existing else ""))
    return CloudCall(
        provider="azure",
        service=call.place.namespace or ARM,
        operation=operation_of(call),
        region=location.replace(" ", "").lower(),
        zone=str(zones[0]) if isinstance(zones, list) and zones else "",
        token=call.header("if-none-match") or call.header("if-match"),
        mutating=call.mutating,
        dry_run=False,
        launches=launches,
        spot=launches and means_spot(properties),
        fields={
            "machine_type": str(size),
            "name": call.place.name or call.place.group,
            "resource_group": call.place.group,
            "path": call.request.path,
        },
        request_id=call.request_id,
    )


def _body(call: ArmCall) -> dict[str, Any]:
    if call.method not in {"PUT", "PATCH"}:
        return {}
    try:
        document = json.loads(call.request.body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
