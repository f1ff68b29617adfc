"""Faults in ARM's words: what the fault plan calls capacity or quota is a code, a status and a sentence here."""

from __future__ import annotations

import json
from collections.abc import Callable

from grafos_emulators.azure import catalogue
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.machine_checks import sku_not_available
from grafos_emulators.azure.machine_life import allocation_failed
from grafos_emulators.azure.quotas import is_spot, quota_exceeded, size_of
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import VIRTUAL_MACHINE
from grafos_emulators.faults import Effect, ErrorClass, Fault

ALLOWED_CALLS = 120  # what a throttled caller is told that it may do in three minutes


def says_done_and_is_not(fault: Fault | None) -> bool:
    """The operation says Succeeded: what was made is not there, and what was deleted still is."""
    return fault is not None and fault.effect is Effect.SAYS_DONE_AND_IS_NOT


def operation_error(fault: Fault | None, resource: Resource) -> ArmError | None:
    """The error that comes by the operation, not by the answer; None when the fault is another one."""
    if fault is None or fault.effect is not Effect.OPERATION_ERROR:
        return None
    if fault.error is ErrorClass.CAPACITY and resource.type == VIRTUAL_MACHINE:
        zones = list(resource.body.get("zones") or [])
        return allocation_failed(zones, size_of(resource), constrained=bool(zones) and is_spot(resource))
    return sync_error(fault, resource.location)


def sync_error(fault: Fault, location: str, machine_type: str = "") -> ArmError:
    """The error that a call is refused with."""
    makers: dict[ErrorClass, Callable[[], ArmError]] = {
        ErrorClass.CAPACITY: lambda: sku_not_available(machine_type or catalogue.SIZES["standard_b2s"].name, location),
        ErrorClass.QUOTA: lambda: quota_exceeded("Total Regional Cores", location, 10, 8, 4),
        ErrorClass.THROTTLED: lambda: _throttled(fault.retry_after_s),
        ErrorClass.DENIED: lambda: ArmError(
            403,
            "AuthorizationFailed",
            "The client does not have authorization to perform this action over this scope.",
        ),
        ErrorClass.AUTH: lambda: ArmError(
            401, "ExpiredAuthenticationToken", "The access token expiry is in the past; the token has expired."
        ),
        ErrorClass.UNAVAILABLE: lambda: ArmError(503, "ServiceUnavailable", "The service is temporarily unavailable."),
    }
    return makers.get(fault.error, _internal)()


def _throttled(retry_after_s: float | None) -> ArmError:
    """Which limit was hit stands in a detail whose message is a JSON text, as compute's throttling tells it."""
    text = "The server rejected the request because too many requests have been received for this subscription."
    told = {
        "operationGroup": "HighCostGet3Min",
        "allowedRequestCount": ALLOWED_CALLS,
        "measuredRequestCount": ALLOWED_CALLS + 1,
    }
    details = [{"code": "TooManyRequests", "target": "HighCostGet3Min", "message": json.dumps(told)}]
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    return ArmError(429, "TooManyRequests", text, headers=headers, details=details)


def _internal() -> ArmError:
    text = "An internal execution error occurred. Please retry later."
    return ArmError(500, "InternalExecutionError", text)
