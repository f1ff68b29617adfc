"""The two ways in which Compute Engine says no: an HTTP error, and an operation that ends with an error.

Shapes: https://cloud.google.com/compute/docs/reference/rest/v1/errors and, for operations, the discovery document.
The words in messages are those that users report; programs go by ``reason`` and ``code``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grafos_emulators.http import Response

JSON = {"content-type": "application/json; charset=UTF-8"}
_GLOBAL, _USAGE = "global", "usageLimits"


class GceRefusal(Exception):  # noqa: N818  the cloud's refusal is an answer, not a failure of ours
    """An HTTP error of Google's JSON APIs. ``status`` is the RPC's name for it, where Google sends one."""

    def __init__(
        self,
        http_status: int,
        reason: str,
        message: str,
        *,
        domain: str = _GLOBAL,
        status: str = "",
        headers: Mapping[str, str] | None = None,
        details: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        super().__init__(message)
        self.http_status, self.reason, self.message = http_status, reason, message
        self.domain, self.status, self.headers, self.details = domain, status, dict(headers or {}), details

    def response(self) -> Response:
        one = {"message": self.message, "domain": self.domain, "reason": self.reason}
        error: dict[str, Any] = {"code": self.http_status, "message": self.message, "errors": [one]}
        if self.status:
            error["status"] = self.status
        if self.details:
            error["details"] = list(self.details)
        return Response(self.http_status, json.dumps({"error": error}).encode(), {**JSON, **self.headers})


@dataclass(frozen=True)
class OperationError:
    """What stands in ``error.errors`` of an operation that failed; ``details`` are its ``errorDetails``."""

    code: str
    message: str
    http_status: int
    http_message: str
    details: tuple[Mapping[str, Any], ...] = field(default=())

    def fields(self) -> dict[str, Any]:
        """The fields of the operation that tell it."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["errorDetails"] = [dict(detail) for detail in self.details]
        return {
            "error": {"errors": [error]},
            "httpErrorStatusCode": self.http_status,
            "httpErrorMessage": self.http_message,
        }


# HTTP errors


def not_found(path: str, project_id: str) -> GceRefusal:
    return GceRefusal(404, "notFound", f"The resource 'projects/{project_id}/{path}' was not found")


def already_exists(path: str, project_id: str) -> GceRefusal:
    return GceRefusal(409, "alreadyExists", f"The resource 'projects/{project_id}/{path}' already exists")


def not_ready(path: str, project_id: str) -> GceRefusal:
    return GceRefusal(400, "resourceNotReady", f"The resource 'projects/{project_id}/{path}' is not ready")


def in_use_words(kind: str, path: str, user: str, project_id: str) -> str:
    mine, theirs = f"projects/{project_id}/{path}", f"projects/{project_id}/{user}"
    return f"The {kind} resource '{mine}' is already being used by '{theirs}'"


def in_use(kind: str, path: str, user: str, project_id: str) -> GceRefusal:
    return GceRefusal(400, "resourceInUseByAnotherResource", in_use_words(kind, path, user, project_id))


def invalid(field_path: str, value: object, why: str) -> GceRefusal:
    return GceRefusal(400, "invalid", f"Invalid value for field '{field_path}': '{value}'. {why}")


def bad_request(message: str, reason: str = "badRequest") -> GceRefusal:
    return GceRefusal(400, reason, message)


def required(field_path: str) -> GceRefusal:
    return GceRefusal(400, "required", f"Required field '{field_path}' not specified")


def condition_not_met(what: str) -> GceRefusal:
    return GceRefusal(412, "conditionNotMet", what)


def forbidden(permission: str, path: str, project_id: str) -> GceRefusal:
    where = f"projects/{project_id}/{path}" if path else f"projects/{project_id}"
    return GceRefusal(403, "forbidden", f"Required '{permission}' permission for '{where}'", status="PERMISSION_DENIED")


def api_disabled(project_number: str) -> GceRefusal:
    where = f"https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project={project_number}"
    message = (
        f"Compute Engine API has not been used in project {project_number} before or it is disabled. Enable it by"
        f" visiting {where} then retry."
    )
    return GceRefusal(403, "accessNotConfigured", message, domain=_USAGE, status="PERMISSION_DENIED")


def not_logged_in(message: str) -> GceRefusal:
    return GceRefusal(401, "authError", message, status="UNAUTHENTICATED")


def throttled(project_number: str, *, http_status: int, retry_after_s: float | None) -> GceRefusal:
    headers = {"retry-after": str(int(retry_after_s))} if retry_after_s else {}
    message = (
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'compute.googleapis.com'"
        f" for consumer 'project_number:{project_number}'."
    )
    status = "RESOURCE_EXHAUSTED" if http_status == 429 else ""
    return GceRefusal(http_status, "rateLimitExceeded", message, domain=_USAGE, status=status, headers=headers)


def quota_refusal(metric: str, limit: float, region: str) -> GceRefusal:
    return GceRefusal(403, "quotaExceeded", quota_words(metric, limit, region), domain=_USAGE)


def internal_error(message: str) -> GceRefusal:
    return GceRefusal(500, "internalError", message, status="INTERNAL")


def backend_error(http_status: int = 503) -> GceRefusal:
    return GceRefusal(http_status, "backendError", "Backend Error", status="UNAVAILABLE" if http_status == 503 else "")


def not_emulated(what: str) -> GceRefusal:
    return GceRefusal(501, "notImplemented", f"the emulated Google Cloud of grafos does not imitate {what}")


def quota_words(metric: str, limit: float, region: str) -> str:
    where = f"in region {region}" if region else "globally"
    return f"Quota '{metric}' exceeded.  Limit: {limit:.1f} {where}."


# Errors of operations


def quota_exceeded(metric: str, limit: float, region: str) -> OperationError:
    name = metric.lower()
    info = {
        "metricName": f"compute.googleapis.com/{name}",
        "limitName": f"{metric.replace('_', '-')}-per-project{'-region' if region else ''}",
        "limit": limit,
        "dimensions": {"region": region} if region else {"location": "global"},
    }
    return OperationError(
        "QUOTA_EXCEEDED", quota_words(metric, limit, region), 403, "FORBIDDEN", ({"quotaInfo": info},)
    )


def pool_exhausted(project_id: str, zone: str, vm_type: str, zones_available: tuple[str, ...]) -> OperationError:
    """What an operation says when a zone has no room; ``zonesAvailable`` may be empty, on the real one too."""
    message = (
        f"The zone 'projects/{project_id}/zones/{zone}' does not have enough resources available to fulfill the"
        " request.  '(resource type:compute)'."
    )
    metadatas = {
        "vmType": vm_type,
        "zone": zone,
        "zonesAvailable": ",".join(zones_available),
        "attachment": "",
    }
    info = {"reason": "resource_availability", "domain": "compute.googleapis.com", "metadatas": metadatas}
    locale = {"locale": "en-US", "message": message}
    return OperationError(
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        message,
        503,
        "SERVICE UNAVAILABLE",
        ({"errorInfo": info}, {"localizedMessage": locale}),
    )


def internal_operation_error() -> OperationError:
    message = "Internal error. Please try again or contact Google Support."
    return OperationError("INTERNAL_ERROR", message, 500, "INTERNAL SERVER ERROR")


def operation_in_use(kind: str, path: str, user: str, project_id: str) -> OperationError:
    words = in_use_words(kind, path, user, project_id)
    return OperationError("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", words, 400, "BAD REQUEST")
