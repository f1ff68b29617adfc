"""Extend: a cell that lives gets a later end, or stays exactly as it was.

The order is the order of what it costs to stop in between. First the money is held, then the cloud's own deadline is
moved, then the machine's timer (of a registered cell its orchestrator is told), then the tags that tell a sweep, then
the records. So whatever dies in between, every layer that ends the cell stands at the old end or at the new one, and
both are paid for. The new end is in the journal before anything moves: the same command again finishes that very
extension, and adds nothing to it.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import Found, Kind, Ref, State
from grafos_core import ledger as ledgers
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId
from grafos_core.receipts import BudgetSlice
from grafos_scheduler.client import SchedulerClient
from grafos_scheduler.messages import TenantRequest, Terms
from grafos_stacks.asking import check_account
from grafos_stacks.bill import DEAD_MAN_GRACE_S, worst_case
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.creating import Creator
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.handover import SliceWanted, hold_slice
from grafos_stacks.journal import DIRECT, Life, ResourceRow, StackRow, StackState
from grafos_stacks.layouts import check_ahead, check_clock, layout_of, left_behind, moves_end, timer_of
from grafos_stacks.orchestrated import tell_end
from grafos_stacks.orchestrator_machine import move_end
from grafos_stacks.owners import check_owner
from grafos_stacks.plan import Lifetime, Planned, StackPlan, desired
from grafos_stacks.progress import BEGUN, DONE, WAITING, Step
from grafos_stacks.records import BOOTED, OPERATOR, READY, CellHome, CellRecord, add_to_project, tenant_name
from grafos_stacks.spec import STANDALONE, TTL_S_MAX

TIMER_PATIENCE_S = 15.0
"""How long a machine's supervisor gets to move its timer; it looks every second."""
ASK_EVERY_S = 0.2
REACH_PATIENCE_S = 10.0


class Wish(NamedTuple):
    """Until when: ``until`` in Unix seconds, or ``more_s`` later than the cell ends now."""

    until: int = 0
    more_s: int = 0


class Extended(NamedTuple):
    """The cell as it is now. ``before`` is when it would have ended; ``finished`` an earlier, interrupted extension."""

    record: CellRecord
    before: int
    finished: bool
    held_micro_cents: int


def extend(hands: Hands, cell_id: str, wish: Wish, project: Path, engine: str = DIRECT) -> Extended:
    """Moves the end of a cell; ``wish`` is not looked at when an earlier extension is finished.

    ``cell_unknown``, ``cell_not_ready`` (it was never finished), ``cell_gone`` (it has ended), ``config_invalid`` (an
    end that is none, a clock that is off), ``unsupported`` (the cloud cannot move it), ``budget_exceeded`` before
    anything is moved, ``stack_busy`` when another engine owns it,
    ``scheduler_unreachable`` and the cloud's refusals with the layers as the module says.
    """
    with hands.journal.lock(cell_id):
        row, plan = _living(hands, cell_id)
        check_owner(row, engine)
        finished, before = bool(row.extending_to), plan.expires_at
        ends_at = row.extending_to or _wanted(hands, plan, wish)
        extended = planned_until(plan, ends_at)
        _check_machine(hands, plan)
        held = _hold(hands, cell_id, extended)
        row = row.moved(row.state, hands.clock.now(), extending_to=ends_at)
        hands.journal.write(row)
        _move_deadline(hands, extended)
        if plan.spec.pattern == STANDALONE:
            _move_timer(hands, extended)
        if plan.spec.joins:
            tell_end(hands, extended)
        if plan.spec.orchestrates:
            move_end(hands, extended)
        _retag(hands, extended)
        record = _recorded(hands, cell_id, extended, project)
        hands.journal.write(row.moved(row.state, hands.clock.now(), plan=extended, extending_to=0))
        return Extended(record, before, finished, held)


# --- whether it can be ------------------------------------------------------------------------------------------


def _living(hands: Hands, cell_id: str) -> tuple[StackRow, StackPlan]:
    row, home = hands.journal.stack(cell_id), CellHome(hands.fabric, cell_id)
    if row is None or row.plan is None or row.state is StackState.GONE:
        known = home.is_recorded and not home.record().gone_at
        raise GrafosError(
            "cell_unknown",
            f"the journal knows no cell {cell_id!r} that lives",
            next="grafos cloud recover  makes the journal whole" if known else "grafos cloud ls",
        )
    if row.state is StackState.UNMAKING:
        raise GrafosError("stack_busy", f"{cell_id} is being torn down", next="let it go, and make another")
    if not home.is_recorded or home.record().state not in (READY, BOOTED):
        raise GrafosError(
            "cell_not_ready",
            f"{cell_id} was never finished",
            next=f"grafos cloud provision {row.provider} --cell-id {cell_id}  (it goes on)",
        )
    identity = hands.identity()
    check_clock(identity, hands.clock.now())
    check_account(f"{cell_id} was made", row.account, identity.account)
    if max(row.plan.expires_at, row.extending_to) <= hands.clock.now():
        raise GrafosError(
            "cell_gone",
            f"{cell_id} ran out and has ended itself",
            next=f"grafos cloud teardown {row.provider} --cell-id {cell_id}",
        )
    return row, row.plan


