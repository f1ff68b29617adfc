"""What a provisioner asks of Google beside Compute Engine: is the API switched on, and what may the caller do?

On the real cloud each service has a host of its own; here each has a path, ``/gcp/<service>/…``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from grafos_emulators.gcp import permissions, pricing, storage
from grafos_emulators.gcp.errors import JSON, bad_request, forbidden, not_emulated
from grafos_emulators.gcp.project import Project
from grafos_emulators.http import Request, Response

PREFIX = "/gcp/"
_TEST_PERMISSIONS = re.compile(r"(?:v1|v3)/projects/([^/:]+):testIamPermissions")
_SERVICE = re.compile(r"v1/projects/([^/]+)/services/([^/:]+)")
_SKUS = re.compile(r"v1/services/([^/]+)/skus")

Answer = Callable[[], dict[str, Any]]


def operation_of(request: Request) -> tuple[str, str]:
    """The service and the operation that a request means, for the journal and for fault rules."""
    service, _, path = request.path.removeprefix(PREFIX).partition("/")
    if service == storage.SERVICE:
        return service, storage.operation_of(request)
    named = {
        "cloudresourcemanager": (_TEST_PERMISSIONS, "projects.testIamPermissions"),
        "serviceusage": (_SERVICE, "services.get"),
        "cloudbilling": (_SKUS, "services.skus.list"),
    }
    pattern, operation = named.get(service, (None, ""))
    return service, operation if pattern is not None and pattern.fullmatch(path) else f"{request.method} {path}"


def answer(project: Project, request: Request) -> Response:
    """The answer of one of the services; ``GceRefusal`` in Google's words."""
    service, operation = operation_of(request)
    path = request.path.removeprefix(f"{PREFIX}{service}/")
    body: dict[str, Any]
    if service == storage.SERVICE:
        return storage.answer(project, request, operation)
    if operation == "projects.testIamPermissions" and request.method == "POST":
        found = _TEST_PERMISSIONS.fullmatch(path)
        assert found is not None, "the operation follows from the path"
        body = permissions.test(project, found[1], _body(request))
    elif operation == "services.get" and request.method == "GET":
        found = _SERVICE.fullmatch(path)
        assert found is not None, "the operation follows from the path"
        body = _service(project, found[1], found[2])
    elif operation == "services.skus.list" and request.method == "GET":
        found = _SKUS.fullmatch(path)
        assert found is not None, "the operation follows from the path"
        body = pricing.skus_list(found[1], request.query)
    else:
        raise not_emulated(f"{request.method} {path} of {service}")
    return Response(200, json.dumps(body).encode(), JSON)


def _body(request: Request) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(request.body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise bad_request(f"Invalid JSON payload received. {problem}", "parseError") from problem
    if not isinstance(body, dict):
        raise bad_request("Invalid JSON payload received. Unexpected token.", "parseError")
    return body


def _service(project: Project, project_id: str, service: str) -> dict[str, Any]:
    """``services.get`` of Service Usage: ``ENABLED`` or ``DISABLED``."""
    if project_id not in {project.project_id, project.number}:
        raise forbidden("serviceusage.services.get", f"services/{service}", project_id)
    name = f"projects/{project.number}/services/{service}"
    state = "DISABLED" if service in project.disabled_services else "ENABLED"
    return {
        "name": name,
        "parent": f"projects/{project.number}",
        "config": {"name": service, "title": service.partition(".")[0]},
        "state": state,
    }
