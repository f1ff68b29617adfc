"""The tags API: ``{scope}/providers/Microsoft.Resources/tags/default``."""

from __future__ import annotations

from typing import Any

from grafos_emulators.azure import shapes
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError, not_emulated
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.verbs import check_tags, document
from grafos_emulators.http import Response

TYPE = "Microsoft.Resources/tags"


def answer(account: AzureAccount, call: ArmCall) -> Response:
    """Reads, replaces, merges or deletes the tags of a resource or a group; done at once."""
    resource = account.store.get(call.place.scope)
    if call.place.scope.lower() == f"/subscriptions/{account.subscription}":
        raise not_emulated("tags of the subscription itself")
    if resource is None:
        raise ArmError(404, "ResourceNotFound", f"The resource '{call.place.scope}' was not found.")
    if call.method == "GET":
        return document(200, _shown(resource))
    account.check_lock(resource.id, deleting=False)
    body = call.body()
    tags = (body.get("properties") or {}).get("tags") or {}
    if call.method == "PUT":
        shapes.check_request("resources.TagsResource", body)
        wanted = dict(tags)
    elif call.method == "PATCH":
        shapes.check_request("resources.TagsPatchResource", body)
        wanted = _patched(resource.tags, str(body.get("operation", "")), tags)
    elif call.method == "DELETE":
        wanted = {}
    else:
        raise ArmError(405, "MethodNotAllowed", f"The request does not support http method '{call.method}'.")
    check_tags(wanted)
    resource.tags = wanted
    resource.changed_at_monotonic = account.world.clock.monotonic()
    return document(200, None if call.method == "DELETE" else _shown(resource))


def _patched(old: dict[str, str], operation: str, tags: dict[str, str]) -> dict[str, str]:
    if operation.lower() == "merge":
        return {**old, **tags}
    if operation.lower() == "replace":
        return dict(tags)
    if operation.lower() == "delete":
        return {name: value for name, value in old.items() if tags.get(name) != value}
    raise ArmError(400, "InvalidRequestContent", f"The operation '{operation}' is none of Merge, Replace and Delete.")


def _shown(resource: Resource) -> dict[str, Any]:
    answer = {
        "id": f"{resource.id}/providers/{TYPE}/default",
        "name": "default",
        "type": TYPE,
        "properties": {"tags": dict(resource.tags)},
    }
    shapes.check_answer("resources.TagsResource", answer)
    return answer