def _wanted(hands: Hands, plan: StackPlan, wish: Wish) -> int:
    """The new end, in Unix seconds, if the cell can have it."""
    ends_at = wish.until or plan.expires_at + wish.more_s
    if ends_at <= plan.expires_at:
        raise GrafosError(
            "config_invalid",
            f"{plan.stack} lives that long already",
            where="ttl",
            next="name a later end; to end it earlier, tear it down",
        )
    check_ahead(plan.spec.provider, ends_at, hands.clock.now())
    longest = plan.ends_at_most if moves_end(plan) else plan.life.held_until
    if ends_at > longest:
        raise _too_late(plan, longest)
    return ends_at


def _too_late(plan: StackPlan, longest: int) -> GrafosError:
    provider, most = plan.spec.provider, TTL_S_MAX // 86400
    if not moves_end(plan):
        by_then = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(longest))
        return GrafosError(
            "unsupported",
            f"on {provider} the end of {'such ' if plan.facts.baked else ''}a machine that runs cannot be moved: "
            f"{plan.stack} was made to end by {by_then}",
            next=f"replace it by one that can be extended: grafos cloud provision {provider} --ttl 8h --max-ttl 24h",
        )
    bound = f"its longest TTL of {plan.spec.max_ttl_s / 3600:g} h" if plan.spec.max_ttl_s else f"{most} days"
    return GrafosError(
        "config_invalid",
        f"{plan.stack} was made to live {bound} at most",
        where="ttl",
        next="ask for an earlier end, or make another cell",
        context={"ends_at_most": longest},
    )


def _check_machine(hands: Hands, plan: StackPlan) -> None:
    row = hands.journal.resources(plan.stack).get(plan.machine.key)
    seen = Engine(hands).observe(row.ref) if row is not None and row.ref is not None else None
    if seen is None or seen.state is not State.READY:
        raise GrafosError(
            "cell_gone",
            f"the machine of {plan.stack} does not run",
            why=f"the cloud calls it {seen.state.value}" if seen else "",
            next=f"grafos cloud teardown {plan.spec.provider} --cell-id {plan.stack}",
        )


def planned_until(plan: StackPlan, ends_at: int) -> StackPlan:
    """The same plan with a later end: the same resources, other times in their tags and in their deadline."""
    layout, held_until = layout_of(plan.spec.provider), max(plan.life.held_until, ends_at)
    life = Lifetime(ends_at, held_until)
    longest_s = held_until - int(plan.made_at)
    behind = left_behind(plan.spec.provider, orchestrates=plan.spec.orchestrates)
    return msgspec.structs.replace(
        plan,
        expires_at=ends_at,
        held_until=held_until,
        timer_at=max(plan.timer_at, timer_of(plan.spec, plan.facts, life)),
        resources=layout.resources(FabricId(plan.fabric), plan.spec, plan.facts, life),
        bill=worst_case(plan.facts.price, plan.spec.disk_gib, longest_s, behind, plan.spec.provider),
    )


# --- the layers, in order ---------------------------------------------------------------------------------------


def _hold(hands: Hands, cell_id: str, plan: StackPlan) -> int:
    """Enlarges the cell's hold to the new worst case, or ``budget_exceeded``; how much is held then."""
    held = open_hold(hands.fabric, cell_id)
    if held is None:
        raise GrafosError("plan_stale", f"nothing is held for {cell_id}", next="grafos cloud recover")
    until = float(plan.life.held_until + DEAD_MAN_GRACE_S)
    hold_id, amount = held.hold_id, plan.bill.total_micro_cents
    booked = hands.fabric.book(lambda ledger: ledgers.enlarge(ledger, hold_id, amount, until=until))
    return booked.holds[hold_id].amount_micro_cents


def _move_deadline(hands: Hands, plan: StackPlan) -> None:
    """The cloud's own deadline, where it is a resource. One that was switched off is switched on again by its new time,
    and one that somebody deleted is made again."""
    for what in plan.resources:
        if what.kind is Kind.DEADLINE:
            if not _is_there(hands, what):
                needs = {name: _place(hands, plan, name)[0] for name in what.needs.values()}
                known = {name: Found(ref=ref, state=State.READY) for name, ref in needs.items()}
                Creator(hands).make([what], known)
            _update(hands, plan, what)


def _is_there(hands: Hands, what: Planned) -> bool:
    row = hands.journal.resources(what.stack).get(what.key)
    if row is None or row.ref is None or row.life is not Life.READY:
        return False
    return Engine(hands).observe(row.ref).state not in (State.GONE, State.DELETING)


