"""PUT, GET, PATCH and DELETE of any resource: what ARM does alike for all kinds."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Mapping
from typing import Any

from grafos_emulators.azure import catalogue, shapes
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import JSON, ArmError, busy, group_not_found, not_emulated, not_found
from grafos_emulators.azure.faulted import operation_error, says_done_and_is_not
from grafos_emulators.azure.kind import Ask, Kind
from grafos_emulators.azure.operations import Operation
from grafos_emulators.azure.places import Place
from grafos_emulators.azure.store import Resource
from grafos_emulators.faults import Fault
from grafos_emulators.http import Response

MAX_TAGS, MAX_TAG_NAME, MAX_TAG_VALUE = 50, 512, 256  # ARM's own limits


class Verbs:
    """The verbs over ``kinds`` (by lower-cased type). The caller holds the world's lock."""

    def __init__(self, account: AzureAccount, kinds: Mapping[str, Kind]) -> None:
        self._account = account
        self._kinds = kinds

    def answer(self, call: ArmCall, fault: Fault | None) -> Response:
        place = call.place
        self._group(place, writing=call.method in {"PUT", "PATCH"})
        if not place.is_instance:
            return self._list_or_action(call, fault)
        kind = self._kind(place)
        if call.method == "PUT":
            return self._put(kind, call, fault)
        resource = self._account.store.get(place.id)
        if call.method == "DELETE":
            return Response(204) if resource is None else self._delete(kind, resource, call, fault)
        if resource is None:
            raise not_found(kind.type, "/".join(place.names), place.group)
        if call.method == "HEAD":
            return Response(204)
        if call.method == "GET":
            return document(200, self.shown(resource, call))
        if call.method == "PATCH":
            return self._patch(kind, resource, call)
        raise ArmError(405, "MethodNotAllowed", f"The request does not support http method '{call.method}'.")

    def shown(self, resource: Resource, call: ArmCall | None) -> dict[str, Any]:
        """The resource as GET tells it, held against the SDK's model."""
        kind = self._kinds[resource.type.lower()]
        answer: dict[str, Any] = {"id": resource.id, "name": resource.name, "type": resource.type}
        answer["etag"] = resource.etag
        if resource.is_tracked:
            answer |= {"location": resource.location, "tags": dict(resource.tags)}
        expands = call is not None and call.query.get("$expand", "").lower() == "instanceview"
        answer |= copy.deepcopy(kind.expanded(resource) if expands else kind.view(resource))
        if kind.has_provisioning_state:
            answer["properties"] = {**answer.get("properties", {}), "provisioningState": resource.state}
        if kind.model:
            if "etag" not in shapes.fields_of(shapes.model_named(kind.model)):
                del answer["etag"]
            shapes.check_answer(kind.model, answer)
        return answer

    def _kind(self, place: Place) -> Kind:
        kind = self._kinds.get(place.type.lower())
        if kind is None:
            raise not_emulated(f"the resource type {place.type}")
        return kind

    def _group(self, place: Place, *, writing: bool) -> None:
        if not place.group:
            return
        group = self._account.store.get(f"/subscriptions/{place.subscription}/resourceGroups/{place.group}")
        if group is None:
            raise group_not_found(place.group)
        if writing and group.state == "Deleting":
            raise ArmError(
                409,
                "ResourceGroupBeingDeleted",
                f"The resource group '{group.name}' is in deprovisioning state and cannot perform this operation.",
            )

    def _put(self, kind: Kind, call: ArmCall, fault: Fault | None) -> Response:
        body, place = call.body(), call.place
        if kind.model:
            shapes.check_request(kind.model, body)
        check_tags(body.get("tags"))
        old = self._account.store.get(place.id)
        check_preconditions(call, old)
        self._account.check_lock(place.id, deleting=False)
        location = kind.location_of(call, body)
        catalogue.check_location(location)
        if old is not None:
            self._check_changeable(old, location)
        kept = kind.accept(Ask(call, body, location, old))
        operation = self._begin(call, location)
        resource = self._renewed(old, kept) if old else self._made(kind, place, location, kept)
        resource.operation = operation.id
        operation.result = lambda: self._if_there(resource)
        self._take_its_time(kind, resource, operation, fault, is_new=old is None)
        answer = document(kind.updated if old else kind.created, self.shown(resource, call))
        return Response(answer.status, answer.body, {**answer.headers, **self._account.operations.headers(operation)})

    def _take_its_time(
        self, kind: Kind, resource: Resource, operation: Operation, fault: Fault | None, *, is_new: bool
    ) -> None:
        operations, account = self._account.operations, self._account
        error = operation_error(fault, resource)
        if is_new and (error is not None or says_done_and_is_not(fault)):
            kind.begin_failed_make(resource)
        if is_new and says_done_and_is_not(fault):
            operations.after(operation, account.quick_s, lambda: self._vanish(kind, resource))
        elif error is not None:

            def fail() -> None:
                resource.state, resource.operation = "Failed", ""
                resource.runtime["error"] = error
                raise error

            operations.after(operation, account.quick_s, fail)
        elif is_new:
            kind.begin_make(resource, operation, fault)
        else:
            kind.begin_change(resource, operation, fault)

    def _vanish(self, kind: Kind, resource: Resource) -> None:
        self._account.store.remove(resource)
        kind.removed(resource)

    def _begin(self, call: ArmCall, location: str) -> Operation:
        version = call.query.get("api-version", "")
        return self._account.operations.begin(call.place.namespace, location, api_version=version)

    def _if_there(self, resource: Resource) -> dict[str, Any] | None:
        there = self._account.store.get(resource.id)
        return self.shown(there, None) if there is resource else None

    def _check_changeable(self, old: Resource, location: str) -> None:
        if old.location != location:
            raise ArmError(
                409,
                "InvalidResourceLocation",
                f"The resource '{old.name}' already exists in location '{old.location}' in resource group "
                f"'{old.place.group}'. A resource with the same name cannot be created in location '{location}'. "
                "Please select a new resource name.",
            )
        if old.state == "Deleting" or (old.operation and old.state == "Creating"):
            raise busy(old.id)

    def _made(self, kind: Kind, place: Place, location: str, kept: dict[str, Any]) -> Resource:
        return self._account.new_resource(place, kind.type, location, kept)

    def _renewed(self, old: Resource, kept: dict[str, Any]) -> Resource:
        tags = kept.pop("tags", None)
        old.tags, old.state = dict(tags or {}), "Updating"
        self._account.store.give(old, kept)
        old.etag, old.changed_at_monotonic = str(uuid.uuid4()), self._account.world.clock.monotonic()
        return old

    def _patch(self, kind: Kind, resource: Resource, call: ArmCall) -> Response:
        body = call.body()
        check_tags(body.get("tags"))
        check_preconditions(call, resource)
        self._account.check_lock(resource.id, deleting=False)
        if resource.state == "Deleting":
            raise busy(resource.id)
        kind.patch(resource, body)
        if body.get("tags") is not None:
            resource.tags = dict(body["tags"])  # a PATCH replaces all tags; merging is the tags API's
        resource.etag, resource.changed_at_monotonic = str(uuid.uuid4()), self._account.world.clock.monotonic()
        return document(200, self.shown(resource, call))

    def _delete(self, kind: Kind, resource: Resource, call: ArmCall, fault: Fault | None) -> Response:
        check_preconditions(call, resource)
        self._account.check_lock(resource.id, deleting=True)
        kind.check_unused(resource)
        operations = self._account.operations
        running = operations.get(resource.operation)
        if resource.state == "Deleting" and running is not None:
            return Response(202, b"", operations.headers(running))  # asked twice, done once
        operation = self._begin(call, resource.location)
        error = operation_error(fault, resource)
        if error is not None or says_done_and_is_not(fault):
            operations.after(operation, self._account.quick_s, _raising(error))
            return Response(202, b"", operations.headers(operation))
        if running is not None:
            operations.cancel(running)
        self.remove(resource, operation)
        return Response(202, b"", operations.headers(operation))

    def remove(self, resource: Resource, operation: Operation | None = None) -> None:
        """Begins to remove a resource; ``operation`` ends when it is gone."""
        kind = self._kinds[resource.type.lower()]
        resource.state, resource.operation = "Deleting", operation.id if operation else ""

        def done() -> None:
            if self._account.store.get(resource.id) is resource:
                for part in list(self._account.store.below(resource.id)):
                    self._account.remove(part)
                self._account.remove(resource)
                kind.removed(resource)
            if operation is not None:
                self._account.operations.succeed(operation)

        kind.begin_remove(resource, done)

    def _list_or_action(self, call: ArmCall, fault: Fault | None) -> Response:
        place = call.place
        listed = self._kinds.get(place.type.lower())
        if call.method == "GET" and listed is not None:
            return self._list(listed, call)
        parent = place.parent
        resource = self._account.store.get(parent.id) if parent.is_instance else None
        if not parent.is_instance:
            raise not_emulated(f"{call.method} {place.id}")
        if resource is None:
            raise not_found(parent.type, "/".join(parent.names), place.group)
        told = self._kind(parent).action(resource, call, fault)
        if told is None:
            raise not_emulated(f"the action {place.tail} of {parent.type}")
        if isinstance(told, Operation):
            return Response(202, b"", self._account.operations.headers(told))
        return document(200, told)

    def _list(self, kind: Kind, call: ArmCall) -> Response:
        place = call.place
        parent = place.parent
        if parent.is_instance and self._account.store.get(parent.id) is None:
            raise not_found(parent.type, "/".join(parent.names), place.group)
        listed = [
            resource
            for resource in self._account.store.of_type(kind.type, place.group)
            if not parent.is_instance or resource.key.startswith(parent.id.strip("/").lower() + "/")
        ]
        briefly = call.query.get("statusonly", "").lower() == "true"
        rows = [(briefly and kind.status(resource)) or self.shown(resource, None) for resource in listed]
        return document(200, {"value": rows})


