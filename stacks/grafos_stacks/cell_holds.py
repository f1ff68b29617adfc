"""What is held for a cell while it may cost something: under which id, how much, and by what it is metered.

The id tells whose hold it is and when its plan was made, so that a hold is found, and read, also when the journal is
lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from grafos_core import ledger as ledgers
from grafos_core.changes import Batch
from grafos_core.errors import GrafosError
from grafos_core.fabric import OPERATOR_ACCOUNT, Fabric
from grafos_stacks.bill import DEAD_MAN_GRACE_S, rates_billed
from grafos_stacks.costs import CELL_HOLDS
from grafos_stacks.direct import Hands
from grafos_stacks.journal import StackRow, StackState
from grafos_stacks.layouts import left_behind
from grafos_stacks.plan import StackPlan


def _hold_prefix(stack: str) -> str:
    """What the ids of all holds for a cell of that name begin with."""
    return f"{CELL_HOLDS}{stack}/"


def held_from(held: ledgers.Hold) -> float:
    """When the plan was made that a hold is for, in Unix seconds; the id tells it when the journal is lost."""
    return float(held.hold_id.rpartition("/")[2])


def open_hold(fabric: Fabric, stack: str) -> ledgers.Hold | None:
    """The cell's open hold, as the ledger has it; found also when the journal is lost."""
    return open_hold_in(fabric.read_ledger(), stack)


def open_hold_in(ledger: ledgers.Ledger, stack: str) -> ledgers.Hold | None:
    """The same, in a ledger that was read."""
    own = (held for held in ledger.holds.values() if held.hold_id.startswith(_hold_prefix(stack)))
    return next((held for held in own if held.state == ledgers.OPEN), None)


def id_among(holds: Iterable[ledgers.Hold], plan: StackPlan) -> str:
    """The open hold's id, which a run may have left whose journal is lost; else one that no cell of that name had,
    because nothing is reserved any more under a hold that has ended."""
    return new_hold_id(holds, plan.stack, plan.made_at)


def id_after(ended: str, plan: StackPlan) -> str:
    """The next one of that cell."""
    number = int(ended.removeprefix(_hold_prefix(plan.stack)).partition("/")[0])
    return f"{_hold_prefix(plan.stack)}{number + 1}/{int(plan.made_at)}"


def new_hold_id(holds: Iterable[ledgers.Hold], stack: str, made_at: float) -> str:
    """The id of the hold for a cell, which ``held_from`` reads: of the one that is open, or else of a new one."""
    own = [held for held in holds if held.hold_id.startswith(_hold_prefix(stack))]
    left = [held for held in own if held.state == ledgers.OPEN]
    return left[0].hold_id if left else f"{_hold_prefix(stack)}{len(own) + 1}/{int(made_at)}"


def holds_of(fabric: Fabric, stack: str, *, in_copy: bool = False) -> list[ledgers.Hold]:
    """Every hold for a cell of that name. ``in_copy``: as the copy in the fabric's home has it."""
    if in_copy:
        with fabric.ledger() as local:
            known = local.ledger
    else:
        known = fabric.read_ledger()
    return [held for held in known.holds.values() if held.hold_id.startswith(_hold_prefix(stack))]


def reserved(ledger: ledgers.Ledger, hold_id: str, plan: StackPlan, now: float, most: int | None = None) -> Batch:
    """Holds the worst case of a cell whose plan was made, from ``now`` on; at ``most`` so many micro-cents."""
    total, purpose = plan.bill.total_micro_cents, f"cell {plan.stack}"
    amount = total if most is None else min(total, most)
    return ledgers.hold(ledger, hold_id, OPERATOR_ACCOUNT, amount, purpose, meter=_meter(plan, now))


def hold_worst_case(hands: Hands, row: StackRow, plan: StackPlan) -> None:
    """Reserves the worst case; the same hold on every run. A stack that was never paid for ends at once: nothing of it
    exists. One that could not ask (the ledger is damaged, the disk is full) stays what it was."""
    try:
        hands.fabric.book(partial(reserved, hold_id=row.hold_id, plan=plan, now=hands.clock.now()))
    except GrafosError as error:
        if error.code in NEXT_STEPS:
            error.next = NEXT_STEPS[error.code].format(plan=plan)
            hands.journal.write(row.moved(StackState.GONE, hands.clock.now()))
        raise


def ensure_held(hands: Hands, plan: StackPlan) -> None:
    """Reserves the worst case of a stack that is there already, in a ledger that could not be asked before.
    ``budget_exceeded`` if it does not fit: the stack stays, and the same call again goes on."""
    row = hands.journal.stack(plan.stack)
    assert row is not None, "it was opened before"
    hands.fabric.book(partial(reserved, hold_id=row.hold_id, plan=plan, now=hands.clock.now()))


NEXT_STEPS = {
    "budget_exceeded": "choose something smaller or shorter, tear down what grafos cloud budget show lists, or "
    "raise the cap: grafos cloud budget set CENTS",
    "plan_stale": "first: grafos cloud teardown {plan.spec.provider} --cell-id {plan.stack}",
}
"""What helps when nothing can be reserved, by why."""


def _meter(plan: StackPlan, now: float) -> ledgers.Meter:
    """From now until the last moment that the hold pays for a machine; then at the rate of what is left behind."""
    rates = rates_billed(plan.facts.price, plan.spec.disk_gib, spot=plan.is_spot)
    behind = left_behind(plan.spec.provider, orchestrates=plan.spec.orchestrates)
    return ledgers.Meter(
        provider=plan.spec.provider,
        rate_micro_cents_per_hour=sum(rates),
        since=now,
        until=float(plan.life.held_until + DEAD_MAN_GRACE_S),
        left_micro_cents_per_hour=sum(rate for name, rate in rates._asdict().items() if name in behind),
        fictional=plan.facts.price.fictional,
    )
