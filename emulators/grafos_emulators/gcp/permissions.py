"""IAM permissions: which one a method needs, and which of a list the caller has.

The caller has every permission but those that were taken away (``Project.denied``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from grafos_emulators.gcp.errors import bad_request, not_found
from grafos_emulators.gcp.project import Project

MAX_ASKED = 100  # permissions in one question; the real one's limit too
_FORM = re.compile(r"[a-z][A-Za-z0-9]*\.[A-Za-z0-9]+\.[A-Za-z0-9]+")
_VERBS = {
    "insert": "create",
    "patch": "update",
    "aggregatedList": "list",
    "getFromFamily": "getFromFamily",
    "wait": "get",
}


def permission_for(method_id: str) -> str:
    """The permission that a method of Compute Engine needs first; the real one may ask for others beside it."""
    service, collection, verb = method_id.split(".")
    return f"{service}.{collection}.{_VERBS.get(verb, verb)}"


def test(project: Project, project_id: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """``projects.testIamPermissions``: those that the caller has. None of them: no field at all."""
    if project_id not in {project.project_id, project.number}:
        raise not_found("", project_id)
    permissions = asked.get("permissions", [])
    if not isinstance(permissions, list) or len(permissions) > MAX_ASKED:
        raise bad_request(f"Between 1 and {MAX_ASKED} permissions can be tested at once.", "badRequest")
    for permission in permissions:
        if not isinstance(permission, str) or not _FORM.fullmatch(permission):
            raise bad_request(f"Permission {permission} is not valid for this resource.")
    granted = [each for each in permissions if each not in project.denied]
    return {"permissions": granted} if granted else {}
