"""Long-running operations: begun by a call, ended by the world's time, asked for by polling.

Both of ARM's ways to poll are served. ``Azure-AsyncOperation`` tells the status in its body; ``Location`` answers 202
until the operation is done. Source: the ARM RPC, "Asynchronous operations", and what azure-core's poller reads.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from grafos_emulators.azure.errors import JSON, ArmError
from grafos_emulators.http import Response
from grafos_emulators.world import World

MAX_OPERATIONS = 10_000  # the oldest are forgotten; nobody polls one of yesterday
POLL_AFTER_MS = 50  # without it the SDK waits 30 s between polls
STATUS, RESULT = "operations", "operationResults"


@dataclass
class Operation:
    """One operation. ``end`` is called once with the lock held, when its time has come and nothing failed."""

    id: str
    status_path: str
    result_path: str
    began_at: float
    api_version: str = ""
    status: str = "InProgress"
    ended_at: float | None = None
    error: ArmError | None = None
    result: Callable[[], dict[str, Any] | None] = field(default=lambda: None)

    @property
    def is_done(self) -> bool:
        return self.status != "InProgress"


class Operations:
    """The operations of one subscription; the caller holds the world's lock."""

    def __init__(self, world: World, subscription: str) -> None:
        self._world = world
        self._subscription = subscription
        self._by_id: dict[str, Operation] = {}
        self.endpoint = ""

    def begin(self, namespace: str, location: str, *, api_version: str) -> Operation:
        """A new operation; without a namespace it is ARM's own (resource groups)."""
        name = str(uuid.uuid4())
        provider = f"/providers/{namespace}/locations/{location}" if namespace else ""
        base = f"/subscriptions/{self._subscription}{provider}"
        result = f"{base}/{RESULT}/{name}" if namespace else f"{base}/operationresults/{name}"
        operation = Operation(name, f"{base}/{STATUS}/{name}", result, self._world.clock.now(), api_version)
        self._by_id[name] = operation
        for stale in itertools.islice(list(self._by_id), max(0, len(self._by_id) - MAX_OPERATIONS)):
            del self._by_id[stale]
        return operation

    def after(self, operation: Operation, lasts_s: float, act: Callable[[], None]) -> None:
        """Ends the operation in ``lasts_s`` seconds of world time, after ``act``; what that raises is its error."""

        def come_to_pass() -> None:
            if operation.is_done:
                return
            try:
                act()
            except ArmError as error:
                self.fail(operation, error)
            else:
                self.succeed(operation)

        self._world.at(self._world.clock.monotonic() + lasts_s, come_to_pass)

    def succeed(self, operation: Operation) -> None:
        self._end(operation, "Succeeded")

    def fail(self, operation: Operation, error: ArmError) -> None:
        operation.error = error
        self._end(operation, "Failed")

    def cancel(self, operation: Operation) -> None:
        """Another operation took its place: ARM calls what a delete overtook ``Canceled``."""
        message = "Operation execution has been preempted by a more recent operation."
        operation.error = ArmError(409, "OperationPreempted", message)
        self._end(operation, "Canceled")

    def _end(self, operation: Operation, status: str) -> None:
        if not operation.is_done:
            operation.status, operation.ended_at = status, self._world.clock.now()

    def get(self, operation_id: str) -> Operation | None:
        return self._by_id.get(operation_id)

    def headers(self, operation: Operation, *, only_location: bool = False) -> dict[str, str]:
        """What tells a client where to poll."""
        version = f"?api-version={operation.api_version}"
        headers = {"Location": f"{self.endpoint}{operation.result_path}{version}"}
        if not only_location:
            headers["Azure-AsyncOperation"] = f"{self.endpoint}{operation.status_path}{version}"
        return {**headers, "retry-after-ms": str(POLL_AFTER_MS)}

    def answer(self, operation_id: str, *, wants_result: bool) -> Response:
        """The answer to a poll."""
        operation = self._by_id.get(operation_id)
        if operation is None:
            raise ArmError(404, "NotFound", f"The operation '{operation_id}' was not found.")
        return self._result(operation) if wants_result else self._status(operation)

    def _status(self, operation: Operation) -> Response:
        document: dict[str, Any] = {
            "name": operation.id,
            "startTime": timestamp(operation.began_at),
            "status": operation.status,
        }
        if operation.ended_at is not None:
            document["endTime"] = timestamp(operation.ended_at)
        if operation.error is not None:
            document |= operation.error.document()
        again = {} if operation.is_done else {"retry-after-ms": str(POLL_AFTER_MS)}
        return Response(200, json.dumps(document).encode(), {**JSON, **again})

    def _result(self, operation: Operation) -> Response:
        if not operation.is_done:
            place = f"{self.endpoint}{operation.result_path}?api-version={operation.api_version}"
            return Response(202, b"", {"Location": place, "retry-after-ms": str(POLL_AFTER_MS)})
        if operation.error is not None:
            raise operation.error
        document = operation.result()
        if document is None:
            return Response(204)
        return Response(200, json.dumps(document).encode(), JSON)


def timestamp(at: float) -> str:
    """ARM's form of a moment: ``2026-11-21T10:00:00.123456+00:00``."""
    return datetime.fromtimestamp(at, UTC).isoformat()