def _retag(hands: Hands, plan: StackPlan) -> None:
    """What else bears the expiry in its tags: by it a sweep knows what is overdue."""
    for what in plan.resources:
        if what.stack == plan.stack and what.kind is not Kind.DEADLINE and what.expires_at:
            _update(hands, plan, what)


def _update(hands: Hands, plan: StackPlan, what: Planned) -> None:
    """Gives one resource its new tags and time; repeating it is harmless, so its intent needs no row of its own."""
    ref, row = _place(hands, plan, what.name)
    needs = {role: _place(hands, plan, name)[0].id for role, name in what.needs.items()}
    # Nothing but the tags, and a deadline's time, is looked at; but a call is whole or it is none.
    blank = {"user_data": ""} if what.kind is Kind.MACHINE else {}
    call, _ = desired(hands.fabric, what, row.attempt, needs, blank)
    if dict(row.tags) == dict(call.tags):
        return  # an earlier run came that far
    began = hands.clock.monotonic()
    hands.progress(Step(f"extend {what.name}", BEGUN, 0.0))
    Engine(hands).update(ref, call, f"extend {what.name}")
    hands.journal.write(row.moved(Life.READY, hands.clock.now(), tags=dict(call.tags)))
    hands.progress(Step(f"extend {what.name}", DONE, hands.clock.monotonic() - began))


def _place(hands: Hands, plan: StackPlan, name: str) -> tuple[Ref, ResourceRow]:
    """Where a resource of the plan is, as the journal has it."""
    what = plan.resource(name)
    row = hands.journal.resources(what.stack).get(what.key)
    if row is None or row.ref is None or row.life is not Life.READY:
        raise GrafosError(
            "cell_not_ready",
            f"the journal does not know where the {what.kind.value} of {what.stack} is",
            next="grafos cloud recover, then run this again: it goes on",
        )
    return row.ref, row


def _move_timer(hands: Hands, plan: StackPlan) -> None:
    """A standalone cell: its scheduler gives leases up to the new end, its machine's timer moves there, and its tenant
    gets a slice that lasts as long. A machine on Azure reads its tags, and one on Compute Engine has a later timer."""
    home, began = CellHome(hands.fabric, plan.stack), hands.clock.monotonic()
    hands.progress(Step("extend cell", BEGUN, 0.0))
    with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        terms = Terms(plan.rate_micro_cents_per_hour, float(plan.expires_at))
        for asked in itertools.count(1):
            if client.set_terms(terms).ends_at >= plan.expires_at:
                break
            if asked * ASK_EVERY_S > TIMER_PATIENCE_S:
                raise GrafosError(
                    "cell_not_ready",
                    f"the timer of {plan.stack}'s machine did not move, so the machine ends when it would have",
                    why="its supervisor did not follow the cell's scheduler",
                    next="run the same command again; if it stays so, make another cell and tear this one down",
                )
            hands.progress(Step("extend cell", WAITING, hands.clock.monotonic() - began))
            hands.sleep(ASK_EVERY_S)
        _extend_budget(hands, home, client, plan)
    hands.progress(Step("extend cell", DONE, hands.clock.monotonic() - began))


def _extend_budget(hands: Hands, home: CellHome, client: SchedulerClient, plan: StackPlan) -> None:
    """A further slice of the tenant's budget, since one that was cut before runs out with the old end."""
    record = home.record()
    more_s = max(0.0, plan.expires_at - record.expires_at)
    wanted = SliceWanted(
        slice_id=f"slice-{plan.stack}-{record.machine_id}-{plan.expires_at}",
        scheduler=plan.stack,
        tenant=record.tenant,
        most_micro_cents=worst_case(plan.facts.price, plan.spec.disk_gib, more_s).total_micro_cents,
        expires_at=float(plan.expires_at + DEAD_MAN_GRACE_S),
    )
    cut = hold_slice(hands.fabric, hands.clock, wanted)
    signed = hands.fabric.sign(
        BudgetSlice(
            fabric=str(hands.fabric.id),
            slice_id=cut.hold_id,
            scheduler=plan.stack,
            tenant=record.tenant,
            amount_micro_cents=cut.amount_micro_cents,
            expires_at=cut.expires_at,
        )
    )
    who = tenant_name(record.tenant)
    granted = client.register_tenant(TenantRequest(record.tenant, home.request_for(who), signed))
    home.keep_grant(who, granted.certificate_pem, granted.api_token)


def _recorded(hands: Hands, cell_id: str, plan: StackPlan, project: Path) -> CellRecord:
    home = CellHome(hands.fabric, cell_id)
    record = msgspec.structs.replace(home.record(), expires_at=float(plan.expires_at))
    home.keep_record(record)
    if not plan.spec.orchestrates:
        add_to_project(project, record)
    return record
