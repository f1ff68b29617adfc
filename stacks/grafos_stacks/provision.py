"""Provision a standalone cell: plan, hold, make, bring the software, claim, wait until it is ready, record.

A provision may be interrupted anywhere. The same command again continues it: what exists is found by its key, what was
answered is on the disk, and every step may be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import CloudError, Found, Kind, Scalar, State
from grafos_core.errors import GrafosError
from grafos_scheduler.messages import Terms
from grafos_stacks.bill import DEAD_MAN_GRACE_S, worst_case
from grafos_stacks.bootstrap import render
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands, LateInputs
from grafos_stacks.handover import Handover, Possession, SliceWanted, hold_slice, take_over
from grafos_stacks.homecoming import release_slices, spend_slices
from grafos_stacks.making import Made, make_stack, note_made, pinned_plan
from grafos_stacks.names import claim_secret
from grafos_stacks.plan import Planned, StackPlan
from grafos_stacks.planner import plan_cell, read_facts
from grafos_stacks.prices import PriceBook
from grafos_stacks.records import OPERATOR, CellHome, CellRecord, add_to_project, tenant_name
from grafos_stacks.spec import CellSpec

TENANT = "default"
CONSOLE_LINES = 40


class Prepared(NamedTuple):
    """A plan to show and to agree to; ``resumed`` when an earlier run pinned it."""

    plan: StackPlan
    resumed: bool


def prepare(hands: Hands, spec: CellSpec, bundles: Bundles) -> Prepared:
    """The plan of a cell, changing nothing: the pinned one of an earlier run, or a new one from what the cloud says."""
    pinned = pinned_plan(hands, spec)
    if pinned is not None:
        return Prepared(pinned, resumed=True)
    facts = read_facts(hands.connector, spec, bundles.pin, PriceBook(hands.clock).price)
    return Prepared(plan_cell(spec, facts, hands.fabric.id, hands.clock.now()), resumed=False)


def provision(hands: Hands, plan: StackPlan, bundles: Bundles, project: Path) -> CellRecord:
    """A cell that is ready, and its record. Raises what stands in the way; the same call again continues.

    ``stack_busy`` when another command works on it, ``budget_exceeded`` before anything is made, the cloud's refusals,
    ``cell_not_ready`` with the unmet signals and the console's tail, ``interrupted`` on Ctrl-C.
    """
    try:
        with hands.journal.lock(plan.stack):
            pinned = pinned_plan(hands, plan.spec)  # another command may have begun since the plan was shown
            if pinned is None:
                _begin_anew(hands, CellHome(hands.fabric, plan.stack))
            made = make_stack(hands, pinned or plan, user_data_of(hands, pinned or plan))
            record = hand_over(hands, made, bundles)
            add_to_project(project, record)
            note_made(hands, plan.stack)
            return record
    except KeyboardInterrupt:
        again = f"grafos cloud provision {plan.spec.provider} --cell-id {plan.stack}"
        undo = f"grafos cloud teardown {plan.spec.provider} --cell-id {plan.stack}"
        raise GrafosError(
            "interrupted", f"stopped while {plan.stack} was made", next=f"{again}   goes on; {undo}   undoes"
        ) from None


def _begin_anew(hands: Hands, home: CellHome) -> None:
    """Clears what an ended cell of the name left. A cell that only the journal forgot keeps its credentials: it was
    claimed once and for all, and nobody could get into it again."""
    lives = home.is_recorded and not home.record().gone_at and hands.journal.stack(home.cell_id) is None
    if not lives:
        home.begin_anew()


def user_data_of(hands: Hands, plan: StackPlan) -> LateInputs:
    """The machine's user data, made at the moment of the call because it holds the one-time secret."""

    def late(what: Planned, attempt: int) -> Mapping[str, Scalar]:
        return {"user_data": render(hands.fabric, plan, attempt)} if what.kind is Kind.MACHINE else {}

    return late


def hand_over(hands: Hands, made: Made, bundles: Bundles) -> CellRecord:
    """From a machine that runs to a cell that is ready."""
    plan, machine = made.plan, made.machine
    home = CellHome(hands.fabric, plan.stack)
    record = record_of(hands, made)
    before = home.record() if home.is_recorded else record
    if before.machine_id != record.machine_id:
        _forget_lost_machine(hands, home)
    else:
        record = msgspec.structs.replace(record, provisioned_at=before.provisioned_at)
    home.keep_record(record)
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
        tenant=TENANT,
        most_micro_cents=worst_case(plan.facts.price, plan.spec.disk_gib, plan.spec.ttl_s).total_micro_cents,
        expires_at=float(plan.expires_at + DEAD_MAN_GRACE_S),
    )
    budget = hold_slice(hands.fabric, hands.clock, wanted)
    handover.bring_software(bundles.path)
    terms = Terms(plan.rate_micro_cents_per_hour, float(plan.expires_at))
    secret = bytes.fromhex(claim_secret(hands.fabric, plan.machine.key, made.attempt))
    take_over(handover, Possession(secret, OPERATOR, terms, TENANT, budget))
    return record


def _forget_lost_machine(hands: Hands, home: CellHome) -> None:
    """Its credentials open nothing on the next one. Its slice comes back if it had no tenant to spend it; else what it
    spent is unknown, and all of it counts as spent."""
    if home.is_granted(tenant_name(TENANT)):
        spend_slices(hands.fabric, home.cell_id)
    else:
        release_slices(hands.fabric, home.cell_id)
    home.forget_credentials()


def record_of(hands: Hands, made: Made) -> CellRecord:
    """What is kept of the cell. Its scheduler answers at the machine's public address, else at its private one."""
    plan, machine = made.plan, made.machine
    address = machine.attributes.get("public_ip") or machine.attributes.get("private_ip", "")
    if not address:
        raise GrafosError(
            "cell_not_ready",
            f"the machine {machine.ref.id} has no address yet",
            where=plan.spec.region,
            next="run the same command again: it goes on",
        )
    return CellRecord(
        cell_id=plan.stack,
        fabric=plan.fabric,
        provider=plan.spec.provider,
        region=plan.spec.region,
        url=f"https://{address}:{plan.spec.port}",
        rate_micro_cents_per_hour=plan.rate_micro_cents_per_hour,
        expires_at=float(plan.expires_at),
        provisioned_at=hands.clock.now(),
        machine_type=plan.facts.offer.machine_type,
        machine_id=machine.ref.id,
        zone=machine.ref.zone,
        emulated=plan.facts.emulated,
        tenant=TENANT,
    )


def console_tail(hands: Hands, machine: Found) -> str:
    """What the machine last wrote; ``cell_gone`` when it has ended."""
    try:
        seen = hands.connector.observe(machine.ref)
        text = "\n".join(hands.connector.console(machine.ref).splitlines()[-CONSOLE_LINES:])
    except CloudError:
        return ""  # a diagnosis that cannot be had must not hide what it was wanted for
    if seen.state in (State.GONE, State.FAILED, State.DELETING):
        raise GrafosError(
            "cell_gone",
            f"the machine {machine.ref.id} ended before it became a cell",
            where=machine.ref.region,
            why=seen.attributes.get("reason", "") or text,
            next="run the same command again for a new machine, or tear down what is left",
        )
    return text