def check_preconditions(call: ArmCall, old: Resource | None) -> None:
    """``If-None-Match: *`` asks for something new, ``If-Match`` for what the client has seen; 412 when it is not so."""
    if call.header("if-none-match") == "*" and old is not None:
        raise _precondition("If-None-Match", f"the resource '{old.id}' exists")
    wanted = call.header("if-match").strip()
    if not wanted:
        return
    if old is None:
        raise _precondition("If-Match", "the resource does not exist")
    if wanted != "*" and wanted.removeprefix("W/").strip('"') != old.etag:
        raise _precondition("If-Match", f"the etag of '{old.id}' is another one")


def _precondition(header: str, why: str) -> ArmError:
    text = f"The condition '{header}' of the request is not met: {why}."
    return ArmError(412, "PreconditionFailed", text)


def check_tags(tags: Any) -> None:
    if not isinstance(tags, dict | None):
        raise ArmError(400, "InvalidRequestContent", "The request content was invalid: tags are no JSON object.")
    tags = tags or {}
    if len(tags) > MAX_TAGS:
        raise ArmError(400, "InvalidTags", f"More than {MAX_TAGS} tags are not allowed.")
    for name, value in tags.items():
        if not isinstance(value, str) or len(value) > MAX_TAG_VALUE:
            raise ArmError(400, "InvalidTagValueLength", f"The value of the tag '{name}' is no text or too long.")
        if not name or len(name) > MAX_TAG_NAME or set(name) & set("<>%&\\?/"):
            raise ArmError(400, "InvalidTagNameCharacters", f"The tag name '{name}' has reserved characters.")


def document(status: int, content: Any) -> Response:
    return Response(status, json.dumps(content).encode(), JSON)


def _raising(error: ArmError | None) -> Any:
    def act() -> None:
        if error is not None:
            raise error

    return act
