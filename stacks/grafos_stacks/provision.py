"""Provision a cell: plan, hold, make, and then as far as its pattern goes.

A standalone cell gets its software, is claimed, and is ready at the end. A registered one is invited to the fabric's
orchestrator, from which its machine fetches the software, and is ready when the orchestrator says so; a machine that
never gets there is torn down again. One that was asked for without joining has booted at the end: it has set its own
timer and said so on the console, and the cloud's own deadline stands.

A provision may be interrupted anywhere. The same command again continues it: what exists is found by its key, what was
answered is on the disk, and every step may be repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import Found, Quota
from grafos_core.errors import GrafosError
from grafos_scheduler.messages import Terms
from grafos_stacks.asking import USE_THAT_ACCOUNT, ask, check_account
from grafos_stacks.bill import DEAD_MAN_GRACE_S, worst_case
from grafos_stacks.booting import console_tail, wait_booted
from grafos_stacks.bootstrap import Joining
from grafos_stacks.bundle import Bundles
from grafos_stacks.creating import LateInputs
from grafos_stacks.direct import Hands
from grafos_stacks.failover import make_somewhere
from grafos_stacks.handover import Handover, Possession, SliceWanted, hold_slice, take_over
from grafos_stacks.homecoming import release_slices, spend_slices
from grafos_stacks.inviting import Patience, forget_invitations, invite, user_data_of
from grafos_stacks.joining import wait_joined, wait_ready_again
from grafos_stacks.journal import Move, StackState
from grafos_stacks.making import Made, note_made, opened, pinned_plan
from grafos_stacks.names import claim_secret
from grafos_stacks.orchestrated import check_free, check_way, in_the_way
from grafos_stacks.orchestrators import DEFAULT_TENANT
from grafos_stacks.plan import StackPlan
from grafos_stacks.planner import plan_cell
from grafos_stacks.preflight import Survey, quota_refusals, survey, together, unknown_limits
from grafos_stacks.prices import PriceBook
from grafos_stacks.records import (
    BOOTED,
    MAKING,
    OPERATOR,
    READY,
    CellHome,
    CellRecord,
    add_to_project,
    tenant_name,
)
from grafos_stacks.spec import STANDALONE, CellSpec
from grafos_stacks.starting import check_still_there
from grafos_stacks.teardown import teardown

PATIENCE = Patience()


class Prepared(NamedTuple):
    """A plan to show and to agree to; ``resumed`` when an earlier run pinned it. ``quotas`` are the limits that it was
    held against, ``notes`` say what the cloud did not tell."""

    plan: StackPlan
    resumed: bool
    quotas: tuple[Quota, ...] = ()
    notes: tuple[str, ...] = ()


def prepare(hands: Hands, spec: CellSpec, bundles: Bundles, *, anew: bool = False) -> Prepared:
    """The plan of a cell, changing nothing: the pinned one of an earlier run, or a new one from what the cloud says.
    With ``anew`` a new one even if what is left of an earlier one has yet to be removed.

    All that stands in the way of a new one is raised together, as one error.
    """
    pinned = None if anew else pinned_plan(hands, spec)
    if pinned is not None:
        return Prepared(pinned, resumed=True)
    seen = survey(hands, spec, bundles.pin, PriceBook(hands.clock).price)
    prepared, refusals = judged(hands, spec, seen)
    if seen.facts is not None and (way := in_the_way(hands.fabric, spec, emulated=seen.facts.emulated)):
        refusals.append(way)
    if prepared is None or refusals:
        raise together(refusals, f"{spec.cell_id} on {spec.provider} in {spec.region}")
    return prepared


def judged(hands: Hands, spec: CellSpec, seen: Survey, count: int = 1) -> tuple[Prepared | None, list[GrafosError]]:
    """The plan that follows from a survey, if any does, and all that stands in the way of ``count`` such cells."""
    refusals = list(seen.refusals)
    if seen.facts is None:
        return None, refusals
    try:
        plan = plan_cell(spec, seen.facts, hands.fabric.id, hands.clock.now())
    except GrafosError as error:
        return None, [*refusals, error]
    refusals += quota_refusals(hands, plan, seen.quotas, count)
    notes = (*seen.notes, *unknown_limits(spec, seen.quotas))
    return Prepared(plan, resumed=False, quotas=seen.quotas, notes=notes), refusals


def provision(
    hands: Hands,
    plan: StackPlan,
    bundles: Bundles,
    project: Path,
    moves: tuple[Move, ...] = (),
    patience: Patience = PATIENCE,
    replaces: str = "",
) -> CellRecord:
    """A cell that is ready or has booted, and its record. Raises what stands in the way; the same call continues.

    A zone without capacity is followed by the next one of the region. ``moves`` tells where it was tried before,
    ``replaces`` whose place it takes.
    ``stack_busy`` when another command works on it, ``cloud_auth`` when it was begun in another account,
    ``budget_exceeded`` and ``scheduler_unreachable`` before anything is made, the cloud's refusals,
    ``cell_not_ready`` with the unmet signals and the console's tail, ``interrupted`` on Ctrl-C. A registered cell's
    machine that did not become one is torn down then (also ``enrolment_expired``).
    """
    try:
        with hands.journal.lock(plan.stack):
            pinned = pinned_plan(hands, plan.spec)  # another command may have begun since the plan was shown
            if pinned is not None:
                refuse_other_account(hands, pinned)
                check_still_there(hands, pinned)
            check_way(hands.fabric, (pinned or plan).spec, emulated=plan.facts.emulated)
            if pinned is None:
                if plan.spec.joins:
                    check_free(hands, plan.spec)
                begin_anew(hands, CellHome(hands.fabric, plan.stack))
            if moves or replaces:
                opened(hands, pinned or plan, moves, replaces=replaces)
            made = make_somewhere(hands, pinned or plan, lambda tried: late_inputs_of(hands, tried, bundles, patience))
            record = carry_through(hands, made, bundles, patience)
            if not isinstance(record, GrafosError):
                add_to_project(project, record)
                note_made(hands, plan.stack)
                return record
    except KeyboardInterrupt:
        again = f"grafos cloud provision {plan.spec.provider} --cell-id {plan.stack}"
        undo = f"grafos cloud teardown {plan.spec.provider} --cell-id {plan.stack}"
        raise GrafosError(
            "interrupted", f"stopped while {plan.stack} was made", next=f"{again}   goes on; {undo}   undoes"
        ) from None
    raise _torn_down(hands, made.plan, project, record)


def carry_through(hands: Hands, made: Made, bundles: Bundles, patience: Patience) -> CellRecord | GrafosError:
    """From a machine that runs to what the cell's pattern makes of it; or why its machine is of no use."""
    if made.plan.spec.pattern == STANDALONE:
        return hand_over(hands, made, bundles)
    if made.plan.spec.joins:
        return _join(hands, made, patience)
    return _boot(hands, made)


