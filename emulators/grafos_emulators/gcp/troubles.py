"""The fault plan's troubles in Compute Engine's words."""

from __future__ import annotations

from grafos_emulators.faults import Effect, ErrorClass, Fault
from grafos_emulators.gate import CloudCall
from grafos_emulators.gcp.calls import Trouble
from grafos_emulators.gcp.catalog import MACHINE_TYPES
from grafos_emulators.gcp.errors import (
    GceRefusal,
    OperationError,
    backend_error,
    forbidden,
    internal_operation_error,
    not_logged_in,
    pool_exhausted,
    quota_exceeded,
    quota_refusal,
    throttled,
)
from grafos_emulators.gcp.permissions import permission_for
from grafos_emulators.gcp.project import Project
from grafos_emulators.gcp.quotas import cpu_metric, limit_of


def refusal_for(project: Project, call: CloudCall, fault: Fault) -> GceRefusal:
    """The HTTP error of a call that is refused. A throttled caller is told 429 with its wait, or 403 without one."""
    match fault.error:
        case ErrorClass.CAPACITY:
            error = _pool_exhausted(project, call)
            return GceRefusal(503, error.code, error.message)
        case ErrorClass.QUOTA:
            return quota_refusal(*_quota(project, call))
        case ErrorClass.THROTTLED:
            status = 403 if fault.retry_after_s is None else 429
            return throttled(project.number, http_status=status, retry_after_s=fault.retry_after_s)
        case ErrorClass.DENIED:
            permission = permission_for(f"{call.service}.{call.operation}")
            return forbidden(permission, call.fields.get("name", ""), project.project_id)
        case ErrorClass.AUTH:
            return not_logged_in("Request had invalid authentication credentials. Expected OAuth 2 access token.")
        case ErrorClass.UNAVAILABLE:
            return backend_error(503)
        case ErrorClass.INTERNAL:
            return backend_error(500)


def trouble_for(project: Project, call: CloudCall, fault: Fault | None) -> Trouble:
    """What a call must carry out itself."""
    if fault is None:
        return Trouble()
    match fault.effect:
        case Effect.OPERATION_ERROR:
            return Trouble(error=_operation_error(project, call, fault))
        case Effect.SAYS_DONE_AND_IS_NOT:
            return Trouble(hollow=True)
        case Effect.LAUNCH_THEN_DIE:
            return Trouble(dies_after_s=fault.after_s)
        case Effect.SPOT_NOTICE:
            return Trouble(preempted_after_s=fault.after_s)
        case _:
            return Trouble()


def _operation_error(project: Project, call: CloudCall, fault: Fault) -> OperationError:
    match fault.error:
        case ErrorClass.CAPACITY:
            return _pool_exhausted(project, call)
        case ErrorClass.QUOTA:
            return quota_exceeded(*_quota(project, call))
        case ErrorClass.THROTTLED:
            return OperationError("RATE_LIMIT_EXCEEDED", "Rate Limit Exceeded", 403, "FORBIDDEN")
        case ErrorClass.DENIED | ErrorClass.AUTH:
            return OperationError("PERMISSION_DENIED", "Permission denied.", 403, "FORBIDDEN")
        case ErrorClass.UNAVAILABLE | ErrorClass.INTERNAL:
            return internal_operation_error()


def _pool_exhausted(project: Project, call: CloudCall) -> OperationError:
    name = call.fields.get("machine_type", "")
    machine_type = MACHINE_TYPES.get(name)
    others = project.zones_with_room(call.zone, machine_type.zones if machine_type else frozenset(), name)
    return pool_exhausted(project.project_id, call.zone, name, others)


def _quota(project: Project, call: CloudCall) -> tuple[str, float, str]:
    if not call.region:
        return "NETWORKS", limit_of(project, "NETWORKS"), ""
    machine_type = MACHINE_TYPES.get(call.fields.get("machine_type", ""))
    metric = cpu_metric(machine_type.family, spot=False) if machine_type else "CPUS"
    return metric, limit_of(project, metric, call.region), call.region
