"""How a change stands, decided from one question about its operation and one read of its resource: pure."""

from __future__ import annotations

import msgspec

from grafos_connectors.azure.errors import Refusal, operation_failed
from grafos_connectors.azure.lro import FAILED, RUNNING, SUCCEEDED, Step
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


class Handle(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an operation must remember: the SDK's continuation token; whether a delete found nothing to delete; what an
    update gave."""

    token: str = ""
    unseen: bool = False
    tags: dict[str, str] = {}
    ends_at: str = ""


def written(handle: Handle) -> str:
    return msgspec.json.encode(handle).decode()


def read(text: str) -> Handle:
    """The handle that was written; an empty one for what no version of this code wrote."""
    try:
        return msgspec.json.decode(text, type=Handle) if text else Handle()
    except msgspec.MsgspecError:
        return Handle()


def created(
    operation: Operation, step: Step, found: Found | None, *, now: float, lag_s: float, pause_s: float
) -> Progress:
    """A create is done when its operation is and a read shows the resource ready.

    ``found`` is None where no read shows it, and was not asked for while the operation runs. An operation that says
    that it succeeded, of which no read shows anything, has failed: a GET by name is never behind the truth.
    """
    if step.state == RUNNING:
        return Pending(again_after_s=step.again_after_s or pause_s, found=found)
    theirs = found is not None and bool(found.ref.key) and found.ref.key != operation.ref.key
    if step.state == FAILED:
        return Failed(error=_said_why(operation, step.refusal).to_wire(), found=None if theirs else found)
    if theirs:
        return Failed(error=_error(operation, "cloud_conflict", "is somebody else's").to_wire())
    if found is None and step.state == SUCCEEDED:
        return Failed(error=_error(operation, "cloud_not_found", "was made, as Azure says, and is not there").to_wire())
    if found is None:
        if now < operation.began_at + lag_s:
            return Pending(again_after_s=pause_s)
        error = _error(operation, "cloud_not_found", "does not show up")
        return Failed(error=error.to_wire(), found=still_unseen(operation.ref))
    if found.state is State.READY:
        return Done(found=found)
    if found.state is State.PENDING:
        return Pending(again_after_s=pause_s, found=found)
    return Failed(error=_ended(operation, found).to_wire(), found=found)


def updated(
    operation: Operation, handle: Handle, found: Found | None, *, now: float, lag_s: float, pause_s: float
) -> Progress:
    """An update is done when a read shows the tags and the moment that its handle holds."""
    if found is None or found.state in {State.GONE, State.DELETING}:
        said = "is not there" if found is None else f"is {found.state.value}"
        return Failed(error=_error(operation, "cloud_not_found", said).to_wire())
    if dict(found.tags) == handle.tags and found.attributes.get("ends_at", "") == handle.ends_at:
        return Done(found=found)
    if now < operation.began_at + lag_s:
        return Pending(again_after_s=pause_s, found=found)
    error = _error(operation, "cloud_conflict", "does not show what it was given")
    return Failed(error=error.to_wire(), found=found)


def deleted(
    operation: Operation, handle: Handle, step: Step, found: Found | None, *, now: float, lag_s: float, pause_s: float
) -> Progress:
    """A delete is done when its operation is and a read does not find the resource.

    A GET by name does not lag, so one read is believed; but of what the delete call itself did not find, a create call
    on its way may still land, and that is waited for.
    """
    if step.state == RUNNING:
        return Pending(again_after_s=step.again_after_s or pause_s, found=found)
    settled = now >= operation.began_at + lag_s
    if found is None:
        return Pending(again_after_s=pause_s) if handle.unseen and not settled else Done()
    if step.state == FAILED:
        return Failed(error=_said_why(operation, step.refusal).to_wire(), found=found)
    if found.state is State.DELETING or not (handle.unseen or settled):
        return Pending(again_after_s=pause_s, found=found)
    error = _error(operation, "cloud_not_found", "was not deleted by that call; delete it again")
    return Failed(error=error.to_wire(), found=found)


def _ended(operation: Operation, found: Found) -> CloudError:
    """Why what was made is not ready, of an operation whose own error nobody can tell any more."""
    code = found.attributes.get("reason_code", "")
    if operation.ref.kind is Kind.MACHINE and code:
        return _said_why(operation, Refusal(code, found.attributes.get("reason", "")))
    said = f"is {found.state.value}, not ready"
    return _error(operation, "cloud_conflict", said, found.attributes.get("reason", ""))


def _said_why(operation: Operation, refusal: Refusal) -> CloudError:
    ref = operation.ref
    return operation_failed(refusal, f"To {operation.verb} the {ref.kind.value} {name_in(ref.id)}", ref.region)


def _error(operation: Operation, code: str, what: str, why: str = "") -> CloudError:
    ref = operation.ref
    return CloudError(code, f"The {ref.kind.value} {name_in(ref.id)} {what}.", where=f"azure {ref.region}", why=why)


def name_in(id: str) -> str:
    return id.rpartition("/")[2]
