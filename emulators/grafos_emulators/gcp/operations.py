"""Operations: every change of Compute Engine is one, and its end says whether it came to be.

An operation is ``PENDING``, then ``RUNNING``, then ``DONE``; ``DONE`` with an ``error`` is a failure. Whoever repeats a
``requestId`` gets the operation that it began, whatever is asked for the second time.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grafos_emulators.gcp.errors import OperationError, bad_request, not_found
from grafos_emulators.gcp.times import rfc3339

if TYPE_CHECKING:
    from grafos_emulators.gcp.project import Project

PENDING, RUNNING, DONE = "PENDING", "RUNNING", "DONE"
PENDING_PART = 0.25  # of the time that an operation takes
MAX_OPERATIONS = 10_000  # the newest are kept; the real ones are forgotten after some days
REQUEST_IDS_LAST_S = 3600.0  # what Google promises of its interfaces (AIP-155: at least 60 minutes)
WAIT_LIMIT_S = 2.0  # a real wait lasts up to two minutes, and may end early; a connection is not blocked for long here
USER = "grafos@emulated.invalid"
SYSTEM = "system"
_COLLECTIONS = {"zones": "zone", "regions": "region"}


@dataclass
class Operation:
    """One operation. ``scope`` as in ``project.Resource``; times are unix seconds, 0 for what has not come."""

    name: str
    operation_id: str
    scope: str
    operation_type: str
    target_path: str
    target_id: str
    inserted_at: float
    user: str = USER
    request_id: str = ""
    status: str = PENDING
    started_at: float = 0.0
    ended_at: float = 0.0
    error: OperationError | None = None
    warning: str = ""

    @property
    def path(self) -> str:
        return f"{self.scope}/operations/{self.name}"


class Operations:
    """All operations of a project; guarded by the world's lock."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._by_path: dict[str, Operation] = {}
        self._by_request: dict[str, Operation] = {}
        self._changed = threading.Condition(project.world.lock)

    def repeated(self, request_id: str) -> Operation | None:
        """The operation that an earlier request with this id began; ``invalid`` for an id that is no UUID."""
        if not request_id:
            return None
        try:
            number = uuid.UUID(request_id).int
        except ValueError:
            number = 0
        if not number:
            raise bad_request(
                f"Invalid value for field 'requestId': '{request_id}'. Must be a UUID, not zero.", "invalid"
            )
        known = self._by_request.get(request_id)
        now = self._project.world.clock.now()
        return known if known is not None and now < known.inserted_at + REQUEST_IDS_LAST_S else None

    def begin(
        self, operation_type: str, target_path: str, target_id: str, *, request_id: str = "", user: str = USER
    ) -> Operation:
        """A new operation, ``PENDING``; ``after`` or ``finish`` bring it to its end."""
        project = self._project
        now, operation_id = project.world.clock.now(), project.fresh_id()
        operation = Operation(
            name=f"operation-{int(now * 1000)}-{operation_id[-12:]}",
            operation_id=operation_id,
            scope="/".join(target_path.split("/")[: 1 if target_path.startswith("global/") else 2]),
            operation_type=operation_type,
            target_path=target_path,
            target_id=target_id,
            inserted_at=now,
            user=user,
            request_id=request_id,
        )
        self._by_path[operation.path] = operation
        if request_id:
            self._by_request[request_id] = operation
        while len(self._by_path) > MAX_OPERATIONS:
            oldest = self._by_path.pop(next(iter(self._by_path)))
            if self._by_request.get(oldest.request_id) is oldest:
                del self._by_request[oldest.request_id]
        return operation

    def run(self, operation: Operation, lasts_s: float) -> None:
        """Lets it be ``RUNNING`` after the first part of ``lasts_s``, unless it is done by then."""
        world = self._project.world
        world.at(world.clock.monotonic() + lasts_s * PENDING_PART, lambda: self._set_running(operation))

    def after(
        self, operation: Operation, lasts_s: float, act: Callable[[], OperationError | None] = lambda: None
    ) -> Operation:
        """Does ``act`` when ``lasts_s`` have passed, and ends the operation with what it gives."""
        world = self._project.world
        self.run(operation, lasts_s)
        world.at(world.clock.monotonic() + lasts_s, lambda: self.finish(operation, act()))
        return operation

    def finish(self, operation: Operation, error: OperationError | None = None) -> None:
        """Ends it; harmless for one that has ended."""
        if operation.status == DONE:
            return
        now = self._project.world.clock.now()
        operation.status, operation.error, operation.ended_at = DONE, error, now
        operation.started_at = operation.started_at or now
        self._changed.notify_all()

    def get(self, scope: str, name_or_id: str) -> Operation:
        """By name or by its number, as the real one takes both; ``notFound`` otherwise."""
        path = f"{scope}/operations/{name_or_id}"
        found = self._by_path.get(path) or next(
            (each for each in self.all(scope) if each.operation_id == name_or_id), None
        )
        if found is None:
            raise not_found(path, self._project.project_id)
        return found

    def all(self, scope: str = "") -> list[Operation]:
        """The operations of a scope, oldest first."""
        return [each for each in self._by_path.values() if scope in {"", each.scope}]

    def wait(self, operation: Operation) -> None:
        """Blocks until it is done, or for two seconds; the world's lock is free meanwhile."""
        deadline = time.monotonic() + WAIT_LIMIT_S
        while operation.status != DONE and (left_s := deadline - time.monotonic()) > 0:
            self._changed.wait(left_s)

    def view(self, operation: Operation) -> dict[str, Any]:
        """The operation as an answer shows it."""
        project = self._project
        where, _, place = operation.scope.partition("/")
        body: dict[str, Any] = {
            "kind": "compute#operation",
            "id": operation.operation_id,
            "name": operation.name,
            "operationType": operation.operation_type,
            "targetLink": project.link(operation.target_path),
            "targetId": operation.target_id,
            "status": operation.status,
            "user": operation.user,
            "progress": {PENDING: 0, RUNNING: 50, DONE: 100}[operation.status],
            "insertTime": rfc3339(operation.inserted_at),
            "selfLink": project.link(operation.path),
        }
        if where in _COLLECTIONS:
            body[_COLLECTIONS[where]] = project.link(f"{where}/{place}")
        if operation.request_id:
            body["clientOperationId"] = operation.request_id
        if operation.started_at:
            body["startTime"] = rfc3339(operation.started_at)
        if operation.ended_at:
            body["endTime"] = rfc3339(operation.ended_at)
        if operation.warning:
            body["statusMessage"] = operation.warning
        return body | (operation.error.fields() if operation.error else {})

    def _set_running(self, operation: Operation) -> None:
        if operation.status == PENDING:
            operation.status, operation.started_at = RUNNING, self._project.world.clock.now()
            self._changed.notify_all()
