"""What parts and handovers of a cell ask of its plan: that it lives, is ours, and when it ends."""

from __future__ import annotations

from grafos_core.errors import GrafosError
from grafos_stacks.direct import Hands
from grafos_stacks.journal import StackRow, StackState
from grafos_stacks.owners import check_owner
from grafos_stacks.plan import StackPlan
from grafos_stacks.pulumi.handlers import Asker


def owned_row(hands: Hands, cell_id: str, asker: Asker) -> StackRow | None:
    """The row of a cell that lives; None if there is none. ``stack_busy`` when it is another engine's."""
    row = hands.journal.stack(cell_id)
    if row is None or row.state is StackState.GONE:
        return None
    check_owner(row, asker.owner)
    return row


def living_plan(hands: Hands, cell_id: str, asker: Asker) -> StackPlan:
    """The plan by which a cell's parts are made. ``cell_unknown``, ``cell_gone`` when it ran out, ``stack_busy``."""
    row = owned_row(hands, cell_id, asker)
    if row is None or row.plan is None:
        raise GrafosError(
            "cell_unknown",
            f"the journal knows no plan of a cell {cell_id!r} that lives",
            next="pulumi refresh  makes the journal whole again",
        )
    if row.state is StackState.UNMAKING:
        raise GrafosError("stack_busy", f"{cell_id} is being torn down", next="finish it: pulumi destroy")
    if row.plan.expires_at <= hands.clock.now():
        raise GrafosError("cell_gone", f"{cell_id} ran out and has ended itself", next="raise its renewal, or its ttl")
    return row.plan


def ran_out(hands: Hands, cell_id: str) -> bool:
    """Whether a cell came to the end that it was planned with: what ended with it is not missing."""
    row = hands.journal.stack(cell_id)
    return row is not None and row.plan is not None and row.plan.expires_at <= hands.clock.now()