def _torn_down(hands: Hands, plan: StackPlan, project: Path, reason: GrafosError) -> GrafosError:
    """The reason, when the machine that came to nothing is gone; it would only cost."""
    spec = plan.spec
    try:
        teardown(hands, plan.stack, project, spec.region, spec.provider)
    except GrafosError as error:
        reason.what = f"{plan.stack}: {reason.what}; tearing its machine down failed too: {error.what}"
        reason.next = f"grafos cloud teardown {spec.provider} --cell-id {plan.stack}"
        return reason
    reason.what = f"{plan.stack}: {reason.what}; the machine was torn down"
    reason.next = f"see why above, then again: grafos cloud provision {spec.provider} --cell-id {plan.stack}"
    reason.retryable = False
    return reason


def refuse_other_account(hands: Hands, begun: StackPlan) -> None:
    """What was begun in one account looks gone in another: a second machine would be made there, under one hold."""
    account = ask(hands.connector.identity, hands.sleep).account
    next_step = f"{USE_THAT_ACCOUNT}, or name another cell"
    check_account(f"{begun.stack} was begun", begun.facts.account, account, next_step)


def begin_anew(hands: Hands, home: CellHome) -> None:
    """Clears what an ended cell of the name left. A cell that only the journal forgot keeps its credentials: it was
    claimed once and for all, and nobody could get into it again."""
    row = hands.journal.stack(home.cell_id)
    forgotten = row is None or (row.plan is None and row.state is not StackState.GONE)
    lives = home.is_recorded and not home.record().gone_at and forgotten
    if not lives:
        home.begin_anew()


def late_inputs_of(hands: Hands, plan: StackPlan, bundles: Bundles, patience: Patience) -> LateInputs:
    """The machine's user data. A registered cell is invited just before its machine is made."""

    def invited(attempt: int) -> Joining:
        return invite(hands, plan, attempt, bundles, patience)

    return user_data_of(hands, plan, invited if plan.spec.joins else None)


def _boot(hands: Hands, made: Made) -> CellRecord:
    """From a registered cell's machine that runs, its deadline standing, to one that has booted."""
    home = CellHome(hands.fabric, made.plan.stack)
    record = _recorded(hands, home, made)
    wait_booted(hands, made.plan.stack, made.machine)
    return _in_state(home, record, BOOTED)


