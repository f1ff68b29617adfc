"""The address of an orchestrator's machine outlives it: it is paid for, found, spared for the next one, and given back.

Machines are states only, and time is virtual.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aws_ground import AwsCloud
from crash_sweep import make, spec
from emulated_ground import EmulatedGround

from grafos_connectors.contract import Found, Kind
from grafos_core.errors import GrafosError
from grafos_stacks.adopted_money import hold_adopted
from grafos_stacks.bill import DEAD_MAN_GRACE_S, rates_held
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.direct import Engine
from grafos_stacks.inventory import Verdict
from grafos_stacks.journal import StackState
from grafos_stacks.lowering import cloud_of_machine
from grafos_stacks.making import pinned_plan
from grafos_stacks.orchestrator_machine import STACK
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.plan import StackPlan
from grafos_stacks.raising import raise_orchestrator
from grafos_stacks.rebuilding import Action, survey
from grafos_stacks.spec import CellSpec
from grafos_stacks.sweeping import look, sweep
from grafos_stacks.teardown import TornDownCell, teardown

HOUR_S = 3600
DAY_S = 24 * HOUR_S


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[AwsCloud]:
    account = AwsCloud(tmp_path / "aws")
    yield account
    account.close()


@pytest.fixture
def ground(cloud: AwsCloud) -> EmulatedGround:
    return EmulatedGround(cloud)


def wanted(**inputs: Any) -> CellSpec:
    return spec(STACK, **{"orchestrates": True, "operator_cidr": "0.0.0.0/0", "ttl_s": HOUR_S, **inputs})


def made(ground: EmulatedGround) -> StackPlan:
    plan = make(ground.hands(), wanted())
    OrchestratorHome(ground.fabric).folder.mkdir(parents=True, exist_ok=True)
    return plan


def ends_by_itself(ground: EmulatedGround, plan: StackPlan) -> None:
    """At its expiry, as its timer has it; nobody looks for two days."""
    ground.pass_time(plan.expires_at - ground.clock.now())
    [machine] = [found for found in parts(ground) if found.ref.kind is Kind.MACHINE]
    ground.connector.begin_delete(machine.ref)
    ground.pass_time(2 * DAY_S)


def parts(ground: EmulatedGround) -> list[Found]:
    _, found = Engine(ground.hands()).listing("us-east-1")
    return [one for one in found if one.tags.get("grafos:stack") == STACK]


def taken_down(ground: EmulatedGround, spared: tuple[Kind, ...] = ()) -> TornDownCell:
    return teardown(ground.hands(), STACK, ground.fabric.home / "project", spared=spared)


def test_it_is_charged_until_it_is_given_back_also_when_its_machine_ended_long_before(ground: EmulatedGround) -> None:
    plan = made(ground)
    ends_by_itself(ground, plan)
    receipt = taken_down(ground).receipt
    rates = rates_held(plan.facts.price, plan.spec.disk_gib)
    assert receipt.left == 0
    least = sum(rates) * HOUR_S + rates.address * (2 * DAY_S - DEAD_MAN_GRACE_S)
    assert least <= receipt.cost_micro_cents * HOUR_S <= plan.bill.total_micro_cents * HOUR_S
    assert receipt.cost_micro_cents * HOUR_S < least + sum(rates) * (DEAD_MAN_GRACE_S + 300)


def test_one_that_is_adopted_is_held_for_with_its_address(cloud: AwsCloud, ground: EmulatedGround) -> None:
    plan = made(ground)
    other_home = EmulatedGround(cloud)
    note = hold_adopted(other_home.hands(), STACK, parts(other_home)).note
    held = open_hold(other_home.fabric, STACK)
    assert held is not None, note
    assert held.meter is not None
    rates = rates_held(plan.facts.price, plan.spec.disk_gib)
    assert held.meter.left_micro_cents_per_hour == rates.address
    assert held.amount_micro_cents == pytest.approx(plan.bill.total_micro_cents, rel=0.01)


def test_what_was_spared_is_taken_by_the_next_teardown(ground: EmulatedGround) -> None:
    ends_by_itself(ground, made(ground))
    first = taken_down(ground, spared=(Kind.ADDRESS,))
    assert [line.split()[0] for line in ground.live() if "address" in line] == ["address"]
    assert cloud_of_machine(ground.fabric, ground.clock) == "aws", "the end of the fabric's orchestrator looks for it"
    second = taken_down(ground)
    assert ground.live() == []
    told = ["address" in {torn.kind for torn in one.receipt.resources} for one in (first, second)]
    assert told == [False, True]
    assert second.receipt.cost_micro_cents == first.receipt.cost_micro_cents
    assert cloud_of_machine(ground.fabric, ground.clock) == ""
    assert taken_down(ground) == second


def test_a_next_machine_somewhere_else_has_to_give_it_back_first(ground: EmulatedGround) -> None:
    plan = made(ground)
    ends_by_itself(ground, plan)
    taken_down(ground, spared=(Kind.ADDRESS,))
    elsewhere = msgspec.structs.replace(plan, spec=msgspec.structs.replace(plan.spec, region="eu-west-1"))
    nowhere: Any = None
    with pytest.raises(GrafosError) as kept:
        raise_orchestrator(ground.hands(), elsewhere, nowhere)
    assert kept.value.code == "plan_stale"
    assert "grafos cloud teardown aws --cell-id orchestrator" in kept.value.next


def test_recover_leaves_it_to_who_is_restoring(ground: EmulatedGround) -> None:
    """Killed in the middle of clearing what is left of the machine that ran out."""
    ends_by_itself(ground, made(ground))
    hands = ground.hands()
    row = hands.journal.stack(STACK)
    assert row is not None
    hands.journal.write(row.moved(StackState.UNMAKING, ground.clock.now()))
    home = OrchestratorHome(ground.fabric)
    home.note_restoring(begun=True)
    assert STACK not in {case.stack for case in survey(hands)}
    home.note_restoring(begun=False)
    assert (STACK, Action.UNDO) in {(case.stack, case.action) for case in survey(hands)}


def test_a_second_one_beside_it_is_one_too_many(ground: EmulatedGround) -> None:
    """Its create call, whose answer was lost, was repeated before a listing showed it."""
    made(ground)
    [first] = [found for found in parts(ground) if found.ref.kind is Kind.ADDRESS]
    ground.cloud.plant(Kind.ADDRESS, first.tags, first.attributes["name"])
    ground.pass_time(60)
    sight = look(ground.hands())
    [surplus] = sight.condemned
    assert (surplus.verdict, surplus.found.ref.kind) == (Verdict.SURPLUS, Kind.ADDRESS)
    assert surplus.found.ref.id != first.ref.id
    sweep(ground.hands(), ground.fabric.home / "project")
    assert [found.ref.id for found in parts(ground) if found.ref.kind is Kind.ADDRESS] == [first.ref.id]


def test_one_of_an_earlier_version_gets_none_because_others_may_come_to_its_port(ground: EmulatedGround) -> None:
    """That gave its machine an address of its own, which is in its certificate and known to its cells."""
    plan, hands = made(ground), ground.hands()
    earlier = tuple(what for what in plan.resources if not what.kind.value.startswith("address"))
    row = hands.journal.stack(STACK)
    assert row is not None
    hands.journal.write(msgspec.structs.replace(row, plan=msgspec.structs.replace(plan, resources=earlier)))
    again = pinned_plan(hands, wanted(operator_cidr="127.0.0.0/8"))
    assert again is not None
    assert [what.name for what in again.resources] == [what.name for what in earlier]
    changed = {now.kind for now, before in zip(again.resources, earlier, strict=True) if now != before}
    assert changed == {Kind.FIREWALL_RULE}
