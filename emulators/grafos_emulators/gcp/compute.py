"""Compute Engine: finds the method that a request means, checks the request, does it, and checks its own answer."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

from grafos_emulators.gcp import disks, images, networks, offers
from grafos_emulators.gcp.calls import ApiCall, Handler, Route, Trouble, read
from grafos_emulators.gcp.catalog import IMAGE_PROJECT, SCOPES_BY_REGION, SCOPES_BY_ZONE
from grafos_emulators.gcp.discovery import compute_document
from grafos_emulators.gcp.errors import (
    JSON,
    api_disabled,
    forbidden,
    internal_error,
    not_emulated,
)
from grafos_emulators.gcp.instances import Instances
from grafos_emulators.gcp.listing import Entry, aggregated, listed
from grafos_emulators.gcp.operations import Operation
from grafos_emulators.gcp.permissions import permission_for
from grafos_emulators.gcp.project import API_PATH, Project
from grafos_emulators.gcp.routing import Router
from grafos_emulators.gcp.schema import Schemas
from grafos_emulators.http import Request, Response

SERVICE = "compute.googleapis.com"


class Compute:
    """The API of one project, loaded with the discovery document."""

    def __init__(self, project: Project) -> None:
        document = compute_document()
        self._project = project
        self._router = Router(document)
        self._schemas = Schemas(document)
        self.life = (instances := Instances(project)).life
        self._handlers: dict[str, Handler] = {
            **offers.handlers(project),
            **networks.handlers(project),
            **disks.handlers(project),
            **images.handlers(project),
            **instances.handlers(),
            **_operation_handlers(project),
        }
        self._image_handlers = offers.image_handlers(project)

    @property
    def method_ids(self) -> frozenset[str]:
        """The methods that are imitated."""
        return frozenset(self._handlers) | frozenset(self._image_handlers)

    def route(self, request: Request) -> Route | None:
        """The method and the values in the path; None for what the API does not have."""
        return self._router.find(request.method, request.path.removeprefix(API_PATH))

    def answer(self, route: Route, request: Request, trouble: Trouble) -> Response:
        """Does what is asked, under the world's lock; ``GceRefusal`` in Google's words."""
        project, (method, values) = self._project, route
        if SERVICE in project.disabled_services:
            raise api_disabled(project.number)
        call = replace(read(self._router, self._schemas, route, request), trouble=trouble)
        with project.world.lock:
            handler = self._handler(call)
            permission = permission_for(method.method_id)
            if permission in project.denied:
                raise forbidden(permission, call.target, values.get("project", ""))
            repeated = project.operations.repeated(call.request_id) if method.mutating else None
            body = handler(call) if repeated is None else project.operations.view(repeated)
        self._check_answer(method.response_schema, body)
        return Response(200, json.dumps(body).encode(), JSON)

    def _handler(self, call: ApiCall) -> Handler:
        project_named, method_id = call.path.get("project", ""), call.method.method_id
        own = project_named in {self._project.project_id, self._project.number}
        handlers = self._handlers
        if call.method.collection == "images" and not own:
            handlers, own = self._image_handlers, project_named == IMAGE_PROJECT
        if not own:
            raise forbidden(permission_for(method_id), call.target, project_named)
        handler = handlers.get(method_id)
        if handler is None:
            raise not_emulated(method_id)
        return handler

    def _check_answer(self, schema: str, body: dict[str, Any]) -> None:
        fault = self._schemas.fault_of_answer(schema, body)
        if fault is not None:
            raise internal_error(f"the emulator's own answer is wrong at {fault.where}: {fault.text}")


def _operation_handlers(project: Project) -> dict[str, Handler]:
    operations = project.operations

    def entry(operation: Operation) -> Entry:
        return operation.path, partial(operations.view, operation)

    def get(call: ApiCall) -> dict[str, Any]:
        return operations.view(operations.get(call.scope, call.path["operation"]))

    def wait(call: ApiCall) -> dict[str, Any]:
        operation = operations.get(call.scope, call.path["operation"])
        operations.wait(operation)
        return operations.view(operation)

    def list_scope(call: ApiCall) -> dict[str, Any]:
        return listed(project, call, "operation", [entry(each) for each in operations.all(call.scope)])

    def list_all(call: ApiCall) -> dict[str, Any]:
        entries = [entry(each) for each in operations.all()]
        return aggregated(project, call, "operation", "operations", entries, (*SCOPES_BY_REGION, *SCOPES_BY_ZONE))

    handlers: dict[str, Handler] = {"compute.globalOperations.aggregatedList": list_all}
    for collection in ("zoneOperations", "regionOperations", "globalOperations"):
        for verb, handler in (("get", get), ("wait", wait), ("list", list_scope)):
            handlers[f"compute.{collection}.{verb}"] = handler
    return handlers
