"""How a resource comes and goes: each through an operation that takes its time, and may fail at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from grafos_emulators.gcp.calls import ApiCall
from grafos_emulators.gcp.errors import OperationError
from grafos_emulators.gcp.operations import Operation
from grafos_emulators.gcp.project import Project, Resource

CHANGE_PART = 0.25  # new labels or metadata take this part of what making a resource takes


def make(project: Project, call: ApiCall, kind: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Begins to make a resource. It is there at once and ready at the end; when that fails, it is gone again."""
    resource = project.add(kind, path, body)
    operation = project.operations.begin("insert", path, resource.body["id"], request_id=call.request_id)

    def ends() -> OperationError | None:
        if call.trouble.fails:
            project.remove(path)
        resource.ready = True
        return call.trouble.error

    return _begun(project, operation, project.world.times.starting_s, ends)


def delete(
    project: Project, call: ApiCall, resource: Resource, refusal: Callable[[], OperationError | None] = lambda: None
) -> dict[str, Any]:
    """Begins to delete a resource. It is there until the end; when ``refusal`` then tells an error, it stays."""
    operation = project.operations.begin("delete", resource.path, resource.body["id"], request_id=call.request_id)
    resource.leaving = True

    def ends() -> OperationError | None:
        error = call.trouble.error or refusal()
        if error is None and not call.trouble.hollow:
            project.remove(resource.path)
        resource.leaving = False
        return error

    return _begun(project, operation, project.world.times.ending_s, ends)


def change(
    project: Project, call: ApiCall, resource: Resource, fields: Mapping[str, Any], operation_type: str = ""
) -> dict[str, Any]:
    """Begins to change fields of a resource; they are changed at the end, unless the operation fails."""
    operation = project.operations.begin(
        operation_type or call.method.verb, resource.path, resource.body["id"], request_id=call.request_id
    )

    def ends() -> OperationError | None:
        if not call.trouble.fails:
            resource.body.update(fields)
        return call.trouble.error

    return _begun(project, operation, project.world.times.starting_s * CHANGE_PART, ends)


def _begun(
    project: Project, operation: Operation, lasts_s: float, ends: Callable[[], OperationError | None]
) -> dict[str, Any]:
    project.operations.after(operation, lasts_s, ends)
    return project.operations.view(operation)
