"""How a change stands, decided from its operations and one read: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from grafos_connectors.contract import (
    CloudError,
    Done,
    Failed,
    Found,
    Kind,
    Operation,
    Pending,
    Progress,
    State,
    still_unseen,
)
from grafos_connectors.gcp.errors import NEXT_STEPS, operation_error, says_already_exists


class Handle(msgspec.Struct, frozen=True, omit_defaults=True):
    """What must be remembered of a change, as JSON in ``Operation.handle``.

    ``operations`` are paths of Compute Engine's operations, none when what was asked for was there already. ``unseen``:
    the delete call did not find its resource. ``tags`` are those that an update gave.
    """

    operations: tuple[str, ...] = ()
    unseen: bool = False
    tags: Mapping[str, str] = {}

    def text(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, operation: Operation) -> Handle:
        return msgspec.json.decode(operation.handle or "{}", type=cls)


class Sight(msgspec.Struct, frozen=True):
    """What one poll saw. ``operations`` are their documents, None for one that Compute Engine does not know any more.

    ``found`` is None when a read did not show the resource, or when nothing was read since an operation still runs.
    """

    operations: Sequence[Mapping[str, Any] | None]
    found: Found | None

    @property
    def running(self) -> bool:
        return any(each is not None and each.get("status") != "DONE" for each in self.operations)

    @property
    def told(self) -> bool:
        """Whether every change is known to have ended, by its own operation."""
        return bool(self.operations) and None not in self.operations

    def error(self, where: str) -> CloudError | None:
        """Why an operation failed, if one did."""
        errors = (operation_error(each, where) for each in self.operations if each is not None)
        return next((error for error in errors if error is not None), None)


def created(operation: Operation, sight: Sight, *, now: float, lag_s: float, pause_s: float) -> Progress:
    """A create is done when its operation has ended and a read shows the resource ready.

    An operation that ended well while no read shows the resource is a failure. ``get`` is said to be never behind the
    truth; what it does not show is nevertheless named, so that it is deleted before another is made.
    """
    if sight.running:
        return Pending(again_after_s=pause_s)
    found, error = sight.found, sight.error(_where(operation))
    theirs = found is not None and bool(operation.ref.key) and found.ref.key != operation.ref.key
    if error is not None:
        met = theirs or says_already_exists(error)  # what another call made is not for this one to delete
        return Failed(error=error.to_wire(), found=None if met else found)
    if theirs:
        return Failed(error=_error(operation, "cloud_conflict", "is somebody else's").to_wire())
    if found is None:
        return _not_there(operation, sight, now=now, lag_s=lag_s, pause_s=pause_s)
    if found.state is State.READY:
        return Done(found=found)
    if found.state is State.PENDING:
        return Pending(again_after_s=pause_s, found=found)
    return Failed(error=_ended(operation, found).to_wire(), found=found)


def _not_there(operation: Operation, sight: Sight, *, now: float, lag_s: float, pause_s: float) -> Progress:
    if now < operation.began_at + lag_s and not sight.told:
        return Pending(again_after_s=pause_s)
    what = "was made, says its operation, and is not there" if sight.told else "was asked for and does not show up"
    error = _error(operation, "cloud_not_found", what)
    return Failed(error=error.to_wire(), found=still_unseen(operation.ref))


def updated(operation: Operation, sight: Sight, *, now: float, lag_s: float, pause_s: float) -> Progress:
    """An update is done when its operations have ended and a read shows the tags that it gave."""
    if sight.running:
        return Pending(again_after_s=pause_s)
    found, error = sight.found, sight.error(_where(operation))
    if error is not None:
        return Failed(error=error.to_wire(), found=found)
    if found is None or found.state is State.DELETING:
        return Failed(error=_error(operation, "cloud_not_found", "is gone or going").to_wire())
    if dict(found.tags) == dict(Handle.of(operation).tags):
        return Done(found=found)
    if now < operation.began_at + lag_s:
        return Pending(again_after_s=pause_s, found=found)
    what = "does not show the tags that it was given"
    return Failed(error=_error(operation, "cloud_not_found", what).to_wire(), found=found)


def deleted(operation: Operation, sight: Sight, *, now: float, lag_s: float, pause_s: float) -> Progress:
    """A delete is done when its operation has ended and a read shows nothing.

    One whose call did not find the resource is believed after the listing lag: a create whose answer was lost may not
    have begun yet.
    """
    if sight.running:
        return Pending(again_after_s=pause_s)
    found, error = sight.found, sight.error(_where(operation))
    settled = now >= operation.began_at + lag_s
    if found is not None and error is not None:
        return Failed(error=error.to_wire(), found=found)
    if found is None or (operation.ref.key and found.ref.key != operation.ref.key):
        return Done() if sight.told or settled else Pending(again_after_s=pause_s)
    if found.state is State.DELETING or (sight.told and not settled):
        return Pending(again_after_s=pause_s, found=found)
    what = "was not deleted by that call; delete it again"
    return Failed(error=_error(operation, "cloud_not_found", what).to_wire(), found=found)


def _ended(operation: Operation, found: Found) -> CloudError:
    """Why a machine that was made does not run: a Spot machine was most likely taken back."""
    code = "cloud_conflict"
    if operation.ref.kind is Kind.MACHINE and found.attributes.get("spot"):
        code = "cloud_capacity"
    return CloudError(
        code,
        f"The {operation.ref.kind.value} {operation.ref.id} is {found.state.value}, not ready.",
        where=_where(operation),
        why=found.attributes.get("reason", ""),
        next=NEXT_STEPS.get(code, ""),
        cloud_code=found.attributes.get("reason_code", ""),
    )


def _error(operation: Operation, code: str, what: str) -> CloudError:
    ref = operation.ref
    return CloudError(code, f"The {ref.kind.value} {ref.id} {what}.", where=_where(operation))


def _where(operation: Operation) -> str:
    return f"gcp {operation.ref.zone or operation.ref.region}"
