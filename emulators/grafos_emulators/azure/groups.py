"""Resource groups: their deletion takes everything in them along."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from grafos_emulators.azure import catalogue, shapes
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError, group_not_found
from grafos_emulators.azure.faulted import operation_error, says_done_and_is_not
from grafos_emulators.azure.kind import normal_location
from grafos_emulators.azure.listing import fits, terms_of
from grafos_emulators.azure.operations import Operation
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import GROUP
from grafos_emulators.azure.verbs import check_tags, document
from grafos_emulators.faults import Fault
from grafos_emulators.http import Response

MODEL = "resources.ResourceGroup"
CASCADE_POLL_S = 0.05  # how often a group that goes is looked at for machines that still end
_NAME = re.compile(r"[-\w._()]{1,90}(?<!\.)")


class Groups:
    """The calls on resource groups; ``remove`` begins to remove one resource. The caller holds the world's lock."""

    def __init__(self, account: AzureAccount, remove: Callable[[Resource], None]) -> None:
        self._account, self._remove = account, remove

    def answer(self, call: ArmCall, fault: Fault | None) -> Response:
        if not call.place.group:
            terms = terms_of(call.query.get("$filter", ""))
            found = [self.shown(each) for each in self._account.store.of_type(GROUP) if fits(each, terms)]
            return document(200, {"value": found})
        group = self._account.store.get(call.place.id)
        if call.method == "PUT":
            return self._put(call, group)
        if call.method == "HEAD":
            return Response(404 if group is None else 204)
        if group is None:
            raise group_not_found(call.place.group)
        if call.method == "GET":
            return document(200, self.shown(group))
        if call.method == "PATCH":
            return self._patch(group, call)
        if call.method == "DELETE":
            return self._delete(group, call, fault)
        raise ArmError(405, "MethodNotAllowed", f"The request does not support http method '{call.method}'.")

    def shown(self, group: Resource) -> dict[str, Any]:
        answer = {
            "id": group.id,
            "name": group.name,
            "type": GROUP,
            "location": group.location,
            "tags": dict(group.tags),
            "properties": {"provisioningState": group.state},
        }
        shapes.check_answer(MODEL, answer)
        return answer

    def _put(self, call: ArmCall, old: Resource | None) -> Response:
        body, name = call.body(), call.place.group
        shapes.check_request(MODEL, body)
        check_tags(body.get("tags"))
        if not _NAME.fullmatch(name):
            raise ArmError(
                400,
                "InvalidResourceGroup",
                f"The provided resource group name '{name}' has these invalid characters or is too long.",
            )
        location = normal_location(str(body["location"]))
        catalogue.check_location(location)
        if call.header("if-none-match") == "*" and old is not None:
            raise ArmError(412, "PreconditionFailed", f"The resource group '{name}' exists.")
        if old is not None:
            return self._put_again(old, body, location)
        clock = self._account.world.clock
        now = clock.monotonic()
        group = Resource(
            call.place.id, GROUP, name, location, dict(body.get("tags") or {}), {}, clock.now(), now, now, "Succeeded"
        )
        self._account.store.put(group)
        return document(201, self.shown(group))

    def _put_again(self, old: Resource, body: dict[str, Any], location: str) -> Response:
        if old.state == "Deleting":
            raise ArmError(
                409,
                "ResourceGroupBeingDeleted",
                f"The resource group '{old.name}' is in deprovisioning state and cannot perform this operation.",
            )
        if old.location != location:
            raise ArmError(
                409,
                "InvalidResourceGroupLocation",
                f"Invalid resource group location '{location}'. The Resource group already exists in location "
                f"'{old.location}'.",
            )
        self._account.check_lock(old.id, deleting=False)
        old.tags = dict(body.get("tags") or {})
        old.changed_at_monotonic = self._account.world.clock.monotonic()
        return document(200, self.shown(old))

    def _patch(self, group: Resource, call: ArmCall) -> Response:
        body = call.body()
        shapes.check_request("resources.ResourceGroupPatchable", body)
        check_tags(body.get("tags"))
        self._account.check_lock(group.id, deleting=False)
        if body.get("tags") is not None:
            group.tags = dict(body["tags"])
            group.changed_at_monotonic = self._account.world.clock.monotonic()
        return document(200, self.shown(group))

    def _delete(self, group: Resource, call: ArmCall, fault: Fault | None) -> Response:
        """Answers 202 with ``Location`` only, as ARM does for groups."""
        self._account.check_lock(group.id, deleting=True)
        operations = self._account.operations
        running = operations.get(group.operation)
        if running is None:
            running = operations.begin("", group.location, api_version=call.query.get("api-version", ""))
            error = operation_error(fault, group)
            if error is not None:
                operations.fail(running, error)
            elif says_done_and_is_not(fault):
                operations.succeed(running)
            else:
                group.state, group.operation = "Deleting", running.id
                self._begin_cascade(group, running)
        return Response(202, b"", operations.headers(running, only_location=True))

    def _begin_cascade(self, group: Resource, operation: Operation) -> None:
        """Machines first, then whatever nothing needs any more, until the group is empty."""

        def go_on() -> None:
            left = [each for each in self._account.store.below(group.id) if each.is_tracked]
            waiting = [each for each in left if each.state == "Deleting"]
            machines = [each for each in left if each.type.endswith("/virtualMachines")]
            if not left:
                self._account.remove(group)
                self._account.operations.succeed(operation)
                return
            for each in [] if waiting else machines or left:
                self._remove(each)
            self._account.world.at(self._account.world.clock.monotonic() + CASCADE_POLL_S, go_on)

        go_on()
