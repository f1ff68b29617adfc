"""How a change stands, decided from one read: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from grafos_connectors.aws.errors import ended_early
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

# What a delete's handle says: whether the cloud found what it was asked to delete.
ACCEPTED = "accepted"
UNSEEN = "unseen"


def created(operation: Operation, found: Found | None, *, now: float, lag_s: float, pause_s: float) -> Progress:
    """A create is done when a read shows the resource ready; what no read shows is awaited for the listing lag."""
    if found is None:
        if now < operation.began_at + lag_s:
            return Pending(again_after_s=pause_s)
        error = _error(operation, "cloud_not_found", "was made but does not show up").to_wire()
        return Failed(error=error, found=still_unseen(operation.ref))
    if found.state is State.READY:
        return Done(found=found)
    if found.state is State.PENDING:
        return Pending(again_after_s=pause_s, found=found)
    left = None if found.state is State.GONE else found
    return Failed(error=_ended(operation, found).to_wire(), found=left)


def updated(operation: Operation, found: Found | None, *, now: float, lag_s: float, pause_s: float) -> Progress:
    """An update is done when a read shows the tags that its handle holds."""
    if found is not None and found.state in {State.GONE, State.DELETING}:
        return Failed(error=_error(operation, "cloud_not_found", f"is {found.state.value}").to_wire())
    if found is not None and tags_handle(found.tags) == operation.handle:
        return Done(found=found)
    if now < operation.began_at + lag_s:
        return Pending(again_after_s=pause_s, found=found)
    what = "does not show the tags that it was given" if found else "does not show up"
    return Failed(error=_error(operation, "cloud_not_found", what).to_wire(), found=found)


def tags_handle(tags: Mapping[str, str]) -> str:
    """What an update's handle says: the tags that a read must show."""
    return json.dumps(dict(sorted(tags.items())), separators=(",", ":"))


def deleted(operation: Operation, found: Found | None, *, now: float, lag_s: float, pause_s: float) -> Progress:
    """A delete is done when a read shows the end of the resource, or none shows it and that can be believed.

    AWS warns that "not found" does not prove that an instance is gone. One read is believed if the delete was accepted
    and what was deleted leaves no trace; else reads must find nothing over the whole listing lag.
    """
    settled = now >= operation.began_at + lag_s
    if found is None:
        traceless = operation.handle == ACCEPTED and operation.ref.kind is not Kind.MACHINE
        return Done() if traceless or settled else Pending(again_after_s=pause_s)
    if found.state is State.GONE:
        return Done()
    if found.state is State.DELETING or (operation.handle == ACCEPTED and not settled):
        return Pending(again_after_s=pause_s, found=found)
    error = _error(operation, "cloud_not_found", "was not deleted by that call; delete it again")
    return Failed(error=error.to_wire(), found=found)


def _ended(operation: Operation, found: Found) -> CloudError:
    if operation.ref.kind is Kind.MACHINE:
        return ended_early(
            found.attributes.get("reason_code", ""), found.attributes.get("reason", ""), found.ref.region
        )
    return _error(operation, "cloud_conflict", f"is {found.state.value}, not ready")


def _error(operation: Operation, code: str, what: str) -> CloudError:
    ref = operation.ref
    return CloudError(code, f"The {ref.kind.value} {ref.id} {what}.", where=f"aws {ref.region}")
