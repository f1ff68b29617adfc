"""A zone without a machine is followed by the one that the cloud offers, then by the next; wherever it ends, it is one
machine, and whatever dies on the way goes on with it."""

from __future__ import annotations

import msgspec
import pytest
from crash_sweep import CELL, Fuse, check_gone, dies, plan, spec
from twin_ground import TwinGround

from grafos_connectors.contract import CloudError, Kind, Offer
from grafos_connectors.twin import Effect, Fault, Limits
from grafos_stacks.bootstrap import render
from grafos_stacks.cell_holds import open_hold
from grafos_stacks.creating import LateInputs
from grafos_stacks.direct import Hands
from grafos_stacks.failover import as_it_lives, machines_of, make_somewhere, next_offer
from grafos_stacks.making import Made, note_made, pinned_plan
from grafos_stacks.plan import StackPlan

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
FULL = Limits(machines_per_zone={"us-east-1a": 0, "us-east-1b": 0, "us-east-1c": 3})


def late_inputs(hands: Hands, tried: StackPlan) -> LateInputs:
    return lambda what, attempt: (
        {"user_data": render(hands.fabric, tried, attempt)} if what.kind is Kind.MACHINE else {}
    )


def make(hands: Hands, **inputs: str) -> Made:
    asked = spec(**inputs)
    with hands.journal.lock(asked.cell_id):
        wanted = pinned_plan(hands, asked) or plan(hands, asked)
        made = make_somewhere(hands, wanted, lambda tried: late_inputs(hands, tried))
        note_made(hands, asked.cell_id)
        return made


def machine_zones(ground: TwinGround) -> list[str]:
    return [one.ref.zone for one in ground.found() if one.ref.kind is Kind.MACHINE]


# --- where next: pure -----------------------------------------------------------------------------------------------


def offers(*zones: str, arch: str = "amd64") -> list[Offer]:
    return [Offer("us-east-1", zone, "t3.medium", arch, 2, 4 << 30) for zone in zones]


@pytest.mark.parametrize(
    ("now", "alternatives", "tried", "following"),
    [
        ("us-east-1a", (), ("us-east-1a",), "us-east-1b"),
        ("us-east-1a", ("us-east-1c",), ("us-east-1a",), "us-east-1c"),
        ("us-east-1b", (), ("us-east-1b",), "us-east-1c"),
        ("us-east-1c", (), ("us-east-1c",), "us-east-1a"),
        ("us-east-1c", ("us-east-1a",), ("us-east-1a", "us-east-1c"), "us-east-1b"),
        ("us-east-1a", ("us-east-1z",), ("us-east-1a",), "us-east-1b"),
        ("us-east-1a", (), ZONES, None),
    ],
)
def test_what_the_cloud_offers_comes_first_then_the_next_zone_by_name(
    now: str, alternatives: tuple[str, ...], tried: tuple[str, ...], following: str | None
) -> None:
    ground = TwinGround()
    begun = plan(ground.hands(), spec())
    begun = msgspec.structs.replace(begun, facts=msgspec.structs.replace(begun.facts, offer=offers(now)[0]))
    refusal = CloudError("cloud_capacity", "full", alternatives=alternatives)
    found = next_offer(
        refusal, begun, lambda region, machine_type: [*offers(*ZONES), *offers("x", arch="arm64")], tried
    )
    assert (found.zone if found else None) == following


# --- on the twin ----------------------------------------------------------------------------------------------------


def test_a_full_zone_is_followed_by_the_one_that_the_cloud_offers_at_once() -> None:
    ground = TwinGround(limits=FULL)
    hands = ground.hands()
    made = make(hands)
    assert made.plan.facts.offer.zone == made.machine.ref.zone == "us-east-1c"
    assert made.attempt == 2  # another token: EC2 knows the first one's parameters
    row = hands.journal.stack(CELL)
    assert row is not None
    assert [(move.before, move.after, move.code) for move in row.moves] == [
        ("aws us-east-1a", "aws us-east-1c", "cloud_capacity")
    ]
    assert [step.name for step in ground.steps if step.name.startswith("move")] == ["move to aws us-east-1c"] * 2
    check_gone(ground, 0)


