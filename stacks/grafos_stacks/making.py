"""The cloud half of provision: hold the money, make the shared network and the cell's own resources.

Each step may be repeated. What was resolved at the first run (type, zone, image, price, expiry) is pinned in the
journal, so a run that continues another makes the very same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import Found, Kind, Scalar
from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_core.money import format_cents
from grafos_stacks.cell_holds import NEXT_STEPS, hold_worst_case, holds_of, id_after, id_among, reserved
from grafos_stacks.creating import Creator, LateInputs
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.journal import DIRECT, Life, Move, ResourceRow, StackRow, StackState
from grafos_stacks.layouts import check_time_left, layout_of
from grafos_stacks.names import attempt_in, expiry_in
from grafos_stacks.owners import check_owner
from grafos_stacks.plan import Planned, StackPlan
from grafos_stacks.spec import CellSpec

SHARED_PATIENCE_S = 120.0
"""How long a provision waits for another one that makes, or a teardown that removes, the region's network."""


class Made(NamedTuple):
    """The machine as the cloud shows it, the plan that it was made by, and which attempt made it."""

    plan: StackPlan
    machine: Found
    attempt: int


def pinned_plan(hands: Hands, spec: CellSpec, engine: str = DIRECT) -> StackPlan | None:
    """The plan of an unfinished or finished provision of this cell, for the address asked from; None if there is none.

    ``plan_stale`` when it was asked for with other inputs or has too little time left for its machine to be made,
    ``stack_busy`` when it is being torn down or is not the ``engine``'s, ``cell_gone`` when it ran out.
    """
    row = hands.journal.stack(spec.cell_id)
    if row is None or row.plan is None or row.state is StackState.GONE:
        return None
    teardown = f"grafos cloud teardown {row.provider} --cell-id {row.stack}"
    if row.state is StackState.UNMAKING:
        raise GrafosError("stack_busy", f"{row.stack} is being torn down", next=f"finish it: {teardown}")
    check_owner(row, engine)
    if changed := _changed_inputs(row.plan.spec, spec):
        raise GrafosError(
            "plan_stale",
            f"{row.stack} exists with other inputs: {', '.join(changed)}",
            next=f"ask for the same, name another cell, or first: {teardown}",
        )
    if row.plan.expires_at <= hands.clock.now():
        raise GrafosError(
            "cell_gone", f"{row.stack} ran out and has ended itself", next=f"remove what is left: {teardown}"
        )
    machine = hands.journal.resources(row.stack).get(row.plan.machine.key)
    if machine is None or machine.life in (Life.REFUSED, Life.GONE):
        check_time_left(row.plan, hands.clock.now())
    return _for_address(row.plan, spec.operator_cidr)


def _for_address(plan: StackPlan, operator_cidr: str) -> StackPlan:
    """The same plan for an operator who comes from another address now: another rule of the firewall, nothing else.
    What an earlier version made in another way stays as it is."""
    if operator_cidr == plan.spec.operator_cidr:
        return plan
    spec = msgspec.structs.replace(plan.spec, operator_cidr=operator_cidr)
    by_now = layout_of(spec.provider).resources(FabricId(plan.fabric), spec, plan.facts, plan.life)
    doors = {what.name: what for what in by_now if what.kind in (Kind.FIREWALL, Kind.FIREWALL_RULE)}
    resources = tuple(doors.get(what.name, what) for what in plan.resources)
    return msgspec.structs.replace(plan, spec=spec, resources=resources)


def make_stack(hands: Hands, plan: StackPlan, late_inputs: LateInputs, *, later: bool = False) -> Made:
    """Has all resources of the plan, or raises what stands in the way. The caller holds the stack's lock. ``later``:
    the ledger cannot be reached before this very stack is there, so ``ensure_held`` is called then.

    ``budget_exceeded`` before anything is made, when the worst case does not fit under the operator's cap.
    ``plan_stale`` before a machine whose deadline would come too late. One that is there gets it all the same.
    """
    row = opened(hands, plan, held_later=later)
    if not later:
        hold_worst_case(hands, row, plan)
    engine = Creator(hands)
    shared = [what for what in plan.resources if what.stack == plan.shared_stack]
    with hands.journal.lock(plan.shared_stack, patience_s=SHARED_PATIENCE_S, sleep=hands.sleep):
        note_shared(hands, plan)
        known = engine.make(shared, {})
    own = [what for what in plan.resources if what.stack == plan.stack]
    machine = engine.make(own, known, in_time(hands, plan, late_inputs))[plan.machine.name]
    close_old_doors(hands, engine, plan)
    return _as_made(hands, plan, machine)


def in_time(hands: Hands, plan: StackPlan, late_inputs: LateInputs) -> LateInputs:
    """The same, if there is time; they are asked for at the moment of each create call."""

    def late(what: Planned, attempt: int) -> Mapping[str, Scalar]:
        if what.kind is Kind.MACHINE:
            check_time_left(plan, hands.clock.now())
        return late_inputs(what, attempt)

    return late


def close_old_doors(hands: Hands, engine: Engine, plan: StackPlan) -> None:
    """The rule for an address from which the operator came before."""
    planned = {what.key for what in plan.resources}
    for row in hands.journal.resources(plan.stack).values():
        stale = row.kind is Kind.FIREWALL_RULE and row.key not in planned and row.life is not Life.GONE
        if stale and row.ref is not None:
            engine.unmake(row)


def note_made(hands: Hands, stack: str) -> None:
    """The cell is ready; called when nothing is left to do."""
    row = hands.journal.stack(stack)
    assert row is not None, "a stack that was made is in the journal"
    hands.journal.write(row.moved(StackState.MADE, hands.clock.now()))