def _join(hands: Hands, made: Made, patience: Patience) -> CellRecord | GrafosError:
    """The same to one that is ready at its orchestrator; or why it will not be. One that was ready before is left as it
    is whatever it lacks now."""
    home = CellHome(hands.fabric, made.plan.stack)
    record = _recorded(hands, home, made)
    if record.state == READY:
        wait_ready_again(hands, made, patience)
        return record
    if (reason := wait_joined(hands, made, patience)) is not None:
        return reason
    forget_invitations(home)
    return _in_state(home, record, READY)


def _recorded(hands: Hands, home: CellHome, made: Made) -> CellRecord:
    """The cell's record before it is anything: whoever looks finds what is being made, and where."""
    record = record_of(hands, made)
    is_another = home.is_recorded and home.record().machine_id != record.machine_id
    if is_another and made.plan.spec.pattern == STANDALONE:
        _forget_lost_machine(hands, home)
    return keep_begun(home, record)


def keep_begun(home: CellHome, record: CellRecord) -> CellRecord:
    """Keeps the record of a machine that is being made; of one that was recorded before, what it had reached stays."""
    before = home.record() if home.is_recorded else record
    if before.machine_id == record.machine_id:
        record = msgspec.structs.replace(record, provisioned_at=before.provisioned_at, state=before.state)
    home.keep_record(record)
    return record


def _in_state(home: CellHome, record: CellRecord, state: str) -> CellRecord:
    reached = msgspec.structs.replace(record, state=state)
    home.keep_record(reached)
    return reached


def hand_over(hands: Hands, made: Made, bundles: Bundles) -> CellRecord:
    """From a machine that runs to a cell that is ready."""
    plan, machine = made.plan, made.machine
    home = CellHome(hands.fabric, plan.stack)
    record = _recorded(hands, home, made)
    handover = Handover(
        fabric=hands.fabric,
        home=home,
        url=record.url,
        clock=hands.clock,
        sleep=hands.sleep,
        console=lambda: console_tail(hands, machine),
        progress=hands.progress,
    )
    wanted = SliceWanted(
        # What was cut for a machine that is lost is not given twice, and one machine gets no two: each has its own.
        slice_id=f"slice-{plan.stack}-{machine.ref.id}",
        scheduler=plan.stack,
        tenant=DEFAULT_TENANT,
        most_micro_cents=worst_case(plan.facts.price, plan.spec.disk_gib, plan.spec.ttl_s).total_micro_cents,
        expires_at=float(plan.expires_at + DEAD_MAN_GRACE_S),
    )
    budget = hold_slice(hands.fabric, hands.clock, wanted)
    handover.bring_software(bundles.path)
    terms = Terms(plan.rate_micro_cents_per_hour, float(plan.expires_at))
    secret = bytes.fromhex(claim_secret(hands.fabric, plan.machine.key, made.attempt))
    take_over(handover, Possession(secret, OPERATOR, terms, DEFAULT_TENANT, budget))
    return _in_state(home, record, READY)


def _forget_lost_machine(hands: Hands, home: CellHome) -> None:
    """Its credentials open nothing on the next one. Its slice comes back if it had no tenant to spend it; else what it
    spent is unknown, and all of it counts as spent."""
    if home.is_granted(tenant_name(DEFAULT_TENANT)):
        spend_slices(hands.fabric, home.cell_id)
    else:
        release_slices(hands.fabric, home.cell_id)
    home.forget_credentials()


def record_of(hands: Hands, made: Made) -> CellRecord:
    """What is kept of the cell. A standalone one's scheduler answers at its machine's address; a registered one has no
    address of its own."""
    plan, machine = made.plan, made.machine
    return CellRecord(
        cell_id=plan.stack,
        fabric=plan.fabric,
        provider=plan.spec.provider,
        region=plan.spec.region,
        url=url_of(plan, machine) if plan.spec.pattern == STANDALONE else "",
        rate_micro_cents_per_hour=plan.rate_micro_cents_per_hour,
        expires_at=float(plan.expires_at),
        provisioned_at=hands.clock.now(),
        machine_type=plan.facts.offer.machine_type,
        machine_id=machine.ref.id,
        zone=machine.ref.zone,
        emulated=plan.facts.emulated,
        tenant=DEFAULT_TENANT,
        pattern=plan.spec.pattern,
        state=MAKING,
    )


def url_of(plan: StackPlan, machine: Found, *, in_public: bool = False) -> str:
    """Where the machine's scheduler answers: at its public address, else at its private one unless it must be public.
    ``cell_not_ready`` while it has none."""
    address = machine.attributes.get("public_ip") or ("" if in_public else machine.attributes.get("private_ip", ""))
    if not address:
        raise GrafosError(
            "cell_not_ready",
            f"the machine {machine.ref.id} has no {'public ' if in_public else ''}address yet",
            where=plan.spec.region,
            next="run the same command again: it goes on",
        )
    return f"https://{address}:{plan.spec.port}"
