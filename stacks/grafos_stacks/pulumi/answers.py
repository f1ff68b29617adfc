"""How a refusal reaches a person through Pulumi: its text holds all, for the code beside it is shown to nobody.

Three codes of gRPC mean to an engine that nobody knows what became of a resource; none of them is ever used for an
error of ours, which always does know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2
from pulumi.runtime.proto import provider_pb2

from grafos_core import errors
from grafos_core.errors import CODES, GrafosError
from grafos_stacks.pulumi.codec import encode

DETAILS = "grpc-status-details-bin"
"""The trailing metadata in which a gRPC error carries more than its text."""
_BY_EXIT_CODE = {
    errors.USAGE: grpc.StatusCode.INVALID_ARGUMENT,
    errors.AUTH: grpc.StatusCode.UNAUTHENTICATED,
    errors.PERMISSION: grpc.StatusCode.PERMISSION_DENIED,
    errors.CAPACITY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.BUDGET: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CONFLICT: grpc.StatusCode.ABORTED,
    errors.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.INTERRUPTED: grpc.StatusCode.CANCELLED,
}


class UnfinishedError(Exception):
    """A resource that exists and cannot be used yet, with its id: an engine keeps it, and updates it the next time."""

    def __init__(self, id: str, outputs: Mapping[str, Any], reason: GrafosError, inputs: Mapping[str, Any]) -> None:
        super().__init__(str(reason))
        self.id, self.outputs, self.reason, self.inputs = id, outputs, reason, inputs


def told(error: GrafosError) -> str:
    """The error as people read it, with its code, cause and next step."""
    lines = [f"{error.what} [{error.code}]"]
    lines += [f"  where: {error.where}"] if error.where else []
    lines += [f"  why: {error.why}"] if error.why else []
    lines += [f"  next: {error.next}"] if error.next else []
    return "\n".join(lines)


def status_of(error: GrafosError) -> grpc.StatusCode:
    """The gRPC code of an error of ours."""
    facts = CODES[error.code]
    otherwise = grpc.StatusCode.UNAVAILABLE if facts.retryable else grpc.StatusCode.FAILED_PRECONDITION
    return _BY_EXIT_CODE.get(facts.exit_code, otherwise)


def refuse(context: grpc.ServicerContext, error: GrafosError) -> NoReturn:
    """Ends the call with the error."""
    context.abort(status_of(error), told(error))
    raise AssertionError("abort raises")


def leave_unfinished(context: grpc.ServicerContext, left: UnfinishedError, secrets: Sequence[str] = ()) -> NoReturn:
    """Ends the call so that the engine keeps the resource, with the reason why it is not finished."""
    detail = provider_pb2.ErrorResourceInitFailed(
        id=left.id,
        properties=encode(left.outputs, secrets),
        inputs=encode(left.inputs, secrets),
        reasons=[told(left.reason)],
        refresh_before_update=True,
    )
    packed = any_pb2.Any()
    packed.Pack(detail)
    code, text = status_of(left.reason), told(left.reason)
    status = status_pb2.Status(code=code.value[0], message=text, details=[packed])
    context.set_trailing_metadata(((DETAILS, status.SerializeToString()),))
    context.abort(code, text)
    raise AssertionError("abort raises")