def hold_all(hands_of: Mapping[str, Hands], plans: Sequence[StackPlan]) -> None:
    """Opens several cells and reserves the worst cases of all of them, or of none: before the first create of any.

    ``budget_exceeded`` with the sum; then none was opened. Cells that were opened before keep their plans and holds.
    The caller's threads then find row and hold as an earlier run would have left them; and so does the next run where
    the ledger could not be asked, or did not answer: it may hold all of it. ``fleet.hold_fleet`` holds the locks.
    """
    some = next(iter(hands_of.values()))
    journal, now = some.journal, some.clock.now()
    kept = {row.stack: row for row in journal.stacks() if row.state is not StackState.GONE}
    holds = some.fabric.read_ledger().holds
    fresh = [plan for plan in plans if plan.stack not in kept]
    rows = [_new_row(plan, id_among(holds.values(), plan), now) for plan in fresh]
    journal.write(*rows, *(old for plan in fresh for old in _earlier(some, plan.stack)))
    left = [kept[plan.stack] for plan in plans if plan.stack in kept]
    unpaid = [row for row in left if row.state is StackState.MAKING and row.plan and row.hold_id not in holds]
    wanted = [(row, row.plan) for row in (*rows, *unpaid) if row.plan is not None]
    try:
        each = [partial(reserved, hold_id=row.hold_id, plan=plan, now=now) for row, plan in wanted]
        some.fabric.book(lambda ledger: ledgers.in_turn(ledger, each))
    except GrafosError as error:
        if error.code in NEXT_STEPS:
            journal.write(*(row.moved(StackState.GONE, now) for row, _ in wanted))
        if error.code == "budget_exceeded":
            total = format_cents(sum(plan.bill.total_micro_cents for _, plan in wanted))
            total += " (fictional)" if all(plan.facts.price.fictional for _, plan in wanted) else ""
            error.what = f"{len(wanted)} cells may cost {total} together: {error.what}"
            error.next = NEXT_STEPS[error.code]
        raise


def opened(
    hands: Hands,
    plan: StackPlan,
    moves: tuple[Move, ...] = (),
    *,
    held_later: bool = False,
    engine: str = DIRECT,
    replaces: str = "",
) -> StackRow:
    """The stack's row, made before anything else; a name that was used before begins anew. ``moves`` are those that led
    to a new row, and ``replaces`` names the cell whose place it takes. ``held_later``: what the ledger holds is told by
    the copy in the fabric's home."""
    row = hands.journal.stack(plan.stack)
    if row is not None and row.state is not StackState.GONE:
        row = msgspec.structs.replace(row, plan=plan)
        hands.journal.write(row)
        return row
    if held_later and row is not None and row.hold_id:
        hold_id = id_after(row.hold_id, plan)  # the copy does not know that it ended, nor perhaps that it ever was
    else:
        hold_id = id_among(holds_of(hands.fabric, plan.stack, in_copy=held_later), plan)
    row = msgspec.structs.replace(_new_row(plan, hold_id, hands.clock.now(), moves), engine=engine, replaces=replaces)
    hands.journal.write(row, *_earlier(hands, plan.stack))
    return row


def _new_row(plan: StackPlan, hold_id: str, now: float, moves: tuple[Move, ...] = ()) -> StackRow:
    return StackRow(
        stack=plan.stack,
        provider=plan.spec.provider,
        region=plan.spec.region,
        account=plan.facts.account,
        state=StackState.MAKING,
        created_at=now,
        changed_at=now,
        plan=plan,
        hold_id=hold_id,
        moves=moves,
    )


def _earlier(hands: Hands, stack: str) -> list[ResourceRow]:
    """Rows of an earlier cell of that name stay, since their attempts are used up; their time is not this cell's."""
    rows = hands.journal.resources(stack).values()
    return [msgspec.structs.replace(old, first_at=0.0) for old in rows if old.life is Life.GONE]


def note_shared(hands: Hands, plan: StackPlan) -> None:
    """The row of the region's network, written before anything of it is made; the caller holds its lock."""
    row = hands.journal.stack(plan.shared_stack)
    now = hands.clock.now()
    if row is None or row.state is StackState.GONE:
        row = StackRow(
            stack=plan.shared_stack,
            provider=plan.spec.provider,
            region=plan.spec.region,
            account=plan.facts.account,
            state=StackState.MADE,
            created_at=now,
            changed_at=now,
        )
    hands.journal.write(row.moved(StackState.MADE, now))


def _as_made(hands: Hands, plan: StackPlan, machine: Found) -> Made:
    """A machine that an earlier run made without a journal tells by its signed tags when it ends."""
    expires_at = expiry_in(machine.tags) or plan.expires_at
    if expires_at != plan.expires_at:
        plan = msgspec.structs.replace(plan, expires_at=expires_at)
        row = hands.journal.stack(plan.stack)
        assert row is not None, "it was opened before"
        hands.journal.write(row.moved(row.state, hands.clock.now(), plan=plan))
    return Made(plan, machine, attempt_in(machine.tags))


def _changed_inputs(pinned: CellSpec, asked: CellSpec) -> list[str]:
    """Inputs that were named now and differ; one that is left open now stays as it was pinned."""
    before, now = pinned.replace_inputs(), asked.replace_inputs()
    changed = [name for name, value in now.items() if value not in ("", before.get(name, ""))]
    return [f"{name} {before.get(name)!r}, not {now[name]!r}" for name in changed]