def test_a_zone_that_is_named_is_not_left() -> None:
    ground = TwinGround(limits=FULL)
    with pytest.raises(CloudError) as refused:
        make(ground.hands(), zone="us-east-1a")
    assert refused.value.code == "cloud_capacity"
    assert machine_zones(ground) == []
    check_gone(ground, 0)


def test_when_every_zone_is_full_each_one_s_reason_is_told() -> None:
    ground = TwinGround(limits=Limits(machines_per_zone=dict.fromkeys(ZONES, 0)))
    with pytest.raises(CloudError) as refused:
        make(ground.hands())
    assert refused.value.code == "cloud_capacity"
    assert all(f"{zone}: " in refused.value.why for zone in ZONES)
    check_gone(ground, 0)


def test_a_machine_that_died_for_want_of_capacity_is_removed_before_the_next_zone_is_tried() -> None:
    ground = TwinGround()
    ground.faults.add(Fault("begin_create", Effect.DIE_LATER, kind=Kind.MACHINE, code="cloud_capacity"))
    made = make(ground.hands())
    assert made.machine.ref.zone == "us-east-1b"
    assert machine_zones(ground) == ["us-east-1b"]
    check_gone(ground, 0)


@pytest.mark.parametrize("code", ["cloud_denied", "cloud_quota", "cloud_invalid", "cloud_unknown"])
def test_no_other_refusal_is_a_matter_of_the_zone(code: str) -> None:
    ground = TwinGround()
    ground.faults.add(Fault("begin_create", Effect.REFUSE, kind=Kind.MACHINE, code=code))
    with pytest.raises(CloudError) as refused:
        make(ground.hands())
    assert refused.value.code == code
    assert machine_zones(ground) == []
    check_gone(ground, 0)


@pytest.mark.parametrize("lag_s", [0.0, 30.0])
@pytest.mark.parametrize("dying", [False, True])
def test_dying_anywhere_on_the_way_ends_with_one_machine_and_one_hold(lag_s: float, *, dying: bool) -> None:
    points = 0
    for point in range(400):
        ground = TwinGround(lag_s=lag_s, limits=None if dying else FULL)
        if dying:
            ground.faults.add(Fault("begin_create", Effect.DIE_LATER, kind=Kind.MACHINE, code="cloud_capacity"))
        if not dies(ground, make, Fuse(point)):
            break
        points += 1
        made = make(ground.hands())
        assert machine_zones(ground) == [made.machine.ref.zone]
        assert [kind for kind in ground.live() if kind.startswith("firewall")]
        held = open_hold(ground.fabric, CELL)
        assert held is not None
        assert held.amount_micro_cents == made.plan.bill.total_micro_cents
        check_gone(ground, 0)
    print(f"failover, lag {lag_s:.0f} s: died at {points} moments, 1 machine each time")
    assert points > 20


def test_without_its_journal_a_moved_cell_is_found_in_the_zone_where_it_lives() -> None:
    ground = TwinGround(lag_s=30.0, limits=FULL)
    make(ground.hands())
    assert machines_of(ground.hands(), CELL, ["us-east-1"]) == ()  # the journal knows
    ground.lose_journal()
    hands = ground.hands()
    machines = machines_of(hands, CELL, ["us-east-1"])
    assert [one.ref.zone for one in machines] == ["us-east-1c"]
    fresh = plan(hands, spec(ttl_s=8 * 3600))
    assert fresh.facts.offer.zone == "us-east-1a"
    found = as_it_lives(fresh, machines)
    assert found is not None
    assert (found.facts.offer.zone, found.machine.key) == ("us-east-1c", fresh.machine.key)
    assert as_it_lives(plan(hands, spec(disk_gib=99)), machines) is None
    assert as_it_lives(fresh, []) is None


def test_what_is_pinned_after_a_move_is_what_a_later_run_shows() -> None:
    ground = TwinGround(limits=FULL)
    first = make(ground.hands())
    again = make(ground.hands())
    assert again.plan == first.plan
    assert again.machine.ref == first.machine.ref
