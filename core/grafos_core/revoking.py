"""How a lease is taken away from its holder, step by step; the names are those of the public design.

    active ──► revoke_warning ──► grace_running ──► checkpoint_reported ──► torndown
       │             │                  │       `─► forced_teardown ──┬───► fenced
       `─────────────┴──────────────────┴─► expired ──────────────────┴───► failed_closed

The holder is warned, gets a *grace* in which everything still works, and either reports that it is done (its run ends
by itself, so that its results are kept) or is stopped. The end is *torndown* when the binding is gone, *fenced* when it
could not be taken down, and *failed_closed* when nobody saw an orderly end: the lease ran out, or the process that held
the binding died. In each end nothing is honoured any more.
"""

from __future__ import annotations

from enum import StrEnum

GRACE_S_DEFAULT = 10.0
"""Enough to write an output; short beside the life of a lease."""
GRACE_S_MAX = 300.0
"""A lease that goes on longer than a token lives is not being taken away."""


class RevokeState(StrEnum):
    """Where a lease is on its way out; the value is the label on the wire."""

    ACTIVE = "active"
    REVOKE_WARNING = "revoke_warning"
    GRACE_RUNNING = "grace_running"
    CHECKPOINT_REPORTED = "checkpoint_reported"
    FORCED_TEARDOWN = "forced_teardown"
    TORNDOWN = "torndown"
    EXPIRED = "expired"
    FENCED = "fenced"
    FAILED_CLOSED = "failed_closed"

    def as_str(self) -> str:
        """The label on the wire."""
        return self.value

    def human_summary(self) -> str:
        """One clause for people."""
        return _SUMMARIES[self]

    def legal_transition_to(self, later: RevokeState) -> bool:
        """Whether ``later`` may follow at once."""
        return later in NEXT[self]

    def leads_to(self, later: RevokeState) -> bool:
        """Whether ``later`` may follow after any number of steps; a step that was not heard of may lie between."""
        return later in NEXT[self] or any(step.leads_to(later) for step in NEXT[self])

    @property
    def is_terminal(self) -> bool:
        return not NEXT[self]

    @property
    def is_honoured(self) -> bool:
        """Whether the lease may still be used."""
        return self in HONOURED


_S = RevokeState

NEXT: dict[RevokeState, frozenset[RevokeState]] = {
    _S.ACTIVE: frozenset({_S.REVOKE_WARNING, _S.EXPIRED}),
    _S.REVOKE_WARNING: frozenset(
        {_S.GRACE_RUNNING, _S.CHECKPOINT_REPORTED, _S.FORCED_TEARDOWN, _S.EXPIRED, _S.FAILED_CLOSED}
    ),
    _S.GRACE_RUNNING: frozenset({_S.CHECKPOINT_REPORTED, _S.FORCED_TEARDOWN, _S.EXPIRED, _S.FAILED_CLOSED}),
    _S.CHECKPOINT_REPORTED: frozenset({_S.TORNDOWN, _S.FENCED, _S.FAILED_CLOSED}),
    _S.FORCED_TEARDOWN: frozenset({_S.TORNDOWN, _S.FENCED, _S.FAILED_CLOSED}),
    _S.EXPIRED: frozenset({_S.FENCED, _S.FAILED_CLOSED}),
    _S.TORNDOWN: frozenset(),
    _S.FENCED: frozenset(),
    _S.FAILED_CLOSED: frozenset(),
}
"""Which state may follow which. A lease that its holder gives back is not revoked: it stays *active* until gone."""

HONOURED = frozenset({_S.ACTIVE, _S.REVOKE_WARNING, _S.GRACE_RUNNING})

_SUMMARIES = {
    _S.ACTIVE: "in use",
    _S.REVOKE_WARNING: "being revoked: its holder is warned",
    _S.GRACE_RUNNING: "being revoked: its holder may finish",
    _S.CHECKPOINT_REPORTED: "being revoked: its holder is done",
    _S.FORCED_TEARDOWN: "being revoked: its holder is stopped",
    _S.TORNDOWN: "revoked, and gone",
    _S.EXPIRED: "has run out",
    _S.FENCED: "could not be taken down; out of use until an operator clears it",
    _S.FAILED_CLOSED: "ended without an orderly end",
}


def moved(before: str, later: RevokeState) -> str:
    """The label of the next state; a step that is not in the table is a bug."""
    assert RevokeState(before).legal_transition_to(later), f"a lease does not go from {before} to {later}"
    return later.value
